"""A session's state as it is now, or as it was at a version: folded from its events."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from ..errors import SessionNotFound
from ..events.blocks import calls_of, read_blocks
from ..events.types import MessageAppended, MessageWords, SessionWords
from ..events.upcasts import facts_of, words_of
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from . import queries
from .calls import NONE_READ, CallIds, ids_of
from .erasure import words_after
from .state import SessionState, evolve
from .turn_state import TurnState


def state_at(
    connection: Connection, tenant: str, session: UUID, version: int | None = None
) -> tuple[SessionState, SessionWords]:
    """A session's state and words, now or as they were at a version (from 1 to its last).

    Raises SessionNotFound.
    """
    now = queries.session_state(connection, tenant, session)
    if now is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    if version is None or version == now.version:
        return now, queries.words_of_session(connection, tenant, session)
    state: SessionState | None = None
    words = SessionWords()
    for event in _session_events(connection, tenant, session, version):
        facts = facts_of(event)
        state = evolve(state, event, facts)
        words = words_after(words, event, facts)
    if state is None or state.version != version:
        raise SessionNotFound(f"the session has no version {version}", session_id=str(session), field="version")
    return state, words


def open_call_ids(connection: Connection, tenant: str, state: SessionState) -> CallIds:
    """The vendor's ids of a session's open calls, from the message that makes them."""
    if state.asked is None:
        return NONE_READ
    event = reads.event_at_position(connection, tenant, state.asked)
    words = None if event is None else words_of(event)
    if event is None or not isinstance(words, MessageWords):
        return NONE_READ
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    return dict(zip(facts.calls, calls_of(read_blocks(words.content)), strict=True))


def turn_call_ids(connection: Connection, tenant: str, turn: TurnState) -> CallIds:
    """The vendor's ids of the calls of a turn that have not returned."""
    calls = (*turn.open_calls, *turn.client_calls)
    events = reads.events_at_positions(connection, tenant, sorted({call.message for call in calls}))
    words = {event.position: words_of(event) for event in events}
    contents = {at: read_blocks(said.content) for at, said in words.items() if isinstance(said, MessageWords)}
    return ids_of(calls, contents)


def _session_events(connection: Connection, tenant: str, session: UUID, up_to: int) -> Iterator[RecordedEvent]:
    after = 0
    while page := reads.session_events(connection, tenant, session, after=after, up_to=up_to, limit=reads.PAGE_EVENTS):
        yield from page
        after = page[-1].version
