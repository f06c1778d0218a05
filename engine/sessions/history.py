"""A session's state as it is now, or as it was at a version or a time, and its words beside it. The past is folded from
the newest snapshot before it.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ..clock import rfc3339
from ..errors import NotYet, RecordDamaged, SessionNotFound, StoreCorrupt
from ..events.blocks import calls_of, read_blocks
from ..events.session_types import SessionForked, SessionWords
from ..events.types import MessageAppended, MessageWords
from ..events.upcasts import facts_of, words_left, words_of
from ..log.base import Connection, Inherited, RecordedEvent
from ..log.sql import reads
from . import queries
from .calls import NONE_READ, CallIds, ids_of
from .erasure import SETTING_WORDS
from .lineage import as_erased, checked_version, stands_in, stretches
from .snapshots import newest_snapshot
from .state import NAMED, Named, SessionState, evolve, inherit
from .turn_state import TurnState
from .words import WORD_FIELDS, ShownWords, changed_words, preview_of, words_after


class Moment(msgspec.Struct, frozen=True):
    """When a session is looked at: at a version, or at a time in microseconds; neither: now."""

    version: int | None = None
    time_us: int | None = None


NOW = Moment()


def version_then(connection: Connection, tenant: str, session: UUID, moment: Moment) -> int | None:
    """The version that a session had at a moment; None: the one that it has now. A time means the last version that was
    recorded at or before it. Raises SessionNotFound, and NotYet for a time before the session began.
    """
    if moment == NOW:
        return None
    now = _state_now(connection, tenant, session)
    if moment.time_us is None:
        return checked_version(now, moment.version or 0)
    if moment.time_us < now.created_at:
        began = rfc3339(now.created_at)
        raise NotYet(f"the session had not begun: it began at {began}", field="at", created_at=began)
    if moment.time_us >= now.updated_at:
        return now.version
    first = (now.parent_version or 0) + 1
    return reads.version_at_time(connection, tenant, session, first, now.version, moment.time_us)


def state_at(connection: Connection, tenant: str, session: UUID, version: int | None = None) -> SessionState:
    """A session's state, now or as it was at a version (from 1 to its last); of the past without the words of its turn,
    and without what was erased since. Raises SessionNotFound.
    """
    now = _state_now(connection, tenant, session)
    if version in {None, now.version}:
        return as_erased(connection, tenant, now)
    return as_erased(connection, tenant, _past(connection, tenant, now, checked_version(now, version or 0)))


def _state_now(connection: Connection, tenant: str, session: UUID) -> SessionState:
    state = queries.session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    return state


def _past(connection: Connection, tenant: str, now: SessionState, version: int) -> SessionState:
    """The state of a session at a version that it has had. Where that is an ancestor's, it is told of this session."""
    owner = stands_in(connection, tenant, now, version)
    state = folded(connection, connection, tenant, owner, version)
    if owner == now.id:
        return state
    return replace(
        inherit(state, now.id),
        created_at=now.created_at,
        parent_session=now.parent_session,
        parent_version=now.parent_version,
        root=now.root,
    )


def folded(log: Connection, derived: Connection, tenant: str, session: UUID, version: int) -> SessionState:
    """The state at a version of a session's own, from the newest snapshot, or from the beginning where there is none.
    Events are read from one connection, and what is derived of them from another, or the same. Raises StoreCorrupt
    where there is no such version.
    """
    state = newest_snapshot(derived, tenant, session, version)
    if state is not None:
        state = replace(state, named=_named(log, tenant, state))
    while state is None or state.version < version:
        after = 0 if state is None else state.version
        page = reads.session_events(log, tenant, session, after=after, up_to=version, limit=reads.PAGE_EVENTS)
        if not page:
            raise StoreCorrupt(f"session {session} has no version {version}")
        for event in page:
            state = evolve(_begun(log, derived, tenant, event) if state is None else state, event, facts_of(event))
    return state


def inherited_at(
    log: Connection, derived: Connection, tenant: str, source: Inherited
) -> tuple[SessionState, ShownWords]:
    """The state and the words of a session at one of its own versions, for a fork. See ``folded``; words that cannot
    be read are None.
    """
    now = queries.session_state(derived, tenant, source.session)
    if now is not None and now.version == source.version:
        return now, queries.words_of_session(derived, tenant, source.session)
    state = folded(log, derived, tenant, source.session, source.version)
    return state, words_at(log, tenant, state, damaged=True)


def fork_state(connection: Connection, tenant: str, session: UUID, source: Inherited) -> SessionState:
    """The state in which a fork would begin."""
    state = inherit(folded(connection, connection, tenant, source.session, source.version), session)
    return as_erased(connection, tenant, state)


def _begun(log: Connection, derived: Connection, tenant: str, first: RecordedEvent) -> SessionState | None:
    """The state that the first event of a session is folded into; None: it is no fork."""
    facts = facts_of(first)
    if not isinstance(facts, SessionForked):
        return None
    return inherit(folded(log, derived, tenant, facts.parent, facts.parent_version), first.session)


def session_at(
    connection: Connection, tenant: str, session: UUID, version: int | None = None
) -> tuple[SessionState, ShownWords]:
    """As ``state_at``, and the session's words: now as the projection has them, else from the events that set them.

    Raises SessionNotFound, and RecordDamaged for words at a version.
    """
    now = _state_now(connection, tenant, session)
    if version in {None, now.version}:
        return as_erased(connection, tenant, now), queries.words_of_session(connection, tenant, session)
    state = as_erased(connection, tenant, _past(connection, tenant, now, checked_version(now, version or 0)))
    return state, words_at(connection, tenant, state)


def words_at(connection: Connection, tenant: str, state: SessionState, *, damaged: bool = False) -> ShownWords:
    """What is left of the words of a session at a state. Raises RecordDamaged; with ``damaged``, words that cannot be
    read are None, as those that are erased.
    """
    events = _set_by(connection, tenant, state, WORD_FIELDS)
    for event in events.values():
        if event.damaged and not damaged:
            raise RecordDamaged.at(event.position)
    words = {name: getattr(_setting_words(event), name) for name, event in events.items()}
    if state.patched:
        set_at = events["metadata"].version
        words["metadata"] = _patched(connection, tenant, state, set_at, words["metadata"], damaged=damaged)
    first = None if state.first_user is None else reads.event_at_position(connection, tenant, state.first_user)
    return ShownWords(**words, preview=None if first is None else preview_of(first))


def _patched(
    connection: Connection, tenant: str, state: SessionState, after: int, metadata: Any, *, damaged: bool
) -> Any:
    """What is left of a session's metadata at a state, which was set at a version and merged into since. Raises
    RecordDamaged.
    """
    words = ShownWords(metadata=metadata)
    along = stretches(connection, tenant, state, after, state.version)
    for event in reads.each_event_along(connection, tenant, along, SETTING_WORDS):
        facts = facts_of(event)
        if "metadata" in changed_words(facts) and event.damaged and not damaged:
            raise RecordDamaged.at(event.position)
        words = words_after(words, event, facts)
    return words.metadata


def _named(connection: Connection, tenant: str, state: SessionState) -> dict[str, Named]:
    """The settings at a state whose value stands in words, as far as these are left."""
    events = _set_by(connection, tenant, state, NAMED)
    values = {name: getattr(_setting_words(event), name) for name, event in events.items()}
    return {name: Named(events[name].position, value) for name, value in values.items() if value is not None}


def _setting_words(event: RecordedEvent) -> SessionWords:
    words = words_left(event)
    return words if isinstance(words, SessionWords) else SessionWords()


def _set_by(
    connection: Connection, tenant: str, state: SessionState, names: tuple[str, ...]
) -> dict[str, RecordedEvent]:
    """For each of these fields, the event that set it last: one since the session began, or the one that began it."""
    positions = sorted({state.set_at[name] for name in names if name in state.set_at})
    events = {event.position: event for event in reads.events_at_positions(connection, tenant, positions)}
    found = {name: events[state.set_at[name]] for name in names if name in state.set_at}
    if len(found) < len(names):
        first = reads.event_at_version(connection, tenant, state.root or state.id, 1)
        assert first is not None, "a session begins with its first version"
        found = dict.fromkeys(names, first) | found
    return found


def open_call_ids(connection: Connection, tenant: str, state: SessionState) -> CallIds:
    """The vendor's ids of a session's open calls, from the message that makes them. Raises RecordDamaged."""
    if state.asked is None:
        return NONE_READ
    event = reads.event_at_position(connection, tenant, state.asked)
    words = None if event is None else words_of(event)
    if event is None or not isinstance(words, MessageWords):
        return NONE_READ
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    return dict(zip(facts.calls, calls_of(read_blocks(words.content)), strict=True))


def turn_call_ids(connection: Connection, tenant: str, turn: TurnState, *, damaged: bool = False) -> CallIds:
    """The vendor's ids of the calls of a turn that have not returned. Raises RecordDamaged; with ``damaged``, ids that
    cannot be read are left out.
    """
    words_read = words_left if damaged else words_of
    calls = (*turn.open_calls, *turn.client_calls)
    events = reads.events_at_positions(connection, tenant, sorted({call.message for call in calls}))
    words = {event.position: words_read(event) for event in events}
    contents = {at: read_blocks(said.content) for at, said in words.items() if isinstance(said, MessageWords)}
    return ids_of(calls, contents)


def system_of(connection: Connection, tenant: str, state: SessionState) -> str | None:
    """A session's system prompt at a state, from the event that set it; None if there is none, or it is erased. Raises
    RecordDamaged.
    """
    if state.system is None:
        return None
    event = reads.event_at_position(connection, tenant, state.system.position)
    words = None if event is None else words_of(event)
    return words.system if isinstance(words, SessionWords) else None
