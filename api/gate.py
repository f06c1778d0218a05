"""The gate in front of the application: request ids, identity, media types, and the size of heads.

It is plain ASGI around Litestar, so that it also covers what never reaches a route. What it refuses, it refuses with a problem document.
"""

from __future__ import annotations

from typing import Any

from api.auth import Keys, check_local
from api.errors import PROBLEM_JSON, Problem, document
from engine import is_correlation, new_id

PUBLIC_PATHS = ("/healthz", "/readyz")
BODY_METHODS = frozenset({"POST", "PATCH", "PUT"})

Scope = dict[str, Any]


class Gate:
    """ASGI middleware; puts ``request_id`` and ``identity`` into the scope's state."""

    def __init__(self, app: Any, keys: Keys, cors_origins: tuple[str, ...], max_header_bytes: int) -> None:
        self.app = app
        self._keys = keys
        self._cors_origins = cors_origins
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if is_correlation(given) else str(new_id())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            self._admit(scope, headers, state)
        except Problem as problem:
            await _refuse(problem, request_id, send_with_id)
            return
        await self.app(scope, receive, send_with_id)

    def _admit(self, scope: Scope, headers: dict[str, str], state: dict[str, Any]) -> None:
        size = len(scope.get("query_string", b"")) + sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._max_header_bytes:
            detail = f"the request's head is larger than {self._max_header_bytes} bytes"
            raise Problem(431, "headers_too_large", detail, limit="max_header_bytes", maximum=self._max_header_bytes)
        if self._keys.open:
            check_local(headers, self._cors_origins)
        if self._is_preflight(scope, headers):
            return
        if scope["path"] not in PUBLIC_PATHS:
            state["identity"] = self._keys.identify(headers.get("authorization"))
        _check_media_type(scope, headers)

    def _is_preflight(self, scope: Scope, headers: dict[str, str]) -> bool:
        return scope["method"] == "OPTIONS" and headers.get("origin") in self._cors_origins


def _check_media_type(scope: Scope, headers: dict[str, str]) -> None:
    if scope["method"] not in BODY_METHODS:
        return
    media_type = headers.get("content-type")
    if media_type is None and headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    if (media_type or "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "unsupported_media_type", "the body must be application/json", field="Content-Type")


async def _refuse(problem: Problem, request_id: str, send: Any) -> None:
    body = document(problem, request_id)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
