"""Sessions that share another's history; and windows leave a message out from a position on: versions of two
sessions say nothing of one another.

The table begins empty: no older file has a fork.

Revises: 0011
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


LEFT_OUT = (
    "UPDATE messages SET left_out = CASE WHEN tokens = 0 THEN position ELSE (SELECT by_position FROM erasures r "
    "WHERE r.tenant = messages.tenant AND r.position = messages.position) END WHERE left_out IS NOT NULL"
)


def upgrade() -> None:
    op.execute(
        "CREATE TABLE forks (tenant TEXT NOT NULL, session BLOB NOT NULL, root BLOB NOT NULL, parent BLOB NOT NULL, "
        "parent_version INTEGER NOT NULL, position INTEGER NOT NULL, after_message INTEGER NOT NULL, replay BLOB, "
        f"PRIMARY KEY (tenant, session)) {LAYOUT}"
    )
    op.create_index("forks_by_root", "forks", ["tenant", "root", "position"])
    op.execute(LEFT_OUT)
