"""Views for callers: sessions, messages, turns, windows, events and frames, in the shapes that API.md fixes.

Plain values, ready for JSON: times are RFC 3339 text in UTC with microseconds, ids are UUIDs.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from ..clock import rfc3339
from ..errors import RecordDamaged, StoreCorrupt
from ..events.blocks import Content, read_blocks, text_of
from ..events.turn_types import AttemptEnded
from ..events.types import MessageAppended
from ..events.upcasts import ERASURES, MESSAGES, facts_of
from ..events.usage import Cost, Usage
from ..log.base import Erasure, RecordedEvent
from .state import SessionState
from .words import ShownWords


class View(msgspec.Struct, frozen=True, gc=False):
    """The base of all."""


class Parent(View, frozen=True):
    session_id: UUID
    version: int


class Family(View, frozen=True):
    """The sessions that share a history: ``root``, with which it began, and its forks. ``size``: the conversations
    among them; what replays made is not counted.
    """

    root: UUID
    size: int


class Session(View, frozen=True):
    """``family`` is None while it is alone: without a parent, and without a fork."""

    id: UUID
    title: str | None
    model: str
    system: str | None
    metadata: dict[str, Any] | None
    budget_tokens: int | None
    max_output_tokens: int | None
    status: Literal["active", "archived"]
    version: int
    message_count: int
    token_count: int
    usage: Usage
    parent: Parent | None
    open_turn_id: UUID | None
    created_at: str
    updated_at: str
    costs: tuple[Cost, ...]
    fallback_model: str | None
    allowed_tools: tuple[str, ...] | None
    legal_hold: bool
    expires_at: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    max_messages: int | None = None
    max_tokens: int | None = None
    preview: str | None = None
    turn_count: int = 0
    failed_count: int = 0
    family: Family | None = None


class Branch(View, frozen=True):
    """A member of a family. ``parent``: the session that it shares the history of, and up to which version.
    ``preview``: the beginning of its first user message; of a fork, of the first that is its own, if it has one; null
    if erased. ``kind``: ``replay`` if a replay made it.
    """

    session_id: UUID
    parent: Parent | None
    version: int
    title: str | None
    preview: str | None
    message_count: int
    updated_at: str
    kind: Literal["conversation", "replay"]


class Branches(View, frozen=True):
    """A family as a tree: its members, the oldest first; ``root`` is the only one without a parent."""

    root: UUID
    nodes: tuple[Branch, ...]


class ErasureInfo(View, frozen=True):
    """An erasure: the event that tells of it, by whom and when, and why (None where that is not readable any more)."""

    by_position: int
    actor: str
    at: str
    reason: str | None


class Sibling(View, frozen=True):
    """Another message that stands in a message's place, and where it stands."""

    session_id: UUID
    id: UUID
    version: int
    position: int


class Message(View, frozen=True):
    """``content`` is JSON already: blocks as they were recorded. ``model`` gave the answer, and stopped for
    ``stop_reason``; both are None of what no turn has made. ``damaged`` is set, where damaged rows were asked for,
    on a message whose words are not those that were recorded: it has none. ``siblings``, where they were asked for:
    what follows the same message in other conversations of the family, in order of position. ``developer``: of a
    system message that its client calls a developer's.
    """

    id: UUID
    session_id: UUID
    version: int
    position: int
    role: str
    content: tuple[msgspec.Raw, ...]
    token_count: int
    complete: bool
    erased: ErasureInfo | None
    turn_id: UUID | None
    actor: str
    created_at: str
    model: str | None = None
    stop_reason: str | None = None
    damaged: bool | msgspec.UnsetType = msgspec.UNSET
    pinned: bool = False
    siblings: tuple[Sibling, ...] | msgspec.UnsetType = msgspec.UNSET
    developer: bool | msgspec.UnsetType = msgspec.UNSET

    def blocks(self) -> Content:
        """``content`` as typed blocks."""
        return read_blocks(self.content)

    @property
    def text(self) -> str:
        """The text that a person reads: its text blocks, joined."""
        return text_of(self.blocks())


class Omitted(View, frozen=True):
    """The part that a window leaves out: messages, and their tokens in the model's count."""

    count: int
    tokens: int


class Window(View, frozen=True):
    """``used_tokens`` is our count by ``counter``, or, if ``exact``, the vendor's own. Ours is the sum of the messages'
    tokens and ``system_tokens``, times ``factor_permille`` / 1000, rounded up, and ``overhead`` for each message, of
    which the system prompt is one. ``reserve_tokens`` of the budget are kept for the reply.
    """

    session_id: UUID
    version: int
    model: str
    budget_tokens: int
    used_tokens: int
    counter: str
    policy: str
    system: str | None
    messages: tuple[Message, ...]
    omitted: Omitted
    factor_permille: int
    overhead: int
    reserve_tokens: int
    system_tokens: int
    exact: bool = False


class Event(View, frozen=True):
    """An event as the log has it. ``facts`` and ``body`` are JSON as stored; ``body`` is null where there are no
    words. ``damaged``: as of a message.
    """

    id: UUID
    position: int
    session_id: UUID
    version: int
    type: str
    schema: int
    actor: str
    recorded_at: str
    causation_id: UUID | None
    correlation_id: str | None
    facts: msgspec.Raw
    body: msgspec.Raw | None
    commitment: str
    leaf_hash: str
    erased: ErasureInfo | None
    damaged: bool | msgspec.UnsetType = msgspec.UNSET


NO_USAGE = Usage()


def session_view(state: SessionState, words: ShownWords, family: Family | None = None) -> Session:
    turn = state.open_turn
    parent = None
    if state.parent_session is not None and state.parent_version is not None:
        parent = Parent(state.parent_session, state.parent_version)
    return Session(
        id=state.id,
        title=words.title,
        model=state.setting("model"),
        system=words.system,
        metadata=words.metadata,
        budget_tokens=state.budget_tokens,
        max_output_tokens=state.max_output_tokens,
        status=state.status,
        version=state.version,
        message_count=state.message_count,
        token_count=state.base_tokens,
        usage=state.usage or NO_USAGE,
        costs=state.costs.known,
        fallback_model=state.setting("fallback_model"),
        allowed_tools=state.setting("allowed_tools"),
        parent=parent,
        open_turn_id=turn.id if turn else None,
        created_at=rfc3339(state.created_at),
        updated_at=rfc3339(state.updated_at),
        legal_hold=state.legal_hold,
        expires_at=None if state.expires_at is None else rfc3339(state.expires_at),
        user_id=words.user_id,
        agent_id=words.agent_id,
        max_messages=state.max_messages,
        max_tokens=state.max_tokens,
        preview=words.preview,
        turn_count=state.turn_count,
        failed_count=state.failed_count,
        family=family,
    )


def message_view(event: RecordedEvent) -> Message:
    """The message that a ``message.appended`` event recorded. Raises RecordDamaged."""
    facts = facts_of(event)
    if not isinstance(facts, MessageAppended):
        raise StoreCorrupt(f"event {event.position} is a {event.type}, not a message")
    if event.damaged:
        raise RecordDamaged.at(event.position)
    place = (event.position, event.version, event.schema)
    erased = erased_view(event.erasure)
    return message_of(event.session, *place, event.id, event.actor, event.recorded_at, facts, event.body, erased)


def message_of(  # noqa: PLR0913, PLR0917 - the columns of a row: it is called for each of thousands
    session: UUID,
    position: int,
    version: int,
    schema: int,
    event_id: UUID,
    actor: str,
    recorded_at: int,
    facts: MessageAppended,
    body: bytes | None,
    erased: ErasureInfo | None = None,
) -> Message:
    """The same from what was read of the event."""
    message = Message(  # its fields in their order: naming them would cost a third of this
        event_id,
        session,
        version,
        position,
        facts.role,
        MESSAGES.words(position, schema, body).content if body else (),
        facts.tokens,
        facts.complete,
        erased,
        facts.turn,
        actor,
        rfc3339(recorded_at),
        facts.model,
        facts.stop_reason,
    )
    return msgspec.structs.replace(message, developer=True) if facts.developer else message


def answer_of(message: Message, model: str | None, end: AttemptEnded | None) -> Message:
    """A model's answer with its name, and the reason with which its attempt ended."""
    return msgspec.structs.replace(message, model=model, stop_reason=None if end is None else end.stop_reason)


def erased_view(erasure: Erasure | None) -> ErasureInfo | None:
    """Raises StoreCorrupt for a body that cannot be read."""
    if erasure is None:
        return None
    position, body = erasure.position, erasure.body
    reason = ERASURES.words(position, erasure.schema, body).reason if body else None
    return ErasureInfo(position, erasure.actor, rfc3339(erasure.recorded_at), reason)


def event_view(event: RecordedEvent, *, damaged: bool = False) -> Event:
    """``damaged``: a damaged event is given, too, without its words. Raises RecordDamaged."""
    if event.damaged and not damaged:
        raise RecordDamaged.at(event.position)
    return Event(
        id=event.id,
        position=event.position,
        session_id=event.session,
        version=event.version,
        type=event.type,
        schema=event.schema,
        actor=event.actor,
        recorded_at=rfc3339(event.recorded_at),
        causation_id=event.causation,
        correlation_id=event.correlation,
        facts=msgspec.Raw(event.facts),
        body=msgspec.Raw(event.body) if event.body else None,
        commitment=event.commitment.hex(),
        leaf_hash=event.leaf_hash.hex(),
        erased=erased_view(event.erasure),
        damaged=event.damaged or msgspec.UNSET,
    )
