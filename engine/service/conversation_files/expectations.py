"""What a turn said, held against what is expected of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from ...events.blocks import ToolUseBlock
from ...sessions.turn_views import Turn
from .base import CalledTool, Expectations, listed
from .paths import find, read_path

Found = tuple[tuple[str | int, ...], Any, Any]
"""An expectation that does not hold: its path below ``expect``, what was expected, and what came (UNSET: nothing)."""


def unmet(expect: Expectations, turn: Turn) -> list[Found]:
    """The expectations that a turn does not meet."""
    return [found for check in _CHECKS for found in check(expect, turn)]


def _equals(expect: Expectations, turn: Turn) -> Iterator[Found]:
    wanted = listed(expect.equals)
    if wanted and turn.text not in wanted:
        yield ("equals",), _one_or_several(wanted), turn.text


def _contains(expect: Expectations, turn: Turn) -> Iterator[Found]:
    for number, part in enumerate(listed(expect.contains)):
        if part not in turn.text:
            yield ("contains", number), part, turn.text


def _matches(expect: Expectations, turn: Turn) -> Iterator[Found]:
    for number, pattern in enumerate(listed(expect.matches)):
        if re.search(pattern, turn.text) is None:
            yield ("matches", number), pattern, turn.text


def _json(expect: Expectations, turn: Turn) -> Iterator[Found]:
    wanted = expect.json if isinstance(expect.json, dict) else {}
    try:
        said = msgspec.json.decode(turn.text) if wanted else None
    except (msgspec.DecodeError, RecursionError):
        yield ("json",), wanted, turn.text
        return
    for path, value in wanted.items():
        try:
            came = find(said, read_path(path))
        except LookupError:
            yield ("json", path), value, UNSET
            continue
        if not same(value, came):
            yield ("json", path), value, came


def _tool_called(expect: Expectations, turn: Turn) -> Iterator[Found]:
    calls = [block for message in turn.messages for block in message.blocks() if isinstance(block, ToolUseBlock)]
    for number, each in enumerate(listed(expect.tool_called)):
        wanted = each if isinstance(each, CalledTool) else CalledTool(each)
        if not any(call.name == wanted.name and holds(wanted.arguments, call.input or {}) for call in calls):
            told = [{call.name: call.input_text if call.input is None else call.input} for call in calls]
            yield ("tool_called", number), {wanted.name: wanted.arguments}, told or UNSET


def _stop_reason(expect: Expectations, turn: Turn) -> Iterator[Found]:
    yield from _one_of("stop_reason", listed(expect.stop_reason), turn.stop_reason)


def _max_tokens(expect: Expectations, turn: Turn) -> Iterator[Found]:
    if expect.max_tokens is UNSET:
        return
    came = answer_tokens(turn)
    if came is None or came > expect.max_tokens:
        yield ("max_tokens",), expect.max_tokens, came


def _error(expect: Expectations, turn: Turn) -> Iterator[Found]:
    code = turn.status if turn.error is None else turn.error.code
    yield from _one_of("error", listed(expect.error), code)


_CHECKS: Sequence[Callable[[Expectations, Turn], Iterator[Found]]] = (
    _equals,
    _contains,
    _matches,
    _json,
    _tool_called,
    _stop_reason,
    _max_tokens,
    _error,
)


def _one_of(name: str, wanted: tuple[Any, ...], came: Any) -> Iterator[Found]:
    if wanted and came not in wanted:
        yield (name,), _one_or_several(wanted), came


def _one_or_several(wanted: tuple[Any, ...]) -> Any:
    return wanted[0] if len(wanted) == 1 else list(wanted)


def answer_tokens(turn: Turn) -> int | None:
    """The output tokens of the last answer: as its model reported them, else as they are counted here."""
    usage = turn.attempts[-1].usage if turn.attempts else None
    if usage is not None and usage.output_tokens is not None:
        return usage.output_tokens
    return None if turn.message is None else turn.message.token_count


def same(one: Any, other: Any) -> bool:
    """Two JSON values are equal: 1 is 1.0, and not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def holds(part: Any, whole: Any) -> bool:
    """A JSON value has at least this part: the members of mappings, in any depth; lists and all else are equal."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and holds(value, whole[key]) for key, value in part.items())
    return same(part, whole)
