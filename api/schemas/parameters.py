"""Parameters that stand beside a body: path, query, idempotency keys, versions, cursors, preferences."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from msgspec import Meta

from ...engine import Caller, Engine, RequestKey, Started
from ..http.auth import Identity, Scope
from ..http.body import Http
from ..http.errors import Problem, invalid

DEFAULT_WAIT_S = 60

MAX_WAIT_S = 600

MAX_LONG_POLL_S = 60

MAX_KEY_CHARS = 256

MAX_NUMBER = 1 << 53

_FRAME_ID = re.compile("0|[1-9][0-9]{0,15}")

_IF_MATCH = re.compile(r'(?:W/)?"(0|[1-9][0-9]{0,15})"')

_PREFERENCE = re.compile(r"\s*([a-z-]+)\s*(?:=\s*\"?([0-9]{1,18})\"?)?\s*")

_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")

Chat = NamedDependency[Engine]
"""The open engine, as handlers are given it."""

Count = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]

Model = Annotated[str, Meta(min_length=1, max_length=200)]

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="The most items on a page.")]

Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]

Version = Annotated[int | None, QueryParameter(ge=0, le=MAX_NUMBER, description="As it was then.")]

AttemptNumber = Annotated[
    int | None,
    QueryParameter(ge=1, le=MAX_NUMBER, description="Counts the turn's `attempts` from 1; by default the last."),
]

At = Annotated[
    str | None,
    QueryParameter(
        format="date-time",
        description="As it was at this time: at the last version recorded by then. Goes without `version`.",
    ),
]

After = Annotated[
    int | None, QueryParameter(ge=0, le=MAX_NUMBER, description="What follows this version, position or frame.")
]

WaitSeconds = Annotated[
    int,
    QueryParameter(ge=0, le=MAX_LONG_POLL_S, description="Where there is nothing yet, wait so many seconds for it."),
]

IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", description='The version the session must be at, in quotes: `"7"`.')
]

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key", description="The same key with a body that says the same gets the first answer again."
    ),
]

Prefer = Annotated[
    str | None,
    HeaderParameter(name="Prefer", description="`wait=N`: wait at most N seconds. `respond-async`: do not wait."),
]

LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="The id of the last frame read; comes before `after`."),
]


class Wait(msgspec.Struct, frozen=True):
    """How long a caller waits for an answer, in seconds; 0: not at all. ``asked``: they said so."""

    seconds: int
    asked: bool


def identity_of(request: Http) -> Identity:
    """The identity of a request."""
    identity: Identity = request.scope["state"]["identity"]
    return identity


def caller_of(request: Http, *scopes: Scope) -> Caller:
    """On whose behalf a request is made. Raises Problem 403 where their key has none of the scopes that reach so far:
    by default ``chat``.
    """
    identity, enough = identity_of(request), scopes or ("chat",)
    if identity.scopes.isdisjoint(enough):
        names = " or ".join(map(repr, enough))
        raise Problem(403, "scope_missing", f"this needs a key with the scope {names}", scope=enough[0])
    return identity.caller(request_id_of(request))


def request_id_of(request: Http) -> str:
    return str(request.scope["state"]["request_id"])


async def request_key(request: Http, raw: str | None) -> RequestKey | None:
    """The idempotency key of a request, quoted or bare; None if it has none.

    It is remembered for ever under the route's path, with ids in their canonical form.
    """
    if raw is None:
        return None
    key = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    if not (0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
        raise invalid("Idempotency-Key", f"must be 1 to {MAX_KEY_CHARS} printable ASCII characters")
    return msgspec.structs.replace(await said_in(request), key=key)


async def said_in(request: Http) -> RequestKey:
    """The principal, route and body of a request: a request key without the key."""
    path = _PATH_PARAMETER.sub(lambda match: str(request.path_params[match[1]]), request.scope["path_template"])
    raw = await request.body() or request.scope["query_string"]
    return RequestKey(identity_of(request).actor, f"{request.method} {path}", "", await request.meaning(), raw)


def is_repeated(request: Http) -> bool:
    """True if a vendor's library says that it has sent this request before: they count, and send no key."""
    count: str = request.headers.get("x-stainless-retry-count", "0")
    return count.isascii() and count.isdigit() and bool(count.strip("0"))


async def start_once(
    request: Http, chat: Engine, key: RequestKey | None, start: Callable[[], Awaitable[Started]]
) -> Started:
    """Start the turn that a request asks for. One with an idempotency key is known by that; one without, which a
    vendor's library repeats by itself, is given the turn that its first try started, while it runs.
    """
    if key is not None:
        return await start()
    said, repeated = await said_in(request), is_repeated(request)
    return await chat.serving.start_once(said, start, repeated=repeated, caller=caller_of(request))


def expected_version(raw: str | None) -> int | None:
    """The version that a caller expects, from ``If-Match: "<version>"``; None if they do not say, or say ``*``."""
    if raw is None or raw.strip() == "*":
        return None
    match = _IF_MATCH.fullmatch(raw.strip())
    if match is None:
        raise invalid("If-Match", 'must be a version in quotes, like "7"')
    return int(match[1])


def wait_of(raw: str | None) -> Wait:
    """Parse ``Prefer`` (RFC 7240): ``respond-async``, or ``wait=N``. What is not understood is passed over."""
    wait = Wait(DEFAULT_WAIT_S, asked=False)
    for part in (raw or "").lower().split(","):
        match = _PREFERENCE.fullmatch(part)
        if match is None:
            continue
        if match[1] == "respond-async":
            return Wait(0, asked=True)
        if match[1] == "wait" and match[2]:
            wait = Wait(min(int(match[2]), MAX_WAIT_S), asked=True)
    return wait


def read_after(last_event_id: str | None, after: int | None) -> int | None:
    """The cursor at which a stream is resumed: ``Last-Event-ID``, which a browser sends by itself, or ``?after=``."""
    if not last_event_id:
        return after
    if not _FRAME_ID.fullmatch(last_event_id) or int(last_event_id) > MAX_NUMBER:
        raise invalid("Last-Event-ID", "must be the id of a frame")
    return int(last_event_id)


def page_start(after: int | None, cursor: str | None) -> int | str | None:
    """The place at which a page begins: after the end of the page before, or after a version or position."""
    return after if cursor is None else cursor
