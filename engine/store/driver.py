"""Running compiled statements on the driver itself.

The statements are SQLAlchemy's, and so are connection, dialect and transaction; but each statement that goes
through its layers costs about 20 us, and each row 1 us, which on the hot path is more than the database takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ClauseElement, Connection


def run(connection: Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """The driver's cursor after a statement: once with a tuple of values, or once for each of a list of tuples."""
    cursor = connection.connection.cursor()
    if isinstance(values, list):
        cursor.executemany(statement, values)
    else:
        cursor.execute(statement, values)
    return cursor


class Prepared:
    """A statement of SQLAlchemy's, compiled once for a database; its values are given in the order they stand in
    it.
    """

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
