"""The gate in front of the application: request ids, CORS, identity, media types, and the size of heads.

It is plain ASGI around Litestar, so that it also covers what never reaches a route. What it refuses, and what went
wrong behind it, is answered in the form that belongs to the path.
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...engine import is_correlation, new_id
from ..observability.reporter import Answered, Reporter
from .auth import Identity, check_local
from .cors import Cors
from .dialects import ROOT, id_headers
from .errors import PROBLEM, Problem, mistake, refusal_of
from .files import is_file
from .key_ring import KeyRing
from .passes import Passes
from .tickets import Tickets, path_of, take_ticket

log = logging.getLogger("manent.api")

LEFT = 499
"""The status of a request whose client left before it was answered: nginx's, and nobody is sent it."""

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/schema", "/schema/", "/schema/openapi.json", "/api/console/session"})
"""Served without a key: for those who watch the server, who read about it, and who trade a key for a pass. So are the
console's files.
"""

ONCE_AT_MOST = {b"host": "Host", b"authorization": "Authorization", b"x-api-key": "X-Api-Key"}

BODY_METHODS = frozenset({"POST", "PATCH"})

RETRY_AFTER_S = 2

REFUSED = "refused"
"""In a request's state: the Problem with which the connection refused it, while the rest of it was awaited."""

SEND_BODY = "send_body"
"""In a request's state: what takes the pieces of an answer's body, once its head has been sent through here."""

HEAD_ONLY = "head_only"
"""In a request's state: it is answered as GET is, and nobody sees the body."""

Scope = dict[str, Any]
Headers = list[tuple[bytes, bytes]]


class Gate:
    """ASGI middleware; puts ``request_id`` and ``identity`` into the scope's state."""

    def __init__(
        self,
        app: Any,
        keys: KeyRing,
        tickets: Tickets,
        passes: Passes,
        cors: Cors,
        reporter: Reporter,
        *,
        max_header_bytes: int,
        max_bodies_bytes: int,
    ) -> None:
        self.app = app
        self.reporter = reporter
        self._keys = keys
        self._tickets = tickets
        self._passes = passes
        self._cors = cors
        self._max_header_bytes = max_header_bytes
        self._bodies = Bodies(max_bodies_bytes)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if is_correlation(given) else str(new_id())
        begun_s = time.monotonic()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        if scope["method"] == "HEAD":
            send, inner = _head_only(send), scope | {"method": "GET"}
            state[HEAD_ONLY] = True
        else:
            inner = scope
        state[SEND_BODY] = send
        ids = [
            (name.encode(), value.encode()) for name, value in id_headers(scope["path"], headers, request_id).items()
        ]
        answer = _Answer(send, [*ids, *self._cors.headers(headers.get("origin"))])
        try:
            if self._admit(scope, headers, state):
                with self._keys.visiting(state), self._bodies.held(receive) as bounded:
                    await self.app(inner, bounded, answer.send)
            else:
                await answer.whole(204, self._cors.preflight(headers))
        except Problem as problem:
            state[PROBLEM] = problem
            await answer.problem(problem, scope["path"], headers, request_id)
        except asyncio.CancelledError:  # a shutdown that has waited long enough for a slow client
            if not answer.begun:
                refusal = Problem(503, "shutting_down", "the server is shutting down", {"retry-after": "5"})
                await answer.problem(refusal, scope["path"], headers, request_id)
        except Exception:
            if answer.begun:
                raise
            log.exception("a request failed outside of its route")
            await answer.problem(mistake(), scope["path"], headers, request_id)
        finally:
            self.reporter.answered(_answered(scope, answer, time.monotonic() - begun_s))
            state.clear()  # what sends knows this scope: a circle, which would stay until somebody looked for such

    def _admit(self, scope: Scope, headers: dict[str, str], state: dict[str, Any]) -> bool:
        """False for a preflight, which is answered here. Raises Problem for what is not let in."""
        self._check_size(scope)
        _check_once_each(scope)
        public_file = is_file(scope["path"])
        if self._keys.open:
            check_local(headers, self._cors, is_file=public_file)
        if scope["method"] == "OPTIONS" and self._cors.is_preflight(headers):
            return False
        if not public_file and scope["path"] not in PUBLIC_PATHS:
            state["identity"] = self._identify(scope, headers)
        _check_media_type(scope, headers)
        return True

    def _identify(self, scope: Scope, headers: dict[str, str]) -> Identity:
        """The identity of who sends a request: by their key, or, where there is none, by a ticket, or by a cookie and
        its token.
        """
        authorization = _authorization(scope["path"], headers)
        ticket = take_ticket(scope) if scope["method"] == "GET" else None
        if authorization is not None or self._keys.open:
            return self._keys.identify(authorization)
        if ticket is not None:
            return self._tickets.identify(ticket, path_of(scope))
        return self._passes.identify(headers) or self._keys.identify(None)

    def _check_size(self, scope: Scope) -> None:
        size = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._max_header_bytes:
            raise head_too_large(self._max_header_bytes)


class Bodies:
    """The bodies of all requests that are being answered: what they hold together is bounded."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0

    @contextmanager
    def held(self, receive: Any) -> Iterator[Any]:
        """``receive``, counting until the request is answered. It raises Problem 503 where there is no more room."""
        mine = 0

        async def counted() -> Any:
            nonlocal mine
            message = await receive()
            size = len(message.get("body", b""))
            if self._held_bytes + size > self._max_bytes:
                raise _no_room(self._max_bytes)
            mine += size
            self._held_bytes += size
            return message

        try:
            yield counted
        finally:
            self._held_bytes -= mine


class _Answer:
    """The answer to a request; every answer has the headers given here."""

    def __init__(self, send: Any, headers: Headers) -> None:
        self._send = send
        self._headers = headers
        self.status: int | None = None

    @property
    def begun(self) -> bool:
        return self.status is not None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = message.get("headers", ())
            message["headers"] = [*((name, _allowed(name, value)) for name, value in given), *self._headers]
        await self._send(message)

    async def whole(self, status: int, headers: Headers, body: bytes = b"") -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def problem(self, problem: Problem, path: str, asked: dict[str, str], request_id: str) -> None:
        """Answer with a refusal; ``asked``: the headers of the request."""
        told = refusal_of(problem, path, asked, request_id)
        headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
        headers += [(b"content-type", told.media_type.encode()), (b"content-length", str(len(told.body)).encode())]
        await self.whole(told.status, headers, told.body)


def _authorization(path: str, headers: dict[str, str]) -> str | None:
    """The key of a request. A drop-in route takes it as either vendor's clients send it; ``Authorization`` comes
    first.
    """
    given, bare = headers.get("authorization"), headers.get("x-api-key")
    if given is None and bare is not None and path.startswith(ROOT):
        return f"Bearer {bare}"
    return given


def _head_only(send: Any) -> Any:
    """Send the head of an answer and end it there, also of a stream: whoever streams sees that its client has
    left.
    """

    async def only(message: Any) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return only


def _allowed(name: bytes, value: bytes) -> bytes:
    """``Allow`` with the method that is served wherever GET is."""
    if name.lower() != b"allow" or b"GET" not in value:
        return value
    return value.replace(b"GET", b"GET, HEAD", 1)


def _answered(scope: Scope, answer: _Answer, seconds: float) -> Answered:
    """The outcome of a request. One that the connection refused, while its body came, was sent that refusal."""
    state = scope["state"]
    problem: Problem | None = state.get(PROBLEM)
    identity: Identity | None = state.get("identity")
    refused: Problem | None = state.get(REFUSED)
    return Answered(
        method=scope["method"],
        template=scope.get("path_template"),
        status=refused.status if refused else answer.status or LEFT,
        seconds=seconds,
        request_id=state["request_id"],
        principal=identity.actor if identity else None,
        code=refused.code if refused else problem.code if problem else None,
        failed=problem is not None and problem.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR,
    )


def _no_room(max_bytes: int) -> Problem:
    detail = "the requests that are being answered hold as much as there is room for"
    headers = {"retry-after": str(RETRY_AFTER_S)}
    figures = {"limit": "max_bodies_bytes", "maximum": max_bytes, "retry_after_s": RETRY_AFTER_S}
    return Problem(503, "overloaded", detail, headers, **figures)


def head_too_large(max_bytes: int) -> Problem:
    detail = f"the request's head is larger than {max_bytes} bytes"
    return Problem(431, "headers_too_large", detail, limit="max_header_bytes", maximum=max_bytes)


def _check_once_each(scope: Scope) -> None:
    """Raises Problem 400 for a request without ``Host``, or with two of a field that decides who is served: whoever
    stands before this server may have looked at the other one (RFC 9112, section 3.2).
    """
    names = [name for name, _ in scope["headers"]]
    if b"host" not in names:
        raise Problem(400, "missing_field", "Host: is required", field="Host")
    for name, field in ONCE_AT_MOST.items():
        if names.count(name) > 1:
            raise Problem(400, "duplicate_field", f"{field}: is given twice", field=field)


def _check_media_type(scope: Scope, headers: dict[str, str]) -> None:
    if scope["method"] not in BODY_METHODS:
        return
    media_type = headers.get("content-type")
    if media_type is None and headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    if (media_type or "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "unsupported_media_type", "the body must be application/json", field="Content-Type")
