"""The tool calls of one answer: those that can run, those that wait for a person's approval, those that the caller
makes.

They run side by side, at most ``max_parallel_tools`` at once, and are recorded in the order in which the model asked,
whichever ends first: so the record of a turn does not depend on chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ..events.blocks import Content, ToolOutcome
from ..sessions.calls import block_of
from ..sessions.turn_state import OpenCall
from ..settings import Settings
from ..streams.transcript import Transcript
from ..tools.results import in_words
from ..tools.runner import ReadyCall, ToolCall, ToolRunner
from .outcomes import refused_by_person


class RoundCalls:
    """The calls of one answer. ``ready``: calls that run here, and have been started; ``awaited``: calls that a person
    must decide on; ``clients``: calls that the caller makes. Without ``shows_images`` a tool's images become words: the
    model that asked could not be sent them.
    """

    def __init__(
        self,
        runner: ToolRunner,
        transcript: Transcript,
        tenant: str,
        allowed: Sequence[str],
        settings: Settings,
        *,
        shows_images: bool,
    ) -> None:
        state, answer = transcript.state, _last_answer(transcript)
        written = {call.id: block_of(call, answer) for call in (*state.open_calls, *state.client_calls)}
        self._runner = runner
        self._allowed = allowed
        self._shows_images = shows_images
        self._free = asyncio.Semaphore(settings.max_parallel_tools)
        self._reasons = transcript.reasons
        self._calls = {
            call.id: ToolCall(
                tenant=tenant,
                session=state.session,
                turn=state.id,
                id=block.id,
                name=block.name,
                input_text=block.input_text or "",
                approved=call.approved is True,
                others=state.client_tools,
            )
            for call in state.open_calls
            if (block := written[call.id]) is not None
        }
        self.awaited = tuple(call.id for call in state.open_calls if call.approved is None and self._asks(call))
        self.ready = [call for call in state.open_calls if call.id not in self.awaited]
        self.clients = [call.id for call in state.client_calls if written[call.id] is not None]
        self._tasks = [asyncio.create_task(self._make(call)) for call in self.ready]

    async def outcome(self, number: int) -> tuple[OpenCall, ToolOutcome]:
        """A call and its outcome, in order from 0."""
        return self.ready[number], await asyncio.shield(self._tasks[number])

    def finished(self) -> dict[str, ToolOutcome]:
        """The outcomes of the calls that have ended."""
        made = zip(self.ready, self._tasks, strict=True)
        ended = [(call, task) for call, task in made if task.done() and not task.cancelled()]
        return {call.id: task.result() for call, task in ended if task.exception() is None}

    async def close(self) -> None:
        """Cancel the calls that still run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _asks(self, call: OpenCall) -> bool:
        """True if a person must approve the call. A call that cannot be made anyway needs no approval."""
        prepared = self._runner.prepare(self._calls[call.id], self._allowed)
        return isinstance(prepared, ReadyCall) and prepared.tool.approval

    async def _make(self, call: OpenCall) -> ToolOutcome:
        if call.approved is False:
            return refused_by_person(self._reasons.get(call.id))
        async with self._free:
            outcome = await self._runner.call(self._calls[call.id], self._allowed)
        return outcome if self._shows_images else msgspec.structs.replace(outcome, content=in_words(outcome.content))


def _last_answer(transcript: Transcript) -> Content:
    """The content of the turn's newest answer."""
    answers = [message for message in transcript.messages if message.role == "assistant"]
    return answers[-1].blocks() if answers else ()
