"""The log as if it were the model: it answers each request with what is on record for it, in the order of the record.

A recorded answer comes in the pieces in which it came then. An attempt that failed fails in the same way, one that was
stopped stops at the same place, and what was tried again then is tried again now. Which request it is that is answered
is not looked at here: the requests are kept, and compared when the turn has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from ...errors import (
    CircuitOpen,
    ContextTooLong,
    EngineError,
    Overloaded,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
    RateLimited,
)
from ...events.blocks import Block, OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock, read_blocks
from ...events.cuts import unpack_cuts
from ...events.types import MessageAppended, MessageWords
from ...events.upcasts import facts_of, words_of
from ...events.usage import Price, Usage
from ...providers.base import (
    BlockStarted,
    BlockStopped,
    BlockType,
    Chunk,
    Delta,
    Ended,
    Figures,
    ModelInfo,
    Renderer,
    UsageReported,
    VendorBlock,
)
from ...providers.registry import Providers
from ...sessions.turn_commands import AttemptResult, TurnStop
from ...sessions.turn_decisions import estimated_usage
from ...sessions.turn_state import AttemptState
from ...turns.retry import NextAttempt, RetryPolicy
from ...turns.turn import RunningTurn, StoppedError
from .recorded_turn import RecordedAttempt, RecordedTurn

STOPPED = frozenset({"cancelled", "shutdown", "server_lost"})
"""Outcomes of attempts that somebody stopped."""
_FAILURES: Mapping[str, type[ProviderError | Overloaded]] = {
    kind.code: kind
    for kind in (
        *(ProviderError, ProviderUnavailable, ProviderRejected, ContextTooLong, ProviderMalformed),
        *(ProviderTooLarge, ProviderTimedOut, ProviderTruncated),
        *(Overloaded, CircuitOpen, RateLimited),
    )
}
_TYPES: Mapping[type[Block], BlockType] = {TextBlock: "text", ThinkingBlock: "thinking", ToolUseBlock: "tool_use"}


class Rendering(msgspec.Struct, frozen=True):
    """How requests are made: a renderer for each attempt by name, and ``policy``, by which their windows are chosen;
    None: by the recorded ones.
    """

    names: tuple[str, ...]
    renderers: tuple[Renderer, ...]
    policy: str | None = None


class Script:
    """What is on record of a turn, as it is played: how far it has come, and what it was asked for. ``sent``: the
    requests, one for each attempt; ``missing``: a request came for which no answer is on record.
    """

    def __init__(self, record: RecordedTurn, rendering: Rendering) -> None:
        self.record = record
        self.rendering = rendering
        self.sent: list[bytes] = []
        self.missing = False
        self.turn: RunningTurn | None = None
        self.models = {each.facts.provider: LogModel(each.facts.provider, self) for each in record.attempts}
        self._set_renderers()

    def providers(self) -> Providers:
        """The models of the turn, each known by the name that it has on record."""
        listed = [attempt.model for attempt in self.record.attempts if attempt.words.model is None]
        providers = Providers(self.models.values(), listed)
        providers.figures = self.figures
        return providers

    def next_attempt(self) -> RecordedAttempt | None:
        """The attempt that comes next on record."""
        left = self.record.attempts[len(self.sent) :]
        return left[0] if left else None

    def figures(self) -> Figures:
        """The figures of the next attempt, and of the last where there is none. Raises StoppedError where the turn was
        stopped before it.
        """
        attempt = self.next_attempt()
        if attempt is None and self.record.stop is not None and self.turn is not None:
            self.stop()
            raise StoppedError
        facts = (attempt or self.record.attempts[-1]).facts
        return Figures(
            policy=self.rendering.policy or facts.policy,
            factor_permille=facts.factor_permille,
            overhead=facts.overhead,
            budget_tokens=facts.budget_tokens,
            reserve_tokens=facts.reserve_tokens,
        )

    def take(self, request: bytes) -> RecordedAttempt:
        """The attempt that answers a request. Raises ProviderRejected where none is on record."""
        attempt = self.next_attempt()
        self.sent.append(request)
        if attempt is None:
            self.missing = True
            if self.turn is not None:
                self.turn.stop(TurnStop("cancelled", "system"))  # or it might ask for ever
            raise ProviderRejected("no answer to this request is on record")
        self._set_renderers()
        return attempt

    def stop(self) -> None:
        """Stop the turn as it was stopped."""
        assert self.turn is not None
        if self.record.stop is not None:
            self.turn.stop(self.record.stop)

    def retries(self) -> type[RetryPolicy]:
        """The retry policy of the turn: whatever was tried again then."""
        script = self

        class Recorded(RetryPolicy):
            def next_attempt(self, result: AttemptResult, left_s: float) -> NextAttempt | None:
                del left_s
                return script.retry(result)

        return Recorded

    def retry(self, result: AttemptResult) -> NextAttempt | None:
        """What followed on an attempt that has just ended."""
        done = self.record.attempts[len(self.sent) - 1 : len(self.sent)]
        if not done or result.outcome == "completed" or done[0].ended.frame is None:
            return None
        following = self.next_attempt()
        if following is None:
            self.stop()
        return NextAttempt(0.0, fallback=following is not None and following.model != done[0].model)

    def _set_renderers(self) -> None:
        number = min(len(self.sent), len(self.record.attempts) - 1)
        model = self.models[self.record.attempts[number].facts.provider]
        model.renderer = self.rendering.names[number]
        model.renderers = {model.renderer: self.rendering.renderers[number]}


class LogModel:
    """A provider of which the log has answers."""

    def __init__(self, name: str, script: Script) -> None:
        self.name = name
        self.renderer = ""
        self.renderers: Mapping[str, Renderer] = {}
        self._script = script

    def models(self) -> Sequence[ModelInfo]:
        return [self._info(each.model.partition("/")[2], each.facts.price) for each in self._attempts()]

    def model(self, name: str) -> ModelInfo | None:
        return next((info for info in self.models() if info.name == name), None)

    async def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        attempt = self._script.take(request)
        for chunk in chunks_of(attempt):
            yield chunk
        if attempt.ended.outcome in STOPPED and self._script.record.stop is not None:
            self._script.stop()
            await asyncio.Event().wait()
        if attempt.ended.outcome != "completed":
            raise failure_of(attempt)

    async def aclose(self) -> None:
        """There is nothing to release."""

    def _attempts(self) -> Iterator[RecordedAttempt]:
        return (each for each in self._script.record.attempts if each.facts.provider == self.name)

    def _info(self, name: str, price: Price | None) -> ModelInfo:
        # What the model can do was checked then; nothing is known of it now.
        is_words = any(each.words.model == name for each in self._attempts())
        return ModelInfo(name, "unknown", prices=() if price is None else (price,), listed=not is_words)


# --- answers ----------------------------------------------------------------------------------------------------------


def chunks_of(attempt: RecordedAttempt) -> Iterator[Chunk]:
    """What came of an attempt's answer, in the pieces in which it came."""
    if attempt.answer is not None:
        yield from _pieces_of(attempt)
    ended, words = attempt.ended, attempt.ended_words
    usage = reported_usage(attempt)
    if usage is not None:
        raw = b"{}" if words.usage is msgspec.UNSET else bytes(words.usage)
        yield UsageReported(usage, raw)
    if ended.outcome == "completed":
        vendor = words.vendor_stop_reason or ended.vendor_stop_reason
        reason = ended.stop_reason or "end_turn"
        yield Ended(reason, vendor, words.response_id, words.request_id, words.stop_sequence)


def _pieces_of(attempt: RecordedAttempt) -> Iterator[Chunk]:
    assert attempt.answer is not None
    facts, words = facts_of(attempt.answer), words_of(attempt.answer)
    assert isinstance(facts, MessageAppended)
    assert isinstance(words, MessageWords)
    blocks = read_blocks(words.content)
    starts = {start.frame: start.block for start in facts.blocks}
    deltas = _deltas(blocks, words.cuts)
    for number in range(min(starts, default=0), facts.frame or 0) if starts else ():
        block = starts.get(number)
        if block is not None:
            yield _start(block, blocks[block])
        else:
            yield from islice(deltas, 1)
    for number, each in enumerate(blocks):
        yield from _rest(number, each)


def _deltas(blocks: Sequence[Block], cuts: bytes) -> Iterator[Delta]:
    read: dict[int, int] = {}
    for cut in unpack_cuts(cuts):
        at = read.get(cut.block, 0)
        read[cut.block] = at + cut.length
        yield Delta(cut.block, _text(blocks[cut.block])[at : at + cut.length])


def _start(number: int, block: Block) -> BlockStarted:
    if isinstance(block, ToolUseBlock):
        return BlockStarted(number, "tool_use", block.id, block.name)
    return BlockStarted(number, _TYPES[type(block)])


def _rest(number: int, block: Block) -> Iterator[Chunk]:
    """What came of a block and was not shown, and its end. The vendor's form has no place among the frames."""
    if isinstance(block, OtherBlock):
        yield VendorBlock(number, block.type, block.raw)
        return
    if isinstance(block, ThinkingBlock | ToolUseBlock) and block.vendor is not msgspec.UNSET:
        yield VendorBlock(number, _TYPES[type(block)], bytes(block.vendor))
    yield BlockStopped(number)


def _text(block: Block) -> str:
    if isinstance(block, ToolUseBlock):
        return block.input_text or ""
    return block.text if isinstance(block, TextBlock | ThinkingBlock) else ""


def reported_usage(attempt: RecordedAttempt) -> Usage | None:
    """The usage that the vendor reported; None if it reported none, and the figures on record were counted here."""
    usage = attempt.ended.usage
    if usage is None or not usage.estimated:
        return usage
    if attempt.ended_words.usage is msgspec.UNSET:
        return None
    counted = _counted_usage(attempt)  # what equals that was not reported, or would be the same
    return msgspec.structs.replace(
        usage,
        input_tokens=None if usage.input_tokens == counted.input_tokens else usage.input_tokens,
        output_tokens=None if usage.output_tokens == counted.output_tokens else usage.output_tokens,
        estimated=False,
    )


def _counted_usage(attempt: RecordedAttempt) -> Usage:
    facts = attempt.facts
    words = None if attempt.answer is None else words_of(attempt.answer)
    state = AttemptState(
        round=facts.round,
        attempt=facts.attempt,
        provider=facts.provider,
        model=facts.model,
        started_at=0,
        messages=len(facts.positions) + (facts.system is not None),
        base_tokens=facts.base_tokens,
        factor_permille=facts.factor_permille,
        overhead=facts.overhead,
    )
    return estimated_usage(state, read_blocks(words.content) if isinstance(words, MessageWords) else ())


# --- failures ---------------------------------------------------------------------------------------------------------


def failure_of(attempt: RecordedAttempt) -> EngineError:
    """The error with which an attempt failed, as far as it is on record."""
    ended, words, failed = attempt.ended, attempt.ended_words, attempt.failed
    extra: dict[str, Any] = {}
    if failed is not None and failed.limit is not None:
        extra = {"limit": failed.limit, "maximum": failed.maximum}
    if failed is not None and failed.retry_after_s is not None:
        extra["retry_after_s"] = failed.retry_after_s
    kind = _FAILURES.get(ended.outcome)
    if kind is None:
        error = EngineError(attempt.detail, **extra)
        error.code = ended.outcome
        return error
    if not issubclass(kind, ProviderError):
        return kind(attempt.detail, **extra)
    return kind(
        attempt.detail,
        status=ended.status,
        vendor_code=words.vendor_code or ended.vendor_code,
        request_id=words.request_id,
        upstream=words.upstream or "",
        **extra,
    )
