"""A replay that runs: what it was asked for, what of it is done, and the seam between the modes and what keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Protocol
from uuid import UUID

import msgspec

from ...events.replay_types import ReplayCompared, ReplayStarted
from ...sessions.envelope import Caller
from ...sessions.replay_state import Counts
from .results import Result
from .views import NumberedResult, ReplayCounts

FIRST_RESULT = 2
"""The number of the first result: they are numbered as the events of a replay, of which the first is its start."""


class Run(msgspec.Struct):
    """``model``: the full name of the model that is asked, None: each turn's
    own; ``done``: the results on record, by the positions of their turns; ``resumed``: it was cut off before.
    ``cancelled_by``: the turns that are under way are to be cancelled, too, and by whom.
    """

    id: UUID
    caller: Caller
    facts: ReplayStarted
    model: str | None
    done: dict[int, ReplayCompared] = {}
    resumed: bool = False
    cancelled_by: str | None = None

    @property
    def left(self) -> list[int]:
        """The turns that have no result yet."""
        return [turn for turn in self.facts.turns if turn not in self.done]


class Outcome(msgspec.Struct, frozen=True):
    """A turn that is done: ``facts``, as it is put on record, or ``result`` where it is not. ``micros``: what it has
    cost, in micro-units of whatever currency.
    """

    facts: ReplayCompared | None = None
    result: Result | None = None
    micros: int = 0


class Doer(Protocol):
    """One mode of replaying."""

    def outcomes(self, run: Run) -> AsyncGenerator[Outcome, None]:
        """The outcomes of the turns that are left, as they are ready. Raises ShuttingDown, and a StoreError."""
        ...


class Live:
    """A replay that runs in this process, or has run. ``results`` are those that are not put on record."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.task: asyncio.Task[None] | None = None
        self.results: list[NumberedResult] = []
        self.tally = Counts()
        self.spent_micros = sum(each.layers.cost.now or 0 for each in run.done.values() if each.layers.cost is not None)

    def add(self, result: Result) -> None:
        """Keep a result that is not put on record."""
        self.results.append(NumberedResult(len(self.results) + FIRST_RESULT, result))
        self.tally = self.tally.plus(result.verdict)

    def counts(self) -> ReplayCounts:
        """Of the results that are not on record."""
        tally = self.tally
        return ReplayCounts(tally.same, tally.different, tally.skipped, tally.failed)
