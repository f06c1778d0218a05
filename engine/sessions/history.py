"""A session's state as it is now, or as it was at a version: folded from its events. Its words beside it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec

from ..errors import RecordDamaged, SessionNotFound
from ..events.blocks import calls_of, read_blocks
from ..events.session_types import SessionWords
from ..events.types import MessageAppended, MessageWords
from ..events.upcasts import facts_of, words_left, words_of
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from . import queries
from .calls import NONE_READ, CallIds, ids_of
from .erasure import SETTING_WORDS
from .state import SessionState, evolve
from .turn_state import TurnState
from .words import ShownWords, preview_of, words_after


def state_at(connection: Connection, tenant: str, session: UUID, version: int | None = None) -> SessionState:
    """A session's state, now or as it was at a version (from 1 to its last). Raises SessionNotFound."""
    now = _state_now(connection, tenant, session)
    return now if version in {None, now.version} else _folded(connection, tenant, session, version or 0)


def _state_now(connection: Connection, tenant: str, session: UUID) -> SessionState:
    state = queries.session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    return state


def _folded(connection: Connection, tenant: str, session: UUID, version: int) -> SessionState:
    state: SessionState | None = None
    for event in _session_events(connection, tenant, session, version):
        state = evolve(state, event, facts_of(event))
    if state is None or state.version != version:
        raise SessionNotFound(f"the session has no version {version}", session_id=str(session), field="version")
    return state


def session_at(
    connection: Connection, tenant: str, session: UUID, version: int | None = None
) -> tuple[SessionState, ShownWords]:
    """As ``state_at``, and the session's words: now as the projection has them, else from the events that set them.

    Raises SessionNotFound, and RecordDamaged for words at a version.
    """
    now = _state_now(connection, tenant, session)
    if version is None or version == now.version:
        return now, queries.words_of_session(connection, tenant, session)
    state, words = _folded(connection, tenant, session, version), ShownWords()
    for event in _session_events(connection, tenant, session, version, SETTING_WORDS):
        if event.damaged:
            raise RecordDamaged.at(event.position)
        words = words_after(words, event, facts_of(event))
    first = None if state.first_user is None else reads.event_at_position(connection, tenant, state.first_user)
    return state, words if first is None else msgspec.structs.replace(words, preview=preview_of(first))


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


def _session_events(
    connection: Connection, tenant: str, session: UUID, up_to: int, types: tuple[str, ...] = ()
) -> Iterator[RecordedEvent]:
    after = 0
    while page := _page(connection, tenant, session, after, up_to, types):
        yield from page
        after = page[-1].version


def _page(
    connection: Connection, tenant: str, session: UUID, after: int, up_to: int, types: tuple[str, ...]
) -> list[RecordedEvent]:
    if not types:
        return reads.session_events(connection, tenant, session, after=after, up_to=up_to, limit=reads.PAGE_EVENTS)
    return reads.session_events_of_types(
        connection, tenant, session, types, after=after, up_to=up_to, limit=reads.PAGE_EVENTS
    )
