"""Copies are found by the session that they were made from; what a session says of a message is a mark of its own, and
no longer a column of the message; sessions are listed by whose they are, by model, and by how their turns ended.

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
SESSIONS = (
    "CREATE TABLE sessions (tenant TEXT NOT NULL, session BLOB NOT NULL, status TEXT NOT NULL, "
    "updated_at INTEGER NOT NULL, active_hour INTEGER NOT NULL, state BLOB NOT NULL, model TEXT NOT NULL, "
    f"failed INTEGER NOT NULL, waiting INTEGER NOT NULL, PRIMARY KEY (tenant, session)) {LAYOUT}"
)
COPY = (
    "INSERT INTO sessions SELECT s.tenant, s.session, s.status, updated_at, active_hour, s.state, "
    "json_extract(CAST(s.state AS TEXT), '$.model'), "
    "coalesce(sum(t.status = 'failed'), 0), coalesce(sum(t.status = 'requires_action'), 0) "
    "FROM sessions_before s LEFT JOIN turns t ON t.tenant = s.tenant AND t.session = s.session "
    "GROUP BY s.tenant, s.session"
)


def upgrade() -> None:
    copies()
    marks()
    listed()


def copies() -> None:
    op.execute(
        "CREATE TABLE copies (tenant TEXT NOT NULL, session BLOB NOT NULL, source BLOB, cause BLOB, "
        f"PRIMARY KEY (tenant, session)) {LAYOUT}"
    )
    op.create_index("copies_by_source", "copies", ["tenant", "source"])
    op.create_index("copies_by_cause", "copies", ["tenant", "cause"])


def marks() -> None:
    op.execute(
        "CREATE TABLE marks (tenant TEXT NOT NULL, session BLOB NOT NULL, version INTEGER NOT NULL, "
        f"position INTEGER NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (tenant, session, version, position)) {LAYOUT}"
    )
    mark_superseded(op.get_bind())
    op.execute(LEFT_OUT)


def listed() -> None:
    op.drop_index("sessions_by_hour", "sessions")
    op.execute("ALTER TABLE sessions RENAME TO sessions_before")
    op.execute(SESSIONS)
    op.execute(COPY)
    op.execute("DROP TABLE sessions_before")
    op.create_index("sessions_by_hour", "sessions", ["tenant", "active_hour"])
    for name in ("user_id", "agent_id", "preview"):
        op.execute(f"ALTER TABLE session_words ADD COLUMN {name} TEXT")
    for name in ("user", "agent"):
        op.execute(f"CREATE INDEX sessions_by_{name} ON session_words (tenant, {name}_id) WHERE {name}_id IS NOT NULL")


def mark_superseded(connection: Connection) -> None:
    """Mark the messages that a turn answered anew; the column keeps what is empty or erased."""
    for tenant, session, version, facts in connection.exec_driver_sql(STARTS).all():
        position = msgspec.json.decode(facts, type=dict).get("supersedes")
        if position is not None:
            row = (tenant, session, version, position, "superseded")
            connection.exec_driver_sql("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", row)
