"""Replays and suites, which are streams beside those of sessions; and the forks that a replay made are found by it.

The tables begin empty: no older file has a replay.

Revises: 0012
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE replays (tenant TEXT NOT NULL, replay BLOB NOT NULL, position INTEGER NOT NULL, "
        "mode TEXT NOT NULL, status TEXT NOT NULL, state BLOB NOT NULL, "
        f"PRIMARY KEY (tenant, replay)) {LAYOUT}"
    )
    op.create_index("replays_by_position", "replays", ["tenant", "position"])
    op.execute(
        "CREATE TABLE suites (tenant TEXT NOT NULL, suite BLOB NOT NULL, name TEXT, state BLOB NOT NULL, "
        f"PRIMARY KEY (tenant, suite)) {LAYOUT}"
    )
    op.create_index("suites_by_name", "suites", ["tenant", "name"], unique=True)
    op.execute("CREATE INDEX forks_by_replay ON forks (tenant, replay) WHERE replay IS NOT NULL")
