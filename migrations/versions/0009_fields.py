"""Copies are found by the session that they were made from.

Revises: 0008
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE copies (tenant TEXT NOT NULL, session BLOB NOT NULL, source BLOB, cause BLOB, "
        f"PRIMARY KEY (tenant, session)) {LAYOUT}"
    )
    op.create_index("copies_by_source", "copies", ["tenant", "source"])
    op.create_index("copies_by_cause", "copies", ["tenant", "cause"])
