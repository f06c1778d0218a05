"""Documents are named with a salt, and go when nothing names them any more.

Those that there are keep their names, and stay.

Revises: 0008
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE documents ADD COLUMN salt BLOB")
    op.execute("ALTER TABLE documents ADD COLUMN plain BLOB")
    op.execute("CREATE INDEX documents_by_content ON documents (tenant, plain)")
    op.execute(
        "CREATE TABLE document_uses (tenant TEXT NOT NULL, digest BLOB NOT NULL, position INTEGER NOT NULL, "
        f"PRIMARY KEY (tenant, digest, position)) {LAYOUT}"
    )
    op.execute(
        "CREATE TABLE erased_documents (tenant TEXT NOT NULL, digest BLOB NOT NULL, by_position INTEGER NOT NULL, "
        f"PRIMARY KEY (tenant, digest)) {LAYOUT}"
    )
