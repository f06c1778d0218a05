"""The first difference of two JSON values or texts, its path, and an excerpt of what stands there. Pure.

Two values are equal if their canonical forms by RFC 8785 are: members have no order, and ``1``, ``1.0`` and ``1e0`` are
one number. Integers beyond 2^53 have no such form; they are compared digit by digit, since many ids are that long.

Nothing here recurses: what a model sends may be nested as deeply as the parser allows.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final

import msgspec

MAX_SHOWN_CHARS: Final = 120
"""Of a text or value, at most so many characters are shown at the first difference."""
CHARS_BEFORE: Final = 24
"""So many of them stand before it."""
MAX_PATH_CHARS: Final = 1_000
"""A longer path is cut: a model may nest deeply, and give its members long names."""

Step = str | int
"""The name of a member, or the index of an item."""


class _Missing:
    """Stands where the other value has a member or an item, and this one has none."""


MISSING: Final = _Missing()


class Place(msgspec.Struct, frozen=True):
    """Where two values first differ, and what stands there. ``steps`` lead to it from the top."""

    steps: tuple[Step, ...]
    recorded: Any
    now: Any


_Trail = tuple[Any, Step] | None
"""The steps so far, innermost first: (the trail before, the step)."""


def json_difference(recorded: Any, now: Any) -> Place | None:
    """The first difference, members in the order of their names; None if the values are equal."""
    waiting: list[tuple[_Trail, Any, Any]] = [(None, recorded, now)]
    while waiting:
        trail, old, new = waiting.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            names = sorted(old.keys() | new.keys(), reverse=True)
            waiting += [((trail, name), old.get(name, MISSING), new.get(name, MISSING)) for name in names]
        elif isinstance(old, list) and isinstance(new, list):
            items = [*enumerate(zip_longest(old, new, fillvalue=MISSING))]
            waiting += [((trail, index), *pair) for index, pair in reversed(items)]
        elif _kind(old) is not _kind(new) or old != new:
            return Place(_steps(trail), old, new)
    return None


def path_of(start: str, steps: tuple[Step, ...]) -> str:
    """A path as text: ``start.city``, ``start.days[2]``, ``start["odd name"]``; cut if it is very long."""
    path, length = [start], len(start)
    for step in steps:
        path.append(_step_text(step))
        length += len(path[-1])
        if length > MAX_PATH_CHARS:
            return "".join(path)[: MAX_PATH_CHARS - 1] + "…"
    return "".join(path)


def shown_pair(recorded: Any, now: Any) -> tuple[Any, Any]:
    """The two values of a place, small enough to be shown: long texts as excerpts around their first difference, long
    values as the beginning of their JSON, None where nothing stands.
    """
    if isinstance(recorded, str) and isinstance(now, str):
        return excerpts(recorded, now, common_prefix(recorded, now))
    return _shown(recorded), _shown(now)


def excerpts(recorded: str, now: str, at: int) -> tuple[str, str]:
    """What stands around a character of two texts."""
    start = max(0, at - CHARS_BEFORE)
    return _excerpt(recorded, start), _excerpt(now, start)


def common_prefix(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _excerpt(text: str, start: int) -> str:
    end = start + MAX_SHOWN_CHARS
    return f"{'…' * (start > 0)}{text[start:end]}{'…' * (len(text) > end)}"


def _shown(value: Any) -> Any:
    if value is MISSING:
        return None
    if isinstance(value, str):
        return _excerpt(value, 0)
    try:
        text = msgspec.json.encode(value).decode()
    except (RecursionError, OverflowError, UnicodeError, msgspec.MsgspecError):
        return "…"  # nested too deeply, or what has no JSON
    return value if len(text) <= MAX_SHOWN_CHARS else _excerpt(text, 0)


def _kind(value: Any) -> type:
    """True is no number in JSON, and 1 and 1.0 are of one kind."""
    return int if type(value) is float else type(value)


def _steps(trail: _Trail) -> tuple[Step, ...]:
    steps: list[Step] = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return tuple(reversed(steps))


def _step_text(step: Step) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if step.isidentifier():
        return f".{step}"
    name = step[:MAX_PATH_CHARS].encode(errors="replace").decode()
    return f"[{msgspec.json.encode(name).decode()}]"
