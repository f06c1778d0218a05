"""Running compiled statements on the driver itself.

The statements are SQLAlchemy's, and so are connection, dialect and transaction; but each statement that goes through
its layers costs about 20 us, and each row 1 us, which on the hot path is more than the database takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import ClauseElement, Connection

ROWS_AT_ONCE = (64, 32, 16, 8, 4, 2, 1)
"""Rows that one INSERT takes: a few sizes, so that a few statements stay prepared."""

_ONE_ROW = re.compile(r"VALUES (\([^()]*\))")


def run(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """The driver's cursor after a statement: once with a tuple of values, or once for each of a list of tuples."""
    cursor = _cursor(connection)
    if isinstance(values, list):
        cursor.executemany(statement, values)
    else:
        cursor.execute(statement, values)
    return cursor


def _cursor(connection: Connection) -> Any:
    """The driver's own: SQLAlchemy's way to it takes as long as a small statement."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    return raw.cursor()


@contextmanager
def transaction(connection: Connection, begin: str) -> Iterator[None]:
    """A transaction on the driver, committed at the end or rolled back.

    SQLAlchemy's own costs more than an append has. Constructs may be executed within it all the same: SQLAlchemy then
    believes that it began the transaction (see ``dialects``), and has to be told of its end.
    """
    raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.cursor().execute(begin)
    try:
        yield
        (connection if connection.in_transaction() else raw).commit()
    except BaseException:
        connection.rollback()
        raw.rollback()
        raise


def insert_rows(connection: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """An INSERT of one row, done for many, as many as possible at a time.

    ``executemany`` gives the interpreter's lock away and takes it again for each row, and each time another thread may
    keep it for long; so it is done once for many rows.
    """
    if not rows:
        return
    cursor = _cursor(connection)
    if len(rows) == 1:
        cursor.execute(statement, rows[0])
        return
    for some in _in_sizes(rows):
        cursor.execute(_for_rows(statement, len(some)), tuple(chain.from_iterable(some)))


def _in_sizes(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    """The rows in order, in pieces of ``ROWS_AT_ONCE``."""
    start = 0
    for size in ROWS_AT_ONCE:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


@lru_cache(maxsize=64)
def _for_rows(statement: str, count: int) -> str:
    return _ONE_ROW.sub(lambda one: f"VALUES {', '.join([one[1]] * count)}", statement, count=1)


class Prepared:
    """A statement of SQLAlchemy's, compiled once for a database; its values are given in the order they stand in it."""

    def __init__(self, clause: ClauseElement) -> None:
        self._clause = clause
        self._texts: dict[str, str] = {}

    def __call__(self, connection: Connection, *values: Any) -> Any:
        """The driver's cursor after the statement."""
        dialect = connection.dialect
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = str(self._clause.compile(dialect=dialect))
        return run(connection, text, values)
