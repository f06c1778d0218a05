"""Commands on replays and suites: from a state they make events, or a refusal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import Conflict, Invalid, NotFound
from ..events.replay_types import (
    Acceptance,
    ReplayCancelled,
    ReplayCompared,
    ReplayCompleted,
    SuiteAccepted,
    SuiteChanged,
    SuiteWords,
)
from ..events.types import Draft
from .replay_state import Counts, ReplayState, SuiteState


class ReplayNotFound(NotFound):
    code = "replay_not_found"


class ReplayEnded(Conflict):
    """The replay has ended, and takes no further result."""

    code = "replay_ended"


def running(state: Any) -> ReplayState:
    """The state of a replay that runs. Raises ReplayNotFound and ReplayEnded."""
    if not isinstance(state, ReplayState):
        raise ReplayNotFound("there is no such replay")
    if state.status != "running":
        raise ReplayEnded(f"the replay is {state.status}")
    return state


def note_result(state: Any, facts: ReplayCompared) -> list[Draft]:
    """Put a result on record."""
    running(state)
    return [Draft(facts)]


def complete_replay(state: Any, error: str | None, counts: Counts | None = None) -> list[Draft]:
    """End a replay. ``counts``: of the results, where they are not on record themselves."""
    found = counts or running(state).counts
    running(state)
    return [Draft(ReplayCompleted(found.same, found.different, found.skipped, found.failed, error))]


def cancel_replay(state: Any, counts: Counts | None = None) -> list[Draft]:
    """Cancel a replay. One that has ended stays as it is."""
    if isinstance(state, ReplayState) and state.status != "running":
        return []
    found = counts or running(state).counts
    running(state)
    return [Draft(ReplayCancelled(found.same, found.different, found.skipped, found.failed))]


def accept_results(state: Any, replay: ReplayState, accepted: Sequence[Acceptance]) -> list[Draft]:
    """Make new turns the reference of a suite. Raises Invalid for a turn that it does not hold any more."""
    if not isinstance(state, SuiteState):
        raise NotFound("there is no such suite")
    for each in accepted:
        if each.turn not in state.turns:
            raise Invalid("results", "the suite does not hold this turn any more")
    return [Draft(SuiteAccepted(replay.id, tuple(accepted)))]


def change_suite(state: SuiteState | None, name: str, turns: tuple[int, ...]) -> list[Draft]:
    """Let a suite hold these turns, named by the positions of their starts. What is so already is no event."""
    if state is not None and (state.name, state.turns) == (name, turns):
        return []
    return [Draft(SuiteChanged(turns), SuiteWords(name))]
