"""Documents: bytes that facts name by a hash and that many events share, kept once for a log.

What is in them may be somebody's words. So an event names one by SHA-256 over a salt and its bytes, as a body's
commitment is made; the salt is kept beside the bytes, and both go when no event names the document whose own words are
there (``uses``). Events of older schemas name a document by its bytes alone, and that one stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from ...errors import Erased, StoreCorrupt
from .clauses import limited, same
from .driver import Prepared, PreparedRows
from .tables import document_uses, documents, erased_documents

_find = Prepared(select(documents.c.salt, documents.c.bytes).where(*same(documents, "tenant", "digest")))
# A document without salt has no ``plain``, and is not found so.
_find_equal = Prepared(
    limited(select(documents.c.digest).where(*same(documents, "tenant", "plain")).order_by(documents.c.digest))
)
_keep = Prepared(insert(documents))
_delete = Prepared(delete(documents).where(*same(documents, "tenant", "digest")))
_add_uses = PreparedRows(insert(document_uses))
_drop_use = Prepared(delete(document_uses).where(*same(document_uses, "tenant", "digest", "position")))
_used = Prepared(limited(select(document_uses.c.position).where(*same(document_uses, "tenant", "digest"))))
_insert_erased = PreparedRows(insert(erased_documents))
_erased_by = Prepared(select(erased_documents.c.by_position).where(*same(erased_documents, "tenant", "digest")))

NAMING, SALTED_SINCE = "attempt.started", 2
"""The only type of event whose facts name a document, as ``tools``; and since which of its schemas with a salt."""
SALT_BYTES = 16

Use = tuple[str, bytes, int]
"""Tenant, digest, and position of the event that names the document."""


def digest_of(data: bytes, salt: bytes | None = None) -> bytes:
    """SHA-256 over the salt, if there is one, and the bytes."""
    return hashlib.sha256((salt or b"") + data).digest()


def named_by(kind: str, facts: Mapping[str, Any]) -> str | None:
    """The document that an event of this type names in its facts, if it names one."""
    return facts.get("tools") if kind == NAMING else None


class KeepDocument(msgspec.Struct):
    """Keep a document with the append of an event that names it: by ``name``, which is that of the document of equal
    bytes where the log has one. So it holds from ``check`` on, which comes before events are decided.
    """

    tenant: str
    data: bytes
    salt: bytes
    name: str = ""
    own: bytes = b""
    plain: bytes = b""

    def __post_init__(self) -> None:
        # Here, and not within the write transaction: a document may be large.
        self.own, self.plain = digest_of(self.data, self.salt), digest_of(self.data)

    def check(self, connection: Connection) -> None:
        """Refuse nothing; find out by which name it is kept."""
        row = _find_equal(connection, self.tenant, self.plain, 1).fetchone()
        self.name = (self.own if row is None else row[0]).hex()

    def apply(self, connection: Connection) -> None:
        if self.name == self.own.hex():
            _keep(connection, self.tenant, self.own, self.data, self.salt, self.plain)


class TakenDocument(msgspec.Struct, frozen=True):
    """A document that comes from elsewhere under its name, to be kept if it is not there yet."""

    tenant: str
    data: bytes
    salt: bytes | None = None

    def check(self, connection: Connection) -> None:
        """Nothing: it may be there already."""

    def apply(self, connection: Connection) -> None:
        digest = digest_of(self.data, self.salt)
        if _find(connection, self.tenant, digest).fetchone() is None:
            _keep(connection, self.tenant, digest, self.data, self.salt, digest_of(self.data) if self.salt else None)


class Document(msgspec.Struct, frozen=True):
    """The bytes of a document and its salt; None: it is of the old kind."""

    data: bytes
    salt: bytes | None


def find_document(connection: Connection, tenant: str, name: str) -> Document:
    """The document of this name. Raises Erased where it is erased, StoreCorrupt where it is gone, or is another."""
    digest = bytes.fromhex(name)
    row = _find(connection, tenant, digest).fetchone()
    if row is None and (erased := _erased_by(connection, tenant, digest).fetchone()):
        raise Erased(f"the document {name} was erased at position {erased[0]}", documents=[name])
    if row is None or digest_of(row[1], row[0]) != digest:
        raise StoreCorrupt(f"the document {name} is not what it was")
    return Document(bytes(row[1]), row[0])


def read_document(connection: Connection, tenant: str, name: str) -> bytes:
    """The bytes of the document of this name. Raises as ``find_document``."""
    return find_document(connection, tenant, name).data


# --- who names them, and what goes with the last who does -------------------------------------------------------------


def add_uses(connection: Connection, uses: Sequence[Use]) -> None:
    """Write down that events name documents."""
    _add_uses(connection, uses)


def drop_uses(connection: Connection, tenant: str, uses: Iterable[tuple[str, int]]) -> set[str]:
    """Forget that events, each (name, position), name documents; which of these nobody names any more."""
    names = set[str]()
    for name, position in uses:
        _drop_use(connection, tenant, bytes.fromhex(name), position)
        names.add(name)
    return {name for name in names if _used(connection, tenant, bytes.fromhex(name), 1).fetchone() is None}


def erase_documents(connection: Connection, tenant: str, erased: Sequence[tuple[str, int]]) -> None:
    """Delete documents with their salts, each (name, position of the event that tells of it)."""
    note_erased_documents(connection, tenant, erased)
    for name, _ in erased:
        _delete(connection, tenant, bytes.fromhex(name))


def note_erased_documents(connection: Connection, tenant: str, erased: Iterable[tuple[str, int]]) -> None:
    """Write down that documents are erased, each (name, position of the event that tells of it)."""
    _insert_erased(connection, [(tenant, bytes.fromhex(name), by_position) for name, by_position in erased])
