"""Copies are found by the session that they were made from; what a session says of a message is a mark of its own, and
no longer a column of the message.

Revises: 0008
"""

from __future__ import annotations

import msgspec
from alembic import op
from sqlalchemy import Connection

from manent.migrations.helpers import LAYOUT

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


STARTS = "SELECT tenant, session, version, facts FROM events WHERE type = 'turn.started' ORDER BY tenant, position"
LEFT_OUT = (
    "UPDATE messages SET left_out = CASE WHEN tokens = 0 THEN version ELSE (SELECT by_event.version FROM erasures r "
    "JOIN events by_event ON by_event.tenant = r.tenant AND by_event.position = r.by_position "
    "WHERE r.tenant = messages.tenant AND r.position = messages.position) END WHERE left_out IS NOT NULL"
)


def upgrade() -> None:
    op.execute(
        "CREATE TABLE copies (tenant TEXT NOT NULL, session BLOB NOT NULL, source BLOB, cause BLOB, "
        f"PRIMARY KEY (tenant, session)) {LAYOUT}"
    )
    op.create_index("copies_by_source", "copies", ["tenant", "source"])
    op.create_index("copies_by_cause", "copies", ["tenant", "cause"])
    op.execute(
        "CREATE TABLE marks (tenant TEXT NOT NULL, session BLOB NOT NULL, version INTEGER NOT NULL, "
        f"position INTEGER NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (tenant, session, version, position)) {LAYOUT}"
    )
    mark_superseded(op.get_bind())
    op.execute(LEFT_OUT)


def mark_superseded(connection: Connection) -> None:
    """Mark the messages that a turn answered anew; the column keeps what is empty or erased."""
    for tenant, session, version, facts in connection.exec_driver_sql(STARTS).all():
        position = msgspec.json.decode(facts, type=dict).get("supersedes")
        if position is not None:
            row = (tenant, session, version, position, "superseded")
            connection.exec_driver_sql("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", row)
