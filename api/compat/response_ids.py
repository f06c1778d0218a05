"""Names of things in OpenAI's Responses and Conversations: a prefix and the hex of our own id; of an item that is a
part of a message also the number of its first block.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

_ID = re.compile(r"(?P<prefix>[a-z]+)_(?P<hex>[0-9a-f]{32})(?:_(?P<block>0|[1-9][0-9]{0,5}))?")


class ItemId(NamedTuple):
    """An item's id: the message that it is of, and the block with which it begins; None: with the first that there is
    of its kind.
    """

    prefix: str
    message: UUID
    block: int | None


def response_id(turn: UUID) -> str:
    """The name of a turn."""
    return f"resp_{turn.hex}"


def conversation_id(session: UUID) -> str:
    """The name of a session."""
    return f"conv_{session.hex}"


def item_id(prefix: str, message: UUID, block: int | None = None) -> str:
    """The name of an item of a message."""
    return f"{prefix}_{message.hex}" if block is None else f"{prefix}_{message.hex}_{block}"


def read_id(prefix: str, text: str) -> UUID | None:
    """Our own id of what has this name; None: nothing can."""
    match = _ID.fullmatch(text)
    if match is None or match["prefix"] != prefix or match["block"] is not None:
        return None
    return UUID(match["hex"])


def read_item_id(text: str) -> ItemId | None:
    """What the name of an item says; None: there is no such item."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    return ItemId(match["prefix"], UUID(match["hex"]), None if match["block"] is None else int(match["block"]))
