"""The index of each session's events: their places in the log, in order of version.

An index by session would have every commit write a page for each session in it, which is more than all the rest of the
commit together. So rows of ``places`` are written when the log has grown by another ``PLACES_AT_ONCE`` events, for all
of these at once, in the transaction of the append that completes them; the few events behind them are looked through,
at 50 ns each. A migration belongs to every change of that number: what is written behind it would be found twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Table,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
)

from ..codec import MAX_SAFE_INTEGER
from .clauses import limited, same
from .driver import Prepared
from .tables import events, heads, places

PLACES_AT_ONCE = 1024
Joined = Callable[[FromClause], FromClause]
"""What is joined to the events."""

_AT_ONCE: ColumnElement[int] = literal_column(str(PLACES_AT_ONCE), Integer)

# tenant, first, end
_place = Prepared(
    insert(places).from_select(
        ["tenant", "session", "version", "position"],
        select(events.c.tenant, events.c.session, events.c.version, events.c.position)
        .where(
            events.c.tenant == bindparam("tenant_"),
            events.c.position > bindparam("first_"),
            events.c.position <= bindparam("end_"),
        )
        .order_by(events.c.session, events.c.version),
    )
)
_sizes = Prepared(select(heads.c.tenant, heads.c.size).order_by(heads.c.tenant))
_size = Prepared(select(heads.c.size).where(*same(heads, "tenant")))
_all_places = Prepared(delete(places))


def place_events(connection: Connection, tenant: str, before: int, after: int) -> None:
    """Write the rows that a log completes by growing from ``before`` to ``after`` events, which are written."""
    first, end = placed(before), placed(after)
    if end > first:
        _place(connection, tenant, first, end)


def place_all(connection: Connection) -> None:
    """Write every row anew."""
    _all_places(connection)
    for tenant, size in _sizes(connection).fetchall():
        place_events(connection, tenant, 0, size)


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """A part of a history that goes on from one session to another: the events of a session with ``after < version <=
    up_to``, which lie at positions above ``begin`` and up to ``end``.
    """

    session: UUID
    after: int
    up_to: int
    begin: int
    end: int


def placed(size: int) -> int:
    """The position up to which a log of this size has rows."""
    return size - size % PLACES_AT_ONCE


class SessionQuery:
    """A query over the events of a session, in order of version; its columns are those of ``events`` and of what is
    ``joined`` to them. ``over``: a table that has a row for some of the events, with their place and their session,
    where that is enough.
    """

    def __init__(
        self,
        columns: Sequence[ColumnElement[Any]],
        joined: Joined = lambda rows: rows,
        conditions: Sequence[ColumnElement[bool]] = (),
        *,
        descending: bool = False,
        over: Table = events,
    ) -> None:
        self.descending = descending
        found = places.join(over, (over.c.tenant == places.c.tenant) & (over.c.position == places.c.position))
        end = select(heads.c.size - heads.c.size % _AT_ONCE).where(*same(heads, "tenant")).scalar_subquery()
        in_log, up_to_end = over.c.tenant == bindparam("log_"), over.c.position <= bindparam("end_")
        unplaced = [in_log, over.c.position > end, up_to_end]
        piece = [in_log, over.c.position > bindparam("begin_"), up_to_end]
        of_session = [*same(over, "session"), *_between(over.c.version)]

        def query(rows: FromClause, order: ColumnElement[int], *where: ColumnElement[bool]) -> Prepared:
            chosen: Select[Any] = select(*columns).select_from(joined(rows)).where(*where, *conditions)
            return Prepared(limited(chosen.order_by(order.desc() if descending else order)))

        self._placed = query(found, places.c.version, *same(places, "tenant", "session"), *_between(places.c.version))
        self._last = query(over, over.c.position, *unplaced, *of_session)
        self._piece = query(over, over.c.position, *piece, *of_session)

    def __call__(  # noqa: PLR0913 - each narrows what is read
        self,
        connection: Connection,
        tenant: str,
        session: UUID,
        after: int = 0,
        up_to: int = MAX_SAFE_INTEGER,
        limit: int = MAX_SAFE_INTEGER,
        *,
        values: Sequence[object] = (),
        of_columns: Sequence[object] = (),
        end: int = MAX_SAFE_INTEGER,
    ) -> SessionRows:
        """The rows with ``after < version <= up_to``. ``values`` are for the parameters of conditions, ``of_columns``
        for those of columns. ``end``: a position behind which the session has no events that are asked for; where it is
        known, the log's last events are not looked through for those of a session that has none there.
        """
        of_session = (session.bytes, after, up_to, *values, limit)
        placed = (self._placed, (*of_columns, tenant, *of_session))
        last = (self._last, (*of_columns, tenant, tenant, end, *of_session))
        return SessionRows(connection, (last, placed) if self.descending else (placed, last), limit)

    def along(
        self,
        connection: Connection,
        tenant: str,
        stretches: Iterable[Stretch],
        limit: int = MAX_SAFE_INTEGER,
        *,
        values: Sequence[object] = (),
        of_columns: Sequence[object] = (),
    ) -> SessionRows:
        """The rows of a history, of which the stretches are given in the order of the query; they are asked for only
        as they are needed.
        """

        def queries() -> Iterator[tuple[Prepared, Sequence[object]]]:
            row = _size(connection, tenant).fetchone()
            border = placed(0 if row is None else row[0])
            for each in stretches:
                of_session = (each.session.bytes, each.after, each.up_to, *values, limit)
                found = []
                if each.begin < border:
                    found.append((self._placed, (*of_columns, tenant, *of_session)))
                if each.end > border:
                    begin = max(each.begin, border)
                    found.append((self._piece, (*of_columns, tenant, begin, each.end, *of_session)))
                yield from reversed(found) if self.descending else found

        return SessionRows(connection, queries(), limit)


class SessionRows:
    """The rows of some queries, one after the other, read as they are asked for; to be closed where that is not to the
    end. No step of Python is done for a row.
    """

    def __init__(
        self, connection: Connection, queries: Iterable[tuple[Prepared, Sequence[object]]], limit: int
    ) -> None:
        self._cursors = _cursors(connection, queries)
        self._rows = islice(chain.from_iterable(self._cursors), limit)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return self._rows

    def close(self) -> None:
        self._cursors.close()


def _cursors(
    connection: Connection, queries: Iterable[tuple[Prepared, Sequence[object]]]
) -> Generator[Any, None, None]:
    """A query is run when the one before it has given all."""
    for query, values in queries:
        with closing(query(connection, *values)) as cursor:
            yield cursor


def _between(version: ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [version > bindparam("after_"), version <= bindparam("up_to_")]
