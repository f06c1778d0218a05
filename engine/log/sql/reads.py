"""Reading the log: plain functions over a connection, each one query.

They serve readers' snapshots and the writer's own look-ups alike. A RecordedEvent read here has its body, or is
``erased``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BindParameter, Connection, bindparam, func, select

from ...clock import id_of
from ..base import RecordedEvent
from ..codec import MAX_SAFE_INTEGER
from . import driver
from .driver import Prepared
from .session_index import NO_OFFSET, SessionQuery
from .statements import recorded, recorded_columns, same, statements, with_bodies
from .tables import bodies, erasures, events, heads

PAGE_EVENTS = 1000
POSITIONS_AT_ONCE = 64

_at_positions = Prepared(
    recorded.where(
        events.c.tenant == bindparam("tenant_"),
        events.c.position.in_([bindparam(f"position_{number}") for number in range(POSITIONS_AT_ONCE)]),
    ).order_by(events.c.position)
)
_of_session = SessionQuery(recorded_columns, with_bodies)


def event_by_id(connection: Connection, tenant: str, event_id: UUID) -> RecordedEvent | None:
    return _one(connection, statements(connection).event_by_id, (tenant, event_id.bytes))


def event_at_version(connection: Connection, tenant: str, session: UUID, version: int) -> RecordedEvent | None:
    return next(map(as_event, _of_session(connection, tenant, session, version - 1, version)), None)


def event_at_position(connection: Connection, tenant: str, position: int) -> RecordedEvent | None:
    return _one(connection, statements(connection).event_at_position, (tenant, position))


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
    return _up_to(_of_session(connection, tenant, session, after, up_to, limit), most_bytes)


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
    values = (tenant, after, up_to, limit, NO_OFFSET)
    return _up_to(driver.run(connection, statements(connection).log_events, values), most_bytes)


def all_events(connection: Connection) -> Iterator[RecordedEvent]:
    """Every event of every log, each log in order; one at a time, for an event may be megabytes."""
    for tenant in tenants(connection):
        values = (tenant, 0, MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, NO_OFFSET)
        for row in driver.run(connection, statements(connection).log_events, values):
            yield as_event(row)


def events_at_positions(connection: Connection, tenant: str, positions: Sequence[int]) -> list[RecordedEvent]:
    """The events at these positions, in order of position."""
    rows: list[Sequence[Any]] = []
    for start in range(0, len(positions), POSITIONS_AT_ONCE):
        some = positions[start : start + POSITIONS_AT_ONCE]
        padding = [some[-1]] * (POSITIONS_AT_ONCE - len(some))
        rows += _at_positions(connection, tenant, *some, *padding)
    return [as_event(row) for row in rows]


def session_events_of_types(
    connection: Connection, tenant: str, session: UUID, types: Sequence[str], *, after: int, limit: int
) -> list[RecordedEvent]:
    """As ``session_events``, of some types only."""
    query = _of_session_and_types(len(types))
    rows = query(connection, tenant, session, after, MAX_SAFE_INTEGER, limit, values=types)
    return [as_event(row) for row in rows]


@lru_cache(maxsize=64)
def _of_session_and_types(count: int) -> SessionQuery:
    types: list[BindParameter[str]] = [bindparam(f"type_{number}") for number in range(count)]
    return SessionQuery(recorded_columns, with_bodies, [events.c.type.in_(types)])


def tenants(connection: Connection) -> list[str]:
    return list(connection.execute(select(heads.c.tenant).order_by(heads.c.tenant)).scalars())


def log_size(connection: Connection, tenant: str) -> int:
    """The last position of a log; 0 if it has not begun."""
    size = connection.execute(select(heads.c.size).where(heads.c.tenant == tenant)).scalar()
    return size or 0


def salt_of(connection: Connection, tenant: str, position: int) -> bytes | None:
    """The salt of an event's commitment, or None if its body is erased."""
    row = driver.run(connection, statements(connection).salt, (tenant, position)).fetchone()
    return None if row is None else row[0]


def _up_to(cursor: Any, most_bytes: int) -> list[RecordedEvent]:
    """What a cursor gives, read no further than so many bytes of bodies: the last may go beyond."""
    found: list[RecordedEvent] = []
    size = 0
    try:
        for row in cursor:
            event = as_event(row)
            found.append(event)
            size += event.length
            if size >= most_bytes:
                break
    finally:
        cursor.close()
    return found


def _one(connection: Connection, statement: str, values: tuple[object, ...]) -> RecordedEvent | None:
    row = driver.run(connection, statement, values).fetchone()
    return None if row is None else as_event(row)


def as_event(row: Sequence[Any]) -> RecordedEvent:
    tenant, position, session, version, event_id, kind, schema, actor, recorded_at, causation, *rest = row
    correlation, facts, length, commitment, leaf_hash, body = rest
    return RecordedEvent(
        tenant=tenant,
        position=position,
        session=_session_id(session),
        version=version,
        id=id_of(event_id),
        type=kind,
        schema=schema,
        actor=actor,
        recorded_at=recorded_at,
        causation=id_of(causation) if causation else None,
        correlation=correlation,
        facts=facts,
        length=length,
        commitment=commitment,
        leaf_hash=leaf_hash,
        body=body,
        erased=body is None,
    )


@lru_cache(maxsize=1024)
def _session_id(raw: bytes) -> UUID:
    """Ids cost a microsecond each to make, and what is read together has the same session."""
    return id_of(raw)


_salted_columns = (*events.c, bodies.c.bytes, bodies.c.salt)

_leaf = (events.c.position, events.c.leaf_hash)

_to_position = events.c.position <= bindparam("position_")

_log = (*same(events, "tenant"), _to_position)

_salted_of_session = SessionQuery(_salted_columns, with_bodies, [_to_position])

_salted_of_log = Prepared(
    select(*_salted_columns).select_from(with_bodies(events)).where(*_log).order_by(events.c.position)
)

_leaves_of_session = SessionQuery(_leaf, conditions=[_to_position])

_leaves_of_log = Prepared(select(*_leaf).where(*_log).order_by(events.c.position))


class Salted(msgspec.Struct, frozen=True, gc=False):
    """``salt`` is None where the body is erased."""

    event: RecordedEvent
    salt: bytes | None


def salted_events(connection: Connection, tenant: str, session: UUID | None, up_to: int) -> Iterator[Salted]:
    """Events up to a position, one at a time: of a session in order of version, or (None) of the log in order of
    position.
    """
    if session is None:
        rows = _salted_of_log(connection, tenant, up_to)
    else:
        rows = _salted_of_session(connection, tenant, session, values=[up_to])
    for row in rows:
        *columns, salt = row
        yield Salted(as_event(columns), salt)


def last_erasure(connection: Connection, tenant: str, session: UUID | None) -> int:
    """Position of the last event that erased words of a session, or (None) of the log; 0 if there is none."""
    query = select(func.max(erasures.c.by_position)).where(erasures.c.tenant == tenant)
    if session is not None:
        said = (events.c.tenant == erasures.c.tenant) & (events.c.position == erasures.c.by_position)
        query = query.select_from(erasures.join(events, said)).where(events.c.session == session.bytes)
    return connection.execute(query).scalar() or 0


def leaf_hashes(connection: Connection, tenant: str, session: UUID | None, up_to: int) -> Iterator[tuple[int, bytes]]:
    """(position, leaf hash) of the same events."""
    if session is None:
        rows = _leaves_of_log(connection, tenant, up_to)
    else:
        rows = _leaves_of_session(connection, tenant, session, values=[up_to])
    yield from rows
