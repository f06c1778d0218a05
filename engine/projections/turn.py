"""A turn's state, folded from its events: what ``GET /api/turns/{id}`` shows. Pure."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from engine.events import (
    AttemptEnded,
    AttemptStarted,
    Facts,
    FailureWords,
    MessageAppended,
    ToolCalled,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnStarted,
    Usage,
)
from engine.store.base import RecordedEvent
from engine.upcasts import words_of

TurnStatus = Literal["running", "requires_action", "completed", "failed", "cancelled", "interrupted"]
ERASED_DETAIL = "the detail of this failure was erased"


class AttemptState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request to a provider. ``messages`` and ``base_tokens`` say how much it was sent, as counted here."""

    round: int
    attempt: int
    provider: str
    model: str
    started_at: int
    messages: int
    base_tokens: int
    factor_permille: int
    overhead: int
    outcome: str | None = None
    first_chunk_ms: int | None = None
    duration_ms: int | None = None
    usage: Usage | None = None


class TurnState(msgspec.Struct, frozen=True, omit_defaults=True):
    """``version`` and ``end_version`` bound its events in the session; ``frame`` is the number of its last
    recorded frame.
    """

    id: UUID
    session: UUID
    version: int
    model: str
    provider: str
    started_at: int
    status: TurnStatus = "running"
    ended_at: int | None = None
    end_version: int | None = None
    frame: int = 1
    on_disconnect: Literal["continue", "cancel"] = "continue"
    attempts: tuple[AttemptState, ...] = ()
    usage: Usage | None = None
    first_chunk_ms: int | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    error_retryable: bool = False


def begin(event: RecordedEvent, facts: TurnStarted) -> TurnState:
    """The state at ``turn.started``."""
    return TurnState(
        id=event.id,
        session=event.session,
        version=event.version,
        model=facts.model,
        provider=facts.provider,
        started_at=event.recorded_at,
        frame=facts.frame,
        on_disconnect=facts.on_disconnect,
    )


def evolve(turn: TurnState, event: RecordedEvent, facts: Facts) -> TurnState:
    """The state after one more event of the session; unchanged by events that are not the turn's."""
    match facts:
        case AttemptStarted(turn=turn.id):
            return msgspec.structs.replace(turn, attempts=(*turn.attempts, _attempt(event, facts)))
        case AttemptEnded(turn=turn.id):
            return _attempt_ended(turn, facts)
        case MessageAppended(turn=turn.id) | ToolCalled(turn=turn.id) if facts.frame is not None:
            return msgspec.structs.replace(turn, frame=facts.frame)
        case TurnCompleted(turn=turn.id):
            reasons = {"stop_reason": facts.stop_reason, "vendor_stop_reason": facts.vendor_stop_reason}
            return _end(turn, event, "completed", facts.frame, **reasons)
        case TurnFailed(turn=turn.id):
            return _end(turn, event, "failed", facts.frame, **_error(event, facts))
        case TurnCancelled(turn=turn.id):
            return _end(turn, event, "cancelled", facts.frame)
        case TurnInterrupted(turn=turn.id):
            return _end(turn, event, "interrupted", facts.frame)
    return turn


def add_usage(total: Usage | None, more: Usage | None) -> Usage | None:
    """The sum of two usages; what neither reports stays None, and an estimate anywhere marks the sum."""
    if total is None or more is None:
        return total or more
    sums = {
        name: _sum(getattr(total, name), getattr(more, name))
        for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    }
    return Usage(**sums, estimated=total.estimated or more.estimated)


def _attempt(event: RecordedEvent, facts: AttemptStarted) -> AttemptState:
    return AttemptState(
        round=facts.round,
        attempt=facts.attempt,
        provider=facts.provider,
        model=facts.model,
        started_at=event.recorded_at,
        messages=len(facts.positions) + (facts.system is not None),
        base_tokens=facts.base_tokens,
        factor_permille=facts.factor_permille,
        overhead=facts.overhead,
    )


def _attempt_ended(turn: TurnState, facts: AttemptEnded) -> TurnState:
    ended = msgspec.structs.replace(
        turn.attempts[-1],
        outcome=facts.outcome,
        first_chunk_ms=facts.first_chunk_ms,
        duration_ms=facts.duration_ms,
        usage=facts.usage,
    )
    first = turn.first_chunk_ms
    if first is None and facts.first_chunk_ms is not None:
        first = (ended.started_at - turn.started_at) // 1000 + facts.first_chunk_ms
    return msgspec.structs.replace(
        turn,
        attempts=(*turn.attempts[:-1], ended),
        usage=add_usage(turn.usage, facts.usage),
        first_chunk_ms=first,
        frame=turn.frame if facts.frame is None else facts.frame,
    )


def _error(event: RecordedEvent, facts: TurnFailed) -> dict[str, object]:
    words = words_of(event)
    detail = words.detail if isinstance(words, FailureWords) else ERASED_DETAIL
    return {"error_code": facts.code, "error_retryable": facts.retryable, "error_detail": detail}


def _end(turn: TurnState, event: RecordedEvent, status: TurnStatus, frame: int, **more: object) -> TurnState:
    return msgspec.structs.replace(
        turn, status=status, ended_at=event.recorded_at, end_version=event.version, frame=frame, **more
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other
