"""Where the events of a session stand is written a block of the log at a time, instead of with each event; and a log
may be given a second name at a position, where a break was accepted there before.

Revises: 0004
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import Connection

from manent.migrations.helpers import LAYOUT, Progress

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BATCH_EVENTS = 4096
EVENTS = (
    "CREATE TABLE events (tenant TEXT NOT NULL, position INTEGER NOT NULL, session BLOB NOT NULL, "
    "version INTEGER NOT NULL, id BLOB NOT NULL, type TEXT NOT NULL, schema INTEGER NOT NULL, actor TEXT NOT NULL, "
    "recorded_at INTEGER NOT NULL, causation BLOB, correlation TEXT, facts BLOB NOT NULL, length INTEGER NOT NULL, "
    "commitment BLOB NOT NULL, leaf_hash BLOB NOT NULL, PRIMARY KEY (tenant, position), "
    f"CONSTRAINT events_by_id UNIQUE (tenant, id)) {LAYOUT}"
)
PLACES = (
    "CREATE TABLE places (tenant TEXT NOT NULL, session BLOB NOT NULL, version INTEGER NOT NULL, "
    f"position INTEGER NOT NULL, PRIMARY KEY (tenant, session, version)) {LAYOUT}"
)
ORIGINS = (
    "CREATE TABLE origins (tenant TEXT NOT NULL, from_position INTEGER NOT NULL, origin TEXT NOT NULL, "
    f"PRIMARY KEY (tenant, from_position, origin)) {LAYOUT}"
)
COPY = "INSERT INTO events SELECT * FROM events_before WHERE tenant = ? AND position > ? AND position <= ?"
PLACE = (
    "INSERT INTO places SELECT tenant, session, version, position FROM events JOIN heads USING (tenant) "
    "WHERE position <= size - size % 256 ORDER BY tenant, session, version"
)


def upgrade() -> None:
    op.execute(PLACES)
    # The only way to be rid of an index that a table was made with. The rows are the same, byte for byte.
    op.execute("ALTER TABLE events RENAME TO events_before")
    op.execute(EVENTS)
    copy(op.get_bind(), context.config.attributes.get("progress"))
    op.execute("DROP TABLE events_before")
    op.execute("ALTER TABLE origins RENAME TO origins_before")
    op.execute(ORIGINS)
    op.execute("INSERT INTO origins SELECT tenant, from_position, origin FROM origins_before")
    op.execute("DROP TABLE origins_before")
    op.execute(PLACE)


def copy(connection: Connection, progress: Progress | None) -> None:
    """Copy every log, and tell how far it is."""
    logs = connection.exec_driver_sql("SELECT tenant, max(position) FROM events_before GROUP BY tenant").all()
    done, total = 0, sum(last for _, last in logs)
    for tenant, last in logs:
        for first in range(0, last, BATCH_EVENTS):
            end = min(first + BATCH_EVENTS, last)
            connection.exec_driver_sql(COPY, (tenant, first, end))
            done += end - first
            if progress is not None:
                progress(done, total)
