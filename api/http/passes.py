"""What a browser holds in place of an API key: a cookie with a token, and tickets.

None of them is the key. Cookies do not know ports, so that a page on another port of the same host would be sent
along with one; the token is what such a page cannot know, because the console keeps it where only its own origin
reads. Neither counts without the other. A ticket opens one path, for GET, for a minute: for what a browser opens by
itself and cannot give a header.

Nothing is stored: cookies and tickets are signed with HMAC-SHA256, under a secret that no database holds, over the
hash of the key as it is now. With a key that was revoked or replaced they are void.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from .auth import LOCAL_IDENTITY, Identity, Keys
from .errors import Problem

COOKIE = "manent_console"
TOKEN_HEADER = "x-manent-console"  # noqa: S105 - a name
TICKET = "ticket"
PASS_S = 12 * 3600
TICKET_S = 60
MAX_FAILURES = 10
FAILURES_WITHIN_S = 60
MAX_ADDRESSES = 4096
MAX_ENDED = 65536


def console_secret() -> bytes:
    """The secret that cookies, tokens and tickets are signed with. It lives as long as the process: after a restart
    people give their key again.
    """
    return secrets.token_bytes(32)


class Pass(msgspec.Struct, frozen=True):
    """What a key is traded for: ``cookie`` is the value of the cookie, ``token`` what the page sends beside it."""

    cookie: str
    token: str


class Ticket(msgspec.Struct, frozen=True):
    ticket: str
    expires_at_s: int


class Passes:
    """Issues and verifies passes and tickets of a server's ``keys``. ``now``: seconds since 1970."""

    def __init__(self, keys: Keys, secret: bytes, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._secret = secret
        self._now = now
        self._ended: OrderedDict[str, int] = OrderedDict()

    def identify(self, scope: dict[str, Any], headers: Mapping[str, str]) -> Identity:
        """The identity behind a request: by its ``Authorization``, its ticket, or its cookie and token.

        A ticket is taken out of the query, where no route would know it. Raises Problem 401.
        """
        ticket = _take_ticket(scope)
        if ticket is not None and "authorization" not in headers:
            return self._by_ticket(ticket, scope)
        if self._keys.open or "authorization" in headers:
            return self._keys.identify(headers.get("authorization"))
        return self._by_pass(headers) or self._keys.identify(None)

    # --- cookie and token ---------------------------------------------------------------------------------------------

    def open(self, key: str) -> Pass:
        """Trade an API key for a pass. Raises Problem 401 for what is no key, and 409 where none is needed."""
        if self._keys.open:
            raise Problem(409, "no_keys", "this server has no API keys, and needs none")
        identity = self._keys.identify(f"Bearer {key}")
        key_id = identity.actor.removeprefix("key:")
        claim = f"{key_id}~{int(self._now()) + PASS_S}~{secrets.token_hex(16)}"
        cookie = f"{claim}~{self._sign('cookie', self._hash_of(key_id), claim)}"
        return Pass(cookie, self._sign("token", cookie))

    def end(self, headers: Mapping[str, str]) -> None:
        """Void the pass of a request, if it has one, before its time."""
        if self._by_pass(headers) is None:
            return
        _, expires, number, _ = _cookie_of(headers).split("~")
        self._ended[number] = int(expires)
        while self._ended and (len(self._ended) > MAX_ENDED or next(iter(self._ended.values())) < self._now()):
            self._ended.popitem(last=False)

    def _by_pass(self, headers: Mapping[str, str]) -> Identity | None:
        cookie, token = _cookie_of(headers), headers.get(TOKEN_HEADER, "")
        claim, _, mac = cookie.rpartition("~")
        key_id, _, rest = claim.partition("~")
        expires, _, number = rest.partition("~")
        good = _same(mac, self._sign("cookie", self._hash_of(key_id), claim))
        if not (good and _same(token, self._sign("token", cookie))):
            return None
        if int(expires) < self._now() or number in self._ended:
            return None
        return self._keys.named(key_id)

    # --- tickets ------------------------------------------------------------------------------------------------------

    def ticket(self, identity: Identity, path: str) -> Ticket:
        """A ticket with which a GET of this path is made in the name of an identity, for a minute."""
        expires = int(self._now()) + TICKET_S
        key_id = "" if identity == LOCAL_IDENTITY else identity.actor.removeprefix("key:")
        claim = f"{key_id}~{expires}"
        return Ticket(f"{claim}~{self._sign('ticket', self._hash_of(key_id), claim, path)}", expires)

    def _by_ticket(self, ticket: str, scope: dict[str, Any]) -> Identity:
        claim, _, mac = ticket.rpartition("~")
        key_id, _, expires = claim.partition("~")
        good = _same(mac, self._sign("ticket", self._hash_of(key_id), claim, scope["path"]))
        identity = self._keys.named(key_id) if key_id else LOCAL_IDENTITY if self._keys.open else None
        if identity is None or not good or scope["method"] != "GET" or int(expires) < self._now():
            raise Problem(401, "unauthorized", "the ticket is not for this path, or its minute is over")
        return identity

    # --- inside -------------------------------------------------------------------------------------------------------

    def _hash_of(self, key_id: str) -> str:
        """The hash of a key as it is now; of a key that is not there, one that nothing is signed with."""
        if not key_id:
            return "local" if self._keys.open else secrets.token_hex(32)
        return self._keys.hash_of(key_id) or secrets.token_hex(32)

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


def _take_ticket(scope: dict[str, Any]) -> str | None:
    query: bytes = scope.get("query_string", b"")
    if TICKET.encode() not in query:
        return None
    prefix = f"{TICKET}=".encode()
    parts = query.split(b"&")
    found = [part for part in parts if part.startswith(prefix)]
    if not found:
        return None
    scope["query_string"] = b"&".join(part for part in parts if part not in found)
    return unquote(found[0].removeprefix(prefix).decode("latin-1"))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
