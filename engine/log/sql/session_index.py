"""Where the events of each session stand in the log: how a session is read in order of version.

An index by session would have every commit write a page for each session in it, which is more than all the rest of the
commit together. So rows of ``places`` are written when the log has grown by another ``PLACES_AT_ONCE`` events, for all
of these at once, in the transaction of the append that completes them; the few events behind them are looked through,
at 50 ns each. A migration belongs to every change of that number: what is written behind it would be found twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
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
_SAME_EVENT = (events.c.tenant == places.c.tenant) & (events.c.position == places.c.position)

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


def placed(size: int) -> int:
    """The position up to which a log of this size has rows."""
    return size - size % PLACES_AT_ONCE


class SessionQuery:
    """A query over the events of a session, in order of version; its columns are those of ``events`` and of what is
    ``joined`` to them. ``values`` of a call are for the parameters of ``conditions``.
    """

    def __init__(
        self,
        columns: Sequence[ColumnElement[Any]],
        joined: Joined = lambda rows: rows,
        conditions: Sequence[ColumnElement[bool]] = (),
        *,
        descending: bool = False,
    ) -> None:
        self._descending = descending
        found, end = places.join(events, _SAME_EVENT), select(heads.c.size - heads.c.size % _AT_ONCE)
        unplaced = events.c.position > end.where(*same(heads, "tenant")).scalar_subquery()

        def query(rows: FromClause, order: ColumnElement[int], *where: ColumnElement[bool]) -> Prepared:
            chosen: Select[Any] = select(*columns).select_from(joined(rows)).where(*where, *conditions)
            return Prepared(limited(chosen.order_by(order.desc() if descending else order)))

        self._placed = query(found, places.c.version, *same(places, "tenant", "session"), *_between(places.c.version))
        self._last = query(events, events.c.position, events.c.tenant == bindparam("log_"), unplaced, *_of_session())

    def __call__(
        self,
        connection: Connection,
        tenant: str,
        session: UUID,
        after: int = 0,
        up_to: int = MAX_SAFE_INTEGER,
        limit: int = MAX_SAFE_INTEGER,
        values: Sequence[object] = (),
    ) -> Generator[Sequence[Any], None, None]:
        """The rows with ``after < version <= up_to``, read as they are asked for; close it where that is not to the
        end.
        """
        of_session = (session.bytes, after, up_to, *values)
        placed, last = (self._placed, (tenant, *of_session)), (self._last, (tenant, tenant, *of_session))
        for query, found in (last, placed) if self._descending else (placed, last):
            cursor = query(connection, *found, limit)
            try:
                if limit == MAX_SAFE_INTEGER:
                    yield from cursor  # nothing is to be counted
                else:
                    for row in cursor:
                        limit -= 1
                        yield row
            finally:
                cursor.close()
            if limit <= 0:
                return


def _of_session() -> list[ColumnElement[bool]]:
    return [*same(events, "session"), *_between(events.c.version)]


def _between(version: ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [version > bindparam("after_"), version <= bindparam("up_to_")]
