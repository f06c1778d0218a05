"""A tool runner that answers a model's calls from what is on record, so that a turn can be done again without running
its tools: a recorded result goes to a call of the same tool with the same arguments, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Literal

import msgspec

from ..clock import Clock
from ..events.blocks import ToolContent, ToolOutcome, ToolUseBlock
from ..log.codec import MAX_SAFE_INTEGER
from .registry import Tools
from .runner import ReadyCall, ToolCall, ToolLimits, ToolRunner

NOT_ON_RECORD = "no result is on record for this call"
REFUSED = "tools are refused in this replay"
NOT_APPROVED = "this tool needs a person's approval, and none is on record for this call"
NOT_RUN = "not_on_record"
"""The code of a call that nothing on record answers."""

ToolSource = Literal["recorded", "refuse"]

CallKey = tuple[str, bytes]
"""A tool's name, and the arguments in a form that is equal for equal JSON."""

_sorted = msgspec.json.Encoder(order="sorted").encode


class RecordedResult(msgspec.Struct, frozen=True):
    """What a tool gave back."""

    content: ToolContent
    is_error: bool = False


class Recordings:
    """The results and the decisions on record that were not given yet, each in order."""

    def __init__(
        self,
        results: Iterable[tuple[CallKey, RecordedResult]] = (),
        decisions: Iterable[tuple[CallKey, bool]] = (),
    ) -> None:
        self._results: dict[CallKey, deque[RecordedResult]] = {}
        self._decisions: dict[CallKey, deque[bool]] = {}
        self.add(results)
        for key, approved in decisions:
            self._decisions.setdefault(key, deque()).append(approved)

    def add(self, results: Iterable[tuple[CallKey, RecordedResult]]) -> None:
        """Add further results."""
        for key, result in results:
            self._results.setdefault(key, deque()).append(result)

    def take(self, key: CallKey) -> RecordedResult | None:
        """The next result for a call; None: there is none left."""
        left = self._results.get(key)
        return left.popleft() if left else None

    def decision(self, key: CallKey) -> bool | None:
        """The next decision on a call: approved or not; None: there is none left."""
        left = self._decisions.get(key)
        return left.popleft() if left else None


class RecordedTools(ToolRunner):
    """See the module. ``live``: names of tools that run, by the runner ``real``; no person is ever asked."""

    def __init__(
        self, real: ToolRunner, clock: Clock, recordings: Recordings, source: ToolSource, live: Collection[str] = ()
    ) -> None:
        super().__init__(Tools(), ToolLimits(), clock)
        self._real = real
        self._recordings = recordings
        self._source = source
        self._live = frozenset(live)

    def prepare(self, call: ToolCall, allowed: Collection[str]) -> ReadyCall | ToolOutcome:
        """An outcome at any rate: nothing waits for a person here."""
        del call, allowed
        return _failure("tool_not_approved", NOT_APPROVED)

    async def call(self, call: ToolCall, allowed: Collection[str]) -> ToolOutcome:
        key = key_of_text(call.name, call.input_text)
        if call.name in self._live:
            return await self._run_live(call, allowed, key)
        if self._source == "refuse":
            return _failure("refused", REFUSED)
        result = self._recordings.take(key)
        if result is None:
            return _failure(NOT_RUN, NOT_ON_RECORD)
        return ToolOutcome("tool_failed" if result.is_error else "completed", result.content, result.is_error)

    async def _run_live(self, call: ToolCall, allowed: Collection[str], key: CallKey) -> ToolOutcome:
        ready = self._real.prepare(call, allowed)
        if not (isinstance(ready, ReadyCall) and ready.tool.approval):
            return await self._real.call(call, allowed)
        if self._recordings.decision(key):
            return await self._real.call(msgspec.structs.replace(call, approved=True), allowed)
        return _failure("tool_not_approved", NOT_APPROVED)


def key_of(call: ToolUseBlock) -> CallKey:
    """The key of a call in a message."""
    text = call.input_text or "" if call.input is None else _plain_text(call.input)
    return key_of_text(call.name, text)


def key_of_text(name: str, input_text: str) -> CallKey:
    """The key of a call by its arguments as the model wrote them; what is no JSON stands for itself."""
    try:
        return name, _form(msgspec.json.decode(input_text or "{}"))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError):
        return name, input_text.encode(errors="replace")


def _plain_text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _form(value: Any) -> bytes:
    """JSON with its members in order and its numbers in one form, as RFC 8785 has them: 1.0 is 1."""
    return _sorted(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value


def _failure(code: str, words: str) -> ToolOutcome:
    return ToolOutcome(code, words, is_error=True)
