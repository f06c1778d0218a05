"""The lineage of a session: the sessions in which its history stands, each up to a version (DESIGN section 9).

A fork copies nothing. Its state names the last segments of its history, and those before them are found through an
ancestor's, so that reading walks no more of them than it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from msgspec.structs import replace

from ..errors import SessionNotFound
from ..log.base import Connection, Inherited, RecordedEvent
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.damage import erased_by
from ..log.sql.reads import event_at_version
from ..log.sql.session_index import Stretch
from .queries import session_state, turns_between
from .state import Segment, SessionState
from .turn_state import TurnState


def segments_back(connection: Connection, tenant: str, state: SessionState) -> Iterator[Segment]:
    """The segments of a session's history that stand in other sessions, the newest first."""
    while True:
        yield from reversed(state.lineage)
        before = None if state.before is None else session_state(connection, tenant, state.before)
        if before is None:
            return
        state = before


def stretches_back(
    connection: Connection, tenant: str, state: SessionState, after: int = 0, up_to: int = MAX_SAFE_INTEGER
) -> Iterator[Stretch]:
    """The stretches of a session's history with the events ``after < version <= up_to``, the newest first."""
    session, last, end = state.id, up_to, MAX_SAFE_INTEGER if up_to > state.version else state.position
    for segment in segments_back(connection, tenant, state):
        if last > segment.up_to:
            yield Stretch(session, max(after, segment.up_to), last, segment.position, end)
        if after >= segment.up_to:
            return
        session, last, end = segment.session, min(last, segment.up_to), segment.position
    yield Stretch(session, after, last, 0, end)


def stretches(
    connection: Connection, tenant: str, state: SessionState, after: int = 0, up_to: int = MAX_SAFE_INTEGER
) -> list[Stretch]:
    """The same, the oldest first."""
    return [*stretches_back(connection, tenant, state, after, up_to)][::-1]


def list_turns(
    connection: Connection,
    tenant: str,
    state: SessionState,
    *,
    after: int | None,
    limit: int,
    descending: bool = False,
) -> list[TurnState]:
    """The turns of a session's history in the order in which they started, those that follow the version ``after`` in
    that order.
    """
    if descending:
        back = stretches_back(connection, tenant, state, 0, MAX_SAFE_INTEGER if after is None else after - 1)
    else:
        back = iter(stretches(connection, tenant, state, after or 0))
    found: list[TurnState] = []
    for stretch in back:
        found += turns_between(connection, tenant, stretch, limit - len(found), descending=descending)
        if len(found) >= limit:
            break
    return found


def stands_in(connection: Connection, tenant: str, state: SessionState, version: int) -> UUID:
    """The session in which the event at a version of a session's history stands."""
    return next(stretches_back(connection, tenant, state, version - 1, version)).session


def history_at(
    connection: Connection, tenant: str, session: UUID, version: int | None, field: str = "version"
) -> Inherited:
    """The history of a session up to a version (None: its last), as a fork takes it over: from the session in which
    that version stands. Raises SessionNotFound, which names the ``field`` for a version that it has not had.
    """
    state = session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    at = checked_version(state, state.version if version is None else version, field)
    return Inherited(stands_in(connection, tenant, state, at), at)


def checked_version(now: SessionState, version: int, field: str = "version") -> int:
    """A version that the session has had. Raises SessionNotFound, which names the last."""
    if not 1 <= version <= now.version:
        detail = f"the session has no version {version}: its last is {now.version}"
        raise SessionNotFound(detail, session_id=str(now.id), field=field, last_version=now.version)
    return version


def event_at(connection: Connection, tenant: str, state: SessionState, version: int) -> RecordedEvent | None:
    """The event at a version of a session's history; None if there is no such version."""
    if not 1 <= version <= state.version:
        return None
    return event_at_version(connection, tenant, stands_in(connection, tenant, state, version), version)


def find_event(connection: Connection, tenant: str, session: UUID, version: int) -> RecordedEvent | None:
    """The same of a session by its id; None also if there is no such session."""
    state = session_state(connection, tenant, session)
    return None if state is None else event_at(connection, tenant, state, version)


def as_erased(connection: Connection, tenant: str, state: SessionState) -> SessionState:
    """A fork's state with what is erased of the words that it shares: it is not folded into the state, for the erasure
    is on record in the session where they stand.
    """
    last, system = state.last, state.system
    if last is not None and _gone(connection, tenant, state, last.position) and not last.erased:
        state = replace(state, last=replace(last, erased=True))
    if state.asked is not None and _gone(connection, tenant, state, state.asked):
        state = replace(state, asked=None, open_calls=())
    if system is not None and _gone(connection, tenant, state, system.position):
        state = replace(state, system=None)
    return state


def _gone(connection: Connection, tenant: str, state: SessionState, position: int) -> bool:
    return position <= state.shared and erased_by(connection, tenant, position) is not None
