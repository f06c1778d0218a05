"""A scratch database: one of SQLite's own temporary ones. It stays in memory up to a bound, and what it spills has no
name and is gone with the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Table, create_engine
from sqlalchemy.pool import StaticPool

from .connection import run

SCRATCH_KIB = 8 << 10


@contextmanager
def scratch_database(tables: Sequence[Table], *, rolls_back: bool = False) -> Iterator[Connection]:
    """A database that has these tables, empty, and is gone at the end. ``rolls_back``: a transaction in it can be."""
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect("", isolation_level=None), poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            run(connection, f"PRAGMA cache_size = -{SCRATCH_KIB}")
            run(connection, f"PRAGMA journal_mode = {'memory' if rolls_back else 'off'}")
            tables[0].metadata.create_all(connection, tables=list(tables))
            yield connection
    finally:
        engine.dispose()
