"""Reading the log: plain functions over a connection, each one query.

They serve readers' snapshots and the writer's own look-ups alike. A RecordedEvent read here has its body, or is
``erased`` or ``damaged``; its ``meaning`` is what the decoder makes of it that the store was opened with.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Connection, bindparam, select

from ..base import RecordedEvent
from ..codec import MAX_SAFE_INTEGER
from .clauses import limited, recorded, recorded_columns, same, with_bodies
from .driver import Prepared
from .rows import reading
from .session_index import SessionQuery, Stretch
from .tables import bodies, events, heads

PAGE_EVENTS = 1000
POSITIONS_AT_ONCE = 64

_by_id = Prepared(recorded.where(*same(events, "tenant", "id")))
_at_position = Prepared(recorded.where(*same(events, "tenant", "position")))
_log = recorded.where(
    *same(events, "tenant"), events.c.position > bindparam("after_"), events.c.position <= bindparam("up_to_")
)
_of_log = Prepared(limited(_log.order_by(events.c.position)))
_tenants = Prepared(select(heads.c.tenant).order_by(heads.c.tenant))
_size = Prepared(select(heads.c.size).where(*same(heads, "tenant")))
_salt = Prepared(select(bodies.c.salt).where(*same(bodies, "tenant", "position")))
_at_positions = Prepared(
    recorded.where(
        events.c.tenant == bindparam("tenant_"),
        events.c.position.in_([bindparam(f"position_{number}") for number in range(POSITIONS_AT_ONCE)]),
    ).order_by(events.c.position)
)
_of_session = SessionQuery(recorded_columns, with_bodies)
_times_of_session = SessionQuery((events.c.recorded_at,))


def event_by_id(connection: Connection, tenant: str, event_id: UUID) -> RecordedEvent | None:
    return _one(connection, _by_id(connection, tenant, event_id.bytes))


def event_at_version(connection: Connection, tenant: str, session: UUID, version: int) -> RecordedEvent | None:
    with closing(_of_session(connection, tenant, session, version - 1, version)) as rows:
        return next(map(reading(connection), rows), None)


def version_at_time(connection: Connection, tenant: str, session: UUID, first: int, last: int, time_us: int) -> int:
    """The last of a session's own versions, from ``first`` to ``last``, that was recorded at or before a time; the one
    before them if none was. Times never go back within a log, so few events are looked at.
    """
    versions = range(first, last + 1)
    return first - 1 + bisect_right(versions, time_us, key=partial(_time_at, connection, tenant, session))


def _time_at(connection: Connection, tenant: str, session: UUID, version: int) -> int:
    with closing(_times_of_session(connection, tenant, session, version - 1, version, 1)) as rows:
        return int(next(iter(rows))[0])


def event_at_position(connection: Connection, tenant: str, position: int) -> RecordedEvent | None:
    return _one(connection, _at_position(connection, tenant, position))


def session_events(
    connection: Connection,
    tenant: str,
    session: UUID,
    *,
    after: int = 0,
    up_to: int = MAX_SAFE_INTEGER,
    limit: int = MAX_SAFE_INTEGER,
    most_bytes: int = MAX_SAFE_INTEGER,
) -> list[RecordedEvent]:
    """Events of a session with ``after < version <= up_to``, oldest first; no more once their bodies have
    ``most_bytes``.
    """
    return _up_to(connection, _of_session(connection, tenant, session, after, up_to, limit), most_bytes)


def log_events(
    connection: Connection,
    tenant: str,
    *,
    after: int = 0,
    up_to: int = MAX_SAFE_INTEGER,
    limit: int = PAGE_EVENTS,
    most_bytes: int = MAX_SAFE_INTEGER,
) -> list[RecordedEvent]:
    """Events of a log with ``after < position <= up_to``, in order; no more once their bodies have ``most_bytes``."""
    return _up_to(connection, _of_log(connection, tenant, after, up_to, limit), most_bytes)


def all_events(connection: Connection) -> Iterator[RecordedEvent]:
    """Every event of every log, each log in order; one at a time, for an event may be megabytes."""
    for tenant in tenants(connection):
        yield from map(reading(connection), _of_log(connection, tenant, 0, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER))


def events_at_positions(connection: Connection, tenant: str, positions: Sequence[int]) -> list[RecordedEvent]:
    """The events at these positions, in order of position."""
    found: list[RecordedEvent] = []
    for start in range(0, len(positions), POSITIONS_AT_ONCE):
        some = positions[start : start + POSITIONS_AT_ONCE]
        padding = [some[-1]] * (POSITIONS_AT_ONCE - len(some))
        found += map(reading(connection), _at_positions(connection, tenant, *some, *padding))
    return found


def session_events_of_types(
    connection: Connection,
    tenant: str,
    session: UUID,
    types: Sequence[str],
    *,
    after: int,
    limit: int,
    up_to: int = MAX_SAFE_INTEGER,
) -> list[RecordedEvent]:
    """As ``session_events``, of some types only."""
    query = _of_session_and_types(len(types))
    rows = query(connection, tenant, session, after, up_to, limit, values=types)
    return list(map(reading(connection), rows))


def each_event_along(
    connection: Connection,
    tenant: str,
    stretches: Sequence[Stretch],
    types: Sequence[str] = (),
    *,
    limit: int = MAX_SAFE_INTEGER,
) -> Generator[RecordedEvent, None, None]:
    """The events of a history, whose stretches are given oldest first; of some types only if any are named. They are
    read as they are asked for; close it where that is not to the end.
    """
    query = _of_session_and_types(len(types)) if types else _of_session
    with closing(query.along(connection, tenant, stretches, limit, values=types)) as rows:
        yield from map(reading(connection), rows)


def events_along(
    connection: Connection, tenant: str, stretches: Sequence[Stretch], *, limit: int, most_bytes: int
) -> list[RecordedEvent]:
    """The same, no more once their bodies have ``most_bytes``."""
    return _up_to(connection, _of_session.along(connection, tenant, stretches, limit), most_bytes)


def each_log_event(
    connection: Connection,
    tenant: str,
    types: Sequence[str] = (),
    *,
    after: int,
    up_to: int = MAX_SAFE_INTEGER,
    limit: int,
    descending: bool = False,
) -> Generator[RecordedEvent, None, None]:
    """Events of a log with ``after < position <= up_to``, in the same way; the newest first if ``descending``."""
    query = _of_log_and_types(len(types), descending=descending)
    with closing(query(connection, tenant, after, up_to, *types, limit)) as rows:
        yield from map(reading(connection), rows)


@lru_cache(maxsize=64)
def _of_log_and_types(count: int, *, descending: bool) -> Prepared:
    types: list[BindParameter[str]] = [bindparam(f"type_{number}") for number in range(count)]
    place = events.c.position.desc() if descending else events.c.position
    wanted = _log.where(events.c.type.in_(types)) if count else _log
    return Prepared(limited(wanted.order_by(place)))


@lru_cache(maxsize=64)
def _of_session_and_types(count: int) -> SessionQuery:
    types: list[BindParameter[str]] = [bindparam(f"type_{number}") for number in range(count)]
    return SessionQuery(recorded_columns, with_bodies, [events.c.type.in_(types)])


def tenants(connection: Connection) -> list[str]:
    return [row[0] for row in _tenants(connection)]


def log_size(connection: Connection, tenant: str) -> int:
    """The last position of a log; 0 if it has not begun."""
    row = _size(connection, tenant).fetchone()
    return 0 if row is None else int(row[0])


def salt_of(connection: Connection, tenant: str, position: int) -> bytes | None:
    """The salt of an event's commitment, or None if its body is erased."""
    row = _salt(connection, tenant, position).fetchone()
    return None if row is None else row[0]


def _up_to(connection: Connection, cursor: Any, most_bytes: int) -> list[RecordedEvent]:
    """The events of a cursor, read no further than so many bytes of bodies: the last may go beyond."""
    found: list[RecordedEvent] = []
    size = 0
    with closing(cursor):
        if most_bytes == MAX_SAFE_INTEGER:
            return list(map(reading(connection), cursor))
        for event in map(reading(connection), cursor):
            found.append(event)
            size += event.length
            if size >= most_bytes:
                break
    return found


def _one(connection: Connection, cursor: Any) -> RecordedEvent | None:
    row = cursor.fetchone()
    return None if row is None else reading(connection)(row)
