"""Points in time as callers give them, and moments of a session: a version, or a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from ..errors import Invalid
from ..sessions.history import Moment

Time = datetime | str
"""A point in time: a ``datetime`` that knows its zone, or RFC 3339 text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(time: Time, field: str) -> int:
    """A point in time as microseconds since 1970. Raises Invalid, which names the field."""
    try:
        at = msgspec.convert(time, datetime)
    except msgspec.ValidationError:
        raise Invalid(field, "must be a time like 2026-12-31T23:59:59Z") from None
    if at.tzinfo is None:
        raise Invalid(field, "must have a time zone")
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(version: int | None, at: Time | None) -> Moment:
    """The moment that a caller names; neither: now. Raises Invalid."""
    if at is None:
        return Moment(version)
    if version is not None:
        raise Invalid("at", "goes without version")
    return Moment(time_us=microseconds(at, "at"))
