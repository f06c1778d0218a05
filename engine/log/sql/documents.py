"""Documents: bytes that facts name by their SHA-256 and that many events share, kept once for a log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from ...errors import StoreCorrupt
from .clauses import same
from .driver import Prepared
from .tables import documents

_find = Prepared(select(documents.c.bytes).where(*same(documents, "tenant", "digest")))
_keep = Prepared(insert(documents))

NAMING = "attempt.started"
"""The only type of event whose facts name a document, as ``tools``."""


def digest_of(data: bytes) -> str:
    """The name of a document: SHA-256, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def named_by(kind: str, facts: Mapping[str, Any]) -> str | None:
    """The document that an event of this type names in its facts, if it names one."""
    return facts.get("tools") if kind == NAMING else None


class KeepDocument(msgspec.Struct, frozen=True):
    """Keep a document with an append, if it is not there yet."""

    tenant: str
    data: bytes

    def check(self, connection: Connection) -> None:
        """Nothing: it may be there already."""

    def apply(self, connection: Connection) -> None:
        digest = hashlib.sha256(self.data).digest()
        if _find(connection, self.tenant, digest).fetchone() is None:
            _keep(connection, self.tenant, digest, self.data)


def read_document(connection: Connection, tenant: str, digest: str) -> bytes:
    """The document of this name. Raises StoreCorrupt where it is gone, or is another."""
    row = _find(connection, tenant, bytes.fromhex(digest)).fetchone()
    if row is None or digest_of(row[0]) != digest:
        raise StoreCorrupt(f"the document {digest} is not what it was")
    return bytes(row[0])
