"""An assistant's message while it is received: its blocks, cuts and frames, built from what is on disk.

The recorder applies a row after its commit has returned; recovery applies the rows that a dead server left in the
journal. Both get the same message. By definition, the text of a block is the join of its deltas.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from ..events.blocks import Block, Content, OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock
from ..events.cuts import Cut, pack_cuts
from ..events.types import BlockStart
from ..log.journal import JournalRow
from ..sessions.turn_commands import ReceivedMessage
from ..streams.frames import START, VENDOR, Opening


class VendorForm(msgspec.Struct, frozen=True):
    """A vendor's own form of a block."""

    type: str
    raw: bytes


class Answer:
    """One assistant message while it is received."""

    def __init__(self, message_id: UUID) -> None:
        self.message_id = message_id
        self.starts: list[BlockStart] = []
        self.vendor: dict[int, VendorForm] = {}
        self._openings: dict[int, Opening] = {}
        self._texts: dict[int, list[str]] = {}
        self._cuts: list[Cut] = []

    @property
    def begun(self) -> bool:
        """True if any block of it has begun."""
        return bool(self.starts or self.vendor)

    def apply(self, row: JournalRow) -> None:
        """Apply a row that is on disk."""
        if row.kind == START:
            opening = msgspec.json.decode(row.text, type=Opening)
            self.starts.append(BlockStart(row.frame, row.block, opening.type))
            self._openings[row.block] = opening
            self._texts[row.block] = []
            return
        if row.kind == VENDOR:
            self.vendor[row.block] = msgspec.json.decode(row.text, type=VendorForm)
            return
        self.say(row.block, row.text.decode(), row.elapsed_ms)

    def say(self, block: int, text: str, elapsed_ms: int) -> None:
        """Apply a delta that is on disk."""
        self._texts[block].append(text)
        self._cuts.append(Cut(block, len(text), elapsed_ms))

    def content(self) -> Content:
        """The blocks, in the order they began."""
        numbers = sorted(self._openings.keys() | self.vendor.keys())
        return tuple(self._block(number) for number in numbers)

    def cuts(self) -> bytes:
        return pack_cuts(self._cuts)

    def received(self) -> ReceivedMessage:
        """The message as far as it has been received."""
        return ReceivedMessage(self.message_id, self.content(), tuple(self.starts), self.cuts())

    def _block(self, number: int) -> Block:
        opening, vendor = self._openings.get(number), self.vendor.get(number)
        if opening is None:
            assert vendor is not None
            return OtherBlock(vendor.type, vendor.raw)
        text = "".join(self._texts[number])
        raw = msgspec.Raw(vendor.raw) if vendor else msgspec.UNSET
        if opening.type == "thinking":
            return ThinkingBlock(text=text, vendor=raw)
        if opening.type == "tool_use":
            return ToolUseBlock(
                id=opening.id or "", name=opening.name or "", input=parse_input(text), input_text=text, vendor=raw
            )
        return TextBlock(text=text, vendor=raw)


def parse_input(text: str) -> dict[str, object] | None:
    """A tool call's input, or None if it is not a JSON object; no text at all means no arguments."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return None
