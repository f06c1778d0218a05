"""Rows that no hash covers get a checksum, so that a bit that flips in them is found: idempotent requests, checkpoints
(when they were made is not signed), runs and the journal.

Revises: 0005
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
from alembic import op
from sqlalchemy import Connection

from manent.migrations.helpers import LAYOUT

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BATCH_ROWS = 4096
TABLES = {
    "requests": (
        "tenant TEXT NOT NULL, principal TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, salt BLOB, "
        "fingerprint BLOB NOT NULL, kind TEXT NOT NULL, id BLOB NOT NULL, version INTEGER NOT NULL, "
        "checksum INTEGER NOT NULL, PRIMARY KEY (tenant, principal, route, key)"
    ),
    "checkpoints": (
        "tenant TEXT NOT NULL, origin TEXT NOT NULL, size INTEGER NOT NULL, key_id BLOB NOT NULL, root BLOB NOT NULL, "
        "made_at INTEGER NOT NULL, note BLOB NOT NULL, checksum INTEGER NOT NULL, "
        "PRIMARY KEY (tenant, origin, size, key_id)"
    ),
    "runs": (
        "tenant TEXT NOT NULL, turn BLOB NOT NULL, session BLOB NOT NULL, owner BLOB NOT NULL, "
        "lease_until INTEGER NOT NULL, cancelled_by TEXT, checksum INTEGER NOT NULL, PRIMARY KEY (tenant, turn), "
        "CONSTRAINT runs_one_per_session UNIQUE (tenant, session)"
    ),
    "journal": (
        "tenant TEXT NOT NULL, turn BLOB NOT NULL, frame INTEGER NOT NULL, message BLOB NOT NULL, "
        "block INTEGER NOT NULL, kind TEXT NOT NULL, elapsed_ms INTEGER NOT NULL, text BLOB NOT NULL, "
        "checksum INTEGER NOT NULL, PRIMARY KEY (tenant, turn, frame)"
    ),
}
INDEXES = (
    "CREATE INDEX runs_by_lease ON runs (lease_until)",
    "CREATE INDEX requests_by_reference ON requests (tenant, id, version)",
)


def upgrade() -> None:
    for table, columns in TABLES.items():
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_before")
        op.execute(f"CREATE TABLE {table} ({columns}) {LAYOUT}")
        copy(op.get_bind(), table)
        op.execute(f"DROP TABLE {table}_before")
    for index in INDEXES:
        op.execute(index)


def copy(connection: Connection, table: str) -> None:
    before = connection.exec_driver_sql(f"SELECT * FROM {table}_before")  # noqa: S608 - a name of ours
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * (len(before.keys()) + 1))})"  # noqa: S608 - as before
    for rows in before.partitions(BATCH_ROWS):
        connection.exec_driver_sql(insert, [(*row, checksum(row)) for row in rows])


def checksum(values: Sequence[Any]) -> int:
    """As in ``store.checksums``."""
    return zlib.crc32(msgspec.msgpack.encode(tuple(values)))
