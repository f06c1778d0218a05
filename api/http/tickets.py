"""Tickets: what a browser's EventSource, which can send no headers, shows in place of its key.

A ticket stands in the URL, where keys must never be: it is good for GET of one path, for a minute, on behalf of the key
that asked for it, as that key is by then. It is signed and not kept: nothing is remembered of those that were issued,
and a start makes all of them void. It is taken out of the query before anything reads it.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from typing import Any
from urllib.parse import unquote_to_bytes

from .auth import Identity, identity_of_key, unauthorized
from .errors import invalid
from .key_ring import KeyRing

LIFE_S = 60
NAME = b"ticket"
"""The query's parameter."""

_DIGITS = re.compile("[0-9]{1,17}")


class Tickets:
    """Issues tickets, and tells who shows one."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)

    def issue(self, identity: Identity, path: str) -> tuple[str, int]:
        """A ticket for a path as it is written in a URL, and when it expires, in microseconds."""
        expires_us = int((time.time() + LIFE_S) * 1_000_000)
        name, digest = ("", "") if identity.key is None else (identity.key.id, identity.key.sha256)
        return f"{expires_us}.{name}.{self._sign(path, expires_us, name, digest)}", expires_us

    def identify(self, ticket: str, path: str) -> Identity:
        """The identity of the key that asked for a ticket. Raises Problem 401."""
        expires, _, rest = ticket.partition(".")
        name, _, signature = rest.rpartition(".")
        key = self._keys.named(name)
        if key is not None and _DIGITS.fullmatch(expires) and signature.isascii():
            right = self._sign(path, int(expires), name, key.sha256)
            if hmac.compare_digest(right, signature) and time.time() * 1_000_000 < int(expires):
                return identity_of_key(key)
        raise unauthorized("this ticket is not valid for this path, or has expired")

    def _sign(self, path: str, expires_us: int, name: str, digest: str) -> str:
        text = "\n".join((str(expires_us), name, digest, path))
        return hmac.digest(self._secret, text.encode(), "sha256").hex()


def take_ticket(scope: dict[str, Any]) -> str | None:
    """Take the ticket out of a request's query, so that nobody reads it there. Raises Problem 400 for two of them."""
    parts = scope.get("query_string", b"").split(b"&")
    found = [part for part in parts if unquote_to_bytes(part.partition(b"=")[0]) == NAME]
    if not found:
        return None
    scope["query_string"] = b"&".join(part for part in parts if part not in found)
    if len(found) > 1:
        raise invalid(NAME.decode(), "is given twice", "duplicate_field")
    return unquote_to_bytes(found[0].partition(b"=")[2]).decode("latin-1")


def path_of(scope: dict[str, Any]) -> str:
    """The path of a request as it is written in its URL."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")
