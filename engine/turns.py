"""One turn: a prepared request goes to a provider, what comes back is recorded and shown, and the end is one append.

A turn runs in the supervisor's own task; the client who asked for it may come and go. Whatever happens - an end, a
failure, a cancel, a shutdown, a full disk - leads to exactly one of ``turn.completed``, ``turn.failed``,
``turn.cancelled``, ``turn.interrupted``, with what came kept.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import aclosing
from typing import Any
from uuid import UUID

import msgspec

from engine.clock import Clock
from engine.endings import Ending, Stop, end_of_turn, recordable
from engine.envelope import Caller, seal
from engine.errors import (
    EngineError,
    ProviderError,
    ProviderMalformed,
    ProviderTimedOut,
    ProviderTruncated,
    StoreError,
    TurnNotOpen,
)
from engine.events import AttemptEndedWords
from engine.providers.base import Provider
from engine.recorder import Journal, Recorder
from engine.settings import Settings
from engine.store.base import Append, Exists, NewEvent, Place, RecordedEvent
from engine.store.log import Store
from engine.store.runs import CloseRun
from engine.story import Story
from engine.tail import Tail
from engine.views import Frame

log = logging.getLogger("manent.turns")

MISTAKE = EngineError("the server made a mistake")
TIMER_SLACK = 0.1
"""By how much of itself the time between chunks may be cut short."""

END_RETRY_S = 1.0
"""How long a turn waits to record its end again when the disk is full."""


class Tools(msgspec.Struct, frozen=True):
    """What every turn works with."""

    store: Store
    journal: Journal
    clock: Clock
    settings: Settings
    owner: UUID


class Turn:
    """A running turn."""

    def __init__(
        self,
        tools: Tools,
        caller: Caller,
        provider: Provider,
        request: bytes,
        started: tuple[RecordedEvent, ...],
        turn: UUID,
    ) -> None:
        self._tools = tools
        self._provider = provider
        self._request = request
        self._stop: Stop | None = None
        self._stream: asyncio.Task[None] | None = None
        self._first_chunk_s: float | None = None
        self._begun_s = tools.clock.monotonic_s()
        self.id = turn
        self.caller = Caller(caller.tenant, f"turn:{turn}", caller.correlation)
        self.story = Story(turn)
        self.tail = Tail(tools.settings.tail_frames)
        self._show(started)
        self._recorder = Recorder(tools.journal, self.tail, tools.clock, caller.tenant, turn, self.story.state.frame)

    def stop(self, stop: Stop) -> None:
        """Stop it, and close the connection to the provider. The first reason given is the one that counts."""
        self._stop = self._stop or stop
        if self._stream is not None:
            self._stream.cancel()

    def stop_for_absence(self) -> None:
        """The last reader has left, and the caller wished that nothing is answered to nobody."""
        self.stop(Stop("cancelled", "system"))

    async def run(self) -> None:
        """Until its end is recorded."""
        ending = await self._attempt()
        try:
            await self._record_end(ending)
        except TurnNotOpen:
            log.warning("turn %s was taken over by another process", self.id)
        finally:
            self.tail.close()

    # --- the attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self) -> Ending:
        error: EngineError | None = None
        self._stream = asyncio.create_task(self._receive())
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
            log.exception("turn %s failed in a way that nobody foresaw", self.id)
            error = MISTAKE
        await self._recorder.settle()
        return self._ending(self._recorder.error or error)

    async def _receive(self) -> None:
        settings, recorder = self._tools.settings, self._recorder
        loop = asyncio.get_running_loop()
        heard = -math.inf
        try:
            async with (
                asyncio.timeout(settings.turn_timeout_s),
                asyncio.timeout(settings.first_chunk_timeout_s) as patience,
                aclosing(self._provider.stream(self._request)) as chunks,
            ):
                async for chunk in chunks:
                    self._first_chunk_s = self._first_chunk_s or self._tools.clock.monotonic_s()
                    now = loop.time()
                    if now - heard > settings.idle_timeout_s * TIMER_SLACK:
                        # Moving a timer costs more than reading a chunk, so it is moved now and then.
                        patience.reschedule(now + settings.idle_timeout_s)
                        heard = now
                    await recorder.take(chunk)
                    if recorder.bytes > settings.max_answer_bytes:
                        raise ProviderMalformed("the answer is larger than max_answer_bytes allows")
        except TimeoutError:
            raise ProviderTimedOut("the provider did not answer in time") from None
        if recorder.ended is None:
            raise ProviderTruncated("the provider's answer broke off")

    def _ending(self, error: Exception | None) -> Ending:
        recorder, ended = self._recorder, self._recorder.ended
        stop = self._stop if ended is None or error is not None else None
        if error is not None and not isinstance(error, EngineError):
            log.error("turn %s could not be recorded", self.id, exc_info=error)
            error = MISTAKE
        failure = None if stop is not None else error
        completed = stop is None and failure is None
        answer = recorder.answer if recorder.answer.begun or completed else None
        return Ending(
            outcome=stop.kind if stop else failure.code if failure else "completed",
            duration_ms=self._since(self._tools.clock.monotonic_s()),
            answer=answer,
            first_chunk_ms=self._since(self._first_chunk_s) if self._first_chunk_s else None,
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

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _record_end(self, ending: Ending) -> None:
        """Record the turn's end, and if what it says cannot be recorded, that it failed."""
        try:
            await self._record(ending)
        except TurnNotOpen:
            raise
        except Exception:
            log.exception("the end of turn %s could not be written as it was", self.id)
            await self._record(Ending(outcome=MISTAKE.code, answer=ending.answer, error=MISTAKE))

    async def _record(self, ending: Ending) -> None:
        """One append: the attempt's end, the message, its calls, the turn's end; journal and run go with it."""
        frame = self._recorder.frame
        while True:
            try:
                work = self._append(ending, frame)
                self._show((await self._tools.store.append(work, urgent=True)).events)
            except StoreError as error:
                # Readers are told and let go; the record gets its end when there is room, or at the next start.
                self.tail.close(_error_frame(error))
                log.warning("the end of turn %s could not be recorded yet: %s", self.id, error.detail)
                await asyncio.sleep(END_RETRY_S)
            else:
                return

    def _append(self, ending: Ending, frame: int) -> Append:
        caller, tools, state = self.caller, self._tools, self.story.state

        def decide(place: Place, session: Any) -> list[NewEvent]:
            return seal(end_of_turn(session.open_turn, ending, frame, place.position), caller, tools.clock)

        return Append(
            tenant=caller.tenant,
            session=state.session,
            expected=Exists(),
            events=decide,
            scratch=(CloseRun(caller.tenant, self.id, tools.owner),),
        )

    def _show(self, events: tuple[RecordedEvent, ...]) -> None:
        """Publish what is committed."""
        self.tail.publish([frame for event in events for frame in self.story.tell(event)])


def _error_frame(error: EngineError) -> Frame:
    """Told to readers, but not part of the record: it has no number."""
    return Frame(0, "error", msgspec.json.encode({"code": error.code, "detail": error.detail}))
