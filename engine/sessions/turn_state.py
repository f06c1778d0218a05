"""A turn's state, folded from its events: what ``GET /api/turns/{id}`` shows. Pure."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from ..events.base import Facts
from ..events.turn_types import (
    AttemptEnded,
    AttemptStarted,
    AttemptWords,
    ClientFacts,
    CompletionWords,
    FailureWords,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
    TurnWords,
)
from ..events.types import MessageAppended
from ..events.upcasts import Stored, facts_of, words_left
from ..events.usage import Costs, Price, Usage, cost, total
from ..log.base import RecordedEvent

TurnStatus = Literal["running", "requires_action", "completed", "failed", "cancelled", "interrupted"]
ERASED_DETAIL = "the detail of this failure was erased"
DAMAGED_DETAIL = "the detail of this failure is damaged"


class AttemptState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One request to a provider. ``messages`` and ``base_tokens`` say how much it was sent, as counted here;
    ``tools``, whether it was told of any; ``named``: the model's name, where facts cannot hold it.
    """

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
    price: Price | None = None
    tools: bool = False
    named: str | None = None

    @property
    def full_name(self) -> str:
        """The model's full name; as facts have it, where its words are erased."""
        return f"{self.provider}/{self.named or self.model}"


class OpenCall(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A call of a tool that has not returned. ``id`` is its ordinal, or in schema 1 the vendor's id. It stands in the
    message at ``message`` (a position), in the tool_use block ``index`` (None: schema 1). ``name``: of a tool that is
    registered here. ``approved`` None: nobody has decided on it.
    """

    id: str
    name: str | None
    message: int
    approved: bool | None = None
    index: int | None = None


class TurnState(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """``version`` and ``end_version`` bound its events in the session; ``frame`` is the number of its last
    recorded frame. ``open_calls``: the tools that run here and have not returned; ``client_calls``: those that the
    caller runs, once the turn has completed; ``awaited``: the calls that a paused turn waits for a person to decide on.
    Of words it holds ``named`` (the model's name, where facts cannot hold it), ``client_tools``,
    ``vendor_stop_reason`` and ``error_detail``, until they are erased (``forget``).
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
    open_calls: tuple[OpenCall, ...] = ()
    client_calls: tuple[OpenCall, ...] = ()
    awaited: tuple[str, ...] = ()
    client_tools: tuple[str, ...] = ()
    usage: Usage | None = None
    costs: Costs = Costs()
    first_chunk_ms: int | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    error_retryable: bool = False
    named: str | None = None
    one_round: bool = False
    client: ClientFacts | None = None


def begin(event: RecordedEvent, facts: TurnStarted) -> TurnState:
    """The state at ``turn.started``."""
    words = words_left(event)
    if not isinstance(words, TurnWords):
        words = TurnWords(client_tools=facts.client_tools)
    return TurnState(
        id=event.id,
        session=event.session,
        version=event.version,
        model=facts.model,
        provider=facts.provider,
        started_at=event.recorded_at,
        frame=facts.frame,
        on_disconnect=facts.on_disconnect,
        client_tools=words.client_tools,
        named=words.model,
        one_round=facts.one_round,
        client=facts.client,
    )


def inputs_of(turn: TurnState) -> range:
    """The versions of the messages that a client's turn was asked with."""
    count = 0 if turn.client is None else turn.client.inputs
    return range(turn.version - count, turn.version)


def evolve(turn: TurnState, event: RecordedEvent, facts: Facts) -> TurnState:
    """The state after one more event of the session; unchanged by events that are not the turn's."""
    if getattr(facts, "turn", None) != turn.id:
        return turn
    match facts:
        case AttemptStarted():
            return msgspec.structs.replace(turn, attempts=(*turn.attempts, _attempt(event, facts)))
        case AttemptEnded():
            return _attempt_ended(turn, facts)
        case MessageAppended() if facts.frame is not None:
            return msgspec.structs.replace(turn, frame=facts.frame)
        case ToolCalled():
            calls = "client_calls" if facts.runner == "client" else "open_calls"
            called = OpenCall(facts.call, facts.name, facts.message, index=facts.index)
            return msgspec.structs.replace(turn, frame=facts.frame, **{calls: (*getattr(turn, calls), called)})
        case ToolReturned():
            return _returned(turn, facts)
        case ToolApproved() | ToolRefused():
            return _decided(turn, facts)
    return _at_the_edge(turn, event, facts)


def _at_the_edge(turn: TurnState, event: RecordedEvent, facts: Facts) -> TurnState:
    """After a pause, a going on, or an end."""
    match facts:
        case TurnPaused():
            return msgspec.structs.replace(turn, status="requires_action", frame=facts.frame, awaited=facts.calls)
        case TurnResumed():
            return msgspec.structs.replace(turn, status="running", frame=facts.frame)
        case TurnCompleted():
            return _end(turn, event, "completed", facts.frame, **_reasons(event, facts))
        case TurnFailed():
            return _end(turn, event, "failed", facts.frame, **_error(event, facts))
        case TurnCancelled():
            return _end(turn, event, "cancelled", facts.frame)
        case TurnInterrupted():
            return _end(turn, event, "interrupted", facts.frame)
    return turn


def cost_of(attempt: AttemptState) -> Costs:
    """The cost of an ended attempt, at the price that was recorded with it; nothing where it has no price at all."""
    return Costs() if attempt.price is None else total([cost(attempt.usage, attempt.price)])


def add_usage(total: Usage | None, more: Usage | None) -> Usage | None:
    """The sum of two usages; what neither reports stays None, and an estimate anywhere marks the sum."""
    if total is None or more is None:
        return total or more
    sums = {
        name: _sum(getattr(total, name), getattr(more, name))
        for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    }
    return Usage(**sums, estimated=total.estimated or more.estimated)


def forget(turn: TurnState, event: Stored) -> TurnState:
    """The state without the words of one of the turn's events, as folding it without them would give it."""
    match facts_of(event):
        case TurnStarted() as facts:
            return msgspec.structs.replace(turn, named=None, client_tools=facts.client_tools)
        case AttemptStarted() as facts:
            attempts = [_without_name(each, facts) for each in turn.attempts]
            return msgspec.structs.replace(turn, attempts=tuple(attempts))
        case TurnCompleted() as facts:
            return msgspec.structs.replace(turn, vendor_stop_reason=facts.vendor_stop_reason)
        case TurnFailed():
            return msgspec.structs.replace(turn, error_detail=ERASED_DETAIL)
    return turn


def without_words(turn: TurnState) -> TurnState:
    """The state of an open turn without anybody's words."""
    attempts = tuple([msgspec.structs.replace(each, named=None) for each in turn.attempts])
    return msgspec.structs.replace(turn, attempts=attempts, named=None, client_tools=())


def _without_name(attempt: AttemptState, facts: AttemptStarted) -> AttemptState:
    if (attempt.round, attempt.attempt) != (facts.round, facts.attempt):
        return attempt
    return msgspec.structs.replace(attempt, named=None)


def _attempt(event: RecordedEvent, facts: AttemptStarted) -> AttemptState:
    words = words_left(event)
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
        price=facts.price,
        tools=facts.tools is not None,
        named=words.model if isinstance(words, AttemptWords) else None,
    )


def _returned(turn: TurnState, facts: ToolReturned) -> TurnState:
    left = {
        name: tuple(call for call in getattr(turn, name) if call.id != facts.call)
        for name in ("open_calls", "client_calls")
    }
    return msgspec.structs.replace(turn, frame=facts.frame, **left)


def _decided(turn: TurnState, facts: ToolApproved | ToolRefused) -> TurnState:
    calls = tuple(
        msgspec.structs.replace(call, approved=isinstance(facts, ToolApproved)) if call.id == facts.call else call
        for call in turn.open_calls
    )
    awaited = tuple(call for call in turn.awaited if call != facts.call)
    return msgspec.structs.replace(turn, frame=facts.frame, open_calls=calls, awaited=awaited)


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
        costs=turn.costs + cost_of(ended),
        first_chunk_ms=first,
        frame=turn.frame if facts.frame is None else facts.frame,
    )


def _reasons(event: RecordedEvent, facts: TurnCompleted) -> dict[str, object]:
    words = words_left(event)
    vendor = words.vendor_stop_reason if isinstance(words, CompletionWords) else facts.vendor_stop_reason
    return {"stop_reason": facts.stop_reason, "vendor_stop_reason": vendor}


def _error(event: RecordedEvent, facts: TurnFailed) -> dict[str, object]:
    words = words_left(event)
    detail = words.detail if isinstance(words, FailureWords) else DAMAGED_DETAIL if event.damaged else ERASED_DETAIL
    return {"error_code": facts.code, "error_retryable": facts.retryable, "error_detail": detail}


def _end(turn: TurnState, event: RecordedEvent, status: TurnStatus, frame: int, **more: object) -> TurnState:
    return msgspec.structs.replace(
        turn, status=status, ended_at=event.recorded_at, end_version=event.version, frame=frame, **more
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other
