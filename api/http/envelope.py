"""The guide's error envelope, in its toolkit's own words: Plumego's package ``contract`` names categories, types and
codes, and which status has which.

The engine's stable code stands in ``details``, beside what goes with it: the toolkit has fewer words than there are
reasons.
"""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class Kind(NamedTuple):
    """What the toolkit says of an error."""

    category: str
    type: str
    code: str


BY_STATUS = {
    400: Kind("validation_error", "validation_failure", "VALIDATION_ERROR"),
    401: Kind("auth_error", "unauthorized_request", "UNAUTHORIZED"),
    403: Kind("auth_error", "forbidden_request", "FORBIDDEN"),
    404: Kind("client_error", "resource_not_found", "RESOURCE_NOT_FOUND"),
    405: Kind("client_error", "method_not_allowed", "METHOD_NOT_ALLOWED"),
    406: Kind("client_error", "not_acceptable", "NOT_ACCEPTABLE"),
    409: Kind("client_error", "resource_conflict", "RESOURCE_CONFLICT"),
    410: Kind("client_error", "resource_gone", "RESOURCE_GONE"),
    412: Kind("client_error", "resource_conflict", "RESOURCE_CONFLICT"),
    413: Kind("client_error", "payload_too_large", "REQUEST_BODY_TOO_LARGE"),
    415: Kind("validation_error", "invalid_format", "INVALID_FORMAT"),
    422: Kind("client_error", "invalid_request", "INVALID_REQUEST"),
    429: Kind("rate_limit_error", "rate_limited", "RATE_LIMITED"),
    500: Kind("server_error", "internal_error", "INTERNAL_ERROR"),
    502: Kind("server_error", "bad_gateway", "BAD_GATEWAY"),
    503: Kind("server_error", "service_unavailable", "SERVICE_UNAVAILABLE"),
    504: Kind("timeout_error", "gateway_timeout", "GATEWAY_TIMEOUT"),
    507: Kind("server_error", "service_unavailable", "SERVICE_UNAVAILABLE"),
}
_OTHER = Kind("client_error", "bad_request", "BAD_REQUEST")
_REQUIRED = Kind("validation_error", "required_field_missing", "REQUIRED_FIELD_MISSING")
_BY_CODE = dict.fromkeys(("missing_field", "missing_body", "empty_message"), _REQUIRED)
"""By the engine's code, where it says more than the status."""

_NOT_READ = {"body": "INVALID_JSON", "query": "INVALID_QUERY"}
"""The toolkit's code for a part of a request that is not of its form."""


def envelope(
    status: int, code: str, detail: str, extra: Mapping[str, object], request_id: str, *, part: str = ""
) -> bytes:
    """The body of a refusal or a failure. ``part``: what of the request (``body``, ``query``) could not be read."""
    server = status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
    kind = _BY_CODE.get(code) or BY_STATUS.get(status, BY_STATUS[500] if server else _OTHER)
    if code not in _BY_CODE:
        kind = kind._replace(code=_NOT_READ.get(part, kind.code))
    error = {
        "code": kind.code,
        "message": detail,
        "category": kind.category,
        "type": kind.type,
        "details": {"code": code, **extra},
    }
    return msgspec.json.encode({"error": error, "request_id": request_id})
