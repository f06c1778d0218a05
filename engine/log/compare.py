"""Projections against the log: every event is folded into tables of a scratch database, and their rows are compared.
Nothing of the file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import msgspec
from sqlalchemy import Connection, Table

from .base import Projector
from .rebuild import fold_all
from .sql.driver import table_rows
from .sqlite.schema import Progress
from .sqlite.scratch import scratch_database


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
    with scratch_database(tables) as scratch:
        fold_all(connection, scratch, projector, progress)
        for table in tables:
            difference = _difference(connection, scratch, table)
            if difference is not None:
                yield difference


def _difference(connection: Connection, scratch: Connection, table: Table) -> Difference | None:
    for found, right in zip_longest(table_rows(connection, table), table_rows(scratch, table)):
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
