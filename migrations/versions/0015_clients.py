"""Clients find their turns by ids and by names of their own.

All tables begin empty: no turn of an older file was asked for in a protocol that serves it again.

Revises: 0014
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE aliases (tenant TEXT NOT NULL, name BLOB NOT NULL, turn BLOB NOT NULL, session BLOB NOT NULL, "
        f"PRIMARY KEY (tenant, name, turn)) {LAYOUT}"
    )
    op.create_index("aliases_by_turn", "aliases", ["tenant", "turn"])
    op.execute(
        "CREATE TABLE answers (tenant TEXT NOT NULL, protocol TEXT NOT NULL, turn BLOB NOT NULL, "
        f"hidden INTEGER NOT NULL, PRIMARY KEY (tenant, protocol, turn)) {LAYOUT}"
    )
    op.execute(f"CREATE TABLE unstored (tenant TEXT NOT NULL, turn BLOB NOT NULL, PRIMARY KEY (tenant, turn)) {LAYOUT}")
