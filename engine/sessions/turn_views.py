"""Views of turns for callers, in the shapes that API.md fixes. ``views`` has all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from ..clock import rfc3339
from ..events.turn_types import TurnFailed
from ..events.usage import Cost, Usage
from .calls import block_of
from .turn_state import AttemptState, OpenCall, TurnState, cost_of
from .views import NO_USAGE, Message, View


class Attempt(View, frozen=True):
    """One request to a provider. ``outcome`` is None while it runs, ``completed``, or the code of what ended it."""

    round: int
    attempt: int
    provider: str
    model: str
    started_at: str
    outcome: str | None
    first_chunk_ms: int | None
    duration_ms: int | None
    usage: Usage | None
    costs: tuple[Cost, ...]


class Failure(View, frozen=True):
    """``limit``: the setting that bounds what there was too much of, where one does; ``maximum``: its value then.
    ``retry_after_s``: the seconds after which a provider that refused may be asked again, where it said so.
    """

    code: str
    detail: str | None
    retryable: bool
    limit: str | msgspec.UnsetType = msgspec.UNSET
    maximum: int | msgspec.UnsetType = msgspec.UNSET
    retry_after_s: int | msgspec.UnsetType = msgspec.UNSET


class Approval(View, frozen=True):
    """A tool call that a person must decide on. ``input`` is None where it was not a JSON object, or is erased."""

    tool_use_id: str
    name: str
    input: dict[str, Any] | None
    message_id: UUID | None


class Turn(View, frozen=True):
    """``messages`` are those the turn made; ``message`` is the last of them from the assistant. ``costs``: by currency,
    at the prices recorded with its attempts. ``pending_approvals``: the tool calls that a person must decide on.
    ``stop_sequence``: the one at which the answer stopped, where the vendor has said which.
    """

    id: UUID
    session_id: UUID
    status: str
    model: str
    provider: str
    started_at: str
    ended_at: str | None
    first_chunk_ms: int | None
    duration_ms: int | None
    stop_reason: str | None
    vendor_stop_reason: str | None
    usage: Usage
    attempts: tuple[Attempt, ...]
    error: Failure | None
    messages: tuple[Message, ...]
    message: Message | None
    costs: tuple[Cost, ...]
    pending_approvals: tuple[Approval, ...]
    stop_sequence: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def text(self) -> str:
        """The text that a person reads of the answer: the text of ``message``; empty where there is none."""
        return "" if self.message is None else self.message.text


def turn_view(
    turn: TurnState,
    messages: tuple[Message, ...],
    failed: TurnFailed | None = None,
    stop_sequence: str | None = None,
) -> Turn:
    """``failed``: what its end said, where it is told; ``stop_sequence``: what its last attempt stopped at."""
    return Turn(
        id=turn.id,
        session_id=turn.session,
        status=turn.status,
        model=turn.named or turn.model,
        provider=turn.provider,
        started_at=rfc3339(turn.started_at),
        ended_at=rfc3339(turn.ended_at) if turn.ended_at is not None else None,
        first_chunk_ms=turn.first_chunk_ms,
        duration_ms=(turn.ended_at - turn.started_at) // 1000 if turn.ended_at is not None else None,
        stop_reason=turn.stop_reason,
        vendor_stop_reason=turn.vendor_stop_reason,
        usage=turn.usage or NO_USAGE,
        costs=turn.costs.known,
        pending_approvals=_approvals(turn, messages) if turn.status == "requires_action" else (),
        attempts=tuple(_attempt_view(attempt) for attempt in turn.attempts),
        error=_failure_view(turn, failed),
        messages=messages,
        message=_last_answer(messages),
        stop_sequence=msgspec.UNSET if stop_sequence is None else stop_sequence,
    )


def _failure_view(turn: TurnState, failed: TurnFailed | None) -> Failure | None:
    if turn.error_code is None:
        return None
    figures = {} if failed is None else {name: getattr(failed, name) for name in ("limit", "maximum", "retry_after_s")}
    known = {name: value for name, value in figures.items() if value is not None}
    return Failure(turn.error_code, turn.error_detail, turn.error_retryable, **known)


def with_messages(turn: Turn, messages: Sequence[Message]) -> Turn:
    """The same turn with its messages as they are now."""
    return msgspec.structs.replace(turn, messages=tuple(messages), message=_last_answer(messages))


def _last_answer(messages: Sequence[Message]) -> Message | None:
    return next((message for message in reversed(messages) if message.role == "assistant"), None)


def _approvals(turn: TurnState, messages: tuple[Message, ...]) -> tuple[Approval, ...]:
    asking = {message.position: message for message in messages}
    return tuple(_approval(call, asking.get(call.message)) for call in turn.open_calls if call.id in turn.awaited)


def _approval(call: OpenCall, message: Message | None) -> Approval:
    block = None if message is None else block_of(call, message.blocks())
    message_id = None if message is None else message.id
    if block is None:
        return Approval(call.id, call.name or call.id, None, message_id)
    return Approval(block.id, block.name, block.input, message_id)


def _attempt_view(attempt: AttemptState) -> Attempt:
    return Attempt(
        round=attempt.round,
        attempt=attempt.attempt,
        provider=attempt.provider,
        model=attempt.named or attempt.model,
        started_at=rfc3339(attempt.started_at),
        outcome=attempt.outcome,
        first_chunk_ms=attempt.first_chunk_ms,
        duration_ms=attempt.duration_ms,
        usage=attempt.usage,
        costs=cost_of(attempt).known if attempt.outcome else (),
    )
