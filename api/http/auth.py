"""Authentication: API keys from a file, or, without any, everybody on this machine and nobody else.

The file is JSON: a list of ``{"id", "sha256", "tenant", "scopes", "expires_at"}``. ``sha256`` is the hex SHA-256 of the
key; ``expires_at`` (RFC 3339), after which it is no longer valid, may be left out. Keys themselves are nowhere. An id
becomes the actor ``key:ID`` in events, so it may hold no name or address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

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
    expires_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = UNSET

    def has_expired(self, now_s: float) -> bool:
        return isinstance(self.expires_at, datetime) and self.expires_at.timestamp() <= now_s


class Identity(msgspec.Struct, frozen=True):
    """The identity of a caller, and its scopes; ``key`` is None where none is needed."""

    tenant: str
    actor: str
    scopes: frozenset[Scope]
    key: Key | None = None

    def caller(self, request_id: str) -> Caller:
        return Caller(self.tenant, self.actor, request_id)


LOCAL_IDENTITY = Identity("default", "local", ALL_SCOPES)


class KeysFileError(Exception):
    """A file that is not one of keys. ``reason`` quotes nothing of it; ``detail`` may."""

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail or reason


class Keys:
    """A set of keys, found by their hash."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._by_hash: Mapping[str, Key] = {key.sha256: key for key in keys}

    def __len__(self) -> int:
        return len(self._by_hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._by_hash == other._by_hash

    __hash__ = None  # type: ignore[assignment] # they are compared, and no key of a dictionary

    def ids(self) -> frozenset[str]:
        return frozenset(key.id for key in self._by_hash.values())

    def holds(self, key: Key, now_s: float) -> bool:
        """True if a key is one of these, just as it is, and has not expired."""
        return self._by_hash.get(key.sha256) == key and not key.has_expired(now_s)

    def identify(self, authorization: str | None, now_s: float) -> Identity:
        """The identity behind an ``Authorization`` header. Raises Problem 401."""
        scheme, _, secret = (authorization or "").partition(" ")
        # The hash is looked up, not compared: timing tells about hashes, which tell nothing about keys.
        key = self._by_hash.get(hashlib.sha256(secret.strip().encode("latin-1", "replace")).hexdigest())
        if scheme.lower() != "bearer" or key is None:
            raise unauthorized("a valid API key is needed: Authorization: Bearer KEY")
        if key.has_expired(now_s):
            raise unauthorized("this API key has expired")
        return identity_of_key(key)

    def named(self, name: str, now_s: float) -> Key | None:
        """The key of this id; None if there is none, or it has expired."""
        found = next((key for key in self._by_hash.values() if key.id == name), None)
        return None if found is None or found.has_expired(now_s) else found


def identity_of_key(key: Key) -> Identity:
    return Identity(key.tenant, f"key:{key.id}", frozenset(key.scopes), key)


def unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, {"www-authenticate": 'Bearer realm="manent"'})


def read_keys(path: str) -> Keys:
    """The keys of a file, one at least. Raises Invalid, which names the setting."""
    try:
        keys = parse_keys(Path(path))
    except KeysFileError as error:
        raise Invalid("api_keys_file", error.detail) from None
    if not len(keys):
        raise Invalid("api_keys_file", "holds no key")
    return keys


def parse_keys(path: Path) -> Keys:
    """The keys of a file, which may be none. Raises KeysFileError."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=tuple[Key, ...])
    except OSError as error:
        raise KeysFileError(f"cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KeysFileError("is not a list of keys", str(error)) from None
    for name in ("id", "sha256"):
        if len({getattr(key, name) for key in keys}) != len(keys):
            raise KeysFileError(f"two keys have the same {name}")
    return Keys(keys)


def is_loopback(host: str) -> bool:
    """True if an address or name can only be reached from this machine."""
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_is_loopback(header: str) -> bool:
    """True if a ``Host`` header, or the host part of an origin, names this machine."""
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
