"""Checksums of rows that no hash covers: a bit that has flipped in one is found. They are no proof against anybody who
changes a row and its checksum.

A checksum is the last column of its row: the CRC-32 of the MessagePack array of the others, in the table's order.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from .driver import table_rows
from .tables import checkpoints, journal, requests, runs

CHECKED = (requests, checkpoints, runs, journal)

_encode = msgspec.msgpack.Encoder().encode


def checksum(values: Sequence[Any]) -> int:
    return zlib.crc32(_encode(values))


def checked(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row with its checksum."""
    return (*values, checksum(values))


def is_sound(row: Sequence[Any]) -> bool:
    """True if a row, its checksum the last of it, is as it was written."""
    return bool(row[-1] == checksum(tuple(row[:-1])))


def damaged(connection: Connection) -> Iterator[tuple[str, str, str]]:
    """The rows that are not as they were written: (table, tenant, the rest of its key)."""
    for table in CHECKED:
        width = len(table.primary_key.columns)
        for row in table_rows(connection, table):
            if not is_sound(row):
                yield table.name, row[0], ", ".join(_named(value) for value in row[1:width])


def _named(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
