"""What a client says otherwise of its history than it is on record, though it means the same: thinking left out, other
borders of text blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..events.blocks import Block, Content, ThinkingBlock, ToolUseBlock, read_blocks
from ..log.base import Connection
from .canonical import arguments
from .marks import NO_MARKS
from .messages import SENT, SentRow
from .recognition import Said
from .state import SessionState


def changed_contents(
    connection: Connection, tenant: str, state: SessionState, said: Sequence[Said]
) -> dict[int, Content]:
    """The contents of messages, by version, that a client says otherwise than they are on record. ``said``: all the
    messages that the session holds at the state. Raises RecordDamaged.
    """
    with SENT.newest(connection, tenant, state, NO_MARKS) as rows:
        recorded = [row for row in rows if isinstance(row, SentRow) and not row.left_out][::-1]
    return {
        row.version: content
        for row, (_, content) in zip(recorded, said, strict=False)
        if [*map(_meaning, content)] != [*map(_meaning, _content(row))]
    }


def _content(row: SentRow) -> Content:
    from_record = row.words()
    return read_blocks(from_record.content)


def _meaning(block: Block) -> object:
    """What makes a block the same for a vendor: how its JSON was written does not."""
    if isinstance(block, ToolUseBlock):
        return "call", block.id, block.name, arguments(block.input)
    if isinstance(block, ThinkingBlock):
        vendor = block.vendor
        return "thinking", block.text, None if vendor is msgspec.UNSET else msgspec.json.decode(vendor)
    return block
