"""One attempt: it sends a request to a provider, passes the answer to the recorder, and returns an ``AttemptResult``.

An attempt can be stopped at any moment, and keeps what has come.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing

from ..clock import Clock
from ..errors import EngineError, ProviderTimedOut, ProviderTooLarge, ProviderTruncated
from ..providers.base import Provider
from ..providers.resilience import Guards
from ..providers.secrets import SecretCutter, Secrets
from ..sessions.turn_commands import AttemptResult, TurnStop
from ..settings import Settings
from .outcomes import MISTAKE, Times, result_of
from .recorder import Recorder

log = logging.getLogger("manent.turns")

BREATH_CHUNKS = 64
"""Chunks after which other tasks get to run, if the provider never makes us wait."""
TIMER_SLACK = 0.1
"""The part by which the time limit between chunks may be too short."""


class RunningAttempt:
    """A running attempt. ``permit`` is held while the request is sent; it may have to be waited for."""

    def __init__(
        self,
        provider: Provider,
        request: bytes,
        recorder: Recorder,
        permit: Callable[[], AbstractAsyncContextManager[None]],
        guards: Guards,
        secrets: Secrets,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._provider = provider
        self._request = request
        self._recorder = recorder
        self._cutter = SecretCutter(secrets, recorder.take)
        self._permit = permit
        self._guards = guards
        self._clock = clock
        self._settings = settings
        self._begun_s = clock.monotonic_s()
        self._first_chunk_s: float | None = None
        self._stop: TurnStop | None = None
        self._stream: asyncio.Task[None] | None = None

    def stop(self, stop: TurnStop) -> None:
        """Stop the attempt, and close the connection to the provider."""
        self._stop = self._stop or stop
        if self._stream is not None:
            self._stream.cancel()

    async def run(self, left_s: float) -> AttemptResult:
        """Run until the answer has ended or broken off, and what came of it is on disk. ``left_s``: the seconds that
        are left to the turn.
        """
        self._stream = asyncio.create_task(self._receive(left_s))
        if self._stop is not None:
            self._stream.cancel()
        error = self._release_held(await self._failure_of(self._stream))
        await self._recorder.settle()
        first_s = self._first_chunk_s
        times = Times(self._since(self._clock.monotonic_s()), None if first_s is None else self._since(first_s))
        return result_of(self._recorder, self._stop, self._recorder.error or error, times)

    async def _failure_of(self, stream: asyncio.Task[None]) -> EngineError | None:
        """Wait for the end of the stream; None if it did not fail."""
        try:
            await stream
        except asyncio.CancelledError:
            # Cancelled by us if the turn was stopped, else by the provider. An answer that has its end is complete.
            if self._recorder.ended is None:
                return ProviderTruncated("the provider's answer broke off")
        except EngineError as failure:
            return self._cutter.without(failure)
        except Exception:
            log.exception("an attempt failed with an unexpected error")
            return MISTAKE
        return None

    def _release_held(self, error: EngineError | None) -> EngineError | None:
        """Record what was held back of an answer that has broken off, unless nothing of it can be recorded any more."""
        if self._recorder.error is not None:
            return error
        try:
            self._cutter.break_off()
        except EngineError as failure:
            return error or failure
        return error

    async def _receive(self, left_s: float) -> None:
        try:
            async with (
                asyncio.timeout(left_s),
                self._permit(),
                self._guards.request(self._provider.name) as answered,
            ):
                await self._read(answered)
        except TimeoutError:
            raise ProviderTimedOut("the provider did not answer within the turn's time limit") from None

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
                        # Moving a timer costs more than reading a chunk, so it is not moved for every chunk.
                        patience.reschedule(now + settings.idle_timeout_s)
                        heard = now
                    self._cutter.take(chunk)
                    if recorder.full:
                        await recorder.room()
                    taken += 1
                    if taken % BREATH_CHUNKS == 0:  # a provider that is always ready would let no other task run
                        await asyncio.sleep(0)
                    if recorder.bytes > settings.max_answer_bytes:
                        raise _too_large("is larger", "max_answer_bytes", settings.max_answer_bytes)
                    if recorder.blocks > settings.max_blocks:
                        raise _too_large("has more blocks", "max_blocks", settings.max_blocks)
        except TimeoutError:
            raise ProviderTimedOut("the provider did not answer in time") from None
        if recorder.ended is None:
            raise ProviderTruncated("the provider's answer broke off")

    def _since(self, moment_s: float) -> int:
        return round((moment_s - self._begun_s) * 1000)


def _too_large(how: str, limit: str, maximum: int) -> ProviderTooLarge:
    return ProviderTooLarge(f"the answer {how} than {limit} allows", limit=limit, maximum=maximum)
