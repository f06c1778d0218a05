"""Idempotency keys are kept as keyed hashes, and the database names the secret that they are hashed with.

Revises: 0007
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
from alembic import context, op
from sqlalchemy import Connection

from manent.migrations.helpers import LAYOUT

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PURPOSE = "idempotency/1"
UPDATE = (
    "UPDATE requests SET key = ?, salt = ?, checksum = ? WHERE tenant = ? AND principal = ? AND route = ? AND key = ?"
)
ERASED_IN = "SELECT DISTINCT tenant, session FROM erasures JOIN events USING (tenant, position)"
SESSION = "SELECT session FROM events WHERE tenant = ? AND id = ?"


def upgrade() -> None:
    op.execute(f"CREATE TABLE secret (id BLOB NOT NULL, PRIMARY KEY (id)) {LAYOUT}")
    requests(op.get_bind())


def requests(connection: Connection) -> None:
    """Hash the keys that there are, and have the bytes of the old ones cleared out of the file. Where anything of a
    session was erased, the requests that made something in it lose their salts: some had kept them.
    """
    rows = connection.exec_driver_sql("SELECT * FROM requests").all()
    if not rows:
        return
    secret = context.config.attributes["secret"]()
    connection.exec_driver_sql("INSERT INTO secret VALUES (?)", (secret.id,))
    key = secret.key(PURPOSE)
    erased = {tuple(row) for row in connection.exec_driver_sql(ERASED_IN)}
    for tenant, principal, route, text, salt, fingerprint, kind, made, version, _ in rows:
        hashed = keyed(key, tenant, principal, route, text)
        session = connection.exec_driver_sql(SESSION, (tenant, made)).scalar() or made
        kept = None if (tenant, session) in erased else salt
        row = (tenant, principal, route, hashed, kept, fingerprint, kind, made, version)
        connection.exec_driver_sql(UPDATE, (hashed, kept, checksum(row), tenant, principal, route, text))
    connection.exec_driver_sql("INSERT OR IGNORE INTO purges SELECT tenant, size FROM heads WHERE size > 0")


def keyed(key: bytes, *said: str) -> str:
    """As in ``log.sql.idempotency``."""
    digest = hmac.digest(key, "\0".join(said).encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def checksum(values: Sequence[Any]) -> int:
    """As in ``log.sql.checksums``."""
    return zlib.crc32(msgspec.msgpack.encode(tuple(values)))
