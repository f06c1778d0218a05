"""An answer as it grows: the blocks, cuts and frames of one assistant message, built from what is on disk.

The recorder applies a row once its commit has returned; recovery applies the rows that a dead server left in the
journal; both get the same message. A block's text is the join of its deltas, by definition.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from engine.cuts import Cut, pack_cuts
from engine.events import Block, BlockStart, Content, OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock
from engine.store.base import JournalRow
from engine.views import Frame

START, DELTA, VENDOR = "start", "delta", "vendor"
"""Kinds of journal rows. A vendor's block has no frame: its number is below zero, one for each block."""
DELTA_TYPES = {"text": "text", "thinking": "thinking", "tool_use": "tool_input"}

_encode = msgspec.json.Encoder().encode


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a block when it begins; stored as the text of its journal row."""

    type: str
    id: str | None = None
    name: str | None = None


class BlockStartedData(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of a ``block.started`` frame."""

    message_id: UUID
    block: int
    type: str
    id: str | None = None
    name: str | None = None


class DeltaData(msgspec.Struct, frozen=True):
    """The data of a ``delta`` frame; ``type`` is ``text``, ``thinking`` or ``tool_input``."""

    message_id: UUID
    block: int
    type: str
    text: str


class Vendor(msgspec.Struct, frozen=True):
    """A vendor's own form of a block."""

    type: str
    raw: bytes


class Answer:
    """One assistant message in the making."""

    def __init__(self, message: UUID) -> None:
        self.message = message
        self.starts: list[BlockStart] = []
        self.vendor: dict[int, Vendor] = {}
        self._openings: dict[int, Opening] = {}
        self._texts: dict[int, list[str]] = {}
        self._cuts: list[Cut] = []

    @property
    def begun(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.starts or self.vendor)

    def apply(self, row: JournalRow) -> None:
        """Take in a row that is on disk."""
        if row.kind == START:
            opening = msgspec.json.decode(row.text, type=Opening)
            self.starts.append(BlockStart(row.frame, row.block, opening.type))
            self._openings[row.block] = opening
            self._texts[row.block] = []
            return
        if row.kind == VENDOR:
            self.vendor[row.block] = msgspec.json.decode(row.text, type=Vendor)
            return
        self.say(row.block, row.text.decode(), row.elapsed_ms)

    def say(self, block: int, text: str, elapsed_ms: int) -> None:
        """Take in a delta that is on disk."""
        self._texts[block].append(text)
        self._cuts.append(Cut(block, len(text), elapsed_ms))

    def block_type(self, block: int) -> str:
        return self._openings[block].type

    def content(self) -> Content:
        """The blocks, in the order they began."""
        numbers = sorted(self._openings.keys() | self.vendor.keys())
        return tuple(self._block(number) for number in numbers)

    def cuts(self) -> bytes:
        return pack_cuts(self._cuts)

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
        return TextBlock(text=text)


def parse_input(text: str) -> dict[str, object] | None:
    """A tool call's input, or None if it is not a JSON object; no text at all means no arguments."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        return None


def start_frame(message: UUID, frame: int, block: int, opening: Opening) -> Frame:
    data = BlockStartedData(message, block, opening.type, opening.id, opening.name)
    return Frame(frame, "block.started", _encode(data))


def delta_head(message: UUID, block: int, block_type: str) -> bytes:
    """What the data of all delta frames of a block begin with, up to the text."""
    return _encode(DeltaData(message, block, DELTA_TYPES[block_type], "")).removesuffix(b'""}')


def delta_frame(head: bytes, frame: int, text: str) -> Frame:
    return Frame(frame, "delta", b"%b%b}" % (head, _encode(text)))
