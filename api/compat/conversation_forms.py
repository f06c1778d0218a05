"""The forms of OpenAI's Conversations: the tables of fields and of parameters, and the shapes of bodies and answers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ...engine import Session
from .common import seconds_of
from .fields import HONOURED, Table
from .named import of_client
from .response_ids import conversation_id

CREATED: Table = {"items": HONOURED, "metadata": HONOURED}
UPDATED: Table = {"metadata": HONOURED}
ADDED: Table = {"items": HONOURED}
"""What becomes of each field of a body."""


class ConversationIn(msgspec.Struct, frozen=True):
    """The body of a conversation that begins. Items are read apart."""

    items: tuple[msgspec.Raw, ...] | None = None
    metadata: dict[str, Any] | None = None


class MetadataIn(msgspec.Struct, frozen=True):
    metadata: dict[str, Any] | None


class ItemsIn(msgspec.Struct, frozen=True):
    items: tuple[msgspec.Raw, ...]


class ConversationTold(msgspec.Struct, frozen=True):
    """A conversation."""

    id: str
    created_at: int
    metadata: dict[str, Any]
    object: Literal["conversation"] = "conversation"


class ConversationDeleted(msgspec.Struct, frozen=True):
    """A conversation that was deleted."""

    id: str
    deleted: Literal[True] = True
    object: Literal["conversation.deleted"] = "conversation.deleted"


def conversation_told(session: Session) -> ConversationTold:
    """A session as a conversation."""
    return ConversationTold(conversation_id(session.id), seconds_of(session.created_at), of_client(session.metadata))
