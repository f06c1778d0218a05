"""The log as if it were the tools: each call gets the result that is on record for it, and nothing is run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

from ...clock import Clock
from ...errors import ToolError
from ...events.blocks import ToolOutcome, ToolSchema
from ...tools.base import ToolContext, ToolOutput
from ...tools.registry import Tools
from ...tools.runner import ReadyCall, ToolCall, ToolLimits, ToolRunner
from .recorded_model import Script
from .recorded_turn import NEVER_RAN, RecordedCall


class LogTool:
    """A tool that a recorded turn was offered. It is not run: ``LogTools`` answers in its place."""

    def __init__(self, schema: ToolSchema, *, approval: bool = False) -> None:
        self.name = schema.name
        self.description = schema.description
        self.parameters = schema.parameters
        self.approval = approval
        self.timeout_s: float | None = None
        self.max_output_bytes: int | None = None

    def check(self, given: dict[str, Any]) -> None:
        """Nothing: it was checked then."""

    async def run(self, given: dict[str, Any], context: ToolContext) -> ToolOutput:  # noqa: ARG002 - a tool's form
        """Raises ToolError: nothing runs it."""
        raise ToolError(f"{self.name} is on record, and is not run again")


class LogTools(ToolRunner):
    """Answers calls in the order of the record. A call that had not returned when the turn was stopped does not return;
    when all others have, the turn is stopped again. ``missing``: calls for which no result is on record.
    """

    def __init__(self, tools: Tools, clock: Clock, script: Script) -> None:
        super().__init__(tools, ToolLimits(), clock)
        self._script = script
        self._left: dict[str, list[RecordedCall]] = {}
        for call in script.record.calls:
            self._left.setdefault(call.id, []).append(call)
        self._hangs = False
        self.missing: list[str] = []

    def unused(self) -> list[str]:
        """The ids of calls whose recorded results nobody has asked for."""
        return [call.id for call in self._to_run()]

    def decided(self, call_id: str, *, approve: bool) -> None:
        """A person has decided on a call: one that was refused is not made."""
        if not approve:
            self._take(call_id)

    def prepare(self, call: ToolCall, allowed: Collection[str]) -> ReadyCall | ToolOutcome:
        del allowed
        left = self._left.get(call.id)
        asked = bool(left and left[0].asked)
        return ReadyCall(LogTool(ToolSchema(call.name, "", {}), approval=asked), {})

    async def call(self, call: ToolCall, allowed: Collection[str]) -> ToolOutcome:
        del allowed
        known = self._take(call.id)
        if known is None or known.outcome is None:
            self.missing.append(call.id)
            return ToolOutcome("tool_failed", "No result of this call is on record.", is_error=True)
        self._hangs = self._hangs or known.outcome.code in NEVER_RAN
        if self._hangs and not any(True for _ in self._to_run()):
            asyncio.get_running_loop().call_soon(self._script.stop)  # when this one has returned
        if known.outcome.code in NEVER_RAN:
            await asyncio.Event().wait()
        return known.outcome

    def _take(self, call_id: str) -> RecordedCall | None:
        left = self._left.get(call_id)
        return left.pop(0) if left else None

    def _to_run(self) -> Iterable[RecordedCall]:
        """The calls that have returned on record, and not yet now."""
        return (
            call
            for left in self._left.values()
            for call in left
            if call.outcome is not None and call.outcome.code not in NEVER_RAN
        )
