"""The Merkle tree of each log, its checkpoints, and those who signed them. Events written before are taken in.

Revises: 0002
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import Connection

from manent.migrations.helpers import LAYOUT, TILE_HASHES, MerkleTree, Progress, grow

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LEAVES = "SELECT leaf_hash FROM events WHERE tenant = ? AND position > ? AND position <= ? ORDER BY position"
BATCH_EVENTS = TILE_HASHES * 16


def upgrade() -> None:
    make_tables()
    take_in(op.get_bind(), context.config.attributes.get("progress"))


def make_tables() -> None:
    op.execute("ALTER TABLE heads RENAME TO heads_before")
    op.execute(
        "CREATE TABLE heads (tenant TEXT NOT NULL, size INTEGER NOT NULL, recorded_at INTEGER NOT NULL, "
        f"frontier BLOB NOT NULL, PRIMARY KEY (tenant)) {LAYOUT}"
    )
    op.execute(
        "CREATE TABLE tiles (tenant TEXT NOT NULL, level INTEGER NOT NULL, number INTEGER NOT NULL, "
        f'root BLOB NOT NULL, "inner" BLOB NOT NULL, PRIMARY KEY (tenant, level, number)) {LAYOUT}'
    )
    op.execute(
        "CREATE TABLE verifiers (tenant TEXT NOT NULL, origin TEXT NOT NULL, public BLOB NOT NULL, "
        f"since_size INTEGER NOT NULL, PRIMARY KEY (tenant, origin, public)) {LAYOUT}"
    )
    op.execute(
        "CREATE TABLE checkpoints (tenant TEXT NOT NULL, origin TEXT NOT NULL, size INTEGER NOT NULL, "
        "key_id BLOB NOT NULL, root BLOB NOT NULL, made_at INTEGER NOT NULL, note BLOB NOT NULL, "
        f"PRIMARY KEY (tenant, origin, size, key_id)) {LAYOUT}"
    )
    op.execute(
        "CREATE TABLE cosignatures (tenant TEXT NOT NULL, origin TEXT NOT NULL, size INTEGER NOT NULL, "
        "name TEXT NOT NULL, key_id BLOB NOT NULL, signature BLOB NOT NULL, public BLOB NOT NULL, "
        f"PRIMARY KEY (tenant, origin, size, name, key_id)) {LAYOUT}"
    )


def take_in(connection: Connection, progress: Progress | None) -> None:
    """Build the tree over the events that there are, and tell how far it is."""
    logs = connection.exec_driver_sql("SELECT tenant, size, recorded_at FROM heads_before").all()
    done, total = 0, sum(size for _, size, _ in logs)
    for tenant, size, recorded_at in logs:
        tree = MerkleTree()
        while tree.size < size:
            before, end = tree.size, min(tree.size + BATCH_EVENTS, size)
            grow(connection, tenant, tree, connection.exec_driver_sql(LEAVES, (tenant, before, end)).scalars().all())
            if tree.size != end:
                raise ValueError(f"an event of {tenant} is missing between the positions {before + 1} and {end}")
            done += end - before
            if progress is not None:
                progress(done, total)
        row = (tenant, size, recorded_at, tree.frontier())
        connection.exec_driver_sql("INSERT INTO heads VALUES (?, ?, ?, ?)", row)
    op.execute("DROP TABLE heads_before")
