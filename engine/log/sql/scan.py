"""Reading a whole log for whoever verifies it: every column of every row, as it lies there, in order.

Nothing is believed here: ids are bytes, and what ought to be there may be None.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, exists, func, select, union

from .clauses import same
from .driver import Prepared
from .session_index import SessionQuery
from .tables import (
    bodies,
    checkpoints,
    cosignatures,
    documents,
    erased_documents,
    erasures,
    events,
    heads,
    origins,
    places,
    purges,
    tiles,
    verifiers,
)

ERASED = "body.erased"
FORKED = "session.forked"

_body = (events.c.tenant == bodies.c.tenant) & (events.c.position == bodies.c.position)
_erasure = (events.c.tenant == erasures.c.tenant) & (events.c.position == erasures.c.position)
_rows = Prepared(
    select(
        *(column for column in events.c if column.name != "tenant"),
        *(bodies.c.salt, bodies.c.encoding, bodies.c.bytes, erasures.c.by_position),
    )
    .select_from(events.outerjoin(bodies, _body).outerjoin(erasures, _erasure))
    .where(*same(events, "tenant"))
    .order_by(events.c.position)
)
_facts = Prepared(
    select(events.c.tenant, events.c.position, events.c.type, events.c.facts)
    .where(*same(events, "schema"))
    .order_by(events.c.tenant, events.c.position)
)
_versions = Prepared(
    select(events.c.session, events.c.version, events.c.position)
    .where(*same(events, "tenant"))
    .order_by(events.c.session, events.c.version)
)
_places = Prepared(
    select(places.c.session, places.c.version, places.c.position)
    .where(*same(places, "tenant"))
    .order_by(places.c.session, places.c.version)
)
_erasing = events.alias()
_erasures = Prepared(
    select(erasures.c.position, erasures.c.by_position, _erasing.c.type, _erasing.c.facts)
    .select_from(
        erasures.outerjoin(
            _erasing, (_erasing.c.tenant == erasures.c.tenant) & (_erasing.c.position == erasures.c.by_position)
        )
    )
    .where(erasures.c.tenant == bindparam("tenant_"))
    .order_by(erasures.c.position)
)
_head = Prepared(select(heads.c.size, heads.c.recorded_at, heads.c.frontier).where(*same(heads, "tenant")))
_tile = Prepared(select(tiles.c.root, tiles.c.inner).where(*same(tiles, "tenant", "level", "number")))
_type_at = Prepared(select(events.c.type).where(*same(events, "tenant", "position")))
_forks = Prepared(
    select(events.c.position, events.c.session, events.c.version, events.c.facts)
    .where(*same(events, "tenant", "type"))
    .order_by(events.c.position)
)
_position_of = SessionQuery((events.c.position,))
_NAMING_A_LOG = (
    *(events, bodies, erasures, heads, origins, tiles, verifiers, checkpoints, cosignatures),
    erased_documents,
)
_all_tenants = Prepared(union(*(select(table.c.tenant).distinct() for table in _NAMING_A_LOG)))
_counts = [
    Prepared(select(func.count()).select_from(table).where(*same(table, "tenant")))
    for table in (bodies, erasures, tiles)
]
_strays = [
    Prepared(
        select(func.min(table.c.position))
        .select_from(
            table.outerjoin(events, (events.c.tenant == table.c.tenant) & (events.c.position == table.c.position))
        )
        .where(*same(table, "tenant"), events.c.position.is_(None))
    )
    for table in (bodies, erasures)
]
_stray_purges = Prepared(
    select(purges).where(
        ~exists().where(erasures.c.tenant == purges.c.tenant, erasures.c.by_position == purges.c.position)
    )
)
_documents = Prepared(select(*documents.c))
_salted_documents = Prepared(
    select(documents.c.digest)
    .where(*same(documents, "tenant"), documents.c.salt.is_not(None))
    .order_by(documents.c.digest)
)
_erased_documents = Prepared(
    select(erased_documents.c.digest, erased_documents.c.by_position, _erasing.c.type, _erasing.c.facts)
    .select_from(
        erased_documents.outerjoin(
            _erasing,
            (_erasing.c.tenant == erased_documents.c.tenant) & (_erasing.c.position == erased_documents.c.by_position),
        )
    )
    .where(erased_documents.c.tenant == bindparam("tenant_"))
    .order_by(erased_documents.c.digest)
)

Event = tuple[bytes, int, int]
"""(session, version, position)."""


class Head(msgspec.Struct, frozen=True):
    """A head's row."""

    size: int
    recorded_at: int
    frontier: bytes


def facts_of_schema(connection: Connection, schema: int) -> Iterator[tuple[str, int, str, bytes]]:
    """Tenant, position, type and facts of every event of a schema, log by log and in order."""
    with closing(_facts(connection, schema)) as rows:
        yield from rows


def rows(connection: Connection, tenant: str) -> Iterator[tuple[Any, ...]]:
    """Each event by position: its columns but the tenant, then its body's (salt, encoding, bytes) and the position that
    erased it, None where there is none.
    """
    yield from _rows(connection, tenant)


def versions(connection: Connection, tenant: str) -> Iterator[Event]:
    """Each event, in order of session and version."""
    yield from _versions(connection, tenant)


def found_places(connection: Connection, tenant: str) -> Generator[Event, None, None]:
    """Each event as ``places`` has it, in the same order."""
    yield from _places(connection, tenant)


def erased(connection: Connection, tenant: str) -> Iterator[tuple[int, int, str | None, bytes | None]]:
    """Each erasure: the position, the one that erased it, and that event's type and facts."""
    yield from _erasures(connection, tenant)


def head(connection: Connection, tenant: str) -> Head | None:
    row = _head(connection, tenant).fetchone()
    return None if row is None else Head(*row)


def tile(connection: Connection, tenant: str, level: int, number: int) -> tuple[bytes, bytes] | None:
    """Root and inner nodes of a tile."""
    row: tuple[bytes, bytes] | None = _tile(connection, tenant, level, number).fetchone()
    return row


def type_at(connection: Connection, tenant: str, position: int) -> str | None:
    row = _type_at(connection, tenant, position).fetchone()
    return None if row is None else row[0]


def forks(connection: Connection, tenant: str) -> Generator[tuple[int, bytes, int, bytes], None, None]:
    """Each event that begins a fork: its position, session, version and facts."""
    yield from _forks(connection, tenant, FORKED)


def position_of(connection: Connection, tenant: str, session: UUID, version: int) -> int | None:
    """The position of a session's own version."""
    with closing(_position_of(connection, tenant, session, version - 1, version, 1)) as found:
        return next((row[0] for row in found), None)


def all_documents(connection: Connection) -> Iterator[tuple[str, bytes, bytes, bytes | None, bytes | None]]:
    """Each document: tenant, digest, bytes, salt and plain digest."""
    yield from _documents(connection)


def salted_documents(connection: Connection, tenant: str) -> Iterator[bytes]:
    """The digest of each document that can be erased."""
    yield from (row[0] for row in _salted_documents(connection, tenant))


def documents_erased(connection: Connection, tenant: str) -> Iterator[tuple[bytes, int, str | None, bytes | None]]:
    """Each document erased: its digest, the position that erased it, and that event's type and facts."""
    yield from _erased_documents(connection, tenant)


def all_tenants(connection: Connection) -> list[str]:
    """Every tenant that a row of the record names, whether its log has a head or not."""
    return sorted(row[0] for row in _all_tenants(connection))


def counts(connection: Connection, tenant: str) -> tuple[int, int, int]:
    """How many bodies, erasures and tiles a log has."""
    found = [count(connection, tenant).fetchone()[0] for count in _counts]
    return found[0], found[1], found[2]


def stray(connection: Connection, tenant: str) -> int | None:
    """The first position that has a body or an erasure, and no event."""
    found = [query(connection, tenant).fetchone()[0] for query in _strays]
    return min((position for position in found if position is not None), default=None)


def stray_purges(connection: Connection) -> list[tuple[str, int]]:
    """(tenant, position) of each purge that is due for no erasure."""
    return [(row[0], row[1]) for row in _stray_purges(connection)]
