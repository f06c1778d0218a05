"""Turns that wait for a person, and messages that hold words of others, are found by indexes, which hold no others.

Revises: 0015
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX turns_waiting ON turns (tenant, turn) WHERE status = 'requires_action'")
    op.execute("CREATE INDEX marks_copied ON marks (tenant, position) WHERE kind = 'copied'")
