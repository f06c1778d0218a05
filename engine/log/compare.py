"""Projections against the log: every event is folded into tables of a scratch database, and their rows are compared.

Nothing of the file is written. The scratch database is one of SQLite's own temporary ones: it stays in memory up to a
bound, and what it spills has no name and is gone with the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, create_engine, select
from sqlalchemy.pool import StaticPool

from .base import Projector
from .rebuild import fold_all
from .sqlite.schema import Progress

SCRATCH_KIB = 8 << 10
AT_ONCE = 1000


class Difference(msgspec.Struct, frozen=True):
    """The first row of a projection that is not what the log says. ``position`` where it has one."""

    table: str
    tenant: str
    position: int | None
    detail: str


def differences(
    connection: Connection, projector: Projector, tables: Sequence[Table], progress: Progress
) -> Iterator[Difference]:
    """The first difference of each table. Raises StoreCorrupt where the log cannot be folded."""
    with _scratch() as scratch:
        tables[0].metadata.create_all(scratch, tables=list(tables))
        fold_all(connection, scratch, projector, progress)
        for table in tables:
            difference = _difference(connection, scratch, table)
            if difference is not None:
                yield difference


def _difference(connection: Connection, scratch: Connection, table: Table) -> Difference | None:
    query = select(table).order_by(*table.primary_key.columns)
    pair = [map(tuple, each.execute(query).yield_per(AT_ONCE)) for each in (connection, scratch)]
    for found, right in zip_longest(*pair):
        if found != right:
            return _told(table, found, right)
    return None


def _told(table: Table, found: tuple[Any, ...] | None, right: tuple[Any, ...] | None) -> Difference:
    names = [column.name for column in table.columns]
    row = dict(zip(names, right or found or (), strict=True))
    if found is None:
        detail = "a row is missing"
    elif right is None or _key(table, found) != _key(table, right):
        detail = "there is a row too many, or one is missing"
    else:
        wrong = [name for name, one, other in zip(names, found, right, strict=True) if one != other]
        detail = f"{', '.join(wrong)} of a row is not what the events say"
    return Difference(table.name, row["tenant"], row.get("position"), detail)


def _key(table: Table, row: tuple[Any, ...]) -> list[Any]:
    keys = {column.name for column in table.primary_key.columns}
    return [value for column, value in zip(table.columns, row, strict=True) if column.name in keys]


@contextmanager
def _scratch() -> Iterator[Connection]:
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect("", isolation_level=None), poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA cache_size = -{SCRATCH_KIB}")
            connection.exec_driver_sql("PRAGMA journal_mode = off")
            yield connection
    finally:
        engine.dispose()
