"""Commands on a turn: from its state and what has happened they make events, or a refusal. Pure.

They run inside the write transaction, on the turn as it is then. All of them continue the numbering of the turn's
frames, and refer to a message by the position that it will have. The same command ends a turn that has run to its end
and a turn whose server died. ``decisions`` holds the commands on a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from ..errors import EngineError, NoDecisionAwaited, Overloaded, ProviderRejected, ProviderUnavailable, TurnNotOpen
from ..events.blocks import Content, ToolOutcome, ToolResultBlock, ToolUseBlock, calls_of, raw_blocks
from ..events.types import (
    AttemptEnded,
    AttemptEndedWords,
    AttemptStarted,
    AttemptWords,
    BlockStart,
    DecisionWords,
    Draft,
    FailureWords,
    MessageAppended,
    MessageWords,
    RunnerOfTool,
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
)
from ..events.usage import Usage
from ..providers import tokens
from .state import SessionState
from .turn_state import AttemptState, OpenCall, TurnState

CUT_SHORT = frozenset({"max_tokens", "refusal"})
"""Stop reasons after which a tool call may be half of one."""
_NOT_ANSWERED = (Overloaded, ProviderRejected, ProviderUnavailable)
"""Failures for which an attempt is not charged, if nothing of an answer came."""


# --- what is commanded ------------------------------------------------------------------------------------------------


class TurnPlace(msgspec.Struct, frozen=True):
    """The place of a turn's next events: after this frame, from this position on."""

    frame: int
    position: int


class StartAttempt(msgspec.Struct, frozen=True):
    """An attempt that is about to be made: all that decides the bytes of its request."""

    facts: AttemptStarted
    words: AttemptWords


class TurnStop(msgspec.Struct, frozen=True):
    """A stop of a turn from outside: its kind, and the actor that ordered it."""

    kind: Literal["cancelled", "shutdown", "server_lost"]
    actor: str


class ReceivedMessage(msgspec.Struct, frozen=True):
    """As much of a model's message as is on disk. ``blocks``: where each began; ``cuts``: how it came in, packed."""

    id: UUID
    content: Content
    blocks: tuple[BlockStart, ...] = ()
    cuts: bytes = b""


class AttemptResult(msgspec.Struct, frozen=True):
    """The result of an attempt. ``outcome`` is ``completed`` or a code; ``message``: what is on disk of the answer."""

    outcome: str
    duration_ms: int | None = None
    message: ReceivedMessage | None = None
    first_chunk_ms: int | None = None
    stop: TurnStop | None = None
    error: EngineError | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    usage: Usage | None = None
    words: AttemptEndedWords | None = None


class TurnEnd(msgspec.Struct, frozen=True):
    """The end of a turn: stopped from outside, or failed with an error, or else completed for a stop reason.
    ``attempt``: the result of its last attempt, where that is not recorded yet.
    """

    stop: TurnStop | None = None
    error: EngineError | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    attempt: AttemptResult | None = None

    @classmethod
    def with_attempt(cls, result: AttemptResult) -> TurnEnd:
        """The end of a turn that ends as its last attempt did."""
        return cls(result.stop, result.error, result.stop_reason, result.vendor_stop_reason, result)

    @property
    def has_completed(self) -> bool:
        return self.stop is None and self.error is None

    @property
    def outcome(self) -> str:
        """The outcome of an attempt that the turn's end breaks off."""
        return self.stop.kind if self.stop else self.error.code if self.error else "completed"


class Decision(msgspec.Struct, frozen=True):
    """A person's decision on one call, and the reason for it."""

    call: str
    approve: bool
    reason: str | None = None


# --- rounds -----------------------------------------------------------------------------------------------------------


def open_turn_of(state: SessionState, turn_id: UUID) -> TurnState:
    """The open turn. Raises TurnNotOpen if this turn is not open any more."""
    turn = state.open_turn
    if turn is None or turn.id != turn_id:
        raise TurnNotOpen("the turn has ended")
    return turn


def start_attempt(attempt: StartAttempt) -> list[Draft]:
    """Record an attempt before its request is sent."""
    turn_id = attempt.facts.turn
    return [Draft(attempt.facts, attempt.words, causation=turn_id, actor=f"turn:{turn_id}")]


def end_round(turn: TurnState, place: TurnPlace, result: AttemptResult) -> list[Draft]:
    """End a round: with the attempt's end, the message, and its calls."""
    message = result.message
    drafts = [_attempt_ended(turn, result)]
    if message is None:
        return drafts
    drafts.append(_message(turn.id, result, message, place.frame + 1))
    calls = calls_in(message.content) if result.outcome == "completed" else []
    for frame, call in enumerate(calls, start=place.frame + 2):
        called = ToolCalled(turn.id, call.id, call.name, place.position + 1, frame, runner_of(turn, call.name))
        drafts.append(Draft(called, causation=turn.id))
    return drafts


def retry_attempt(turn: TurnState, place: TurnPlace, result: AttemptResult) -> list[Draft]:
    """End an attempt that will be retried. Readers are told of it in a frame of its own."""
    draft = _attempt_ended(turn, result)
    return [msgspec.structs.replace(draft, facts=msgspec.structs.replace(draft.facts, frame=place.frame + 1))]


def return_tool(turn: TurnState, place: TurnPlace, call: OpenCall, outcome: ToolOutcome) -> list[Draft]:
    """Record a tool's return, and the message that holds its output."""
    returned = ToolReturned(
        turn=turn.id,
        call=call.id,
        name=call.name,
        message=place.position + 1,
        frame=place.frame + 1,
        outcome=outcome.code,
        is_error=outcome.is_error,
        duration_ms=outcome.duration_ms,
        output_bytes=outcome.output_bytes,
    )
    return [Draft(returned, causation=turn.id), _tool_message(turn.id, call, outcome, place.frame + 2)]


def runner_of(turn: TurnState, name: str) -> RunnerOfTool:
    """The runner of a tool that the model asked for: the server, unless the tool is the caller's. A call of a tool that
    was not offered is the server's too: nobody else would answer it, and without a result the session could not go on.
    """
    return "client" if name in turn.client_tools else "server"


def calls_in(content: Content) -> list[ToolUseBlock]:
    return [block for block in content if isinstance(block, ToolUseBlock)]


# --- pauses -----------------------------------------------------------------------------------------------------------


def pause_turn(turn: TurnState, place: TurnPlace, calls: tuple[str, ...]) -> list[Draft]:
    """Pause the turn until a person has decided on each of these calls."""
    return [Draft(TurnPaused(turn.id, place.frame + 1, calls), causation=turn.id)]


def decide_call(turn: TurnState, decision: Decision) -> list[Draft]:
    """Approve or refuse a call. With the last decision that the turn waits for, it is resumed.

    Raises NoDecisionAwaited if the turn does not wait for this decision.
    """
    if turn.status != "requires_action":
        raise NoDecisionAwaited("the turn does not wait for a decision", turn_status=turn.status)
    if decision.call not in turn.awaited:
        raise NoDecisionAwaited("the turn does not wait for a decision on this call", field="tool_use_id")
    facts = (ToolApproved if decision.approve else ToolRefused)(turn.id, decision.call, turn.frame + 1)
    words = None if decision.reason is None else DecisionWords(decision.reason)
    drafts = [Draft(facts, words, causation=turn.id)]
    if turn.awaited == (decision.call,):
        drafts.append(Draft(TurnResumed(turn.id, turn.frame + 2), causation=turn.id))
    return drafts


# --- ends -------------------------------------------------------------------------------------------------------------


def end_turn(
    turn: TurnState, place: TurnPlace, end: TurnEnd, finished: Mapping[str, ToolOutcome] | None = None
) -> list[Draft]:
    """End a turn: with the result of its attempt, if that is not recorded yet, with a result for each call that has
    none and that nobody makes any more, and with the turn's own end. ``finished``: outcomes of calls that had returned
    when the turn was stopped.
    """
    drafts: list[Draft] = []
    frame = place.frame
    calls = {"server": list(turn.open_calls), "client": list(turn.client_calls)}
    if turn.attempts[-1].outcome is None:
        result = end.attempt or AttemptResult(end.outcome, stop=end.stop, error=end.error)
        drafts = end_round(turn, place, result)
        for called in [draft.facts for draft in drafts if isinstance(draft.facts, ToolCalled)]:
            calls[called.runner].append(OpenCall(called.call, called.name, called.message))
        frame += len(drafts) - 1
    for call in calls["server"] if _leaves_calls(end) else calls["server"] + calls["client"]:
        outcome = (finished or {}).get(call.id) or _not_run(end)
        drafts += return_tool(turn, TurnPlace(frame, place.position + len(drafts)), call, outcome)
        frame += 2
    return [*drafts, _turn_ended(turn.id, end, frame + 1)]


def cancel_paused(turn: TurnState | None, turn_id: UUID, actor: str, position: int) -> list[Draft]:
    """Cancel a turn that waits for a decision. No events if it was resumed meanwhile, or has ended."""
    if turn is None or turn.id != turn_id or turn.status != "requires_action":
        return []
    return end_turn(turn, TurnPlace(turn.frame, position), TurnEnd(TurnStop("cancelled", actor)))


def _leaves_calls(end: TurnEnd) -> bool:
    """True if the caller's calls are still to be made: their results are the input of the next turn."""
    return end.has_completed and end.stop_reason not in CUT_SHORT


def _not_run(end: TurnEnd) -> ToolOutcome:
    """The outcome of a call that was not made, or has not returned: its model must not wait for it."""
    if end.stop is not None and end.stop.kind == "cancelled":
        return ToolOutcome("cancelled", "The turn was cancelled before this tool returned.", is_error=True)
    if end.has_completed:
        return ToolOutcome("not_run", "Not called: the answer that asked for it was cut short.", is_error=True)
    words = "The turn ended before this tool returned; it may have had effects."
    return ToolOutcome("interrupted", words, is_error=True)


def _turn_ended(turn_id: UUID, end: TurnEnd, frame: int) -> Draft:
    if end.stop is not None:
        return Draft(_stopped(turn_id, end.stop, frame), actor=end.stop.actor, causation=turn_id)
    if end.error is not None:
        return Draft(_failed(turn_id, end.error, frame), FailureWords(end.error.detail), causation=turn_id)
    completed = TurnCompleted(turn_id, frame, end.stop_reason or "end_turn", end.vendor_stop_reason)
    return Draft(completed, causation=turn_id)


def _stopped(turn_id: UUID, stop: TurnStop, frame: int) -> TurnCancelled | TurnInterrupted:
    if stop.kind == "cancelled":
        return TurnCancelled(turn_id, frame)
    return TurnInterrupted(turn_id, frame, stop.kind)


def _failed(turn_id: UUID, error: EngineError, frame: int) -> TurnFailed:
    limit, maximum = error.extra.get("limit"), error.extra.get("maximum")
    return TurnFailed(
        turn_id,
        frame,
        error.code,
        retryable=getattr(error, "retryable", False),
        limit=limit if isinstance(limit, str) else None,
        maximum=maximum if isinstance(maximum, int) else None,
    )


# --- attempts and messages --------------------------------------------------------------------------------------------


def usage_of(attempt: AttemptState, result: AttemptResult) -> Usage:
    """The usage of an attempt: as the vendor reports it; zero if no answer was begun; else counted here, as are the
    missing figures of an answer that broke off.
    """
    said = result.usage or Usage()
    figures = said.input_tokens, said.output_tokens
    if None not in figures or (result.outcome == "completed" and any(each is not None for each in figures)):
        return said
    if result.usage is None and result.message is None and isinstance(result.error, _NOT_ANSWERED):
        return Usage(input_tokens=0, output_tokens=0)
    counted = estimated_usage(attempt, () if result.message is None else result.message.content)
    return msgspec.structs.replace(
        said,
        input_tokens=counted.input_tokens if said.input_tokens is None else said.input_tokens,
        output_tokens=counted.output_tokens if said.output_tokens is None else said.output_tokens,
        estimated=True,
    )


def estimated_usage(attempt: AttemptState, content: Content) -> Usage:
    """The usage of an attempt, counted here because the vendor did not report it."""
    sent = tokens.figure(attempt.base_tokens, attempt.messages, attempt.factor_permille, attempt.overhead)
    received = tokens.figure(tokens.count_content(content), 0, attempt.factor_permille, attempt.overhead)
    return Usage(input_tokens=sent, output_tokens=received, estimated=True)


def _attempt_ended(turn: TurnState, result: AttemptResult) -> Draft:
    attempt, error = turn.attempts[-1], result.error
    facts = AttemptEnded(
        turn=turn.id,
        round=attempt.round,
        attempt=attempt.attempt,
        outcome=result.outcome,
        duration_ms=result.duration_ms,
        first_chunk_ms=result.first_chunk_ms,
        stop_reason=result.stop_reason,
        vendor_stop_reason=result.vendor_stop_reason,
        status=getattr(error, "status", None),
        vendor_code=getattr(error, "vendor_code", None),
        retryable=getattr(error, "retryable", False),
        usage=usage_of(attempt, result),
    )
    return Draft(facts, result.words, causation=turn.id)


def _message(turn_id: UUID, result: AttemptResult, message: ReceivedMessage, frame: int) -> Draft:
    content, complete = message.content, result.outcome == "completed"
    facts = MessageAppended(
        role="assistant",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=complete,
        turn=turn_id,
        calls=calls_of(content) if complete else (),
        frame=frame,
        blocks=message.blocks,
    )
    words = MessageWords(content=raw_blocks(content), cuts=message.cuts)
    return Draft(facts, words, id=message.id, causation=turn_id)


def _tool_message(turn_id: UUID, call: OpenCall, outcome: ToolOutcome, frame: int) -> Draft:
    content = (ToolResultBlock(call.id, outcome.content, outcome.is_error),)
    facts = MessageAppended(
        role="tool",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=True,
        turn=turn_id,
        results=(call.id,),
        frame=frame,
    )
    return Draft(facts, MessageWords(raw_blocks(content)), causation=turn_id)
