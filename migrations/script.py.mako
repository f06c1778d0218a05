"""${message}

Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

from alembic import op

from engine.log.sqlite.schema import make_guards

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
    make_guards(op.get_bind())
