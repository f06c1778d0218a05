"""The events of a session itself: how it begins and is set, and the marks that are put on its messages."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

import msgspec

from .base import Facts, Words


class SessionWords(Words, frozen=True):
    """``model``, ``fallback_model``, ``allowed_tools``: names that facts cannot hold."""

    title: str | None = None
    system: str | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = None
    agent_id: str | None = None
    model: str | None = None
    fallback_model: str | None = None
    allowed_tools: tuple[str, ...] | None = None


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where a copy comes from: a session, in the log of this origin when it had this size."""

    session: UUID
    origin: str
    size: int


class SessionStarted(Facts, frozen=True):
    """``fallback_model`` answers where ``model`` cannot; ``allowed_tools`` None: every registered tool is. ``source``:
    the session that this one was imported from, or runs again; in schema 1 there is none. ``replay`` made it to hold
    that conversation once more. ``expires_at`` in microseconds; ``max_messages`` and ``max_tokens`` bound what the
    session holds. ``drop_in``: a client keeps its history and sends it again, by which it is recognised.
    """

    event_type: ClassVar[str] = "session.started"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = SessionWords

    model: str
    budget_tokens: int | None = None
    max_output_tokens: int | None = None
    system_tokens: int = 0
    fallback_model: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    source: Source | None = None
    expires_at: int | None = None
    max_messages: int | None = None
    max_tokens: int | None = None
    drop_in: bool = False
    replay: UUID | None = None


class SessionUpdated(Facts, frozen=True):
    """``changed`` names the fields that were set, also those set to null; the rest is as it was. ``merges``: the words
    hold a merge patch (RFC 7396) of the metadata, and not all of it.
    """

    event_type: ClassVar[str] = "session.updated"
    schema: ClassVar[int] = 2
    words: ClassVar[type[Words] | None] = SessionWords

    changed: tuple[str, ...]
    model: str | None = None
    budget_tokens: int | None = None
    max_output_tokens: int | None = None
    system_tokens: int = 0
    fallback_model: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    legal_hold: bool = False
    expires_at: int | None = None
    max_messages: int | None = None
    max_tokens: int | None = None
    merges: bool = False


class SessionForked(Facts, frozen=True):
    """The first event of a session that shares the history of ``parent`` up to ``parent_version``. ``changed`` names
    the fields that differ from what they were there, as in ``SessionUpdated``. ``replay`` made it to do the turn
    ``of_turn`` again.
    """

    event_type: ClassVar[str] = "session.forked"
    words: ClassVar[type[Words] | None] = SessionWords

    parent: UUID
    parent_version: int
    changed: tuple[str, ...] = ()
    model: str | None = None
    budget_tokens: int | None = None
    max_output_tokens: int | None = None
    system_tokens: int = 0
    fallback_model: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    expires_at: int | None = None
    max_messages: int | None = None
    max_tokens: int | None = None
    replay: UUID | None = None
    of_turn: UUID | None = None


class SessionArchived(Facts, frozen=True):
    event_type: ClassVar[str] = "session.archived"


class SessionRestored(Facts, frozen=True):
    event_type: ClassVar[str] = "session.restored"


class ConversationDeleted(Facts, frozen=True):
    """A client has deleted the conversation: it is served to clients no longer, and what was said stays."""

    event_type: ClassVar[str] = "conversation.deleted"


class MessagePinned(Facts, frozen=True):
    """The message at ``message`` (a position) stands in every window from now on."""

    event_type: ClassVar[str] = "message.pinned"

    message: int


class MessageUnpinned(Facts, frozen=True):
    """It does no longer."""

    event_type: ClassVar[str] = "message.unpinned"

    message: int
