"""The events of replays and suites: each is a stream of its own, whose id stands where a session's does.

A replay does recorded turns again, and tells of each how the new answer compares with the recorded one. A suite is a
named list of recorded turns. Both refer to turns by the position of their ``turn.started``, and copy nothing.
"""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from .base import Facts, Words

RecordedMode = Literal["recorded", "forced", "free"]
"""The modes that are on record: playing a session back writes nothing."""
ToolMode = Literal["recorded", "refuse", "live"]
ComparedVerdict = Literal["same", "different", "skipped", "failed"]
ComparedLayer = Literal["request", "frames", "stop_reason", "tool_calls", "structure", "text", "tokens", "cost", "time"]
Compared = Literal[
    "archived",
    "expired",
    "full",
    "input_damaged",
    "input_erased",
    "input_missing",
    "refused",
    "new_cancelled",
    "new_damaged",
    "new_erased",
    "new_failed",
    "new_interrupted",
    "new_open",
    "nothing_asked",
    "recorded_damaged",
    "recorded_erased",
    "recorded_no_answer",
    "recorded_not_completed",
    "recorded_open",
]
"""Why a turn was skipped or failed."""


class SearchWords(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The conditions by which sessions were found, as they were given."""

    model: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    title_contains: str | None = None


class ReplayWords(Words, frozen=True):
    """``model``: its name, where facts cannot hold it. ``where``: the conditions by which sessions were found."""

    model: str | None = None
    where: SearchWords | None = None


class ReplayStarted(Facts, frozen=True):
    """``turns``: the positions of the starts of the turns that are done again, in order. They were found by naming
    ``sessions``, by a ``suite``, or by the words' ``where``. ``model`` None: each turn's own; ``repeat``: how often the
    recorded model is asked before; ``live``: the registered tools that run; ``jobs``: most turns at once.
    """

    event_type: ClassVar[str] = "replay.started"
    words: ClassVar[type[Words] | None] = ReplayWords

    mode: RecordedMode
    turns: tuple[int, ...]
    model: str | None = None
    repeat: int = 0
    tools: ToolMode = "recorded"
    live: tuple[str, ...] = ()
    jobs: int = 1
    max_turns: int | None = None
    max_cost_micros: int | None = None
    sessions: tuple[UUID, ...] = ()
    suite: UUID | None = None


class Figures(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A figure of the recorded answer and of the new one; None: not known."""

    recorded: int | None = None
    now: int | None = None


class ComparedLayers(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Each layer: True where both answers say the same, False where they differ, None where it was not compared; the
    last three are figures.
    """

    request: bool | None = None
    frames: bool | None = None
    stop_reason: bool | None = None
    tool_calls: bool | None = None
    structure: bool | None = None
    text: bool | None = None
    tokens: Figures | None = None
    cost: Figures | None = None
    time: Figures | None = None


class NoiseCounts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How many of the ``repeats`` by the recorded model differ in each layer; ``failed``: those without an answer."""

    repeats: int = 0
    failed: int = 0
    stop_reason: int = 0
    tool_calls: int = 0
    structure: int = 0
    text: int = 0


class ReplayCompared(Facts, frozen=True):
    """The turn ``turn`` of ``session`` was done again, as ``new_turn`` of ``new_session``. ``started``: the position of
    its start; ``answer`` and ``new_answer``: of the last message of each answer. ``layer`` and ``path``: the place of
    the first difference, without words. ``reason``: why it was skipped or failed. ``window_anew``: the recorded
    messages did not fit the model. ``repeated``: it was asked once more after a restart; ``noise``: the difference is
    one that the recorded model shows against itself, of which ``floor`` counts. ``diverges``: in the mode free, it is
    the first of its session whose answer differs.
    """

    event_type: ClassVar[str] = "replay.compared"

    started: int
    session: UUID
    turn: UUID
    verdict: ComparedVerdict
    new_session: UUID | None = None
    new_turn: UUID | None = None
    answer: int | None = None
    new_answer: int | None = None
    layers: ComparedLayers = ComparedLayers()
    layer: ComparedLayer | None = None
    path: str | None = None
    reason: Compared | None = None
    window_anew: bool = False
    repeated: bool = False
    noise: bool = False
    floor: NoiseCounts | None = None
    diverges: bool = False


class ReplayCompleted(Facts, frozen=True):
    """The replay has ended by itself. ``error``: the code of what kept it from doing all of its turns."""

    event_type: ClassVar[str] = "replay.completed"

    same: int = 0
    different: int = 0
    skipped: int = 0
    failed: int = 0
    error: str | None = None


class ReplayCancelled(Facts, frozen=True):
    """The replay was cancelled; the envelope's actor says by whom."""

    event_type: ClassVar[str] = "replay.cancelled"

    same: int = 0
    different: int = 0
    skipped: int = 0
    failed: int = 0


class SuiteWords(Words, frozen=True):
    """The name of a suite."""

    name: str


class SuiteChanged(Facts, frozen=True):
    """The suite holds these turns from now on, named by the positions of their starts; none: it is emptied."""

    event_type: ClassVar[str] = "suite.changed"
    words: ClassVar[type[Words] | None] = SuiteWords

    turns: tuple[int, ...] = ()


class Acceptance(msgspec.Struct, frozen=True, gc=False):
    """A turn of a suite, and the one that takes its place, both by the positions of their starts."""

    turn: int
    by: int


class SuiteAccepted(Facts, frozen=True):
    """Answers that a replay gave are the reference from now on."""

    event_type: ClassVar[str] = "suite.accepted"

    replay: UUID
    accepted: tuple[Acceptance, ...]
