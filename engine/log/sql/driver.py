"""The one way to run SQL: statements of SQLAlchemy's, compiled once for a database and run on the driver itself.

The statements are SQLAlchemy's, and so are connection, dialect and transaction; but each statement that goes through
its layers costs about 20 us, and each row 1 us, which on the hot path is more than the database takes. Values are given
in the order in which they stand in the statement, so the dialect's parameters must be positional (``?`` of SQLite,
``paramstyle="format"`` of psycopg).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any

from sqlalchemy import ClauseElement, Connection, Dialect, Table, delete, select

ROWS_AT_ONCE = (64, 32, 16, 8, 4, 2, 1)
"""Rows that one INSERT takes: a few sizes, so that a few statements stay prepared."""

Statement = ClauseElement | Callable[[Dialect], ClauseElement]
"""A statement, or how it is made for a dialect where dialects differ."""

_ONE_ROW = re.compile(r"VALUES (\([^()]*\))")


class Prepared:
    """A statement, compiled once for a database."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._texts: dict[str, str] = {}

    def __call__(self, connection: Connection, *values: Any) -> Any:
        """Run it; the driver's cursor."""
        dialect = connection.dialect
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = compiled(self._statement, dialect)
        cursor = driver_connection(connection).cursor()
        cursor.execute(text, values)
        return cursor


class PreparedRows:
    """An INSERT, done for many rows, as many as possible at a time. One that changes rows which are there already must
    not be given the same key twice at once.

    ``executemany`` gives the interpreter's lock away and takes it again for each row, and each time another thread may
    keep it for long; so it is done once for many rows.
    """

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._texts: dict[str, dict[int, str]] = {}

    def __call__(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        dialect = connection.dialect
        texts = self._texts.get(dialect.name)
        if texts is None:
            texts = self._texts[dialect.name] = _for_rows(compiled(self._statement, dialect))
        cursor = driver_connection(connection).cursor()
        if len(rows) == 1:
            cursor.execute(texts[1], rows[0])
            return
        for some in _in_sizes(rows):
            cursor.execute(texts[len(some)], tuple(chain.from_iterable(some)))


def table_rows(connection: Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    """Every row of a table, in the order of its key."""
    yield from _all_of(table)(connection)


def empty_table(connection: Connection, table: Table) -> None:
    """Delete every row of a table."""
    _nothing_of(table)(connection)


@cache
def _all_of(table: Table) -> Prepared:
    return Prepared(select(table).order_by(*table.primary_key.columns))


@cache
def _nothing_of(table: Table) -> Prepared:
    return Prepared(delete(table))


def compiled(statement: Statement, dialect: Dialect) -> str:
    """The text of a statement, every parameter of which is a value to be given."""
    clause = statement if isinstance(statement, ClauseElement) else statement(dialect)
    made: Any = clause.compile(dialect=dialect)
    assert made.positional, "values are given by their place"
    fixed = [name for name in made.positiontup if not made.binds[name].required]
    assert not fixed, f"{fixed} of a statement are neither given nor written out"
    return str(made)


def driver_connection(connection: Connection) -> Any:
    """The driver's own connection: SQLAlchemy's way to a cursor takes as long as a small statement."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    return raw


@contextmanager
def transaction(connection: Connection, begin: str) -> Iterator[None]:
    """A transaction on the driver, committed at the end or rolled back; ``begin`` is how the database begins it.

    SQLAlchemy's own costs more than an append has. Constructs may be executed within it all the same: SQLAlchemy then
    believes that it began the transaction (see ``connection``), and has to be told of its end.
    """
    raw = driver_connection(connection)
    raw.cursor().execute(begin)
    try:
        yield
        (connection if connection.in_transaction() else raw).commit()
    except BaseException:
        connection.rollback()
        raw.rollback()
        raise


def _in_sizes(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows in order, in pieces of ``ROWS_AT_ONCE``."""
    start = 0
    for size in ROWS_AT_ONCE:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _for_rows(one: str) -> dict[int, str]:
    """The INSERT of one row, and the same for each of ``ROWS_AT_ONCE``."""
    found = _ONE_ROW.search(one)
    assert found, "an INSERT gives the values of its row"
    before, row, after = one[: found.start(1)], found[1], one[found.end(1) :]
    return {count: before + ", ".join([row] * count) + after for count in ROWS_AT_ONCE}
