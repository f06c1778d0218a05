"""A session's state as it is now, or as it was at a version: folded from its events."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec

from ..errors import SessionNotFound
from ..events.upcasts import facts_of
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from . import queries
from .state import SessionState, evolve
from .words import ShownWords, preview_of, words_after


def state_at(
    connection: Connection, tenant: str, session: UUID, version: int | None = None
) -> tuple[SessionState, ShownWords]:
    """A session's state and words, now or as they were at a version (from 1 to its last).

    Raises SessionNotFound.
    """
    now = queries.session_state(connection, tenant, session)
    if now is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    if version is None or version == now.version:
        return now, queries.words_of_session(connection, tenant, session)
    state: SessionState | None = None
    words = ShownWords()
    for event in _session_events(connection, tenant, session, version):
        facts = facts_of(event)
        state = evolve(state, event, facts)
        words = words_after(words, event, facts)
        if event.position == state.first_user:
            words = msgspec.structs.replace(words, preview=preview_of(event))
    if state is None or state.version != version:
        raise SessionNotFound(f"the session has no version {version}", session_id=str(session), field="version")
    return state, words


def _session_events(connection: Connection, tenant: str, session: UUID, up_to: int) -> Iterator[RecordedEvent]:
    after = 0
    while page := reads.session_events(connection, tenant, session, after=after, up_to=up_to, limit=reads.PAGE_EVENTS):
        yield from page
        after = page[-1].version
