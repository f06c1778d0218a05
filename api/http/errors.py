"""Errors at the edge: the one table from the engine's errors to status codes, and the bodies in which they are told.

Native routes answer RFC 9457 problem documents, the guide's routes Plumego's error envelope, and drop-in routes the
error of the protocol that they speak (``dialects``). ``code`` is stable.
Nothing of an upstream body, a key or a stack trace gets into either; what nobody foresaw is logged, and answered
with 500 ``internal_error`` and no more.
"""

from __future__ import annotations

import http
import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    NotFoundException,
    ValidationException,
)

from ...engine import errors
from .dialects import ROOT, Refusal, dialect_of
from .envelope import envelope

log = logging.getLogger("manent.api")

PROBLEM_JSON = "application/problem+json"
JSON = "application/json"
GUIDE = "/api/ai/"
"""What stands below it is answered in the guide's envelopes."""

STATUS: dict[type[Exception], int] = {
    errors.NotFound: 404,
    errors.SessionArchived: 409,
    errors.SessionExpired: 409,
    errors.SessionFull: 409,
    errors.ToolResultsMissing: 409,
    errors.NothingToAnswer: 409,
    errors.BudgetTooSmall: 422,
    errors.ContentNotSupported: 422,
    errors.UnknownRenderer: 422,
    errors.TooLarge: 413,
    errors.Refused: 400,
    errors.VersionConflict: 412,
    errors.IdempotencyMismatch: 422,
    errors.Conflict: 409,
    errors.Erased: 410,
    errors.ShuttingDown: 503,
    errors.RateLimited: 429,
    errors.Overloaded: 503,
    errors.TurnLimitReached: 422,
    errors.ProviderTimedOut: 504,
    errors.ProviderUnavailable: 503,
    errors.ProviderTooLarge: 502,
    errors.ContextTooLong: 422,
    errors.ProviderError: 502,
    errors.ToolError: 502,
    errors.StoreFull: 507,
    errors.RecordDamaged: 500,
    errors.StoreError: 503,
    errors.ProofInvalid: 400,
    errors.AuditError: 503,
    errors.EngineError: 500,
}
"""The first row that an error is an instance of counts."""

BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EngineError)
}
"""The engine's errors by their codes."""

HTTP_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    415: "unsupported_media_type",
    431: "headers_too_large",
}

PROBLEM = "problem"
"""In a request's state: the Problem that it was answered with, or that broke its stream off."""

_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `(?P<name>[^`]*)`")
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")
_NAMED_BY_ID = re.compile(
    r"/api/(?P<kind>session|turn|replay)s/(?P<id>[^/]+)(?:/(?:events|messages)/(?P<version>[^/]+)/(?:proof|pin)|/.*)?",
    re.DOTALL,
)

ID_FORM = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
"""An id in canonical text (RFC 9562, section 4): the one form in which ids are given, and taken."""
_ID = re.compile(ID_FORM)
_NUMBER = re.compile("0|-?[1-9][0-9]*")


class Problem(Exception):
    """A refusal that the API itself makes. ``part``: that of the request that could not be read, if it was one."""

    part: Literal["", "body", "query"] = ""

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None, **extra: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra


def invalid(field: str, detail: str, code: str = "invalid_value") -> Problem:
    """A value that is not of the form it must have."""
    return Problem(400, code, f"{field}: {detail}", field=field)


def mistake() -> Problem:
    """The problem of an unforeseen error. The client is told no more; the log is."""
    return Problem(500, "internal_error", "the server made a mistake")


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything."""
    path = request.scope["path"]
    if isinstance(error, NotFoundException):
        problem = _nowhere(path)
    elif isinstance(error, HTTPException) and error.status_code == http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        problem = _body_too_large(path, request.route_handler.resolve_request_max_body_size())
    else:
        problem = problem_of(error)
    request.scope["state"][PROBLEM] = problem
    told = refusal_of(problem, path, request.headers, request.scope["state"]["request_id"])
    return Response(told.body, status_code=told.status, media_type=told.media_type, headers=problem.headers)


def problem_of(error: Exception) -> Problem:
    """Any exception as the problem that a client is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError) and errors.is_full(error):  # under a file that waits to be sent, say
        error = errors.StoreFull("there is no room on a disk of the server")
    if isinstance(error, errors.EngineError):
        return _engine_problem(error)
    if isinstance(error, msgspec.ValidationError):
        return unread("body", field_problem(str(error), ""))
    if isinstance(error, msgspec.MsgspecError):
        return unread("body", Problem(400, "malformed_json", f"the body is not JSON: {_AT.sub('', str(error))}"))
    if isinstance(error, ValidationException):
        return unread("query", _parameter_problem(error))
    if isinstance(error, InternalServerException) and error.detail == "client disconnected prematurely":
        return unread("body", Problem(400, "body_incomplete", "the connection closed before the body was complete"))
    if isinstance(error, HTTPException) and error.status_code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
        code = HTTP_CODES.get(error.status_code, "bad_request")
        return Problem(error.status_code, code, error.detail, dict(error.headers or {}))
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return mistake()


def unread(part: Literal["body", "query"], problem: Problem) -> Problem:
    """A problem that is about a part of a request which is not of its form."""
    problem.part = part
    return problem


def problem_of_code(code: str, detail: str) -> Problem:
    """The problem of an engine error that is known by its code."""
    kind = BY_CODE.get(code, errors.EngineError)
    return Problem(next(status for each, status in STATUS.items() if issubclass(kind, each)), code, detail)


def refusal_of(problem: Problem, path: str, headers: Mapping[str, str], request_id: str) -> Refusal:
    """A refusal in the form that belongs to this path. ``headers``: the request's, with names in lower case."""
    dialect = dialect_of(path, headers)
    if dialect is not None:
        return dialect.refusal(problem.status, problem.code, problem.detail, problem.extra, request_id)
    if path.startswith(GUIDE):
        told = envelope(problem.status, problem.code, problem.detail, problem.extra, request_id, part=problem.part)
        return Refusal(problem.status, told, JSON)
    return Refusal(problem.status, document(problem, request_id), PROBLEM_JSON)


def document(problem: Problem, request_id: str) -> bytes:
    """A problem document (RFC 9457)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    return msgspec.json.encode(body | {name: value for name, value in problem.extra.items() if name not in body})


def check_id(field: str, text: str) -> None:
    """Raises Problem 400 for what is not an id in canonical text."""
    if not _ID.fullmatch(text):
        raise invalid(field, "must be an id in canonical text, like 01890a5d-ac96-774b-bcce-b302099a8057", "invalid_id")


def check_number(field: str, text: str) -> None:
    """Raises Problem 400 for what is not a whole number in its shortest form."""
    if not _NUMBER.fullmatch(text):
        raise invalid(field, "must be a whole number in decimal digits")


def _nowhere(path: str) -> Problem:
    """No route has this path: either there is none, or a part of it is not of the form it must have."""
    match = _NAMED_BY_ID.fullmatch(path)
    try:
        if match is not None:
            check_id(f"{match['kind']}_id", match["id"])
            check_number("version", match["version"] or "0")
    except Problem as problem:
        return problem
    return Problem(404, "not_found", "there is nothing at this path: /schema lists what there is")


def _body_too_large(path: str, maximum: int | None) -> Problem:
    detail = f"the body is larger than {maximum} bytes"
    limit = "drop_in_max_body_bytes" if path.startswith(ROOT) else "max_body_bytes"
    return Problem(413, "body_too_large", detail, limit=limit, maximum=maximum)


def _parameter_problem(error: ValidationException) -> Problem:
    """The problem of a parameter that Litestar refused. Of a body it says only that it is missing: those that come
    are read by us.
    """
    first = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    key = str(first.get("key", "")).removesuffix("_")  # a name that is a word of Python's has one
    if key == "data":
        return Problem(400, "missing_body", "a body of JSON is needed", field="body")
    return field_problem(str(first.get("message", error.detail)), key)


def field_problem(message: str, key: str) -> Problem:
    """The problem of a value that msgspec refused, which names the field. ``key``: where the whole value stands."""
    at = _AT.search(message)
    path = at["path"] if at else key
    text = _AT.sub("", message)
    if unknown := _UNKNOWN_FIELD.search(text):
        return invalid(f"{path}.{unknown['name']}".strip("."), "there is no such field", "unknown_field")
    if missing := _MISSING_FIELD.search(text):
        return invalid(f"{path}.{missing['name']}".strip("."), "is required", "missing_field")
    return invalid(path or "body", text)


def _engine_problem(error: errors.EngineError) -> Problem:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    extra = dict(error.extra)
    retry_after = extra.get("retry_after_s")
    headers = {"retry-after": str(retry_after)} if retry_after is not None else {}
    if status == http.HTTPStatus.CONFLICT or isinstance(error, errors.RecordDamaged):
        # Vendors' clients repeat both at once, which changes nothing.
        headers["x-should-retry"] = "false"
    return Problem(status, error.code, error.detail, headers, **extra)
