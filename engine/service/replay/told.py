"""The results of replays: as facts, without a word, and as callers are told them, with what differs read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from ...errors import (
    EngineError,
    Erased,
    RecordDamaged,
    SessionArchived,
    SessionExpired,
    SessionFull,
    TurnNotFound,
)
from ...events.replay_types import Compared, ComparedLayers, Figures, NoiseCounts, ReplayCompared
from ...log.base import Connection
from ...sessions.turn_views import Turn
from ...streams.backlog import read_turn
from .answers import answers_of
from .compare import REASONS, Comparison, compare
from .noise import NoiseFloor, is_noise, noise_floor
from .outline import Outline, comparison_of, outline
from .record import TurnRecord
from .results import Layers, Measure, Result

_OWN: Final[Mapping[Compared, str]] = {
    "archived": "the session is archived",
    "expired": "the session has expired",
    "full": "the session has no room for another fork",
    "input_erased": "words of what was asked are erased",
    "input_damaged": "what was asked is damaged",
    "input_missing": "what was asked is not on record",
    "refused": "the model cannot be asked this",
    "nothing_asked": "the new run did not ask for these tools",
}
IN_WORDS: Final[Mapping[str, str]] = {str(reason): said for reason, said in (*REASONS.items(), *_OWN.items())}
"""What each reason says to a person."""

_SKIPS: Final[Mapping[type[EngineError], Compared]] = {
    SessionArchived: "archived",
    SessionExpired: "expired",
    SessionFull: "full",
    Erased: "input_erased",
    RecordDamaged: "input_damaged",
}

ANEW = "the recorded messages do not fit: a window was chosen anew"
NOISE = "the recorded model differs from itself as much"
DIVERGES = "the first answer that differs: what follows in this session answers something else"


class Asked(msgspec.Struct, frozen=True):
    """A turn that was asked again: the new turn, and what is to be known of it."""

    turn: Turn
    window_anew: bool = False
    repeated: bool = False


def skipped(record: TurnRecord, reason: Compared) -> ReplayCompared:
    """A turn that is not done again."""
    return ReplayCompared(record.position, record.state.session, record.state.id, "skipped", reason=reason)


def not_asked(record: TurnRecord, error: EngineError) -> ReplayCompared:
    """A turn that could not be started: skipped for what has become of the record, failed for what the model cannot."""
    reason = next((reason for kind, reason in _SKIPS.items() if isinstance(error, kind)), None)
    if reason is not None:
        return skipped(record, reason)
    return ReplayCompared(record.position, record.state.session, record.state.id, "failed", reason="refused")


def compared(record: TurnRecord, asked: Asked, repeats: Sequence[Turn] = ()) -> ReplayCompared:
    """A turn compared with the one done again; ``repeats``: the recorded model's answers to the same."""
    comparison = compare(record.view, asked.turn)
    floor = noise_floor([compare(record.view, each) for each in repeats]) if repeats else None
    told = outline(comparison)
    return ReplayCompared(
        started=record.position,
        session=record.state.session,
        turn=record.state.id,
        verdict=told.verdict,
        new_session=asked.turn.session_id,
        new_turn=asked.turn.id,
        answer=_answer(record.view),
        new_answer=_answer(asked.turn),
        layers=_facts_of_layers(told.layers),
        layer=told.layer,
        path=told.path,
        reason=told.reason,
        window_anew=asked.window_anew,
        repeated=asked.repeated,
        noise=floor is not None and is_noise(comparison, floor),
        floor=None if floor is None else NoiseCounts(**msgspec.structs.asdict(floor)),
    )


def result_of(facts: ReplayCompared, recorded: Turn | None = None, now: Turn | None = None) -> Result:
    """A result as callers are told it. Its first difference is read from the two turns, where they are given."""
    comparison = _comparison(facts, recorded, now)
    return Result(
        session_id=facts.session,
        turn_id=facts.turn,
        new_session_id=facts.new_session,
        new_turn_id=facts.new_turn,
        verdict=facts.verdict,
        first_difference=comparison.first_difference,
        layers=comparison.layers,
        reason=_reason(facts),
        repeated=facts.repeated,
        noise=facts.noise,
        diverges=facts.diverges,
    )


def read_result(connection: Connection, tenant: str, facts: ReplayCompared) -> Result:
    """The same, with the two turns read as they are now."""
    if facts.layer is None:
        return result_of(facts)
    return result_of(facts, *turns_of(connection, tenant, facts))


def turns_of(connection: Connection, tenant: str, facts: ReplayCompared) -> tuple[Turn | None, Turn | None]:
    """The recorded turn and the new one, as they are now."""
    return turn_or_none(connection, tenant, facts.turn), turn_or_none(connection, tenant, facts.new_turn)


def floor_of(facts: ReplayCompared) -> NoiseFloor | None:
    """The noise floor of a turn; None: the recorded model was not asked."""
    return None if facts.floor is None else NoiseFloor(**msgspec.structs.asdict(facts.floor))


def turn_or_none(connection: Connection, tenant: str, turn: UUID | None) -> Turn | None:
    """A turn as it is now; None where there is none, or it is damaged."""
    try:
        return None if turn is None else read_turn(connection, tenant=tenant, turn_id=turn)
    except (TurnNotFound, RecordDamaged):
        return None


def _comparison(facts: ReplayCompared, recorded: Turn | None, now: Turn | None) -> Comparison:
    reason = facts.reason if facts.reason in REASONS else None
    layers = _layers_of(facts.layers)
    outlined = Outline(facts.verdict, layers, facts.layer, facts.path, reason)  # type: ignore[arg-type]
    return comparison_of(outlined, recorded, now)


def _reason(facts: ReplayCompared) -> str | None:
    said = [] if facts.reason is None else [IN_WORDS[facts.reason]]
    said += [ANEW] * facts.window_anew + [NOISE] * facts.noise + [DIVERGES] * facts.diverges
    return "; ".join(said) or None


def _answer(turn: Turn) -> int | None:
    answers = answers_of(turn)
    return answers[-1].message.position if answers else None


def _facts_of_layers(layers: Layers) -> ComparedLayers:
    values = msgspec.structs.asdict(layers)
    figures = {name: Figures(value.recorded, value.now) for name, value in values.items() if isinstance(value, Measure)}
    return ComparedLayers(**values | figures)


def _layers_of(layers: ComparedLayers) -> Layers:
    values = msgspec.structs.asdict(layers)
    figures = {name: Measure(value.recorded, value.now) for name, value in values.items() if isinstance(value, Figures)}
    return Layers(**values | figures)
