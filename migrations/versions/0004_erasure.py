"""Requests are found by what they made, and a purge that is not done is remembered.

Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("requests_by_reference", "requests", ["tenant", "id", "version"])
    op.execute(
        "CREATE TABLE purges (tenant TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (tenant, position)) "
        "STRICT, WITHOUT ROWID"
    )
