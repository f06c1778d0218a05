"""Where the events of a session stand is written 1,024 events at a time, where it was 256: what stands behind the last
1,024 is looked for in the log itself.

Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UNPLACE = (
    "DELETE FROM places WHERE position > (SELECT size - size % 1024 FROM heads WHERE heads.tenant = places.tenant)"
)


def upgrade() -> None:
    op.execute(UNPLACE)
