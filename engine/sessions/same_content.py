"""What a client says otherwise of its history than it is on record, though it means the same: thinking left out, other
borders of text blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..events.blocks import Block, Content, OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock, read_blocks
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
        if not _same(content, _content(row))
    }


def _content(row: SentRow) -> Content:
    from_record = row.words()
    return read_blocks(from_record.content)


def _same(said: Content, recorded: Content) -> bool:
    """True if two contents are the same for a vendor. What another vendor has beside a text, a client cannot say again:
    a text alone is the same as that text with its citations.
    """
    if len(said) != len(recorded):
        return False
    return all(_meaning(one, other) == _meaning(other, one) for one, other in zip(said, recorded, strict=True))


def _meaning(block: Block, other: Block) -> object:
    """What makes a block the same for a vendor: how its JSON was written does not. ``other``: the other one."""
    match block, other:
        case ToolUseBlock(), _:
            return "call", block.id, block.name, arguments(block.input)
        case ThinkingBlock(), _:
            return "thinking", block.text, _read(block.vendor)
        case TextBlock(), TextBlock() if block.vendor is not msgspec.UNSET and other.vendor is not msgspec.UNSET:
            return "text", block.text, _read(block.vendor)
        case TextBlock(), _:
            return "text", block.text, None
        case OtherBlock(), _:
            return "other", _read(block.raw)
        case _:
            return block


def _read(raw: msgspec.Raw | bytes | msgspec.UnsetType) -> object:
    return None if isinstance(raw, msgspec.UnsetType) else msgspec.json.decode(raw)
