"""Observers: told of what happens while an engine runs, for metrics and logs. They learn figures, codes and ids, and no
word of anybody.

An observer is called on the event loop, at the moment of the event: it must neither wait nor raise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from ..events.turn_types import AttemptEnded, TurnCancelled, TurnCompleted, TurnFailed, TurnInterrupted
from ..events.upcasts import facts_of
from ..events.usage import Cost, Usage
from ..log.base import RecordedEvent
from ..sessions.turn_state import TurnState, cost_of, evolve

log = logging.getLogger("manent.turns")

ENDS: dict[str, Literal["completed", "failed", "cancelled", "interrupted"]] = {
    TurnCompleted.event_type: "completed",
    TurnFailed.event_type: "failed",
    TurnCancelled.event_type: "cancelled",
    TurnInterrupted.event_type: "interrupted",
}


class EndedAttempt(msgspec.Struct, frozen=True):
    """A request to a provider that has ended. ``outcome`` is ``completed`` or the code of what ended it; ``status`` is
    the provider's, where it refused with one; ``model`` is the full name.
    """

    turn_id: UUID
    request_id: str | None
    provider: str
    model: str
    attempt: int
    outcome: str
    status: int | None
    duration_ms: int | None
    usage: Usage | None
    costs: tuple[Cost, ...]


class EndedTurn(msgspec.Struct, frozen=True):
    """A turn that has ended. ``provider`` and ``model`` are those of its last attempt; ``code`` says why it failed or
    was interrupted; ``first_chunk_ms`` and ``duration_ms`` count from its start.
    """

    turn_id: UUID
    request_id: str | None
    provider: str
    model: str
    outcome: Literal["completed", "failed", "cancelled", "interrupted"]
    code: str | None
    first_chunk_ms: int | None
    duration_ms: int | None


class Observer:
    """Ignores everything; a subclass overrides what it wants to hear of."""

    def opened(self, models: Sequence[str], providers: Sequence[str]) -> None:
        """The engine begins its work: the full names of the models that are known to be served, and the providers."""

    def attempt_ended(self, attempt: EndedAttempt) -> None:
        """A request to a provider has ended, and that is on record."""

    def turn_ended(self, turn: EndedTurn) -> None:
        """A turn has ended, and that is on record."""

    def append_took(self, seconds: float) -> None:
        """Events have become durable, so long after they were handed over."""

    def flush_took(self, seconds: float) -> None:
        """Frames of running turns have become durable, so long after they were handed over."""

    def breaker_changed(self, provider: str, *, is_open: bool) -> None:
        """A provider is left alone from now on, or asked again."""

    def damage_found(self, tenant: str, position: int) -> None:
        """A row was read whose words are not those that were recorded. It is told of once."""

    def checkpoint_signed(self, tenant: str, size: int) -> None:
        """A new checkpoint of a log is kept."""


def report(observer: Observer, turn: TurnState, events: Iterable[RecordedEvent]) -> None:
    """Tell an observer which attempt, and whether the turn, ended with these events. ``turn`` is its state after
    them. An observer that raises does not harm the turn.
    """
    for event in events:
        try:
            if event.type == AttemptEnded.event_type:
                observer.attempt_ended(_ended_attempt(turn, event))
            elif event.type in ENDS:
                observer.turn_ended(_ended_turn(turn, event))
        except Exception:
            log.exception("an observer failed")


def report_end(observer: Observer, before: TurnState, events: Iterable[RecordedEvent]) -> None:
    """As ``report``, for a turn that was ended from outside: ``before`` is its state before these events."""
    turn, ended = before, tuple(events)
    for event in ended:
        turn = evolve(turn, event, facts_of(event))
    report(observer, turn, ended)


def _ended_attempt(turn: TurnState, event: RecordedEvent) -> EndedAttempt:
    attempt, facts = turn.attempts[-1], facts_of(event)
    assert isinstance(facts, AttemptEnded)
    return EndedAttempt(
        turn_id=turn.id,
        request_id=event.correlation,
        provider=attempt.provider,
        model=f"{attempt.provider}/{attempt.model}",
        attempt=attempt.attempt,
        outcome=facts.outcome,
        status=facts.status,
        duration_ms=facts.duration_ms,
        usage=facts.usage,
        costs=cost_of(attempt).known,
    )


def _ended_turn(turn: TurnState, event: RecordedEvent) -> EndedTurn:
    attempt, facts = turn.attempts[-1], facts_of(event)
    code = facts.code if isinstance(facts, TurnFailed) else None
    return EndedTurn(
        turn_id=turn.id,
        request_id=event.correlation,
        provider=attempt.provider,
        model=f"{attempt.provider}/{attempt.model}",
        outcome=ENDS[event.type],
        code=facts.reason if isinstance(facts, TurnInterrupted) else code,
        first_chunk_ms=turn.first_chunk_ms,
        duration_ms=None if turn.ended_at is None else (turn.ended_at - turn.started_at) // 1000,
    )
