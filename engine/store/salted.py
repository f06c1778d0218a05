"""Events with the salts of their bodies: for exports, which must show that the words are those a leaf commits to."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, func, select

from engine.store.base import RecordedEvent
from engine.store.driver import Prepared
from engine.store.reading import as_event
from engine.store.statements import same
from engine.store.tables import bodies, erasures, events

_salted = select(events, bodies.c.bytes, bodies.c.salt).select_from(
    events.outerjoin(bodies, (events.c.tenant == bodies.c.tenant) & (events.c.position == bodies.c.position))
)
_up_to = events.c.position <= bindparam("up_to_")
_of_session = Prepared(_salted.where(*same(events, "tenant", "session"), _up_to).order_by(events.c.version))
_of_log = Prepared(_salted.where(*same(events, "tenant"), _up_to).order_by(events.c.position))
_leaves = select(events.c.position, events.c.leaf_hash)
_leaves_of_session = Prepared(_leaves.where(*same(events, "tenant", "session"), _up_to).order_by(events.c.version))
_leaves_of_log = Prepared(_leaves.where(*same(events, "tenant"), _up_to).order_by(events.c.position))


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
        rows = _of_session(connection, tenant, session.bytes, up_to)
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
        yield from _leaves_of_log(connection, tenant, up_to)
    else:
        yield from _leaves_of_session(connection, tenant, session.bytes, up_to)
