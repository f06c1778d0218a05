"""A turn: rounds of model and tools, each recorded before it is shown, up to exactly one end.

A turn runs in the supervisor's own task; clients may connect and disconnect. Whatever happens - an end, a failure, a
cancellation, a shutdown, a full disk - leads to one of ``turn.completed``, ``turn.failed``, ``turn.cancelled``,
``turn.interrupted``, and keeps what has come; or to ``turn.paused``, if a person must decide first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ..access.limits import Admission, RateLimits
from ..clock import Clock
from ..context.content import IMAGES
from ..context.plan import PlannedRound, RequestPlan, attempt_of, document_of, plan_next_round
from ..errors import EngineError, Refused, StoreError, TurnLimitReached, TurnNotOpen
from ..events.blocks import ToolOutcome
from ..events.types import Draft
from ..log.base import Append, Exists, NewEvent, Place, RecordedEvent, Scratch
from ..log.leases import CloseRun, KeepRun
from ..log.store import Store
from ..providers.registry import Providers
from ..providers.resilience import Guards
from ..providers.secrets import Secrets
from ..sessions.calls import calls_in
from ..sessions.envelope import Caller, seal
from ..sessions.turn_commands import AttemptResult, TurnEnd, TurnPlace, TurnStop
from ..sessions.turn_decisions import (
    CUT_SHORT,
    end_round,
    end_turn,
    open_turn_of,
    pause_turn,
    retry_attempt,
    return_tool,
    runner_of,
    start_attempt,
)
from ..sessions.turn_state import TurnState
from ..settings import Settings
from ..streams.frames import Frame
from ..streams.subscribers import Subscribers
from ..streams.tail import Tail
from ..streams.transcript import Transcript
from ..tools.runner import ToolRunner
from .attempt import RunningAttempt
from .journal_writer import JournalWriter
from .metering import Meter
from .observer import Observer, report
from .outcomes import MISTAKE
from .recorder import Recorder
from .retry import NextAttempt, RetryPolicy, told_of_fallback
from .tool_calls import RoundCalls

log = logging.getLogger("manent.turns")

T = TypeVar("T")


TurnCommand = Callable[[TurnState, TurnPlace], list[Draft]]
"""A command of ``turn_decisions``, complete but for the turn's state in the transaction and the place of its events."""

END_RETRY_S = 1.0
"""The delay before a turn tries again to record its end, while the disk is full."""
PAUSED_UPSTREAM = "pause_turn"
"""The vendor asks for another request with its answer so far."""


class Runtime(msgspec.Struct, frozen=True):
    """The parts of the engine that every turn uses."""

    store: Store
    journal: JournalWriter
    clock: Clock
    settings: Settings
    owner: UUID
    providers: Providers
    guards: Guards
    limits: RateLimits
    secrets: Secrets
    tools: ToolRunner
    observer: Observer
    appending: asyncio.Semaphore
    """Held by turns that append: when hundreds of turns end at once, the frames of the others are not delayed by all of
    them."""
    retries: type[RetryPolicy] = RetryPolicy


class StoppedError(Exception):
    """The turn was stopped while it waited."""


class RunningTurn:
    """A running turn. ``events`` are those just committed, ``first`` the round that they begin. Without ``first`` the
    turn was paused: ``transcript`` tells what has happened in it, and it resumes with its tool calls.
    """

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        turn_id: UUID,
        request_plan: RequestPlan,
        events: tuple[RecordedEvent, ...],
        *,
        first: PlannedRound | None = None,
        transcript: Transcript | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._runtime = runtime
        self._request_plan = request_plan
        self._first = first
        self._stop: TurnStop | None = None
        self._attempt: RunningAttempt | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._finished: dict[str, ToolOutcome] = {}
        self._deadline_s = runtime.clock.monotonic_s() + runtime.settings.turn_timeout_s
        self._input_position = events[0].position  # of the first message appended with the start, if there was one
        self.id = turn_id
        self.tenant = caller.tenant
        self.caller = Caller(caller.tenant, f"turn:{turn_id}", caller.correlation)
        self.transcript = transcript or Transcript(turn_id)
        self.tail = Tail(runtime.settings.tail_frames)
        self._show(events)
        self._meter = Meter(runtime.limits, (caller.tenant, caller.actor), self.transcript.state, admission)
        self.subscribers = Subscribers(
            self.stop_for_absence,
            at_once=self.transcript.state.on_disconnect == "cancel",
            unread_s=runtime.settings.cancel_unread_after_s,
        )

    def stop(self, stop: TurnStop) -> None:
        """Stop the turn, and what it waits for. The first reason counts."""
        self._stop = self._stop or stop
        if self._attempt is not None:
            self._attempt.stop(self._stop)
        if self._waiting is not None:
            self._waiting.cancel()

    def stop_for_absence(self) -> None:
        """Cancel the turn because it has no reader any more."""
        self.stop(TurnStop("cancelled", "system"))

    async def run(self) -> None:
        """Run until the turn's end, or its pause, is recorded."""
        self.subscribers.open()
        try:
            end = await self._run_rounds()
            if end is not None:
                await self._record_end(end)
        except TurnNotOpen:
            log.warning("turn %s was taken over by another process", self.id)
        finally:
            self._meter.close()
            self.subscribers.close()
            self.tail.close()

    # --- rounds -------------------------------------------------------------------------------------------------------

    async def _run_rounds(self) -> TurnEnd | None:
        """Run round after round, until the turn has an end; None if it is paused."""
        try:
            so_far = self._first or await self._after_answer()
            while isinstance(so_far, PlannedRound):
                so_far = await self._round(so_far)
        except StoppedError:
            assert self._stop is not None
            return TurnEnd(stop=self._stop)
        except TurnNotOpen:
            raise
        except EngineError as error:
            return TurnEnd(error=error)
        except Exception:
            log.exception("turn %s failed with an unexpected error", self.id)
            return TurnEnd(error=MISTAKE)
        return so_far

    async def _round(self, planned: PlannedRound) -> PlannedRound | TurnEnd | None:
        result = await self._answer(planned)
        if not self._goes_on(result):
            return TurnEnd.with_attempt(result)
        try:
            await self._append(partial(end_round, result=result, registered=self._request_plan.offer.server))
        except StoreError as error:
            return TurnEnd(error=error, attempt=result)
        return await self._after_answer(result)

    async def _answer(self, planned: PlannedRound) -> AttemptResult:
        """Ask the model, and retry as the retry policy says."""
        has_fallback = self._request_plan.fallback_for(planned) is not None
        policy = self._runtime.retries(self._runtime.settings, self._runtime.clock, has_fallback=has_fallback)
        while True:
            result = await self._run_attempt(planned)
            retry = policy.next_attempt(result, self._left_s())
            next_planned = await self._plan_retry(planned, retry) if retry is not None else None
            if retry is None or (next_planned is None and self._stop is None):
                return told_of_fallback(result, planned)
            await self._append(partial(retry_attempt, result=result))
            await self._unless_stopped(asyncio.sleep(retry.delay_s))
            planned = next_planned or planned
            newest = self.transcript.state.attempts[-1]
            await self._begin(planned, (newest.round, newest.attempt + 1))

    async def _plan_retry(self, planned: PlannedRound, retry: NextAttempt) -> PlannedRound | None:
        """Plan the next attempt; None if the fallback model cannot be asked this, or the turn is stopped."""
        if not retry.fallback:
            return planned
        try:
            return await self._plan_round(fallback=True)
        except (Refused, StoppedError, TurnLimitReached):
            return None

    async def _run_attempt(self, planned: PlannedRound) -> AttemptResult:
        runtime = self._runtime
        recorder = Recorder(runtime.journal, self.tail, runtime.clock, self.caller.tenant, self.id, self._frame)
        permit = partial(self._meter.sending, planned)
        means = (runtime.guards, runtime.secrets, runtime.clock, runtime.settings)
        self._attempt = RunningAttempt(planned.model.provider, planned.request, recorder, permit, *means)
        if self._stop is not None:
            self._attempt.stop(self._stop)
        try:
            return await self._attempt.run(self._left_s())
        finally:
            self._attempt = None

    def _goes_on(self, result: AttemptResult) -> bool:
        """True if the turn goes on after this answer."""
        if result.outcome != "completed" or result.stop_reason in CUT_SHORT or result.message is None:
            return False
        names = [call.name for call in calls_in(result.message.content)]
        here = any(runner_of(self.transcript.state, name) == "server" for name in names)
        paused = result.stop_reason == PAUSED_UPSTREAM and not names
        return here or (paused and not self.transcript.state.one_round)

    async def _after_answer(self, result: AttemptResult | None = None) -> PlannedRound | TurnEnd | None:
        """Make the calls that the answer asks for. Then comes the next round, or the turn's end if the caller makes
        some of the calls, or nothing if a person must decide first.
        """
        calls = RoundCalls(
            self._runtime.tools,
            self.transcript,
            self.caller.tenant,
            self._request_plan.offer.server,
            self._runtime.settings,
            shows_images=self._request_plan.model.info.can(IMAGES),
        )
        await self._record_returns(calls)
        if calls.awaited:
            if self._stop is not None and self._stop.kind == "cancelled":
                raise StoppedError
            await self._append(partial(pause_turn, calls=calls.awaited), close=True)
            return None
        if calls.clients:
            vendor = result.vendor_stop_reason if result is not None else None
            return TurnEnd(stop_reason="tool_use", vendor_stop_reason=vendor)
        return await self._next_round()

    async def _record_returns(self, calls: RoundCalls) -> None:
        """Record each call's return, in order. A turn that is stopped keeps the outcomes that it has so far."""
        try:
            for number in range(len(calls.ready)):
                call, outcome = await self._unless_stopped(calls.outcome(number))
                await self._append(partial(return_tool, call=call, outcome=outcome))
        except (StoppedError, TurnLimitReached):
            self._finished = calls.finished()
            raise
        finally:
            await calls.close()

    async def _next_round(self) -> PlannedRound:
        settings, state = self._runtime.settings, self.transcript.state
        usage, newest = state.usage, state.attempts[-1]
        if newest.round >= settings.max_rounds:
            raise _limit_reached("max_rounds", settings)
        if usage is not None and (usage.input_tokens or 0) + (usage.output_tokens or 0) >= settings.max_turn_tokens:
            raise _limit_reached("max_turn_tokens", settings)
        self._request_plan = self._request_plan.after_tools()
        planned = await self._plan_round()
        await self._begin(planned, (newest.round + 1, 1))
        return planned

    async def _plan_round(self, *, fallback: bool = False) -> PlannedRound:
        reading = partial(
            plan_next_round,
            tenant=self.caller.tenant,
            session_id=self.transcript.state.session,
            request_plan=self._request_plan,
            settings=self._runtime.settings,
            fallback=fallback,
        )
        return await self._unless_stopped(self._runtime.store.read(reading))

    async def _begin(self, planned: PlannedRound, number: tuple[int, int]) -> None:
        """Record an attempt before it is sent."""
        clock = self._runtime.clock
        now_us, salt = clock.now_us(), clock.salts(1)[0]
        document = document_of(planned, self.caller.tenant, clock)
        attempt = partial(attempt_of, planned, self.id, number, now_us=now_us, salt=salt, document=document)
        # What sets a system prompt in the same append comes right before the messages.
        first = self._input_position
        begin = partial(attempt, new_position=first, system_position=first - 1)
        await self._append(lambda _, __: start_attempt(begin()), *([document] if document else []))

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait for something, within the turn's time. Raises StoppedError if the turn is stopped."""
        if self._stop is not None:
            waiting.close()
            raise StoppedError
        task = asyncio.create_task(waiting)
        self._waiting = task
        try:
            async with asyncio.timeout(self._left_s()):
                return await task
        except asyncio.CancelledError:
            if self._stop is not None:
                raise StoppedError from None
            raise
        except TimeoutError:
            raise _limit_reached("turn_timeout_s", self._runtime.settings) from None
        finally:
            self._waiting = None

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - self._runtime.clock.monotonic_s())

    # --- the record ---------------------------------------------------------------------------------------------------

    @property
    def _frame(self) -> int:
        """The number of the last frame."""
        return max(self.tail.last, self.transcript.state.frame)

    async def _append(self, command: TurnCommand, *more: Scratch, close: bool = False) -> None:
        """Append to the open turn, and show the events. The round's journal is deleted with it; at the end, or a pause
        (``close``), the run is too.
        """
        async with self._runtime.appending:
            work = self._work(command, *more, close=close)
            self._show((await self._runtime.store.append(work, urgent=True)).events)
            self._meter.note(self.transcript.state)

    async def _record_end(self, end: TurnEnd) -> None:
        """Record the turn's end; if that end cannot be recorded, record that the turn failed."""
        try:
            await self._record(end)
        except TurnNotOpen:
            raise
        except Exception:
            log.exception("the end of turn %s could not be written as it was", self.id)
            message = end.attempt.message if end.attempt is not None else None
            await self._record(TurnEnd.with_attempt(AttemptResult(MISTAKE.code, message=message, error=MISTAKE)))

    async def _record(self, end: TurnEnd) -> None:
        while True:
            try:
                registered = self._request_plan.offer.server
                command = partial(end_turn, end=end, finished=self._finished, registered=registered)
                await self._append(command, close=True)
            except StoreError as error:
                # Readers get the error, and their streams end. The end is recorded when there is room, or at a start.
                self.tail.close(_error_frame(error))
                log.warning("the end of turn %s could not be recorded yet: %s", self.id, error.detail)
                await asyncio.sleep(END_RETRY_S)
            else:
                return

    def _work(self, command: TurnCommand, *more: Scratch, close: bool) -> Append:
        caller, runtime, frame, ids = self.caller, self._runtime, self._frame, self.transcript.call_ids()

        def events(place: Place, session: Any) -> list[NewEvent]:
            at = TurnPlace(frame, place.position, session.call_count, ids)
            drafts = command(open_turn_of(session, self.id), at)
            return seal(drafts, caller, runtime.clock)

        scratch: Scratch = (CloseRun if close else KeepRun)(caller.tenant, self.id, runtime.owner)
        return Append(caller.tenant, self.transcript.state.session, Exists(), events, scratch=(scratch, *more))

    def _show(self, events: tuple[RecordedEvent, ...]) -> None:
        """Show committed events."""
        self.tail.publish([frame for event in events for frame in self.transcript.add(event)])
        report(self._runtime.observer, self.transcript.state, events)


def _limit_reached(limit: str, settings: Settings) -> TurnLimitReached:
    maximum = getattr(settings, limit)
    return TurnLimitReached(f"the turn has reached {limit} ({maximum})", limit=limit, maximum=maximum)


def _error_frame(error: EngineError) -> Frame:
    """The error frame for readers. It is not part of the record, so it has no number."""
    return Frame(0, "error", msgspec.json.encode({"code": error.code, "detail": error.detail}))
