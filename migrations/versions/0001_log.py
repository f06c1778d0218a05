"""The log, its scratch tables and the first projections.

Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from manent.migrations.helpers import mark

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def integer(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, nullable=null, primary_key=key, autoincrement=False)


def text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null, primary_key=key)


def blob(name: str, *, key: bool = False, null: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=null, primary_key=key)


def table(name: str, *parts: sa.schema.SchemaItem) -> None:
    op.create_table(name, *parts, sqlite_strict=True, sqlite_with_rowid=False)


def upgrade() -> None:
    create_log()
    create_scratch()
    create_projections()
    mark(op.get_bind())


def create_log() -> None:
    table(
        "events",
        text("tenant", key=True),
        integer("position", key=True),
        blob("session"),
        integer("version"),
        blob("id"),
        text("type"),
        integer("schema"),
        text("actor"),
        integer("recorded_at"),
        blob("causation", null=True),
        text("correlation", null=True),
        blob("facts"),
        integer("length"),
        blob("commitment"),
        blob("leaf_hash"),
        sa.UniqueConstraint("tenant", "session", "version", name="events_by_version"),
        sa.UniqueConstraint("tenant", "id", name="events_by_id"),
    )
    table(
        "bodies",
        text("tenant", key=True),
        integer("position", key=True),
        blob("salt"),
        integer("encoding"),
        blob("bytes"),
    )
    table("erasures", text("tenant", key=True), integer("position", key=True), integer("by_position"))
    table("heads", text("tenant", key=True), integer("size"), integer("recorded_at"))
    table("origins", text("tenant", key=True), integer("from_position", key=True), text("origin"))
    table(
        "requests",
        text("tenant", key=True),
        text("principal", key=True),
        text("route", key=True),
        text("key", key=True),
        blob("salt", null=True),
        blob("fingerprint"),
        text("kind"),
        blob("id"),
        integer("version"),
    )


def create_scratch() -> None:
    table(
        "runs",
        text("tenant", key=True),
        blob("turn", key=True),
        blob("session"),
        blob("owner"),
        integer("lease_until"),
        text("cancelled_by", null=True),
        sa.UniqueConstraint("tenant", "session", name="runs_one_per_session"),
    )
    op.create_index("runs_by_lease", "runs", ["lease_until"])
    table(
        "journal",
        text("tenant", key=True),
        blob("turn", key=True),
        integer("frame", key=True),
        blob("message"),
        integer("block"),
        text("kind"),
        integer("elapsed_ms"),
        blob("text"),
    )


def create_projections() -> None:
    table(
        "sessions",
        text("tenant", key=True),
        blob("session", key=True),
        text("status"),
        integer("updated_at"),
        blob("state"),
    )
    op.create_index("sessions_by_activity", "sessions", ["tenant", "updated_at", "session"])
    table(
        "session_words",
        text("tenant", key=True),
        blob("session", key=True),
        text("title", null=True),
        text("system", null=True),
        blob("metadata", null=True),
    )
    table(
        "messages",
        text("tenant", key=True),
        integer("position", key=True),
        blob("session"),
        integer("version"),
        text("role"),
        integer("tokens"),
        integer("total_tokens"),
        integer("unit"),
        integer("complete"),
        integer("left_out", null=True),
    )
    table(
        "turns",
        text("tenant", key=True),
        blob("turn", key=True),
        blob("session"),
        integer("version"),
        text("status"),
        blob("state"),
    )
    op.create_index("turns_by_session", "turns", ["tenant", "session", "version"])
    table(
        "calibrations",
        text("tenant", key=True),
        text("model", key=True),
        integer("samples"),
        integer("base_tokens"),
        integer("messages"),
        integer("input_tokens"),
    )
