"""Sessions are listed by the hour of their last activity, and tool schemas are kept once.

Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE sessions RENAME TO sessions_before")
    op.execute("DROP INDEX sessions_by_activity")
    op.execute(
        "CREATE TABLE sessions (tenant TEXT NOT NULL, session BLOB NOT NULL, status TEXT NOT NULL, "
        "updated_at INTEGER NOT NULL, active_hour INTEGER NOT NULL, state BLOB NOT NULL, "
        "PRIMARY KEY (tenant, session)) STRICT, WITHOUT ROWID"
    )
    op.execute(
        "INSERT INTO sessions SELECT tenant, session, status, updated_at, updated_at / 3600000000, state "
        "FROM sessions_before"
    )
    op.execute("DROP TABLE sessions_before")
    op.create_index("sessions_by_hour", "sessions", ["tenant", "active_hour"])
    op.execute(
        "CREATE TABLE documents (tenant TEXT NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL, "
        "PRIMARY KEY (tenant, digest)) STRICT, WITHOUT ROWID"
    )
