"""Meter what a turn uses of the limits of its key and its providers, by its state as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..access.limits import Admission, Key, RateLimits
from ..access.queue import Place
from ..context.plan import PlannedRound
from ..events.usage import Usage
from ..sessions.turn_state import TurnState


class Meter:
    """The meter of one turn, from ``turn`` on. ``admission``: what it was begun with; without one it goes on after a
    pause, at the cost of the key that let it.
    """

    def __init__(self, limits: RateLimits, key: Key, turn: TurnState, admission: Admission | None = None) -> None:
        self._limits = limits
        self._used = used_tokens(turn.usage)
        self._charge = admission.charge if admission is not None else limits.resumed(key, self._used)
        self._next = admission.place if admission is not None else None
        self._sent: Place | None = None
        if admission is not None:
            admission.is_used = True

    @asynccontextmanager
    async def sending(self, planned: PlannedRound) -> AsyncIterator[None]:
        """Permit a request: what it is planned with is taken until its usage is known. Raises as ``Queue.join``,
        and RateLimited if it has to wait too long.
        """
        place = self._next or self._limits.join(planned.model.provider.name, planned.window.chosen.used_tokens)
        self._next, self._sent = None, place
        if place is None:
            yield
            return
        async with place.held():
            yield

    def note(self, turn: TurnState) -> None:
        """Take in what is recorded of the turn's usage by now."""
        self._used = used_tokens(turn.usage)
        self._charge.settle(self._used)
        if self._sent is not None and turn.attempts[-1].usage is not None:
            self._sent.settle(used_tokens(turn.attempts[-1].usage))
            self._sent = None

    def close(self) -> None:
        """Give back, at the turn's end or pause, what it was planned with and did not use."""
        self._charge.settle(self._used, is_final=True)
        if self._next is not None:
            self._next.leave()


def used_tokens(usage: Usage | None) -> int:
    """Input and output together, as far as they are known."""
    return 0 if usage is None else (usage.input_tokens or 0) + (usage.output_tokens or 0)
