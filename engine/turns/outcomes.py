"""Outcomes as they are recorded: of an attempt at a provider, and of a tool call that a person refused."""

from __future__ import annotations

import logging

import msgspec

from ..errors import EngineError, ProviderError
from ..events.blocks import ToolOutcome
from ..events.turn_types import AttemptEndedWords
from ..events.usage import Usage
from ..log.codec import MAX_SAFE_INTEGER
from ..sessions.turn_commands import AttemptResult, TurnStop
from ..sessions.turn_decisions import vendor_word
from .recorder import Recorder

log = logging.getLogger("manent.turns")

MISTAKE = EngineError("the server made a mistake")


class Times(msgspec.Struct, frozen=True):
    """The times of an attempt, from its beginning."""

    duration_ms: int
    first_chunk_ms: int | None


def result_of(recorder: Recorder, stop: TurnStop | None, error: Exception | None, times: Times) -> AttemptResult:
    """The result of an attempt whose recorder has settled. An answer that has its end is complete, even if the turn was
    stopped afterwards; an error that is not an EngineError is a mistake of ours.
    """
    ended = recorder.ended
    if ended is not None and error is None:
        stop = None
    if error is not None and not isinstance(error, EngineError):
        log.error("an answer could not be recorded", exc_info=error)
        error = MISTAKE
    failure = None if stop is not None else error
    completed = stop is None and failure is None
    return AttemptResult(
        outcome=stop.kind if stop else failure.code if failure else "completed",
        duration_ms=times.duration_ms,
        message=recorder.answer.received() if recorder.answer.begun or completed else None,
        first_chunk_ms=times.first_chunk_ms,
        stop=stop,
        error=failure,
        stop_reason=ended.stop_reason if ended and completed else None,
        vendor_stop_reason=ended.vendor_stop_reason if ended and completed else None,
        usage=recordable(recorder.usage.usage) if recorder.usage else None,
        words=_vendor_words(recorder, failure, completed=completed),
    )


def recordable(usage: Usage) -> Usage:
    """A vendor's figures, fit for facts: a figure that is negative, or too large for a leaf, counts as not reported."""
    counts = {
        name: value if value is None or 0 <= value <= MAX_SAFE_INTEGER else None
        for name, value in msgspec.structs.asdict(usage).items()
        if name != "estimated"
    }
    return msgspec.structs.replace(usage, **counts)


def refused_by_person(reason: str | None) -> ToolOutcome:
    """The outcome of a call that a person refused; the model is told the reason."""
    return ToolOutcome("refused", words_of_refusal(reason), is_error=True)


def words_of_refusal(reason: str | None) -> str:
    """The result of a call that a person refused, as the model is told it."""
    return f"Not called: a person refused this call{f' ({reason})' if reason else ''}."


def _vendor_words(recorder: Recorder, error: EngineError | None, *, completed: bool) -> AttemptEndedWords | None:
    usage, ended = recorder.usage, recorder.ended
    words = AttemptEndedWords(
        usage=msgspec.Raw(usage.raw) if usage else msgspec.UNSET,
        response_id=ended.response_id if ended else None,
        request_id=ended.request_id if ended else error.request_id if isinstance(error, ProviderError) else None,
        upstream=(error.upstream or None) if isinstance(error, ProviderError) else None,
        vendor_stop_reason=vendor_word(ended.vendor_stop_reason)[1] if ended and completed else None,
        vendor_code=error.vendor_code if isinstance(error, ProviderError) else None,
        stop_sequence=ended.stop_sequence if ended and completed else None,
    )
    return words if words != AttemptEndedWords() else None
