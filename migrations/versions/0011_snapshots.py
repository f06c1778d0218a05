"""Sessions keep the state that they had at every 128th version, so that the past need not be folded from its beginning.

The table begins empty. It is derived from the events, and whoever brings a file here derives all such tables anew
(``manent migrate``, and opening the file); until then the past is folded from the beginning.

Revises: 0010
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE snapshots (tenant TEXT NOT NULL, session BLOB NOT NULL, version INTEGER NOT NULL, "
        f"state BLOB NOT NULL, PRIMARY KEY (tenant, session, version)) {LAYOUT}"
    )
