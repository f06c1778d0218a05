"""How a turn ends: the drafts of its last append, from what became of its attempt. Pure, and the same for a turn
that ran to its end and for one whose server died.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from engine import tokens
from engine.answer import Answer
from engine.codec import MAX_SAFE_INTEGER
from engine.content import calls_of, raw_blocks
from engine.errors import EngineError
from engine.events import (
    AttemptEnded,
    AttemptEndedWords,
    Content,
    Draft,
    FailureWords,
    MessageAppended,
    MessageWords,
    ToolCalled,
    ToolUseBlock,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    Usage,
)
from engine.projections.turn import AttemptState, TurnState


class Stop(msgspec.Struct, frozen=True):
    """Why a turn is stopped from outside, and by whom."""

    kind: Literal["cancelled", "shutdown", "server_lost"]
    actor: str


class Ending(msgspec.Struct, frozen=True):
    """How an attempt went. ``outcome`` is ``completed`` or a code; ``answer`` is what is on disk of it."""

    outcome: str
    duration_ms: int | None = None
    answer: Answer | None = None
    first_chunk_ms: int | None = None
    stop: Stop | None = None
    error: EngineError | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    usage: Usage | None = None
    words: AttemptEndedWords | None = None


def end_of_turn(turn: TurnState, ending: Ending, frame: int, position: int) -> list[Draft]:
    """The turn's last events, in order: its attempt's end, the message, its calls, its own end.

    ``frame`` is the last number taken, ``position`` that of the first of these events.
    """
    content = ending.answer.content() if ending.answer is not None else ()
    attempt = turn.attempts[-1]
    drafts = [_attempt_ended(turn.id, attempt, ending, content)]
    if ending.answer is not None:
        frame += 1
        drafts.append(_message(turn.id, ending, ending.answer, content, frame))
        if ending.outcome == "completed":
            calls = [block for block in content if isinstance(block, ToolUseBlock)]
            for call in calls:
                frame += 1
                drafts.append(Draft(ToolCalled(turn.id, call.id, call.name, position + 1, frame), causation=turn.id))
    drafts.append(_turn_ended(turn.id, ending, frame + 1))
    return drafts


def estimated_usage(attempt: AttemptState, content: Content) -> Usage:
    """What an attempt used, counted here because the vendor did not say."""
    sent = tokens.figure(attempt.base_tokens, attempt.messages, attempt.factor_permille, attempt.overhead)
    received = tokens.figure(tokens.count_content(content), 0, attempt.factor_permille, attempt.overhead)
    return Usage(input_tokens=sent, output_tokens=received, estimated=True)


def recordable(usage: Usage) -> Usage:
    """A vendor's figures as facts: one that no leaf can hold, or that is no count, was not reported."""
    counts = {
        name: value if value is None or 0 <= value <= MAX_SAFE_INTEGER else None
        for name, value in msgspec.structs.asdict(usage).items()
        if name != "estimated"
    }
    return msgspec.structs.replace(usage, **counts)


def _attempt_ended(turn: UUID, attempt: AttemptState, ending: Ending, content: Content) -> Draft:
    error = ending.error
    facts = AttemptEnded(
        turn=turn,
        round=attempt.round,
        attempt=attempt.attempt,
        outcome=ending.outcome,
        duration_ms=ending.duration_ms,
        first_chunk_ms=ending.first_chunk_ms,
        stop_reason=ending.stop_reason,
        vendor_stop_reason=ending.vendor_stop_reason,
        status=getattr(error, "status", None),
        vendor_code=getattr(error, "vendor_code", None),
        retryable=getattr(error, "retryable", False),
        usage=ending.usage or estimated_usage(attempt, content),
    )
    return Draft(facts, ending.words, causation=turn)


def _message(turn: UUID, ending: Ending, answer: Answer, content: Content, frame: int) -> Draft:
    complete = ending.outcome == "completed"
    facts = MessageAppended(
        role="assistant",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=complete,
        turn=turn,
        calls=calls_of(content) if complete else (),
        frame=frame,
        blocks=tuple(answer.starts),
    )
    words = MessageWords(content=raw_blocks(content), cuts=answer.cuts())
    return Draft(facts, words, id=answer.message, causation=turn)


def _turn_ended(turn: UUID, ending: Ending, frame: int) -> Draft:
    stop, error = ending.stop, ending.error
    if stop is not None and stop.kind == "cancelled":
        return Draft(TurnCancelled(turn, frame), actor=stop.actor, causation=turn)
    if stop is not None:
        reason: Literal["shutdown", "server_lost"] = "shutdown" if stop.kind == "shutdown" else "server_lost"
        return Draft(TurnInterrupted(turn, frame, reason), actor=stop.actor, causation=turn)
    if error is not None:
        retryable = getattr(error, "retryable", False)
        return Draft(TurnFailed(turn, frame, error.code, retryable), FailureWords(error.detail), causation=turn)
    return Draft(
        TurnCompleted(turn, frame, ending.stop_reason or "end_turn", ending.vendor_stop_reason), causation=turn
    )
