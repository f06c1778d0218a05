"""The meaning of a request, as bytes that do not depend on how it was written, in the manner of RFC 8785: an
idempotency key that comes again is compared by them.

Clients write the same body anew when they repeat it: other blanks, another order of fields, other escapes, ``1.0`` for
``1``. Text counts by its characters, a number by its exact value, and what is absent is not null.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl, urlencode

from .errors import Problem

MAX_EXPONENT_DIGITS = 18
"""No number that anybody means has a longer exponent, and adding to one that has no end takes as long."""


class _Number(str):
    """A number of JSON, as it is written here."""

    __slots__ = ()


def meaning_of_json(raw: bytes) -> bytes:
    """The canonical form of a JSON text that was read and accepted. Raises Problem for a number beyond all bounds."""
    return _written(json.loads(raw, parse_int=_number, parse_float=_number)).encode()


def meaning_of_query(raw: bytes) -> bytes:
    """A query's parameters in order of their names; bytes are bytes, for they may be no text."""
    found = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return urlencode(sorted(found, key=itemgetter(0)), encoding="latin-1").encode()


def _number(text: str) -> _Number:
    """Its digits without zeros at either end, and a power of ten."""
    mantissa, _, power = text.lower().partition("e")
    whole, _, part = mantissa.removeprefix("-").partition(".")
    size = power.lstrip("+-0")
    if len(size) > MAX_EXPONENT_DIGITS:
        raise Problem(400, "malformed_json", "the body holds a number that is too large")
    digits = (whole + part).lstrip("0")
    short = digits.rstrip("0")
    if not short:
        return _Number("0")
    exponent = int(f"{power[: power.startswith('-')]}{size or 0}") - len(part) + len(digits) - len(short)
    sign = text[: text.startswith("-")]
    return _Number(f"{sign}{short}e{exponent}" if exponent else sign + short)


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        fields = (f"{json.dumps(name)}:{_written(value[name])}" for name in sorted(value))
        return f"{{{','.join(fields)}}}"
    if isinstance(value, list):
        return f"[{','.join([each if type(each) is _Number else _written(each) for each in value])}]"
    return json.dumps(value)
