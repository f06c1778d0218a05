"""Histories that clients send again are recognised by keyed hashes, and their automatic retries by those of requests.

Both tables begin empty: no session of an older file is a client's, and a retry is known for minutes only.

Revises: 0013
"""

from __future__ import annotations

from alembic import op

from manent.migrations.helpers import LAYOUT

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE prefixes (tenant TEXT NOT NULL, session BLOB NOT NULL, version INTEGER NOT NULL, "
        f"hash BLOB NOT NULL, PRIMARY KEY (tenant, session, version)) {LAYOUT}"
    )
    op.create_index("prefixes_by_hash", "prefixes", ["tenant", "hash"])
    op.execute(
        "CREATE TABLE retries (tenant TEXT NOT NULL, key BLOB NOT NULL, turn BLOB NOT NULL, at INTEGER NOT NULL, "
        f"PRIMARY KEY (tenant, key)) {LAYOUT}"
    )
    op.create_index("retries_by_time", "retries", ["tenant", "at"])
