"""Events with the salts of their bodies: for exports, which must show that the words are those a leaf commits to."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, func, select

from engine.store.base import RecordedEvent
from engine.store.driver import Prepared
from engine.store.places import SessionQuery
from engine.store.reading import as_event
from engine.store.statements import same, with_bodies
from engine.store.tables import bodies, erasures, events

_columns = (*events.c, bodies.c.bytes, bodies.c.salt)
_leaf = (events.c.position, events.c.leaf_hash)
_up_to = events.c.position <= bindparam("position_")
_log = (*same(events, "tenant"), _up_to)
_of_session = SessionQuery(_columns, with_bodies, [_up_to])
_of_log = Prepared(select(*_columns).select_from(with_bodies(events)).where(*_log).order_by(events.c.position))
_leaves_of_session = SessionQuery(_leaf, conditions=[_up_to])
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
        rows = _of_log(connection, tenant, up_to)
    else:
        rows = _of_session(connection, tenant, session, values=[up_to])
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
