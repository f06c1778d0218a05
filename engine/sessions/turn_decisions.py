"""Commands on a turn: from its state and what has happened they make events, or a refusal. Pure.

They run inside the write transaction, on the turn as it is then. All of them continue the numbering of the turn's
frames, and refer to a message by the position that it will have. The same command ends a turn that has run to its end
and a turn whose server died. ``decisions`` holds the commands on a session.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from ..errors import (
    EngineError,
    NoDecisionAwaited,
    Overloaded,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    TurnNotOpen,
)
from ..events.blocks import Content, ToolOutcome, ToolResultBlock, calls_of, raw_blocks
from ..events.turn_types import (
    OTHER,
    STOP_REASONS,
    VENDOR_STOP_REASONS,
    AttemptEnded,
    CompletionWords,
    DecisionWords,
    FailureWords,
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
from ..events.types import Draft, MessageAppended, MessageWords
from ..events.usage import Usage
from ..providers import tokens
from .calls import NONE_READ, CallIds, calls_in, ordinals
from .state import SessionState
from .turn_commands import AttemptResult, Decision, ReceivedMessage, StartAttempt, TurnEnd, TurnPlace, TurnStop
from .turn_state import AttemptState, OpenCall, TurnState

CUT_SHORT = frozenset({"max_tokens", "refusal"})
"""Stop reasons after which a tool call may be half of one."""
_NOT_ANSWERED = (Overloaded, ProviderRejected, ProviderUnavailable)
"""Failures for which an attempt is not charged, if nothing of an answer came."""
MAX_RETRY_AFTER_S = 24 * 60 * 60
"""The longest delay that is recorded: whoever asks for more is told this."""


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


def end_round(
    turn: TurnState, place: TurnPlace, result: AttemptResult, registered: Collection[str] = ()
) -> list[Draft]:
    """End a round: with the attempt's end, the message, and its calls. ``registered``: tools that facts may name."""
    message = result.message
    drafts = [_attempt_ended(turn, result)]
    if message is None:
        return drafts
    calls = calls_in(message.content) if result.outcome == "completed" else []
    made = ordinals(place.calls, len(calls))
    drafts.append(_message(turn, result, message, place.frame + 1, made))
    for index, (ordinal, call) in enumerate(zip(made, calls, strict=True)):
        called = ToolCalled(
            turn.id,
            ordinal,
            call.name if call.name in registered else None,
            place.position + 1,
            place.frame + 2 + index,
            runner_of(turn, call.name),
            index,
        )
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
    return [Draft(returned, causation=turn.id), _tool_message(turn.id, call, outcome, place)]


def runner_of(turn: TurnState, name: str) -> RunnerOfTool:
    """The runner of a tool that the model asked for: the server, unless the tool is the caller's. A call of a tool that
    was not offered is the server's too: nobody else would answer it, and without a result the session could not go on.
    Who has asked for one round is given all calls.
    """
    return "client" if turn.one_round or name in turn.client_tools else "server"


# --- pauses -----------------------------------------------------------------------------------------------------------


def pause_turn(turn: TurnState, place: TurnPlace, calls: tuple[str, ...]) -> list[Draft]:
    """Pause the turn until a person has decided on each of these calls."""
    return [Draft(TurnPaused(turn.id, place.frame + 1, calls), causation=turn.id)]


def decide_call(turn: TurnState, decision: Decision) -> list[Draft]:
    """Approve or refuse a call; the last decision that the turn waits for resumes it. Raises NoDecisionAwaited."""
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
    turn: TurnState,
    place: TurnPlace,
    end: TurnEnd,
    finished: Mapping[str, ToolOutcome] | None = None,
    registered: Collection[str] = (),
) -> list[Draft]:
    """End a turn: with the result of its attempt, if that is not recorded yet, with a result for each call that has
    none and that nobody makes any more, and with the turn's own end. ``finished``: outcomes of calls that had returned
    when the turn was stopped; ``registered``: the tools that facts may name.
    """
    drafts: list[Draft] = []
    frame, ids = place.frame, dict(place.ids)
    calls = {"server": list(turn.open_calls), "client": list(turn.client_calls)}
    if turn.attempts[-1].outcome is None:
        result = end.attempt or AttemptResult(end.outcome, stop=end.stop, error=end.error)
        drafts = end_round(turn, place, result, registered)
        made = [draft.facts for draft in drafts if isinstance(draft.facts, ToolCalled)]
        for called in made:
            calls[called.runner].append(OpenCall(called.call, called.name, called.message, index=called.index))
        ids |= zip([each.call for each in made], _ids_in(result), strict=True)
        frame += len(drafts) - 1
    for call in calls["server"] if _leaves_calls(end) else calls["server"] + calls["client"]:
        outcome = (finished or {}).get(call.id) or _not_run(end)
        drafts += return_tool(turn, TurnPlace(frame, place.position + len(drafts), ids=ids), call, outcome)
        frame += 2
    return [*drafts, _turn_ended(turn.id, end, frame + 1)]


def _ids_in(result: AttemptResult) -> tuple[str, ...]:
    """The vendor's ids of the calls that an attempt opened."""
    return calls_of(result.message.content) if result.message and result.outcome == "completed" else ()


def cancel_paused(
    turn: TurnState | None, turn_id: UUID, actor: str, position: int, ids: CallIds = NONE_READ
) -> list[Draft]:
    """Cancel a turn that waits for a decision. No events if it was resumed meanwhile, or has ended."""
    if turn is None or turn.id != turn_id or turn.status != "requires_action":
        return []
    return end_turn(turn, TurnPlace(turn.frame, position, ids=ids), TurnEnd(TurnStop("cancelled", actor)))


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
    known, word = vendor_word(end.vendor_stop_reason)
    completed = TurnCompleted(turn_id, frame, _listed(end.stop_reason) or "end_turn", known)
    return Draft(completed, None if word is None else CompletionWords(word), causation=turn_id)


def vendor_word(reason: str | None) -> tuple[str | None, str | None]:
    """A vendor's stop reason as facts have it, and as words have it: one of the two."""
    return (reason, None) if reason is None or reason in VENDOR_STOP_REASONS else (None, reason)


def _listed(reason: str | None) -> str | None:
    """A stop reason as facts have it: one that stands on no list is words."""
    return reason if reason is None or reason in STOP_REASONS else OTHER


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
        retry_after_s=_whole_seconds(retry_after_s(error)),
    )


def retry_after_s(error: EngineError) -> float | None:
    """The delay that a vendor, or a limit of our own, asks for before the next request; None if it asks for none."""
    asked = error.retry_after_s if isinstance(error, ProviderError) else error.extra.get("retry_after_s")
    return float(asked) if isinstance(asked, int | float) else None


def _whole_seconds(delay_s: float | None) -> int | None:
    return None if delay_s is None else math.ceil(min(max(0.0, delay_s), MAX_RETRY_AFTER_S))


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
        stop_reason=_listed(result.stop_reason),
        vendor_stop_reason=vendor_word(result.vendor_stop_reason)[0],
        status=getattr(error, "status", None),
        retryable=getattr(error, "retryable", False),
        usage=usage_of(attempt, result),
    )
    return Draft(facts, result.words, causation=turn.id)


def _message(
    turn: TurnState, result: AttemptResult, message: ReceivedMessage, frame: int, calls: tuple[str, ...]
) -> Draft:
    content, attempt = message.content, turn.attempts[-1]
    facts = MessageAppended(
        role="assistant",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=result.outcome == "completed",
        turn=turn.id,
        calls=calls,
        frame=frame,
        blocks=message.blocks,
        model=attempt.full_name if attempt.named is None else None,
        stop_reason=_listed(result.stop_reason),
    )
    words = MessageWords(content=raw_blocks(content), cuts=message.cuts)
    return Draft(facts, words, id=message.id, causation=turn.id)


def _tool_message(turn_id: UUID, call: OpenCall, outcome: ToolOutcome, place: TurnPlace) -> Draft:
    """The message with a tool's output. A call whose id cannot be read any more is named by its ordinal."""
    content = (ToolResultBlock(place.ids.get(call.id, call.id), outcome.content, outcome.is_error),)
    facts = MessageAppended(
        role="tool",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=True,
        turn=turn_id,
        results=(call.id,),
        frame=place.frame + 2,
    )
    return Draft(facts, MessageWords(raw_blocks(content)), causation=turn_id)
