"""The frames of a turn: the server-sent events for clients, and the journal row that each delta frame is kept as."""

from __future__ import annotations

from uuid import UUID

import msgspec

from ..log.journal import JournalRow

START, DELTA, VENDOR = "start", "delta", "vendor"
"""Kinds of journal rows. A vendor's block is not shown: its number is negative, one for each block."""

DELTA_TYPES = {"text": "text", "thinking": "thinking", "tool_use": "tool_input"}

_encode = msgspec.json.Encoder().encode


class Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    """The beginning of a block; stored as the text of its journal row."""

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


def start_frame(message_id: UUID, frame: int, block: int, opening: Opening) -> Frame:
    data = BlockStartedData(message_id, block, opening.type, opening.id, opening.name)
    return Frame(frame, "block.started", _encode(data))


def delta_head(message_id: UUID, block: int, block_type: str) -> bytes:
    """The bytes that the data of all delta frames of a block begin with, up to the text."""
    return _encode(DeltaData(message_id, block, DELTA_TYPES[block_type], "")).removesuffix(b'""}')


def delta_frame(head: bytes, frame: int, text: str) -> Frame:
    return Frame(frame, "delta", b"%b%b}" % (head, _encode(text)))


def frame_of(row: JournalRow, block_type: str) -> Frame:
    """The frame that a journal row is shown as."""
    if row.kind == START:
        return start_frame(row.message, row.frame, row.block, msgspec.json.decode(row.text, type=Opening))
    return delta_frame(delta_head(row.message, row.block, block_type), row.frame, row.text.decode())


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event of a turn: its number (dense from 1; 0 if it is not part of the record), its type, its
    JSON.
    """

    number: int
    type: str
    data: bytes
