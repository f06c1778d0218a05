"""Bodies of answers, where they are not the engine's views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import msgspec

from ...engine import Event, Message, Model, Replay, ReplayCounts, Result, Session, Suite, ToolInfo, Turn, Usage


class Listing(msgspec.Struct, frozen=True):
    """``next_cursor`` gives the next page; null: this is the last."""


class SessionList(Listing, frozen=True):
    items: Sequence[Session]
    next_cursor: str | None


class MessageList(Listing, frozen=True):
    items: Sequence[Message]
    next_cursor: str | None


class TurnList(Listing, frozen=True):
    items: Sequence[Turn]
    next_cursor: str | None


class EventList(Listing, frozen=True):
    items: Sequence[Event]
    next_cursor: str | None


class ModelList(Listing, frozen=True):
    items: Sequence[Model]
    next_cursor: str | None


class ToolList(Listing, frozen=True):
    items: Sequence[ToolInfo]
    next_cursor: str | None


class ReplayList(Listing, frozen=True):
    items: Sequence[Replay]
    next_cursor: str | None


class SuiteList(Listing, frozen=True):
    items: Sequence[Suite]
    next_cursor: str | None


class ReplayPage(msgspec.Struct, frozen=True):
    """A replay as it is now, and a page of its results in the order in which they came. ``next_cursor`` gives the next
    page; null: these are the last so far. ``counts.noise``: how many of the different ones are noise.
    """

    id: UUID
    status: str
    mode: Literal["recorded", "forced", "free"]
    model: str | None
    suite: str | None
    repeat: int
    turns: int
    counts: ReplayCounts
    started_at: str
    ended_at: str | None
    error: str | None
    results: Sequence[Result]
    next_cursor: str | None


class Me(msgspec.Struct, frozen=True):
    """The identity of a key: the actor that events name, whose log it is, and what the key may do."""

    actor: str
    tenant: str
    scopes: Sequence[str]


class Ticket(msgspec.Struct, frozen=True):
    """A ticket for one path, and when it expires."""

    ticket: str
    expires_at: str


class Reply(msgspec.Struct, frozen=True):
    reply: str


class ChatReply(msgspec.Struct, frozen=True):
    session_id: UUID
    reply: str
    usage: Usage


class CompleteOut(msgspec.Struct, frozen=True):
    data: Reply
    request_id: str


class ChatOut(msgspec.Struct, frozen=True):
    data: ChatReply
    request_id: str
