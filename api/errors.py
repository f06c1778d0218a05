"""Errors at the edge: the one table from the engine's errors to status codes, and RFC 9457 problem documents.

``code`` is stable. Nothing of an upstream body, a key or a stack trace gets into a document; what nobody foresaw is logged, and answered with
500 ``internal_error`` and no more.
"""

from __future__ import annotations

import http
import logging
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from engine import errors

log = logging.getLogger("manent.api")

PROBLEM_JSON = "application/problem+json"

STATUS: dict[type[Exception], int] = {
    errors.NotFound: 404,
    errors.SessionArchived: 409,
    errors.ToolResultsMissing: 409,
    errors.NothingToAnswer: 409,
    errors.BudgetTooSmall: 422,
    errors.TooLarge: 413,
    errors.Refused: 400,
    errors.VersionConflict: 412,
    errors.IdempotencyMismatch: 422,
    errors.Conflict: 409,
    errors.ShuttingDown: 503,
    errors.Overloaded: 503,
    errors.ProviderTimedOut: 504,
    errors.ProviderUnavailable: 503,
    errors.ProviderError: 502,
    errors.StoreFull: 507,
    errors.StoreError: 503,
    errors.EngineError: 500,
}
"""The first row that an error is an instance of counts."""

HTTP_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    431: "headers_too_large",
}

_MALFORMED = re.compile(
    r"JSON is malformed|Input data was truncated|trailing|utf-8|UTF-8|surrogate|recursion", re.IGNORECASE
)
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `(?P<name>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


class Problem(Exception):
    """A refusal that the API itself makes."""

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None, **extra: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra


def problem_of(error: Exception) -> Problem:
    """Any exception as the problem that a client is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.EngineError):
        return _engine_problem(error)
    if isinstance(error, ValidationException | msgspec.MsgspecError | UnicodeDecodeError | RecursionError):
        return input_problem(error)
    if isinstance(error, HTTPException) and error.status_code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        if isinstance(error.__cause__, msgspec.MsgspecError | UnicodeDecodeError):
            return input_problem(error.__cause__)
        code = HTTP_CODES.get(error.status_code, "bad_request")
        return Problem(error.status_code, code, error.detail, dict(error.headers or {}))
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return Problem(500, "internal_error", "the server made a mistake")


def status_of(error: errors.EngineError) -> int:
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def document(problem: Problem, request_id: str) -> bytes:
    """The problem as JSON."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    return msgspec.json.encode(problem.extra | body)


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    problem = problem_of(error)
    request_id = request.scope["state"].get("request_id", "")
    return Response(
        document(problem, request_id), status_code=problem.status, media_type=PROBLEM_JSON, headers=problem.headers
    )


def input_problem(error: Exception) -> Problem:
    """What is wrong with a body or a parameter, and with which field."""
    extra = getattr(error, "extra", None)
    if isinstance(error, ValidationException) and isinstance(extra, list) and extra:
        first = extra[0]
        message, key = str(first.get("message", "")), str(first.get("key", ""))
    else:
        message, key = str(error), ""
    if isinstance(error, UnicodeDecodeError | RecursionError) or (not key and _MALFORMED.search(message)):
        return Problem(400, "malformed_json", "the body is not JSON in UTF-8, or is nested too deeply")
    return _field_problem(message, key)


def _field_problem(message: str, key: str) -> Problem:
    at = _AT.search(message)
    path = at["path"] if at else key
    text = _AT.sub("", message)
    if unknown := _UNKNOWN_FIELD.search(text):
        field = f"{path}.{unknown['name']}".strip(".")
        return Problem(400, "unknown_field", f"{field}: there is no such field", field=field)
    if missing := _MISSING_FIELD.search(text):
        field = f"{path}.{missing['name']}".strip(".")
        return Problem(400, "missing_field", f"{field}: is required", field=field)
    field = path or key or "body"
    return Problem(400, "invalid_value", f"{field}: {text}", field=field)


def _engine_problem(error: errors.EngineError) -> Problem:
    status = status_of(error)
    extra = dict(error.extra)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("refused with %s: %s", error.code, error.detail)
    retry_after = extra.get("retry_after_s")
    headers = {"retry-after": str(retry_after)} if retry_after is not None else {}
    return Problem(status, error.code, error.detail, headers, **extra)
