"""Verifying documents: what events name is there, and what is gone is gone by an erasure that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import Broken, Erased, StoreCorrupt
from ...log.base import Connection
from ...log.sql import scan
from ...log.sql.documents import SALT_BYTES, digest_of, find_document
from .leaves import UNREADABLE, Named


def check_documents(connection: Connection, tenant: str, named: Mapping[str, Named]) -> None:
    """Check the documents of a log against the events that name them. Raises Broken."""
    erased = set[str]()
    for digest, by_position, kind, facts in scan.documents_erased(connection, tenant):
        name = digest.hex()
        erased.add(name)
        each = named.get(name)
        if kind != scan.ERASED or name not in told_in(facts, "documents"):
            what = f"the document {name} is erased, and position {by_position}, which should say so, does not"
            raise Broken(what, tenant=tenant, position=by_position)
        if each is None or each.kept or each.last > by_position:
            what = f"the document {name} was erased at position {by_position}, and is named after all"
            raise Broken(what, tenant=tenant, position=each.first if each else by_position)
    for name, each in named.items():
        if each.kept or name not in erased:
            _check_named(connection, tenant, name, each)
    for digest in scan.salted_documents(connection, tenant):
        if (name := digest.hex()) not in named or not named[name].kept:
            position = named[name].first if name in named else None
            what = f"the document {name} is still there, and nothing that is not erased names it"
            raise Broken(what, tenant=tenant, position=position)


def check_document_rows(connection: Connection) -> None:
    """Check that each document, of whatever log, is what its digests say. Raises Broken."""
    for tenant, digest, data, salt, plain in scan.all_documents(connection):
        names = (digest_of(data, salt), None if salt is None else digest_of(data))
        if (digest, plain) != names or len(salt or bytes(SALT_BYTES)) != SALT_BYTES:
            raise Broken(f"the document {digest.hex()} is not what its digest says", tenant=tenant)


def told_in(facts: bytes | None, field: str) -> Sequence[Any]:
    """What an event that erased something lists in a field of its facts."""
    try:
        found = msgspec.json.decode(facts or b"{}", type=dict[str, Any]).get(field)
    except msgspec.MsgspecError:
        return ()
    return found if isinstance(found, list) else ()


def _check_named(connection: Connection, tenant: str, name: str, named: Named) -> None:
    try:
        found = find_document(connection, tenant, name)
        if (found.salt is not None) == named.salted:
            return
    except (StoreCorrupt, Erased, *UNREADABLE):
        pass
    what = f"the document {name} is missing or another, and position {named.first} names it"
    raise Broken(what, tenant=tenant, position=named.first)
