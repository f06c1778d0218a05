"""One turn: rounds of model and tools, each recorded before it is shown, up to exactly one end.

A turn runs in the supervisor's own task; the client who asked for it may come and go. Whatever happens - an end, a
failure, a cancel, a shutdown, a full disk - leads to one of ``turn.completed``, ``turn.failed``, ``turn.cancelled``,
``turn.interrupted``, with what came kept; or to ``turn.paused``, where a person must decide first.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from ..clock import Clock
from ..context.plan import Brief, Planned, attempt_draft, plan_next
from ..errors import EngineError, Refused, StoreError, TurnLimitReached, TurnNotOpen
from ..events.types import Draft, TurnPaused
from ..log.base import Append, Exists, NewEvent, Place, RecordedEvent, Scratch
from ..log.leases import CloseRun, KeepRun
from ..log.store import Store
from ..providers.registry import Providers
from ..providers.resilience import Guards
from ..sessions.envelope import Caller, seal
from ..sessions.turn_state import OpenCall, TurnState
from ..settings import Settings
from ..streams.frames import Frame
from ..streams.subscribers import Subscribers
from ..streams.tail import Tail
from ..streams.transcript import Story
from ..tools.runner import ToolRunner
from .attempt import MISTAKE, Attempt
from .journal_writer import Journal
from .observer import Observer, report
from .outcomes import (
    CUT_SHORT,
    Ending,
    Stop,
    ToolAnswer,
    calls_in,
    end_of_round,
    end_of_turn,
    failed_attempt,
    runner_of,
    tool_returned,
)
from .recorder import Recorder
from .retry import Again, Retries, is_for_another
from .tool_calls import Calls

log = logging.getLogger("manent.turns")

T = TypeVar("T")


class Decide(Protocol):
    """What to append: from a turn's state in the transaction, the last number taken, the position of the next event."""

    def __call__(self, turn: TurnState, /, frame: int, position: int) -> list[Draft]: ...


END_RETRY_S = 1.0
"""How long a turn waits to record its end again when the disk is full."""
PAUSED_UPSTREAM = "pause_turn"
"""The vendor wants to be asked again with what it has said so far."""


class Kit(msgspec.Struct, frozen=True):
    """What every turn works with."""

    store: Store
    journal: Journal
    clock: Clock
    settings: Settings
    owner: UUID
    providers: Providers
    guards: Guards
    tools: ToolRunner
    observer: Observer
    appending: asyncio.Semaphore
    """Held by turns that append: when hundreds end at once, the frames of all others come in between."""


class StoppedError(Exception):
    """Somebody stopped the turn while it waited."""


class Turn:
    """A running turn. ``events`` are those just committed, ``first`` the round that they begin; without it the turn was
    paused, ``story`` tells what it was, and it goes on with its calls.
    """

    def __init__(
        self,
        kit: Kit,
        caller: Caller,
        turn: UUID,
        brief: Brief,
        events: tuple[RecordedEvent, ...],
        *,
        first: Planned | None = None,
        story: Story | None = None,
    ) -> None:
        self._kit = kit
        self._brief = brief
        self._first = first
        self._stop: Stop | None = None
        self._attempt: Attempt | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._finished: dict[str, ToolAnswer] = {}
        self._deadline_s = kit.clock.monotonic_s() + kit.settings.turn_timeout_s
        self._input_position = events[0].position  # of the message appended with the start, if there was one
        self.id = turn
        self.tenant = caller.tenant
        self.caller = Caller(caller.tenant, f"turn:{turn}", caller.correlation)
        self.story = story or Story(turn)
        self.tail = Tail(kit.settings.tail_frames)
        self._show(events)
        self.subscribers = Subscribers(
            self.stop_for_absence,
            at_once=self.story.state.on_disconnect == "cancel",
            unread_s=kit.settings.cancel_unread_after_s,
        )

    def stop(self, stop: Stop) -> None:
        """Stop it, and whatever it waits for. The first reason given is the one that counts."""
        self._stop = self._stop or stop
        if self._attempt is not None:
            self._attempt.stop(self._stop)
        if self._waiting is not None:
            self._waiting.cancel()

    def stop_for_absence(self) -> None:
        """Nobody reads, and it was wished that nothing is answered to nobody."""
        self.stop(Stop("cancelled", "system"))

    async def run(self) -> None:
        """Until its end, or its pause, is recorded."""
        self.subscribers.open()
        try:
            ending = await self._story()
            if ending is not None:
                await self._record_end(ending)
        except TurnNotOpen:
            log.warning("turn %s was taken over by another process", self.id)
        finally:
            self.subscribers.close()
            self.tail.close()

    # --- rounds -------------------------------------------------------------------------------------------------------

    async def _story(self) -> Ending | None:
        """Round after round, until the turn has an end; None if it is paused."""
        try:
            so_far = self._first or await self._after_answer()
            while isinstance(so_far, Planned):
                so_far = await self._round(so_far)
        except StoppedError:
            assert self._stop is not None
            return Ending(self._stop.kind, stop=self._stop)
        except TurnNotOpen:
            raise
        except EngineError as error:
            return Ending(error.code, error=error)
        except Exception:
            log.exception("turn %s failed in a way that nobody foresaw", self.id)
            return Ending(MISTAKE.code, error=MISTAKE)
        return so_far

    async def _round(self, planned: Planned) -> Planned | Ending | None:
        ending = await self._answer(planned)
        if not self._goes_on(ending):
            return ending
        try:
            await self._append(partial(end_of_round, ending=ending))
        except StoreError as error:
            return msgspec.structs.replace(ending, error=error)
        return await self._after_answer(ending)

    async def _answer(self, planned: Planned) -> Ending:
        """The model's answer, asked for as often as it takes and is allowed."""
        retries = Retries(self._kit.settings, self._kit.clock, has_fallback=self._brief.fallback is not None)
        while True:
            ending = await self._attempted(planned)
            again = retries.after(ending, self._left_s())
            next_planned = await self._planned_again(planned, again) if again is not None else None
            if again is None or (next_planned is None and self._stop is None):
                return self._told_of_fallback(ending)
            await self._append(partial(failed_attempt, ending=ending))
            await self._unless_stopped(asyncio.sleep(again.delay_s))
            planned = next_planned or planned
            newest = self.story.state.attempts[-1]
            await self._begin(planned, (newest.round, newest.attempt + 1))

    def _told_of_fallback(self, ending: Ending) -> Ending:
        """A failure with which the other model would have been asked says that it is not there to be asked."""
        brief = self._brief
        if brief.fallback_name is None or brief.fallback is not None or not is_for_another(ending):
            return ending
        error = copy.copy(ending.error)
        assert error is not None
        error.detail = f"{error.detail}; the fallback model {brief.fallback_name} is not served any more"
        return msgspec.structs.replace(ending, error=error)

    async def _planned_again(self, planned: Planned, again: Again) -> Planned | None:
        """The round for the next attempt; None if the other model cannot be asked this, or somebody stops the turn."""
        if not again.fallback:
            return planned
        try:
            return await self._planned(fallback=True)
        except (Refused, StoppedError, TurnLimitReached):
            return None

    async def _attempted(self, planned: Planned) -> Ending:
        kit = self._kit
        recorder = Recorder(kit.journal, self.tail, kit.clock, self.caller.tenant, self.id, self._frame)
        self._attempt = Attempt(planned.model.provider, planned.request, recorder, kit.guards, kit.clock, kit.settings)
        if self._stop is not None:
            self._attempt.stop(self._stop)
        try:
            return await self._attempt.run(self._left_s())
        finally:
            self._attempt = None

    def _goes_on(self, ending: Ending) -> bool:
        """Whether there is more to do here after this answer."""
        if ending.outcome != "completed" or ending.stop_reason in CUT_SHORT or ending.answer is None:
            return False
        names = [call.name for call in calls_in(ending.answer.content())]
        here = any(runner_of(self.story.state, name) == "server" for name in names)
        return here or (ending.stop_reason == PAUSED_UPSTREAM and not names)

    async def _after_answer(self, ending: Ending | None = None) -> Planned | Ending | None:
        """Make the calls that the answer asks for. Then comes the next round; or the turn's end, where some of them are
        the caller's to make; or nothing, where a person must decide first.
        """
        calls = Calls(self._kit.tools, self.story, self.caller.tenant, self._brief.offer.server, self._kit.settings)
        try:
            for number in range(len(calls.ready)):
                call, answer = await self._unless_stopped(calls.answer(number))
                await self._append(partial(_returned, call=call, answer=answer))
        except (StoppedError, TurnLimitReached):
            self._finished = calls.finished()
            raise
        finally:
            await calls.close()
        if calls.awaited:
            if self._stop is not None and self._stop.kind == "cancelled":
                raise StoppedError
            await self._append(partial(_pause, calls=calls.awaited), close=True)
            return None
        if calls.clients:
            vendor = ending.vendor_stop_reason if ending is not None else None
            return Ending("completed", stop_reason="tool_use", vendor_stop_reason=vendor)
        return await self._next_round()

    async def _next_round(self) -> Planned:
        settings, state = self._kit.settings, self.story.state
        usage, newest = state.usage, state.attempts[-1]
        if newest.round >= settings.max_rounds:
            raise _too_much("taken as many rounds", "max_rounds", settings)
        if usage is not None and (usage.input_tokens or 0) + (usage.output_tokens or 0) >= settings.max_turn_tokens:
            raise _too_much("used as many tokens", "max_turn_tokens", settings)
        self._brief = self._brief.after_tools()
        planned = await self._planned()
        await self._begin(planned, (newest.round + 1, 1))
        return planned

    async def _planned(self, *, fallback: bool = False) -> Planned:
        reading = partial(
            plan_next,
            tenant=self.caller.tenant,
            session=self.story.state.session,
            brief=self._brief,
            settings=self._kit.settings,
            fallback=fallback,
        )
        return await self._unless_stopped(self._kit.store.read(reading))

    async def _begin(self, planned: Planned, number: tuple[int, int]) -> None:
        """Record an attempt before it is sent."""
        clock = self._kit.clock
        now_us, salt = clock.now_us(), clock.salts(1)[0]
        draft = attempt_draft(self.id, planned, number, now_us=now_us, salt=salt, new_position=self._input_position)
        await self._append(partial(_just, drafts=[draft]))

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T:
        """What is waited for, within the turn's time and unless somebody stops it. Raises StoppedError."""
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
            raise _too_much("taken as long", "turn_timeout_s", self._kit.settings) from None
        finally:
            self._waiting = None

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - self._kit.clock.monotonic_s())

    # --- the record ---------------------------------------------------------------------------------------------------

    @property
    def _frame(self) -> int:
        """The last number taken."""
        return max(self.tail.last, self.story.state.frame)

    async def _append(self, decide: Decide, *, close: bool = False) -> None:
        """Append to the open turn, and show it; the round's journal goes with it, and at the end the run too."""
        async with self._kit.appending:
            work = self._work(decide, close=close)
            self._show((await self._kit.store.append(work, urgent=True)).events)

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
        while True:
            try:
                await self._append(partial(end_of_turn, ending=ending, finished=self._finished), close=True)
            except StoreError as error:
                # Readers are told and let go; the record gets its end when there is room, or at the next start.
                self.tail.close(_error_frame(error))
                log.warning("the end of turn %s could not be recorded yet: %s", self.id, error.detail)
                await asyncio.sleep(END_RETRY_S)
            else:
                return

    def _work(self, decide: Decide, *, close: bool) -> Append:
        caller, kit, frame = self.caller, self._kit, self._frame

        def events(place: Place, session: Any) -> list[NewEvent]:
            turn: TurnState | None = session.open_turn
            if turn is None or turn.id != self.id:
                raise TurnNotOpen("the turn has ended")
            return seal(decide(turn, frame=frame, position=place.position), caller, kit.clock)

        scratch: Scratch = (CloseRun if close else KeepRun)(caller.tenant, self.id, kit.owner)
        return Append(caller.tenant, self.story.state.session, Exists(), events, scratch=(scratch,))

    def _show(self, events: tuple[RecordedEvent, ...]) -> None:
        """Publish what is committed."""
        self.tail.publish([frame for event in events for frame in self.story.tell(event)])
        report(self._kit.observer, self.story.state, events)


def _too_much(what: str, limit: str, settings: Settings) -> TurnLimitReached:
    return TurnLimitReached(f"the turn has {what} as it may", limit=limit, maximum=getattr(settings, limit))


def _just(turn: TurnState, frame: int, position: int, *, drafts: list[Draft]) -> list[Draft]:  # noqa: ARG001
    return drafts


def _returned(turn: TurnState, frame: int, position: int, *, call: OpenCall, answer: ToolAnswer) -> list[Draft]:
    return tool_returned(turn.id, call, answer, frame, position)


def _pause(turn: TurnState, frame: int, position: int, *, calls: tuple[str, ...]) -> list[Draft]:  # noqa: ARG001
    return [Draft(TurnPaused(turn.id, frame + 1, calls), causation=turn.id)]


def _error_frame(error: EngineError) -> Frame:
    """Told to readers, but not part of the record: it has no number."""
    return Frame(0, "error", msgspec.json.encode({"code": error.code, "detail": error.detail}))
