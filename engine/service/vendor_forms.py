"""The vendor's own forms of the blocks of an answer, also while it is being given: a signature under a thought, a
citation beside a text, a block of a type that frames do not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec

from ..events.blocks import OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock
from ..log.base import Connection
from ..log.journal import journal_rows
from ..sessions.views import Message
from ..streams.backlog import read_turn
from ..streams.frames import VENDOR
from ..turns.answer import VendorForm

_read_form = msgspec.json.Decoder(VendorForm).decode


def forms_so_far(connection: Connection, tenant: str, turn: UUID, message: UUID) -> Mapping[int, bytes]:
    """The forms of a message's blocks, by their number, as far as they have come; of one that is on record, all. Raises
    TurnNotFound.
    """
    rows = journal_rows(connection, tenant, turn, kind=VENDOR)
    found = {row.block: _read_form(row.text).raw for row in rows if row.message == message}
    if found:
        return found
    recorded = read_turn(connection, tenant=tenant, turn_id=turn)
    answer = next((each for each in recorded.messages if each.id == message), None)
    return {} if answer is None else forms_of(answer)


def forms_of(message: Message) -> dict[int, bytes]:
    """The forms of the blocks of a recorded message, by their number."""
    found: dict[int, bytes] = {}
    for number, block in enumerate(message.blocks()):
        if isinstance(block, OtherBlock):
            found[number] = block.raw
        elif isinstance(block, TextBlock | ThinkingBlock | ToolUseBlock) and isinstance(block.vendor, msgspec.Raw):
            found[number] = bytes(block.vendor)
    return found
