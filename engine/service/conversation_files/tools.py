"""Scripted tools: what each call gives stands in the conversation file."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from ...errors import ToolError
from ...tools.base import ToolContext, ToolOutput
from ...tools.functions import output_of
from .base import Case, Outcome, ToolSpec
from .expectations import holds


class ScriptedTool:
    """A tool of a conversation file. It takes any arguments, and counts its calls."""

    def __init__(self, spec: ToolSpec) -> None:
        self.name = spec.name
        self.description = spec.description
        self.parameters: dict[str, Any] = spec.parameters
        self.approval = False
        self.timeout_s: float | None = None
        self.max_output_bytes: int | None = None
        self._spec = spec
        self._calls = 0

    def check(self, given: dict[str, Any]) -> None:
        """Any arguments are accepted: a file says what they give."""

    async def run(self, given: dict[str, Any], context: ToolContext) -> ToolOutput:
        del context
        self._calls += 1
        outcome = self._outcome(given)
        if isinstance(outcome.error, str):
            return ToolOutput(outcome.error, is_error=True)
        return output_of(outcome.returns)

    def _outcome(self, given: dict[str, Any]) -> Outcome:
        """What this call gives. Raises ToolError where the file does not say."""
        spec = self._spec
        if isinstance(spec.results, tuple):
            return self._in_order(spec.results)
        if isinstance(spec.when, tuple):
            return self._by_arguments(spec.when, given)
        return Outcome(error=spec.error) if spec.error is not UNSET else Outcome(returns=spec.returns)

    def _in_order(self, results: tuple[Any, ...]) -> Outcome:
        if self._calls > len(results):
            raise ToolError(f"the conversation file has {len(results)} results of {self.name}; this is one call more")
        result = results[self._calls - 1]
        return result if isinstance(result, Outcome) else Outcome(returns=result)

    def _by_arguments(self, cases: tuple[Case, ...], given: dict[str, Any]) -> Outcome:
        for case in cases:
            if holds(case.arguments, given):
                return case
        raise ToolError(f"the conversation file has no result of {self.name} for these arguments")
