"""How rounds and turns end: the drafts of their last append, from what became of an attempt. Pure, and the same for a
turn that ran to its end and for one whose server died.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from ..errors import EngineError, Overloaded, ProviderRejected, ProviderUnavailable
from ..events.blocks import Content, ToolOutcome, ToolResultBlock, ToolUseBlock, calls_of, raw_blocks
from ..events.types import (
    AttemptEnded,
    AttemptEndedWords,
    Draft,
    FailureWords,
    MessageAppended,
    MessageWords,
    RunnerOfTool,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
)
from ..events.usage import Usage
from ..log.codec import MAX_SAFE_INTEGER
from ..providers import tokens
from ..sessions.turn_state import AttemptState, OpenCall, TurnState
from .answer import Answer

CUT_SHORT = frozenset({"max_tokens", "refusal"})
"""Stop reasons after which a tool call may be half of one."""
_NOT_ANSWERED = (Overloaded, ProviderRejected, ProviderUnavailable)
"""What an attempt is not charged for, if nothing came of it."""


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


def runner_of(turn: TurnState, name: str) -> RunnerOfTool:
    """Who runs a tool that the model asked for: the server, unless it is one of the caller's or none was offered."""
    return "client" if name in turn.client_tools or not turn.attempts[-1].tools else "server"


def end_of_round(turn: TurnState, ending: Ending, frame: int, position: int) -> list[Draft]:
    """The attempt's end, the message, its calls. ``frame`` is the last number taken, ``position`` that of the first of
    these events.
    """
    content = ending.answer.content() if ending.answer is not None else ()
    drafts = [_attempt_ended(turn.id, turn.attempts[-1], ending, content)]
    if ending.answer is None:
        return drafts
    drafts.append(_message(turn.id, ending, ending.answer, content, frame + 1))
    for number, call in enumerate(calls_in(content) if ending.outcome == "completed" else (), start=frame + 2):
        called = ToolCalled(turn.id, call.id, call.name, position + 1, number, runner_of(turn, call.name))
        drafts.append(Draft(called, causation=turn.id))
    return drafts


def failed_attempt(turn: TurnState, ending: Ending, frame: int, position: int) -> list[Draft]:  # noqa: ARG001
    """The end of an attempt after which another is made; readers are told in frame ``frame + 1``."""
    draft = _attempt_ended(turn.id, turn.attempts[-1], ending, ())
    return [msgspec.structs.replace(draft, facts=msgspec.structs.replace(draft.facts, frame=frame + 1))]


def tool_returned(turn: UUID, call: OpenCall, outcome: ToolOutcome, frame: int, position: int) -> list[Draft]:
    """A tool's return and the message that holds what it gave; frames and positions as in ``end_of_round``."""
    returned = ToolReturned(
        turn=turn,
        call=call.id,
        name=call.name,
        message=position + 1,
        frame=frame + 1,
        outcome=outcome.code,
        is_error=outcome.is_error,
        duration_ms=outcome.duration_ms,
        output_bytes=outcome.output_bytes,
    )
    content = (ToolResultBlock(call.id, outcome.content, outcome.is_error),)
    message = MessageAppended(
        role="tool",
        tokens=tokens.count_content(content),
        counter=tokens.COUNTER,
        complete=True,
        turn=turn,
        results=(call.id,),
        frame=frame + 2,
    )
    return [Draft(returned, causation=turn), Draft(message, MessageWords(raw_blocks(content)), causation=turn)]


def end_of_turn(
    turn: TurnState, ending: Ending, frame: int, position: int, finished: Mapping[str, ToolOutcome] | None = None
) -> list[Draft]:
    """The turn's last events, in order: what its attempt came to, if that is not recorded yet, a result for each call
    that has none and that nobody makes any more, and its own end. ``finished``: what calls had come to when the turn
    was stopped.
    """
    drafts: list[Draft] = []
    calls = {"server": list(turn.open_calls), "client": list(turn.client_calls)}
    if turn.attempts[-1].outcome is None:
        drafts = end_of_round(turn, ending, frame, position)
        for called in [draft.facts for draft in drafts if isinstance(draft.facts, ToolCalled)]:
            calls[called.runner].append(OpenCall(called.call, called.name, called.message))
        frame += len(drafts) - 1
    left = calls["server"] if _leaves_calls(ending) else calls["server"] + calls["client"]
    for call in left:
        outcome = (finished or {}).get(call.id) or _not_run(ending)
        drafts += tool_returned(turn.id, call, outcome, frame, position + len(drafts))
        frame += 2
    drafts.append(_turn_ended(turn.id, ending, frame + 1))
    return drafts


def calls_in(content: Content) -> list[ToolUseBlock]:
    return [block for block in content if isinstance(block, ToolUseBlock)]


def _leaves_calls(ending: Ending) -> bool:
    """Whether the caller's calls are theirs to make now: their results are the input of the next turn."""
    return ending.outcome == "completed" and ending.error is None and ending.stop_reason not in CUT_SHORT


def _not_run(ending: Ending) -> ToolOutcome:
    """For a call that was never made or never came to its end: its model must not wait for it."""
    if ending.stop is not None and ending.stop.kind == "cancelled":
        return ToolOutcome("cancelled", "The turn was cancelled before this tool returned.", is_error=True)
    if ending.outcome == "completed" and ending.error is None:
        return ToolOutcome("not_run", "Not called: the answer that asked for it was cut short.", is_error=True)
    return ToolOutcome(
        "interrupted", "The turn ended before this tool returned; it may have had effects.", is_error=True
    )


def usage_of(attempt: AttemptState, ending: Ending, content: Content) -> Usage:
    """What an attempt used: as the vendor says; nothing, where no answer was begun; else as counted here, also what is
    missing of the figures of an answer that broke off.
    """
    said = ending.usage or Usage()
    figures = said.input_tokens, said.output_tokens
    if None not in figures or (ending.outcome == "completed" and any(each is not None for each in figures)):
        return said
    if ending.usage is None and ending.answer is None and isinstance(ending.error, _NOT_ANSWERED):
        return Usage(input_tokens=0, output_tokens=0)
    counted = estimated_usage(attempt, content)
    return msgspec.structs.replace(
        said,
        input_tokens=counted.input_tokens if said.input_tokens is None else said.input_tokens,
        output_tokens=counted.output_tokens if said.output_tokens is None else said.output_tokens,
        estimated=True,
    )


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
        usage=usage_of(attempt, ending, content),
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
        limit, maximum = error.extra.get("limit"), error.extra.get("maximum")
        facts = TurnFailed(
            turn,
            frame,
            error.code,
            retryable=getattr(error, "retryable", False),
            limit=limit if isinstance(limit, str) else None,
            maximum=maximum if isinstance(maximum, int) else None,
        )
        return Draft(facts, FailureWords(error.detail), causation=turn)
    return Draft(
        TurnCompleted(turn, frame, ending.stop_reason or "end_turn", ending.vendor_stop_reason), causation=turn
    )
