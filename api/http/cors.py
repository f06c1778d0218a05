"""Cross-origin requests (CORS): which pages from elsewhere may call, and what browsers are told about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...engine import Invalid

METHODS = "GET, POST, PATCH, PUT, DELETE"
EXPOSED = (
    "ETag, Location, Preference-Applied, Request-Id, Retry-After, X-Manent-Session, X-Manent-Turn, X-Request-Id, "
    "X-Session-Id, X-Should-Retry"
)
MAX_AGE_S = 600

_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]*")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*]+")

Headers = list[tuple[bytes, bytes]]


class Cors:
    """The origins of a setting: comma-separated, each named, none by default."""

    def __init__(self, setting: str) -> None:
        self._origins = frozenset(origin.strip() for origin in setting.split(",") if origin.strip())
        for origin in self._origins:
            if not _ORIGIN.fullmatch(origin):
                raise Invalid("cors_origins", f"{origin!r} is not an origin like https://app.example:8443")

    def allows(self, origin: str | None) -> bool:
        return origin in self._origins

    def is_preflight(self, headers: Mapping[str, str]) -> bool:
        """True if an OPTIONS request asks, on behalf of an allowed page, what it may send."""
        return self.allows(headers.get("origin")) and "access-control-request-method" in headers

    def headers(self, origin: str | None) -> Headers:
        """Headers of every answer, refusals too: a page shall be able to read why."""
        if not self._origins:
            return []
        vary = [(b"vary", b"Origin")]
        if origin is None or not self.allows(origin):
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED.encode()),
        ]

    def preflight(self, headers: Mapping[str, str]) -> Headers:
        """Headers of the answer to a preflight: whichever headers are asked for, for keys decide who may call."""
        asked = headers.get("access-control-request-headers", "")
        return [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", asked.encode() if _NAMES.fullmatch(asked) else b""),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
        ]
