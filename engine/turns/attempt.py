"""One attempt: a request goes to a provider, its answer to the recorder, and what came of it is an ``Ending``.

It can be stopped at any moment, and keeps what came.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from ..clock import Clock
from ..errors import EngineError, ProviderError, ProviderTimedOut, ProviderTooLarge, ProviderTruncated
from ..events.types import AttemptEndedWords
from ..providers.base import Provider
from ..providers.resilience import Guards
from ..settings import Settings
from .outcomes import Ending, Stop, recordable
from .recorder import Recorder

log = logging.getLogger("manent.turns")

MISTAKE = EngineError("the server made a mistake")
BREATH_CHUNKS = 64
TIMER_SLACK = 0.1
"""By how much of itself the time between chunks may be cut short."""


class Attempt:
    """A running attempt. ``left_s``: what is left of the turn's time."""

    def __init__(
        self, provider: Provider, request: bytes, recorder: Recorder, guards: Guards, clock: Clock, settings: Settings
    ) -> None:
        self._provider = provider
        self._request = request
        self._recorder = recorder
        self._guards = guards
        self._clock = clock
        self._settings = settings
        self._begun_s = clock.monotonic_s()
        self._first_chunk_s: float | None = None
        self._stop: Stop | None = None
        self._stream: asyncio.Task[None] | None = None

    def stop(self, stop: Stop) -> None:
        """Stop it, and close the connection to the provider."""
        self._stop = self._stop or stop
        if self._stream is not None:
            self._stream.cancel()

    async def run(self, left_s: float) -> Ending:
        """Until the answer has ended or broken off, and what came of it is on disk."""
        error: EngineError | None = None
        self._stream = asyncio.create_task(self._receive(left_s))
        if self._stop is not None:
            self._stream.cancel()
        try:
            await self._stream
        except asyncio.CancelledError:
            # Ours if somebody stopped the turn, else the provider's own; but an answer that had its end is whole.
            if self._recorder.ended is None:
                error = ProviderTruncated("the provider's answer broke off")
        except EngineError as failure:
            error = failure
        except Exception:
            log.exception("an attempt failed in a way that nobody foresaw")
            error = MISTAKE
        await self._recorder.settle()
        return self._ending(self._recorder.error or error)

    async def _receive(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(left_s), self._guards.request(self._provider.name) as answered:
                await self._read(answered)
        except TimeoutError:
            raise ProviderTimedOut("the provider did not answer in the time that the turn has") from None

    async def _read(self, answered: Callable[[], None]) -> None:
        settings, recorder = self._settings, self._recorder
        loop = asyncio.get_running_loop()
        heard, taken = -math.inf, 0
        try:
            async with (
                asyncio.timeout(settings.first_chunk_timeout_s) as patience,
                aclosing(self._provider.stream(self._request)) as chunks,
            ):
                async for chunk in chunks:
                    if self._first_chunk_s is None:
                        self._first_chunk_s = self._clock.monotonic_s()
                        answered()
                    now = loop.time()
                    if now - heard > settings.idle_timeout_s * TIMER_SLACK:
                        # Moving a timer costs more than reading a chunk, so it is moved now and then.
                        patience.reschedule(now + settings.idle_timeout_s)
                        heard = now
                    recorder.take(chunk)
                    if recorder.full:
                        await recorder.room()
                    taken += 1
                    if taken % BREATH_CHUNKS == 0:  # one that is always ready would let nobody else run
                        await asyncio.sleep(0)
                    if recorder.bytes > settings.max_answer_bytes:
                        raise _too_large("is larger", "max_answer_bytes", settings.max_answer_bytes)
                    if recorder.blocks > settings.max_blocks:
                        raise _too_large("has more blocks", "max_blocks", settings.max_blocks)
        except TimeoutError:
            raise ProviderTimedOut("the provider did not answer in time") from None
        if recorder.ended is None:
            raise ProviderTruncated("the provider's answer broke off")

    def _ending(self, error: Exception | None) -> Ending:
        recorder, ended = self._recorder, self._recorder.ended
        stop = self._stop if ended is None or error is not None else None
        if error is not None and not isinstance(error, EngineError):
            log.error("an answer could not be recorded", exc_info=error)
            error = MISTAKE
        failure = None if stop is not None else error
        completed = stop is None and failure is None
        answer = recorder.answer if recorder.answer.begun or completed else None
        return Ending(
            outcome=stop.kind if stop else failure.code if failure else "completed",
            duration_ms=self._since(self._clock.monotonic_s()),
            answer=answer,
            first_chunk_ms=self._since(self._first_chunk_s) if self._first_chunk_s is not None else None,
            stop=stop,
            error=failure,
            stop_reason=ended.stop_reason if ended and completed else None,
            vendor_stop_reason=ended.vendor_stop_reason if ended and completed else None,
            usage=recordable(recorder.usage.usage) if recorder.usage else None,
            words=self._vendor_words(failure),
        )

    def _since(self, moment_s: float) -> int:
        return round((moment_s - self._begun_s) * 1000)

    def _vendor_words(self, error: EngineError | None) -> AttemptEndedWords | None:
        usage, ended = self._recorder.usage, self._recorder.ended
        words = AttemptEndedWords(
            usage=msgspec.Raw(usage.raw) if usage else msgspec.UNSET,
            response_id=ended.response_id if ended else None,
            request_id=ended.request_id if ended else error.request_id if isinstance(error, ProviderError) else None,
            upstream=(error.upstream or None) if isinstance(error, ProviderError) else None,
        )
        return words if words != AttemptEndedWords() else None


def _too_large(how: str, limit: str, maximum: int) -> ProviderTooLarge:
    return ProviderTooLarge(f"the answer {how} than {limit} allows", limit=limit, maximum=maximum)
