"""Replays as callers see them, in the shapes that API.md fixes."""

from __future__ import annotations

from uuid import UUID

from ...clock import rfc3339
from ...events.replay_types import RecordedMode
from ...sessions.replay_state import ReplayState
from ...sessions.views import View
from .results import Result


class ReplayCounts(View, frozen=True):
    """Results by verdict. ``noise``: how many of the different ones are noise, and no finding."""

    same: int = 0
    different: int = 0
    skipped: int = 0
    failed: int = 0
    noise: int = 0


class Replay(View, frozen=True):
    """A replay as it is now. ``status``: ``running``, ``completed``, ``failed`` or ``cancelled``; ``error``: the code
    of what kept it from doing all of its ``turns``. ``model`` None: each turn's own. ``suite``: the name of the suite
    whose turns these are, if they are one's and it has its name still.
    """

    id: UUID
    status: str
    mode: RecordedMode
    model: str | None
    suite: str | None
    repeat: int
    turns: int
    counts: ReplayCounts
    started_at: str
    ended_at: str | None
    error: str | None

    @property
    def findings(self) -> int:
        """How many results are not as recorded: those that differ, but for noise, and those that failed."""
        return self.counts.different - self.counts.noise + self.counts.failed


class NumberedResult(View, frozen=True):
    """A result with its number in the replay, which increases: what follows it is asked for by that."""

    number: int
    result: Result


def replay_view(state: ReplayState, model: str | None, suite: str | None) -> Replay:
    """``model``: the full name, where it is known; ``suite``: the name of its suite."""
    counts = state.counts
    return Replay(
        id=state.id,
        status=state.status,
        mode=state.mode,
        model=model,
        suite=suite,
        repeat=state.repeat,
        turns=state.turns,
        counts=ReplayCounts(counts.same, counts.different, counts.skipped, counts.failed, state.noise),
        started_at=rfc3339(state.started_at),
        ended_at=None if state.ended_at is None else rfc3339(state.ended_at),
        error=state.error,
    )
