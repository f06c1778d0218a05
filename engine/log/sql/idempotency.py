"""Idempotent requests: what a key made, remembered for ever in the transaction that made it.

Only a salted fingerprint of the request's body is kept, and a reference to what it made: never an answer's words.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import msgspec
from sqlalchemy import Connection, insert, select

from ...clock import id_of
from ...errors import IdempotencyMismatch
from .. import codec
from ..base import Reference, RequestKey
from .checksums import checked
from .clauses import same
from .driver import Prepared
from .tables import requests

_KEY = same(requests, "tenant", "principal", "route", "key")
_find = Prepared(
    select(requests.c.salt, requests.c.fingerprint, requests.c.kind, requests.c.id, requests.c.version).where(*_KEY)
)
_remember = Prepared(insert(requests))


def keyed_request(key: bytes, tenant: str, request: RequestKey) -> RequestKey:
    """The request with the keyed hash (HMAC-SHA256) of its idempotency key in the key's place."""
    said = f"{tenant}\0{request.principal}\0{request.route}\0{request.key}"
    digest = hmac.digest(key, said.encode(), hashlib.sha256)
    return msgspec.structs.replace(request, key=base64.urlsafe_b64encode(digest).decode().rstrip("="))


def find_request(connection: Connection, tenant: str, request: RequestKey | None) -> Reference | None:
    """Find the result of this request, if it came before.

    Raises IdempotencyMismatch if the key came with another body.
    """
    if request is None:
        return None
    key = (tenant, request.principal, request.route, request.key)
    row = _find(connection, *key).fetchone()
    if row is None:
        return None
    salt, fingerprint, kind, raw_id, version = row
    # Without its salt the words that it held are erased, and nothing is left to compare with.
    if salt is not None and not _is_of(request, salt, fingerprint):
        raise IdempotencyMismatch("this idempotency key came before with another body", field="Idempotency-Key")
    return Reference(kind=kind, id=id_of(raw_id), version=version)


def _is_of(request: RequestKey, salt: bytes, fingerprint: bytes) -> bool:
    """True if a fingerprint is that of what a request says or, written by an earlier version, of its bytes."""
    forms = [request.body] if request.raw is None else [request.body, request.raw]
    return any(hmac.compare_digest(codec.commitment(salt, form), fingerprint) for form in forms)


def remember_request(
    connection: Connection, tenant: str, request: RequestKey, reference: Reference, salt: bytes
) -> None:
    """Write down what a request made."""
    fingerprint = codec.commitment(salt, request.body)
    made = (reference.kind, reference.id.bytes, reference.version)
    key = (tenant, request.principal, request.route, request.key)
    _remember(connection, *checked((*key, salt, fingerprint, *made)))
