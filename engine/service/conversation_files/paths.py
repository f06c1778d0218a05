"""Paths into a JSON value: the singular queries of RFC 9535, which name exactly one value.

``$`` is the whole, ``.name`` and ``['any name']`` a member, ``[0]`` an element, ``[-1]`` the last one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_PATH_CHARS = 1000

_SEGMENT = re.compile(
    r"""\s*(?:
        \.(?P<name>[^\W\d][\w]*)
      | \[\s*(?P<index>0|-?[1-9][0-9]{0,14})\s*\]
      | \[\s*(?P<double>"(?:[^"\\]|\\.)*")\s*\]
      | \[\s*'(?P<single>(?:[^'\\]|\\.)*)'\s*\]
    )""",
    re.VERBOSE,
)

_ESCAPED = re.compile(r"\\.|\"")
_IN_DOUBLE_QUOTES = {r"\'": "'", '"': r"\""}

Segment = str | int


def read_path(text: str) -> tuple[Segment, ...]:
    """Read a path. Raises ValueError, which says where it is wrong."""
    if len(text) > MAX_PATH_CHARS:
        raise ValueError(f"a JSON path has at most {MAX_PATH_CHARS} characters")
    if not text.startswith("$"):
        raise ValueError("a JSON path begins with `$`")
    segments: list[Segment] = []
    place = 1
    while place < len(text):
        found = _SEGMENT.match(text, place)
        if found is None:
            rest = text[place : place + 20]
            raise ValueError(f"the JSON path cannot go on with `{rest}`: it names one value, by .name, ['name'] or [0]")
        segments.append(_segment(found))
        place = found.end()
    return tuple(segments)


def _segment(found: re.Match[str]) -> Segment:
    if found["index"] is not None:
        return int(found["index"])
    if found["name"] is not None:
        return found["name"]
    quoted = found["double"]
    if quoted is None:
        quoted = '"' + _ESCAPED.sub(lambda each: _IN_DOUBLE_QUOTES.get(each[0], each[0]), found["single"]) + '"'
    try:
        return msgspec.json.decode(quoted, type=str)
    except msgspec.DecodeError:
        raise ValueError(f"the name in [{found[0].strip()[1:-1]}] is not well written") from None


def find(value: Any, path: tuple[Segment, ...]) -> Any:
    """The value at a path. Raises LookupError where there is none."""
    for segment in path:
        match value, segment:
            case list(), int():
                value = value[segment]
            case dict(), str():
                value = value[segment]
            case _:
                raise LookupError(segment)
    return value
