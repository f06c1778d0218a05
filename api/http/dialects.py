"""The vendors' protocols at the edge: which of them a path speaks, and how each tells an error.

Below ``/v1`` the envelope is that of the path's protocol. Where a path may speak either, or leads nowhere, a client
that sends ``anthropic-version`` or ``x-api-key`` is Anthropic's, and any other OpenAI's.
"""

from __future__ import annotations

import http
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

ROOT = "/v1/"
"""What stands below it speaks a vendor's protocol."""

ONLY_OPENAI = ("/v1/chat/", "/v1/responses", "/v1/conversations", "/v1/ai-sdk/")
ONLY_ANTHROPIC = ("/v1/messages", "/v1/sessions")


class Kind(NamedTuple):
    """How a protocol tells an error: its status, type and code. None: as the status says; the engine's own code."""

    status: int | None = None
    type: str | None = None
    code: str | None = None


class Refusal(NamedTuple):
    """An error as a client is told it."""

    status: int
    body: bytes
    media_type: str = "application/json"


class Dialect(ABC):
    """A vendor's protocol. ``statuses``: those that it has no word for, and what is told in their stead; ``by_code``:
    what the engine's codes become; ``by_status``: its types of errors; ``request_id``: its header for that, if it is
    another than ``x-request-id``.
    """

    statuses: Mapping[int, int]
    by_code: Mapping[str, Kind]
    by_status: Mapping[int, str]
    client_error: str
    server_error: str
    request_id: str | None = None

    def refusal(self, status: int, code: str, detail: str, extra: Mapping[str, object], request_id: str) -> Refusal:
        """Tell an error. ``status`` and ``code`` are the engine's, ``extra`` is what goes with them."""
        kind = self.by_code.get(code, Kind())
        told = kind.status or self.statuses.get(status, status)
        is_server = told >= http.HTTPStatus.INTERNAL_SERVER_ERROR
        name = kind.type or self.by_status.get(told, self.server_error if is_server else self.client_error)
        body = self._body(name, kind.code or code, detail, extra, request_id)
        return Refusal(told, msgspec.json.encode(body))

    @abstractmethod
    def _body(self, kind: str, code: str, detail: str, extra: Mapping[str, object], request_id: str) -> object:
        """The envelope."""


class OpenAi(Dialect):
    """OpenAI's envelope; ``param`` names the field."""

    statuses: Mapping[int, int] = {412: 409, 422: 400, 507: 503}
    by_status: Mapping[int, str] = {429: "requests"}
    client_error = "invalid_request_error"
    server_error = "server_error"
    by_code: Mapping[str, Kind] = {
        "unauthorized": Kind(code="invalid_api_key"),
        "unknown_model": Kind(404, code="model_not_found"),
        "budget_too_small": Kind(400, code="context_length_exceeded"),
        "context_too_long": Kind(400, code="context_length_exceeded"),
        "rate_limited": Kind(429, code="rate_limit_exceeded"),
        "missing_field": Kind(code="missing_required_parameter"),
        "unknown_field": Kind(code="unknown_parameter"),
        "malformed_json": Kind(code="invalid_json"),
        "parameter_not_supported": Kind(code="unsupported_parameter"),
        "tool_results_missing": Kind(400),
        "tool_call_not_found": Kind(400),
        "nothing_to_answer": Kind(400),
        "session_archived": Kind(400),
        "session_expired": Kind(400),
        "session_full": Kind(400),
    }

    def _body(self, kind: str, code: str, detail: str, extra: Mapping[str, object], request_id: str) -> object:  # noqa: ARG002
        if code == "rate_limit_exceeded" and "tokens" in str(extra.get("limit", "")):
            kind = "tokens"
        return {"error": {"message": detail, "type": kind, "param": extra.get("field"), "code": code}}


class Anthropic(Dialect):
    """Anthropic's envelope. Its own has no code; the engine's stands beside the type."""

    statuses: Mapping[int, int] = {412: 409, 422: 400, 431: 413, 507: 500}
    by_status: Mapping[int, str] = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
    client_error = "invalid_request_error"
    server_error = "api_error"
    request_id: str | None = "request-id"
    by_code: Mapping[str, Kind] = {
        "unknown_model": Kind(404, code="model_not_found"),
        "budget_too_small": Kind(400, code="context_length_exceeded"),
        "context_too_long": Kind(400, code="context_length_exceeded"),
        "unknown_field": Kind(code="unknown_parameter"),
        "malformed_json": Kind(code="invalid_json"),
        "tool_results_missing": Kind(400),
        "tool_call_not_found": Kind(400),
        "nothing_to_answer": Kind(400),
        "session_archived": Kind(400),
        "session_expired": Kind(400),
        "session_full": Kind(400),
        "overloaded": Kind(529),
        "shutting_down": Kind(529),
        "provider_circuit_open": Kind(529),
        "provider_unavailable": Kind(529),
    }

    def _body(self, kind: str, code: str, detail: str, extra: Mapping[str, object], request_id: str) -> object:
        error = {"type": kind, "message": detail, "code": code}
        if "field" in extra:
            error["param"] = str(extra["field"])
        return {"type": "error", "error": error, "request_id": request_id}


OPENAI = OpenAi()
ANTHROPIC = Anthropic()


def dialect_of(path: str, headers: Mapping[str, str]) -> Dialect | None:
    """The protocol in which a request to a path is answered; None: Manent's own. ``headers``: the request's, with
    names in lower case.
    """
    if not path.startswith(ROOT):
        return None
    if path.startswith(ONLY_OPENAI):
        return OPENAI
    if path.startswith(ONLY_ANTHROPIC) or "anthropic-version" in headers or "x-api-key" in headers:
        return ANTHROPIC
    return OPENAI


def id_headers(path: str, headers: Mapping[str, str], request_id: str) -> dict[str, str]:
    """The headers of an answer that name its request: Manent's own, and that of the path's protocol."""
    dialect = dialect_of(path, headers)
    names = {"x-request-id": request_id}
    if dialect is not None and dialect.request_id is not None:
        names[dialect.request_id] = request_id
    return names
