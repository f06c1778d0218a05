"""The forms of OpenAI's Conversations: the tables of fields and of parameters, and the shapes of bodies and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar.params import QueryParameter

from ...engine import Session
from ..http.errors import invalid
from .common import seconds_of
from .fields import HONOURED, Table
from .response_ids import conversation_id

CREATED: Table = {"items": HONOURED, "metadata": HONOURED}
UPDATED: Table = {"metadata": HONOURED}
ADDED: Table = {"items": HONOURED}
"""What becomes of each field of a body."""

ENCRYPTED = "reasoning.encrypted_content"
INCLUDABLE = frozenset(
    {
        ENCRYPTED,
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What may be asked to be told besides. All but the first is told always, or is not on record here."""

Include = Annotated[list[str] | None, QueryParameter(description="What is to be told besides.")]
BracketInclude = Annotated[list[str] | None, QueryParameter(name="include[]", description="The same as `include`.")]
After = Annotated[str | None, QueryParameter(description="The id of the item after which the page begins.")]


class ConversationIn(msgspec.Struct, frozen=True):
    """The body of a conversation that begins. Items are read apart."""

    items: tuple[msgspec.Raw, ...] | None = None
    metadata: dict[str, str] | None = None


class MetadataIn(msgspec.Struct, frozen=True):
    metadata: dict[str, str] | None


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
    return ConversationTold(conversation_id(session.id), seconds_of(session.created_at), session.metadata or {})


def check_include(names: Sequence[str]) -> None:
    """Raises Problem for what cannot be told besides."""
    for number, name in enumerate(names):
        if name not in INCLUDABLE:
            raise invalid(f"include[{number}]", f"must be one of {', '.join(sorted(INCLUDABLE))}")
