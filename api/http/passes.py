"""Passes: what a browser holds in place of an API key, a cookie with a token.

Neither is the key. Cookies do not know ports, so that a page on another port of the same host would be sent along with
one; the token is what such a page cannot know, because the console keeps it where only its own origin reads. Neither
counts without the other.

Nothing is stored: they are signed with HMAC-SHA256, under a secret that no database holds, over the hash of the key as
it is now. With a key that was revoked or replaced they are void, and so they are after a restart.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from .auth import Identity, identity_of_key
from .errors import Problem
from .key_ring import KeyRing

COOKIE = "manent_console"
TOKEN_HEADER = "x-manent-console"  # noqa: S105 - a name
PASS_S = 12 * 3600
MAX_FAILURES = 10
FAILURES_WITHIN_S = 60
MAX_ADDRESSES = 4096
MAX_ENDED = 65536

_CLAIM = re.compile(r"([A-Za-z0-9._-]{1,64})~([0-9]{1,17})~([0-9a-f]{32})")


class Pass(msgspec.Struct, frozen=True):
    """What a key is traded for: ``cookie`` is the value of the cookie, ``token`` what the page sends beside it."""

    cookie: str
    token: str


class Passes:
    """Issues and verifies passes of a server's ``keys``. ``now``: seconds since 1970."""

    def __init__(self, keys: KeyRing, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)
        self._now = now
        self._ended: OrderedDict[str, int] = OrderedDict()

    def open(self, key: str) -> Pass:
        """Trade an API key for a pass. Raises Problem 401 for what is no key, and 409 where none is needed."""
        found = self._keys.identify(f"Bearer {key}").key
        if found is None:
            raise Problem(409, "no_keys", "this server has no API keys, and needs none")
        claim = f"{found.id}~{int(self._now()) + PASS_S}~{secrets.token_hex(16)}"
        cookie = f"{claim}~{self._sign('cookie', found.sha256, claim)}"
        return Pass(cookie, self._sign("token", cookie))

    def identify(self, headers: Mapping[str, str]) -> Identity | None:
        """The identity behind the cookie and token of a request; None if they are none, or no longer."""
        cookie, token = _cookie_of(headers), headers.get(TOKEN_HEADER, "")
        claim, _, mac = cookie.rpartition("~")
        read = _CLAIM.fullmatch(claim)
        key = self._keys.named(read[1]) if read else None
        if read is None or key is None:
            return None
        signed = _same(mac, self._sign("cookie", key.sha256, claim))
        if not (signed and _same(token, self._sign("token", cookie))):
            return None
        if int(read[2]) < self._now() or read[3] in self._ended:
            return None
        return identity_of_key(key)

    def end(self, headers: Mapping[str, str]) -> None:
        """Void the pass of a request, if it has one, before its time."""
        if self.identify(headers) is None:
            return
        _, expires, number, _ = _cookie_of(headers).split("~")
        self._ended[number] = int(expires)
        while self._ended and (len(self._ended) > MAX_ENDED or next(iter(self._ended.values())) < self._now()):
            self._ended.popitem(last=False)

    def _sign(self, *parts: str) -> str:
        said = "\0".join(parts).encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, said, hashlib.sha256)).decode().rstrip("=")


class Failures:
    """Counts the failed logins of each address, and refuses more than a few a minute."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises Problem 429 for an address that has failed too often."""
        recent = [at for at in self._times.get(address, ()) if at > self._now() - FAILURES_WITHIN_S]
        if len(recent) >= MAX_FAILURES:
            retry_after_s = max(1, round(recent[0] + FAILURES_WITHIN_S - self._now()))
            headers = {"retry-after": str(retry_after_s)}
            detail = f"{MAX_FAILURES} keys were wrong within a minute; wait {retry_after_s} s"
            raise Problem(429, "rate_limited", detail, headers, retry_after_s=retry_after_s)

    def add(self, address: str) -> None:
        times = [*self._times.pop(address, []), self._now()]
        self._times[address] = times[-MAX_FAILURES:]
        if len(self._times) > MAX_ADDRESSES:
            self._times.popitem(last=False)


def cookie_name(headers: Mapping[str, str]) -> str:
    """The cookie's name for a host and port: two servers of one host would take each other's."""
    _, colon, port = headers.get("host", "").rpartition(":")
    return f"{COOKIE}_{port}" if colon and port.isascii() and port.isdigit() else COOKIE


def _cookie_of(headers: Mapping[str, str]) -> str:
    wanted = cookie_name(headers)
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
