"""A vendor's failures: from a status and its body, or from an error object in a stream, to a typed error.

Pure. Details name only the provider and the status; the upstream's own words are in ``upstream``, bounded, for the
record and never for a client.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from ...errors import ContextTooLong, ProviderError, ProviderRejected, ProviderUnavailable
from .surrogates import read_with_halves

UPSTREAM_BYTES = 16 << 10

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

# Failures that the same request would cause again, in the vendors' own words. Any other is taken as temporary.
LASTING = frozenset(
    [
        "authentication_error",
        "billing_error",
        "bio_policy",
        "content_filter",
        "context_length_exceeded",
        "data_residency_mismatch",
        "empty_image_file",
        "exceed_context_size_error",
        "image_content_policy_violation",
        "image_file_not_found",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_base64_image",
        "invalid_encrypted_content",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "invalid_request_error",
        "misalignment_policy_violation",
        "model_not_found",
        "not_found_error",
        "permission_error",
        "request_too_large",
        "unsupported_image_media_type",
    ]
)
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG_WORDS = "prompt is too long"
_BECAUSE: Mapping[type[ProviderError], str] = {ContextTooLong: ": the prompt is too long for the model"}
_PASSING_STATUSES = frozenset({408, 409, 429})
_MAX_ID_CHARS = 128


class _VendorFailure(msgspec.Struct):
    """A failure in the vendors' form."""

    code: str | int | None = None
    type: str | None = None
    message: Any = None


class _ErrorBody(_VendorFailure):
    error: _VendorFailure | str | None = None


def failure_from_response(
    provider: str, status: int, headers: Mapping[str, str], body: bytes, *, now_s: float
) -> ProviderError:
    """The failure of a status other than 2xx. ``headers`` ignore case; ``now_s`` is the wall clock, for dates."""
    said = _said(body)
    # Some servers answer with a 500 to what they cannot take; the words beside it tell.
    blame = next((word for word in (said.code, said.type) if status >= 500 and word in LASTING), None)
    is_passing = status in _PASSING_STATUSES or (status >= 500 and blame is None)
    passing = is_passing and headers.get("x-should-retry") != "false"
    kind = _kind_of(said, passing=passing)
    return kind(
        f"{provider} {'is not available' if passing else 'refused the request'}{_BECAUSE.get(kind, '')}"
        f" (status {status})",
        status=status,
        vendor_code=vendor_word(blame) or vendor_word(said.code) or vendor_word(said.type),
        request_id=request_id_in(headers),
        retry_after_s=_retry_after_s(headers, now_s),
        upstream=bounded(body),
    )


def failure_in_stream(provider: str, body: bytes, *, request_id: str | None = None) -> ProviderError:
    """The failure of an error object that came after a 2xx: by its code if that is a status, else by its words."""
    said = _said(body)
    status = _as_status(said.code)
    words = {said.code, said.type}
    passing = status in _PASSING_STATUSES or status >= 500 if status else words.isdisjoint(LASTING)
    kind = _kind_of(said, passing=passing)
    return kind(
        f"{provider} {'failed while it answered' if passing else 'refused the request in its answer'}"
        f"{_BECAUSE.get(kind, '')}",
        status=status,
        vendor_code=vendor_word(said.code) or vendor_word(said.type),
        request_id=request_id,
        upstream=bounded(body),
    )


def _kind_of(said: _VendorFailure, *, passing: bool) -> type[ProviderError]:
    """The kind of a failure. Anthropic has no code for a prompt that is too long: its words tell."""
    if passing:
        return ProviderUnavailable
    told = isinstance(said.message, str) and said.message.lower().startswith(_TOO_LONG_WORDS)
    return ContextTooLong if told or not _TOO_LONG.isdisjoint({said.code, said.type}) else ProviderRejected


def request_id_in(headers: Mapping[str, str]) -> str | None:
    """The vendor's id of the request."""
    return vendor_id(headers.get("x-request-id") or headers.get("request-id"))


def _said(body: bytes) -> _VendorFailure:
    try:
        read = msgspec.convert(read_with_halves(body.decode()), _ErrorBody)
    except (msgspec.MsgspecError, ValueError):
        return _VendorFailure()
    return read.error if isinstance(read.error, _VendorFailure) else read


def vendor_word(word: str | int | None) -> str | None:
    """A vendor's word, if it is fit for facts: those are hashed for ever and hold nobody's text."""
    text = f"{word:.0f}" if isinstance(word, int) and 0 <= word < 10**9 else word
    return text if isinstance(text, str) and _WORD.fullmatch(text) else None


def _as_status(code: str | int | None) -> int | None:
    text = vendor_word(code) or ""
    return int(text) if re.fullmatch("[45][0-9][0-9]", text) else None


def vendor_id(given: object) -> str | None:
    """A vendor's id of a request or an answer, as it came; None for anything that cannot be an id."""
    return given if isinstance(given, str) and 0 < len(given) <= _MAX_ID_CHARS and given.isprintable() else None


def bounded(body: bytes) -> str:
    """The part of an upstream's body that goes on record."""
    return body[:UPSTREAM_BYTES].decode(errors="replace")


def _retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The delay that the vendor asks for. ``retry-after-ms`` counts before ``retry-after``, as in the vendors' own
    clients; a time in the past means now.
    """
    exact, value = headers.get("retry-after-ms"), headers.get("retry-after")
    seconds = _number(exact, 1000)
    if seconds is None:
        seconds = _number(value, 1)
    if seconds is None and value:
        with suppress(ValueError, OverflowError):
            date = parsedate_to_datetime(value)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    return None if seconds is None else max(0.0, seconds)


def _number(text: str | None, divisor: int) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number / divisor if math.isfinite(number) else None
