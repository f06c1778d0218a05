"""A session's state, folded from its events: all that commands decide on. Pure. Of anybody's words it holds
names only (``SessionState.named``), until they are erased.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from ..events.base import Facts
from ..events.session_types import (
    ConversationDeleted,
    MessagePinned,
    MessageUnpinned,
    SessionArchived,
    SessionForked,
    SessionRestored,
    SessionStarted,
    SessionUpdated,
    SessionWords,
)
from ..events.turn_types import AnswerDeleted, AttemptEnded, TurnFailed, TurnStarted
from ..events.types import TURN_ENDS, BodyErased, MessageAppended, Role
from ..events.upcasts import words_left
from ..events.usage import Costs, Usage
from ..log.base import RecordedEvent
from . import turn_state as turns
from .turn_state import TurnState, add_usage
from .words import WORD_FIELDS

BOUNDS = ("legal_hold", "expires_at", "max_messages", "max_tokens")
NAMED = ("model", "fallback_model", "allowed_tools")
SETTABLE = (*NAMED, "budget_tokens", "max_output_tokens", *BOUNDS)
"""Facts of a session that ``session.updated`` may set: the ``BOUNDS`` also while a turn runs, for it goes on as it was;
the value of those ``NAMED`` may stand in words."""
IN_WORDS = (*WORD_FIELDS, *NAMED)
"""The fields of a session whose value stands in words, or may."""
SHARED = (
    *("model", "fallback_model", "allowed_tools", "budget_tokens", "max_output_tokens", "system", "named", "set_at"),
    *("patched", "created_at", "message_count", "base_tokens", "turn_count", "failed_count", "first_user"),
    *("last", "last_user", "open_calls", "asked", "call_count", "drop_in", "chain"),
)
"""The fields that a fork has from its parent."""
SEGMENTS_AT_ONCE = 16
"""Segments of a history that a state holds by itself, so that it stays small however deep the fork."""
IDS_IN_FACTS = 1
"""The last schema of ``message.appended`` whose calls are named by the vendor's ids."""

SessionStatus = Literal["active", "archived"]


class LastMessage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The session's newest message. ``superseded``: a partial one that a later turn answers anew. ``erased``: its words
    are gone. ``unit`` is the version of the first message of its unit (DESIGN section 6).
    """

    version: int
    position: int
    role: str
    unit: int
    tokens: int
    complete: bool = True
    superseded: bool = False
    erased: bool = False


class SystemPrompt(msgspec.Struct, frozen=True, gc=False):
    """The position of the system prompt's words, and its base count."""

    position: int
    tokens: int


class Named(msgspec.Struct, frozen=True, gc=False):
    """A setting whose value facts cannot hold, from the words at a position."""

    position: int
    value: str | tuple[str, ...]


class Segment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a session's history that stands in another session: what this one holds from the segment before up to
    the version ``up_to``, whose event is at ``position``. ``marked``: there are marks on messages up to there, of it or
    of the segments before it.
    """

    session: UUID
    up_to: int
    position: int
    marked: bool


class SessionState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``open_calls``: calls that the last unit made and that have no result yet; ``asked``: the position of the message
    that made them (None: schema 1, whose calls are named by their ids); ``call_count``: ordinals given so far.
    ``base_tokens``: running total of all messages. ``legal_hold``: nothing of it may be erased. ``named``: settings
    whose words hold more than the facts (``setting``). ``first_user``: the position of the first user message.
    ``failed_count``: the turns that failed. ``set_at``: of the fields ``IN_WORDS`` that were set since the session
    began, the position of the event that set each last; ``patched``: the metadata was merged into since. Times in
    microseconds. ``marked``: it has made marks on messages. ``drop_in``: clients send its history again; ``chain`` is
    the keyed hash of that (``prefixes``), which is not kept with the state. ``hidden``: clients are served
    it no longer; ``deleted_from``: the version at which the first turn started whose answer a client has deleted.

    Of a fork: ``root``, the session that its family began with; ``lineage``, the newest segments of its history that
    stand in other sessions, the oldest first, and those before them are the ``lineage`` of the session ``before``;
    ``replay``, which made it. Of a session that is no fork: ``held_by``, the replay that holds another conversation
    once more in it.
    """

    id: UUID
    version: int
    position: int
    model: str
    created_at: int
    updated_at: int
    status: SessionStatus = "active"
    budget_tokens: int | None = None
    max_output_tokens: int | None = None
    system: SystemPrompt | None = None
    message_count: int = 0
    base_tokens: int = 0
    usage: Usage | None = None
    costs: Costs = Costs()
    fallback_model: str | None = None
    allowed_tools: tuple[str, ...] | None = None
    last: LastMessage | None = None
    last_user: LastMessage | None = None
    open_calls: tuple[str, ...] = ()
    turn: TurnState | None = None
    parent_session: UUID | None = None
    parent_version: int | None = None
    legal_hold: bool = False
    asked: int | None = None
    call_count: int = 0
    named: dict[str, Named] = {}
    expires_at: int | None = None
    max_messages: int | None = None
    max_tokens: int | None = None
    first_user: int | None = None
    turn_count: int = 0
    failed_count: int = 0
    set_at: dict[str, int] = {}
    patched: bool = False
    marked: bool = False
    root: UUID | None = None
    lineage: tuple[Segment, ...] = ()
    before: UUID | None = None
    replay: UUID | None = None
    held_by: UUID | None = None
    drop_in: bool = False
    chain: bytes | None = None
    hidden: bool = False
    deleted_from: int | None = None

    def setting(self, name: str) -> Any:
        """The value of a setting as it was given; as facts hold it, where its words are erased."""
        named = self.named.get(name)
        return getattr(self, name) if named is None else named.value

    @property
    def open_turn(self) -> TurnState | None:
        """The turn that has not ended, if there is one."""
        return self.turn if self.turn is not None and self.turn.end_version is None else None

    @property
    def shared(self) -> int:
        """The position of the last event that it shares with its parent; 0 if it has none."""
        return self.lineage[-1].position if self.lineage else 0

    @property
    def waiting(self) -> bool:
        """True while a turn of it waits for a person."""
        return self.open_turn is not None and self.open_turn.status == "requires_action"


def evolve(state: SessionState | None, event: RecordedEvent, facts: Facts) -> SessionState:
    """The state after one more event, whose facts are given too."""
    if state is None:
        return _begin(event, facts)
    changes: dict[str, object] = {
        "version": event.version,
        "position": event.position,
        "updated_at": event.recorded_at,
    }
    if state.turn is not None or isinstance(facts, TurnStarted):
        changes["turn"] = _turn(state, event, facts)
    match facts:
        case TurnStarted():
            changes |= _started(state, facts)
        case TurnFailed():
            changes["failed_count"] = state.failed_count + 1
        case MessageAppended():
            changes |= _message(state, event, facts)
        case AttemptEnded():
            changes["usage"] = add_usage(state.usage, facts.usage)
            changes["costs"] = state.costs + _cost(changes.get("turn"))
        case BodyErased():
            changes |= _erased(state, facts)
        case _:
            changes |= _of_session(state, event, facts)
    return msgspec.structs.replace(state, **changes)


def _of_session(state: SessionState, event: RecordedEvent, facts: Facts) -> dict[str, object]:
    """The changes of state that events of the session itself make: its settings, its status, its marks."""
    match facts:
        case SessionForked():  # ``state`` is what ``inherit`` gave
            return _updated(state, event, facts) | {"created_at": event.recorded_at, "replay": facts.replay}
        case SessionUpdated():
            return _updated(state, event, facts)
        case SessionArchived() | SessionRestored():
            return {"status": "archived" if isinstance(facts, SessionArchived) else "active"}
        case ConversationDeleted():
            return {"hidden": True}
        case AnswerDeleted():
            return {"deleted_from": min(facts.version, state.deleted_from or facts.version)}
        case MessagePinned() | MessageUnpinned():
            return {"marked": True}
    return {}


def _begin(event: RecordedEvent, facts: Facts) -> SessionState:
    if not isinstance(facts, SessionStarted):
        raise TypeError(f"a session cannot begin with {event.type}")
    return SessionState(
        id=event.session,
        version=event.version,
        position=event.position,
        model=facts.model,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
        budget_tokens=facts.budget_tokens,
        max_output_tokens=facts.max_output_tokens,
        system=_system(event, facts.system_tokens),
        fallback_model=facts.fallback_model,
        allowed_tools=facts.allowed_tools,
        named=_named(event, NAMED),
        expires_at=facts.expires_at,
        max_messages=facts.max_messages,
        max_tokens=facts.max_tokens,
        held_by=facts.replay,
        drop_in=facts.drop_in,
    )


def _turn(state: SessionState, event: RecordedEvent, facts: Facts) -> TurnState | None:
    """The newest turn; an ended one stays until the next begins, so that its last state can be written."""
    if isinstance(facts, TurnStarted):
        return turns.begin(event, facts)
    if state.turn is None:
        return None
    if state.open_turn is None:
        return None if event.type not in TURN_ENDS else state.turn
    return turns.evolve(state.turn, event, facts)


def _started(state: SessionState, facts: TurnStarted) -> dict[str, object]:
    changes: dict[str, object] = {"turn_count": state.turn_count + 1}
    if facts.supersedes is not None:
        changes["marked"] = True
    if state.last is not None and state.last.position == facts.supersedes:
        changes["last"] = msgspec.structs.replace(state.last, superseded=True)
    return changes


def _message(state: SessionState, event: RecordedEvent, facts: MessageAppended) -> dict[str, object]:
    unit = state.last.unit if facts.role == "tool" and state.last is not None else event.version
    last = LastMessage(event.version, event.position, facts.role, unit, facts.tokens, facts.complete)
    asked, by_ordinal = state.asked, event.schema > IDS_IN_FACTS
    if facts.role == "tool":
        open_calls = tuple(call for call in state.open_calls if call not in facts.results)
    else:
        open_calls = facts.calls if facts.complete else ()
        asked = event.position if open_calls and by_ordinal else None
    first_user = event.position if facts.role == "user" and state.first_user is None else state.first_user
    return {
        "asked": asked if open_calls else None,
        "call_count": state.call_count + (len(facts.calls) if by_ordinal else 0),
        "first_user": first_user,
        "message_count": state.message_count + 1,
        "base_tokens": state.base_tokens + facts.tokens,
        "last": last,
        "last_user": last if facts.role == "user" else state.last_user,
        "open_calls": open_calls,
    }


def inherit(parent: SessionState, session: UUID) -> SessionState:
    """The state in which a fork begins, of a session as it was at the version to share. A turn that was open there is
    the parent's; its open calls are anybody's to answer.
    """
    marked = parent.marked or any(each.marked for each in parent.lineage[-1:])
    segment = Segment(parent.id, parent.version, parent.position, marked)
    full = len(parent.lineage) == SEGMENTS_AT_ONCE
    own = {name: getattr(parent, name) for name in SHARED}
    return SessionState(
        id=session,
        version=parent.version,
        position=parent.position,
        updated_at=parent.updated_at,
        parent_session=parent.id,
        parent_version=parent.version,
        root=parent.root or parent.id,
        lineage=(segment,) if full else (*parent.lineage, segment),
        before=parent.id if full else parent.before,
        **own,
    )


def _updated(state: SessionState, event: RecordedEvent, facts: SessionUpdated | SessionForked) -> dict[str, object]:
    names = [name for name in SETTABLE if name in facts.changed]
    changes: dict[str, object] = {name: getattr(facts, name) for name in names}
    kept = {name: named for name, named in state.named.items() if name not in facts.changed}
    changes["named"] = kept | _named(event, facts.changed)
    merges = isinstance(facts, SessionUpdated) and facts.merges
    if "metadata" in facts.changed:
        changes["patched"] = merges
    in_words = [name for name in IN_WORDS if name in facts.changed and not (name == "metadata" and merges)]
    changes["set_at"] = state.set_at | dict.fromkeys(in_words, event.position)
    if "system" in facts.changed:
        changes["system"] = _system(event, facts.system_tokens)
    return changes


def without_words(state: SessionState) -> SessionState:
    """A state without anybody's words, and without its turn where that has ended: it follows from facts alone, so that
    no erasure changes it, and what follows from it is the same but for words.
    """
    turn = state.open_turn
    turn = None if turn is None else turns.without_words(turn)
    return msgspec.structs.replace(state, named={}, turn=turn, chain=None)


def _named(event: RecordedEvent, changed: Sequence[str]) -> dict[str, Named]:
    """The settings among those changed whose value stands in the event's words."""
    words = words_left(event)
    if not isinstance(words, SessionWords):
        return {}
    values = {name: getattr(words, name) for name in NAMED if name in changed}
    return {name: Named(event.position, value) for name, value in values.items() if value is not None}


def _cost(turn: object) -> Costs:
    """The cost of the turn's newest attempt."""
    return turns.cost_of(turn.attempts[-1]) if isinstance(turn, TurnState) and turn.attempts else Costs()


def _erased(state: SessionState, facts: BodyErased) -> dict[str, object]:
    """The changes of state where the words of its last message or system prompt are erased."""
    changes: dict[str, object] = {}
    if state.last is not None and state.last.position in facts.targets:
        changes["last"] = msgspec.structs.replace(state.last, erased=True)
    if state.system is not None and state.system.position in facts.targets:
        changes["system"] = None
    if facts.closes:
        left = tuple(call for call in state.open_calls if call not in facts.closes)
        changes |= {"open_calls": left, "asked": state.asked if left else None}
    if state.named:
        changes["named"] = {name: each for name, each in state.named.items() if each.position not in facts.targets}
    return changes


def _system(event: RecordedEvent, tokens: int) -> SystemPrompt | None:
    return SystemPrompt(event.position, tokens) if tokens else None


class Row(msgspec.Struct, frozen=True, gc=False):
    """A message as the choice sees it: ``tokens`` are base tokens, ``unit`` the version of its unit's first message."""

    version: int
    position: int
    role: Role
    tokens: int
    unit: int
    pinned: bool = False
    left_out: bool = False
