"""Who is calling: API keys from a file, or, without any, everybody on this machine and nobody else.

The file is JSON: a list of ``{"id", "sha256", "tenant", "scopes"}``, where ``sha256`` is the hex SHA-256 of the key.
Keys themselves are nowhere. An id becomes the actor ``key:ID`` in events, so it may hold no name or address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...engine import Caller, Invalid
from .cors import Cors
from .errors import Problem

Scope = Literal["chat", "audit", "erase", "operate"]
ALL_SCOPES: frozenset[Scope] = frozenset({"chat", "audit", "erase", "operate"})

_LOOPBACK_NAMES = frozenset({"localhost"})
_HOST = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:]+))(?::\d+)?")


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One API key, without the key."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    tenant: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = "default"
    scopes: tuple[Scope, ...] = ("chat",)


class Identity(msgspec.Struct, frozen=True):
    """Who calls, and what they may do."""

    tenant: str
    actor: str
    scopes: frozenset[Scope]

    def caller(self, request_id: str) -> Caller:
        return Caller(self.tenant, self.actor, request_id)


LOCAL_IDENTITY = Identity("default", "local", ALL_SCOPES)


class Keys:
    """The keys of a server, found by their hash. ``open`` where there are none."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_hash: Mapping[str, Key] = {key.sha256: key for key in keys}
        self._by_id: Mapping[str, Key] = {key.id: key for key in keys}
        self.open = not keys

    def identify(self, authorization: str | None) -> Identity:
        """The identity behind an ``Authorization`` header. Raises Problem 401."""
        if self.open:
            return LOCAL_IDENTITY
        scheme, _, secret = (authorization or "").partition(" ")
        # The hash is looked up, not compared: timing tells about hashes, which tell nothing about keys.
        key = self._by_hash.get(hashlib.sha256(secret.strip().encode("latin-1", "replace")).hexdigest())
        if scheme.lower() != "bearer" or key is None:
            headers = {"www-authenticate": 'Bearer realm="manent"'}
            raise Problem(401, "unauthorized", "a valid API key is needed: Authorization: Bearer KEY", headers)
        return _identity_of(key)

    def named(self, key_id: str) -> Identity | None:
        """The identity of a key, by its id: for a caller who has shown the key before."""
        key = self._by_id.get(key_id)
        return None if key is None else _identity_of(key)

    def hash_of(self, key_id: str) -> str | None:
        key = self._by_id.get(key_id)
        return None if key is None else key.sha256


def _identity_of(key: Key) -> Identity:
    return Identity(key.tenant, f"key:{key.id}", frozenset(key.scopes))


def read_keys(path: str | None) -> Keys:
    """The keys of a file; none for no file. Raises Invalid, which names the setting."""
    if path is None:
        return Keys(())
    try:
        keys = msgspec.json.decode(Path(path).read_bytes(), type=tuple[Key, ...])
    except OSError as error:
        raise Invalid("api_keys_file", f"cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid("api_keys_file", str(error)) from None
    if not keys:
        raise Invalid("api_keys_file", "holds no key")
    for name in ("id", "sha256"):
        if len({getattr(key, name) for key in keys}) != len(keys):
            raise Invalid("api_keys_file", f"two keys have the same {name}")
    return Keys(keys)


def is_loopback(host: str) -> bool:
    """Whether an address or name can only be reached from this machine."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_is_loopback(header: str) -> bool:
    """Whether a ``Host`` header, or the host part of an origin, names this machine."""
    match = _HOST.fullmatch(header.strip().lower())
    return match is not None and is_loopback(match["six"] or match["name"])


def check_local(headers: Mapping[str, str], cors: Cors, *, is_file: bool = False) -> None:
    """Without keys, refuse what a page from elsewhere could make a browser send (DNS rebinding, cross-site requests).
    A link from elsewhere may lead to a file of the console (``is_file``).

    Raises Problem 403.
    """
    if not host_is_loopback(headers.get("host", "")):
        raise Problem(403, "foreign_host", "without API keys only requests to this machine's own name are served")
    if is_file:
        return
    origin = headers.get("origin")
    if cors.allows(origin):
        return
    if origin is not None and not host_is_loopback(origin.partition("://")[2]):
        raise Problem(403, "foreign_origin", "without API keys, pages from elsewhere are not served")
    if headers.get("sec-fetch-site") == "cross-site":
        raise Problem(403, "cross_site", "without API keys, pages from elsewhere are not served")
