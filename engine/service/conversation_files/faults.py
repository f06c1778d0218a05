"""Faults: a provider that fails where a conversation file says so, and else is the one it stands for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from msgspec import UNSET

from ...providers.base import Chunk, Delta, Ended, ModelInfo, Prompt, Provider, Renderer
from ...providers.scripted import Script, ScriptedAnswer, ScriptedProvider
from .base import Fault

_NAME = "fault"


class FaultPlan:
    """The faults of a file, and which of them have happened. It is told when a turn begins."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._turn = 0
        self._attempt = 0
        self._happened: set[int] = set()

    def begin(self, turn: int) -> None:
        self._turn, self._attempt = turn, 0

    def next(self) -> tuple[int, Fault] | None:
        """The fault of the next attempt, with its number: the one for just this attempt comes first."""
        self._attempt += 1
        for attempt in (self._attempt, UNSET):
            for number, fault in enumerate(self._faults):
                if (fault.turn, fault.attempt) == (self._turn, attempt):
                    return number, fault
        return None

    def happened(self, number: int) -> None:
        self._happened.add(number)

    def missed(self) -> list[int]:
        """The numbers of those faults of the present turn that have not happened."""
        return [
            number
            for number, fault in enumerate(self._faults)
            if fault.turn == self._turn and number not in self._happened
        ]


class FaultyProvider:
    """Answers as another provider does, but where the plan has a fault. One before the first character keeps the
    request from being sent.
    """

    def __init__(self, inner: Provider, plan: FaultPlan) -> None:
        self.name = inner.name
        self.renderer: str = inner.renderer
        self.renderers: Mapping[str, Renderer] = inner.renderers
        self._inner = inner
        self._plan = plan

    def models(self) -> Sequence[ModelInfo]:
        return self._inner.models()

    def model(self, name: str) -> ModelInfo | None:
        return self._inner.model(name)

    def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        planned = self._plan.next()
        return self._inner.stream(request) if planned is None else self._stream(request, *planned)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _stream(self, request: bytes, number: int, fault: Fault) -> AsyncGenerator[Chunk, None]:
        left = fault.after_chars
        if not left:
            await self._happen(number, fault)
        async with aclosing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                if not left:
                    yield chunk
                elif isinstance(chunk, Delta) and len(chunk.text) >= left:
                    yield Delta(chunk.block, chunk.text[:left])
                    await self._happen(number, fault)
                    if rest := chunk.text[left:]:
                        yield Delta(chunk.block, rest)
                    left = 0
                else:
                    if isinstance(chunk, Delta):
                        left -= len(chunk.text)
                    elif isinstance(chunk, Ended):
                        await self._happen(number, fault)
                    yield chunk

    async def _happen(self, number: int, fault: Fault) -> None:
        """Pause, hang, or raise the failure: as the scripted model does it."""
        self._plan.happened(number)
        script = ScriptedProvider(Script({_NAME: (ScriptedAnswer((fault.step,)),)}))
        request = script.renderers[script.renderer](Prompt(_NAME, ()))
        async with aclosing(script.stream(request)) as chunks:
            async for _ in chunks:
                pass
