"""Request bodies, and reading what stands beside them: idempotency keys, versions, cursors, preferences."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request
from msgspec import Meta, UnsetType

from api.auth import Identity, Scope
from api.errors import Problem
from engine import Caller, RequestKey

DEFAULT_WAIT_S = 60
MAX_WAIT_S = 600
MAX_KEY_CHARS = 256
MAX_NUMBER = 1 << 53

Count = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
Content = str | tuple[msgspec.Raw, ...]

_IF_MATCH = re.compile(r'(?:W/)?"(\d{1,16})"')
_PREFERENCE = re.compile(r"\s*([a-z-]+)\s*(?:=\s*\"?(\d{1,6})\"?)?\s*")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request body: unknown fields are refused with their name."""


class SessionIn(Body, frozen=True):
    model: str | None = None
    system: str | None = None
    title: str | None = None
    metadata: dict[str, Any] | None = None
    budget_tokens: Count | None = None
    max_output_tokens: Count | None = None


class SessionPatch(Body, frozen=True):
    """Only the fields given are changed; null sets null."""

    model: str | UnsetType | None = msgspec.UNSET
    system: str | UnsetType | None = msgspec.UNSET
    title: str | UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | UnsetType | None = msgspec.UNSET
    budget_tokens: Count | UnsetType | None = msgspec.UNSET
    max_output_tokens: Count | UnsetType | None = msgspec.UNSET
    status: Literal["active", "archived"] | UnsetType = msgspec.UNSET


class OneMessage(Body, frozen=True):
    content: Content
    role: str = "user"


class MessagesIn(Body, frozen=True):
    """One message (``role``, ``content``), or several at once (``messages``): all are appended, or none."""

    role: str = "user"
    content: Content | None = None
    messages: tuple[OneMessage, ...] | None = None


class TurnIn(Body, frozen=True, rename={"continues": "continue"}):
    """``content`` is short for ``message: {role: "user", content}``; ``continue`` goes on with a partial answer."""

    content: Content | None = None
    message: OneMessage | None = None
    model: str | None = None
    max_output_tokens: Count | None = None
    budget_tokens: Count | None = None
    temperature: float | None = None
    stop: str | tuple[str, ...] = ()
    on_disconnect: Literal["continue", "cancel"] = "continue"
    continues: bool = False
    stream: bool | None = None


class CompleteIn(Body, frozen=True):
    message: str
    model: str | None = None


class ChatIn(Body, frozen=True):
    message: str
    session_id: UUID | None = None
    model: str | None = None


class Wait(msgspec.Struct, frozen=True):
    """How long a caller waits for an answer, in seconds; 0: not at all. ``asked``: they said so."""

    seconds: int
    asked: bool


def caller_of(request: Request[Any, Any, Any], scope: Scope = "chat") -> Caller:
    """On whose behalf a request is made. Raises Problem 403 where their key does not reach that far."""
    identity: Identity = request.scope["state"]["identity"]
    if scope not in identity.scopes:
        raise Problem(403, "scope_missing", f"this needs a key with the scope {scope!r}", scope=scope)
    return identity.caller(request.scope["state"]["request_id"])


def request_id_of(request: Request[Any, Any, Any]) -> str:
    return str(request.scope["state"]["request_id"])


async def request_key(request: Request[Any, Any, Any]) -> RequestKey | None:
    """The idempotency key of a request, quoted or bare; None if it has none."""
    raw = request.headers.get("idempotency-key")
    if raw is None:
        return None
    key = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        detail = f"Idempotency-Key: must be 1 to {MAX_KEY_CHARS} printable ASCII characters"
        raise Problem(400, "invalid_value", detail, field="Idempotency-Key")
    route = f"{request.method} {request.url.path}"
    return RequestKey(caller_of(request).actor, route, key, await request.body())


def if_match(request: Request[Any, Any, Any]) -> int | None:
    """The version that a caller expects, from ``If-Match: "<version>"``; None if they do not say, or say ``*``."""
    raw = request.headers.get("if-match")
    if raw is None or raw.strip() == "*":
        return None
    match = _IF_MATCH.fullmatch(raw.strip())
    if match is None:
        raise Problem(400, "invalid_value", 'If-Match: must be a version in quotes, like "7"', field="If-Match")
    return int(match[1])


def wait_of(request: Request[Any, Any, Any]) -> Wait:
    """What ``Prefer`` asks for (RFC 7240): ``respond-async``, or ``wait=N``."""
    wait = Wait(DEFAULT_WAIT_S, asked=False)
    for part in request.headers.get("prefer", "").lower().split(","):
        match = _PREFERENCE.fullmatch(part)
        if match is None:
            continue
        if match[1] == "respond-async":
            return Wait(0, asked=True)
        if match[1] == "wait" and match[2]:
            wait = Wait(min(int(match[2]), MAX_WAIT_S), asked=True)
    return wait


def last_event_id(request: Request[Any, Any, Any], after: int | None) -> int | None:
    """Where a stream is taken up again: ``Last-Event-ID``, which a browser sends by itself, or ``?after=``."""
    raw = request.headers.get("last-event-id")
    if not raw:
        return after
    if not (raw.isascii() and raw.isdigit() and int(raw) <= MAX_NUMBER):
        raise Problem(400, "invalid_value", "Last-Event-ID: must be the id of a frame", field="Last-Event-ID")
    return int(raw)


def write_cursor(value: tuple[object, ...]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


def read_cursor(raw: str, kind: Any) -> Any:
    """A cursor that we gave. Raises Problem for any other."""
    try:
        padded = raw + "=" * (-len(raw) % 4)
        return msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Problem(400, "invalid_cursor", "cursor: is not one that this server gave", field="cursor") from None


def check_after(after: int | None, field: str = "after") -> int | None:
    if after is not None and not 0 <= after <= MAX_NUMBER:
        raise Problem(400, "invalid_value", f"{field}: must be from 0 to 2^53", field=field)
    return after
