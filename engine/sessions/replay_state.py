"""The states of replays and suites, folded from their events. Pure.

Each is a stream beside those of sessions, and no session. Its words are not in its state, but for the name of a suite.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from ..events.base import Facts
from ..events.replay_types import (
    RecordedMode,
    ReplayCancelled,
    ReplayCompared,
    ReplayCompleted,
    ReplayStarted,
    SuiteAccepted,
    SuiteChanged,
    SuiteWords,
)
from ..events.types import BodyErased
from ..events.upcasts import words_left
from ..log.base import RecordedEvent

ReplayStatus = Literal["running", "completed", "failed", "cancelled"]


class Counts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Results by their verdict."""

    same: int = 0
    different: int = 0
    skipped: int = 0
    failed: int = 0

    def plus(self, verdict: str) -> Counts:
        """One more of a verdict."""
        return msgspec.structs.replace(self, **{verdict: getattr(self, verdict) + 1})


class ReplayState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``first``: the position of its start; ``turns``: how many are done again; ``noise``: how many of the different
    ones are noise. ``error``: the code of what ended it early. Times in microseconds.
    """

    id: UUID
    version: int
    position: int
    first: int
    mode: RecordedMode
    turns: int
    started_at: int
    updated_at: int
    status: ReplayStatus = "running"
    model: str | None = None
    repeat: int = 0
    suite: UUID | None = None
    counts: Counts = Counts()
    noise: int = 0
    ended_at: int | None = None
    error: str | None = None


class SuiteState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``turns``: the positions of the starts of its turns. ``name`` None: it is erased."""

    id: UUID
    version: int
    position: int
    created_at: int
    updated_at: int
    name: str | None
    named_at: int
    turns: tuple[int, ...] = ()


StreamState = ReplayState | SuiteState


def begins_stream(facts: Facts) -> bool:
    """True for the first event of a replay or a suite."""
    return isinstance(facts, ReplayStarted | SuiteChanged)


def evolve_stream(state: StreamState | None, event: RecordedEvent, facts: Facts) -> StreamState:
    """The state after one more event, whose facts are given too. Raises TypeError for one that belongs elsewhere."""
    match state:
        case None:
            return _begin(event, facts)
        case ReplayState():
            return _replay(state, event, facts)
        case SuiteState():
            return _suite(state, event, facts)


def _begin(event: RecordedEvent, facts: Facts) -> StreamState:
    match facts:
        case ReplayStarted():
            return ReplayState(
                id=event.session,
                version=event.version,
                position=event.position,
                first=event.position,
                mode=facts.mode,
                turns=len(facts.turns),
                started_at=event.recorded_at,
                updated_at=event.recorded_at,
                model=facts.model,
                repeat=facts.repeat,
                suite=facts.suite,
            )
        case SuiteChanged():
            return SuiteState(
                id=event.session,
                version=event.version,
                position=event.position,
                created_at=event.recorded_at,
                updated_at=event.recorded_at,
                name=_name(event),
                named_at=event.position,
                turns=facts.turns,
            )
    raise TypeError(f"neither a replay nor a suite can begin with {event.type}")


def _replay(state: ReplayState, event: RecordedEvent, facts: Facts) -> ReplayState:
    changes: dict[str, object]
    match facts:
        case ReplayCompared():
            changes = {"counts": state.counts.plus(facts.verdict), "noise": state.noise + facts.noise}
        case ReplayCompleted():
            status = "completed" if facts.error is None else "failed"
            changes = {"status": status, "error": facts.error} | _ended(event, facts)
        case ReplayCancelled():
            changes = {"status": "cancelled"} | _ended(event, facts)
        case BodyErased():
            changes = {}
        case _:
            raise TypeError(f"a replay holds no {event.type}")
    return msgspec.structs.replace(state, **_place(event), **changes)


def _suite(state: SuiteState, event: RecordedEvent, facts: Facts) -> SuiteState:
    changes: dict[str, object]
    match facts:
        case SuiteChanged():
            changes = {"turns": facts.turns, "name": _name(event), "named_at": event.position}
        case SuiteAccepted():
            instead = {each.turn: each.by for each in facts.accepted}
            changes = {"turns": tuple([instead.get(turn, turn) for turn in state.turns])}
        case BodyErased():
            changes = {"name": None} if state.named_at in facts.targets else {}
        case _:
            raise TypeError(f"a suite holds no {event.type}")
    return msgspec.structs.replace(state, **_place(event), **changes)


def _ended(event: RecordedEvent, facts: ReplayCompleted | ReplayCancelled) -> dict[str, object]:
    """The end counts the results, for not every mode puts them on record."""
    counts = Counts(facts.same, facts.different, facts.skipped, facts.failed)
    return {"ended_at": event.recorded_at, "counts": counts}


def _place(event: RecordedEvent) -> dict[str, object]:
    return {"version": event.version, "position": event.position, "updated_at": event.recorded_at}


def _name(event: RecordedEvent) -> str | None:
    words = words_left(event)
    return words.name if isinstance(words, SuiteWords) else None
