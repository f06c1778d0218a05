"""Reading what a bundle holds, one event at a time and in order of position: a whole log, or the history of a session.

The history of a fork stands in several sessions, each up to a version. What was erased of it later is told by events
that stand behind that version: these *late* ones belong to it, too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from heapq import merge
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, FromClause, bindparam, func, select

from ...errors import RecordDamaged
from ..base import RecordedEvent
from .clauses import recorded_columns, same, with_bodies
from .damage import erased_by
from .driver import Prepared
from .rows import reading
from .session_index import Joined, SessionQuery, Stretch
from .tables import erasures, events


def _with_erasures(rows: FromClause) -> FromClause:
    return rows.join(erasures, (events.c.tenant == erasures.c.tenant) & (events.c.position == erasures.c.position))


class _Queries(msgspec.Struct, frozen=True):
    """The same columns of the events of a log and of a history, both up to a position, and of one event."""

    of_log: Prepared
    of_history: SessionQuery
    at: Prepared


def _queries(columns: Sequence[Any], joined: Joined = lambda rows: rows) -> _Queries:
    chosen, up_to = select(*columns).select_from(joined(events)), events.c.position <= bindparam("position_")
    return _Queries(
        Prepared(chosen.where(*same(events, "tenant"), up_to).order_by(events.c.position)),
        SessionQuery(columns, joined, [up_to]),
        Prepared(chosen.where(*same(events, "tenant", "position"))),
    )


_salted = _queries(recorded_columns, with_bodies)
_leaves = _queries((events.c.position, events.c.leaf_hash))
_erasures_of_history = SessionQuery((erasures.c.by_position,), _with_erasures)
_last_erasure = Prepared(select(func.max(erasures.c.by_position)).where(*same(erasures, "tenant")))
_place = Prepared(select(events.c.session, events.c.version).where(*same(events, "tenant", "position")))


class Exported(msgspec.Struct, frozen=True):
    """The events that a bundle holds: those of a log, or those of a history, whose ``stretches`` are given oldest
    first, and the ``late`` ones, by position. ``last_erasure``: the position of the last that erased any of them, or 0.
    """

    tenant: str
    stretches: tuple[Stretch, ...] = ()
    late: tuple[int, ...] = ()
    last_erasure: int = 0

    @property
    def session(self) -> UUID | None:
        """The session whose history it is; None: a whole log."""
        return self.stretches[-1].session if self.stretches else None


class Salted(msgspec.Struct, frozen=True, gc=False):
    """``salt`` is None where the body is erased."""

    event: RecordedEvent
    salt: bytes | None


def whole_log(connection: Connection, tenant: str) -> Exported:
    return Exported(tenant, last_erasure=_last_erasure(connection, tenant).fetchone()[0] or 0)


def history(connection: Connection, tenant: str, stretches: Sequence[Stretch]) -> Exported:
    """The history of a session, by its stretches."""
    with closing(_erasures_of_history.along(connection, tenant, stretches)) as rows:
        found = {row[0] for row in rows}
    waiting = found
    while waiting:  # the reason of an erasure may be erased, too
        by = (erased_by(connection, tenant, position) for position in waiting)
        waiting = {position for position in by if position is not None} - found
        found = found | waiting
    late = sorted(each for each in found if not _is_along(_place(connection, tenant, each).fetchone(), stretches))
    return Exported(tenant, tuple(stretches), tuple(late), max(found, default=0))


def salted_events(connection: Connection, exported: Exported, up_to: int) -> Iterator[Salted]:
    """The events up to a position. Raises RecordDamaged."""
    with _rows(connection, exported, up_to, _salted) as rows:
        found = [_salted_rows(connection, each) for each in rows]
        yield from merge(*found, key=lambda salted: salted.event.position)


def leaf_hashes(connection: Connection, exported: Exported, up_to: int) -> Iterator[tuple[int, bytes]]:
    """(position, leaf hash) of the same events."""
    with _rows(connection, exported, up_to, _leaves) as rows:
        yield from merge(*rows, key=itemgetter(0))


@contextmanager
def _rows(
    connection: Connection, exported: Exported, up_to: int, queries: _Queries
) -> Generator[list[Iterable[Any]], None, None]:
    """The rows of a log; or those of a history, and of what is late."""
    tenant = exported.tenant
    if not exported.stretches:
        with closing(queries.of_log(connection, tenant, up_to)) as rows:
            yield [rows]
        return
    late = (queries.at(connection, tenant, each).fetchone() for each in exported.late if each <= up_to)
    with closing(queries.of_history.along(connection, tenant, exported.stretches, values=[up_to])) as along:
        yield [along, late]


def _salted_rows(connection: Connection, rows: Iterable[Any]) -> Iterator[Salted]:
    read = reading(connection)
    for row in rows:
        event = read(row)
        if event.damaged:
            raise RecordDamaged.at(event.position)
        yield Salted(event, row[-1])


def _is_along(place: Sequence[Any], stretches: Iterable[Stretch]) -> bool:
    session, version = place
    return any(each.session.bytes == session and each.after < version <= each.up_to for each in stretches)
