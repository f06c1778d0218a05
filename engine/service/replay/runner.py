"""Replays: they are started, run, cancelled, and gone on with after a restart. Their record is a stream of its own in
the log, beside those of sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from uuid import UUID

from ...clock import Clock
from ...errors import EngineError, Invalid, ShuttingDown, StoreError, StoreFull, StoreUnavailable
from ...events.replay_types import Acceptance, RecordedMode
from ...events.types import Draft
from ...log.base import Append, Connection, Exists, NewEvent, NoStream, Place, Reference, RequestKey
from ...log.store import Store
from ...providers.registry import Providers
from ...sessions.envelope import Caller, seal
from ...sessions.replay_decisions import (
    ReplayEnded,
    accept_results,
    cancel_replay,
    complete_replay,
    note_result,
    running,
)
from ...sessions.replay_state import ReplayState
from ...sessions.replays import running_replays
from ...tools.registry import Tools
from .checks import Checked, check_order
from .orders import Order, position_of
from .reading import ReplayReader, compared_on_record, started_of, state_of
from .results import Result
from .run import Doer, Live, Outcome, Run

log = logging.getLogger("manent.replay")

KEPT = 16
"""So many replays whose results are not on record keep them in memory, the last."""
RESULTS_A_BELL = 32
"""After so many results that are not on record its followers are woken: that takes as long as a good part of a turn.
They look by themselves, too."""
INTERNAL = "internal_error"
OVER_COST = "max_cost_micros"

Drafts = Callable[[Any], list[Draft]]


class Replays:
    """The replays of one process. ``modes``: how each mode is done; ``reader`` is given those whose results are in
    memory only.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        providers: Providers,
        tools: Tools,
        modes: Mapping[RecordedMode, Doer],
        reader: ReplayReader,
    ) -> None:
        self._store = store
        self._clock = clock
        self._providers = providers
        self._tools = tools
        self._modes = modes
        self._running: dict[UUID, Live] = {}
        self._reader = reader

    async def start(self, caller: Caller, order: Order, request: RequestKey | None) -> UUID:
        """Check a replay, put its start on record, and run it. A ``request`` that came before gives its replay.

        Raises as ``check_order``, StoreUnavailable where nothing can be written, and IdempotencyMismatch.
        """
        self._store.check_writable()
        checked = await self._check(caller, order)
        id_, draft = self._clock.new_id(), Draft(checked.facts, checked.words)
        work = Append(
            caller.tenant,
            id_,
            NoStream(),
            lambda _, __: seal([draft], caller, self._clock),
            request=self._store.keyed(caller.tenant, request),
            reference=Reference("replay", id_, 0),
        )
        answer = await self._store.append(work)
        if answer.replayed is not None:
            return answer.replayed.id
        self._run(Run(id_, caller, checked.facts, checked.model))
        return id_

    async def unrecorded(self, caller: Caller, order: Order) -> AsyncGenerator[Result, None]:
        """The results of a replay of the mode recorded of which nothing is put on record: nothing can be written."""
        checked = await self._check(caller, order)
        run = Run(self._clock.new_id(), caller, checked.facts, checked.model)
        async with aclosing(self._modes["recorded"].outcomes(run)) as outcomes:
            async for outcome in outcomes:
                assert outcome.result is not None, "the mode recorded puts no result on record"
                yield outcome.result

    async def resume(self, caller: Caller, replay: UUID) -> None:
        """Go on with a replay that was cut off; one that runs here goes on anyhow. Raises ReplayNotFound and
        ReplayEnded.
        """
        self._store.check_writable()
        state = await self._store.read(partial(state_of, tenant=caller.tenant, replay=replay))
        running(state)
        await self._resume(caller.tenant, state)

    async def resume_all(self) -> int:
        """Go on with all replays that were cut off; how many there are."""
        if not self._store.can_write:
            return 0
        found = await self._store.read(running_replays)
        for tenant, state in found:
            await self._resume(tenant, state)
        return len(found)

    async def cancel(self, caller: Caller, replay: UUID, request: RequestKey | None = None) -> None:
        """Cancel a replay, and the turns that it has under way. One that has ended stays as it is. Raises
        ReplayNotFound and IdempotencyMismatch.
        """
        await self._store.read(partial(state_of, tenant=caller.tenant, replay=replay))
        live = self._running.get(replay)
        tally = live.tally if live is not None and live.run.facts.mode == "recorded" else None
        await self._append(caller, replay, partial(cancel_replay, counts=tally), request)
        if live is not None and live.task is not None:
            live.run.cancelled_by = caller.actor
            live.task.cancel()
            await asyncio.wait({live.task})

    async def accept(
        self, caller: Caller, replay: UUID, turns: Sequence[UUID], request: RequestKey | None = None
    ) -> None:
        """Make the new answers to some turns the reference of the replay's suite.

        Raises ReplayNotFound, IdempotencyMismatch, and Invalid for a replay of no suite and a turn without a new answer
        in it.
        """
        read = partial(_acceptances, tenant=caller.tenant, replay=replay, turns=turns)
        state, accepted = await self._store.read(read)
        assert state.suite is not None
        await self._append(caller, state.suite, partial(accept_results, replay=state, accepted=accepted), request)

    async def close(self) -> None:
        """Stop what runs; it stays on record as running, and is gone on with later."""
        self._reader.close()
        tasks = [live.task for live in self._running.values() if live.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _check(self, caller: Caller, order: Order) -> Checked:
        check = partial(check_order, tenant=caller.tenant, order=order, providers=self._providers, tools=self._tools)
        return await self._store.read(check)

    async def _resume(self, tenant: str, state: ReplayState) -> None:
        if state.id in self._running:
            return
        self._run(await self._store.read(partial(_run_before, tenant=tenant, state=state)))

    # --- running ------------------------------------------------------------------------------------------------------

    def _run(self, run: Run) -> None:
        live = self._running[run.id] = Live(run)
        if run.facts.mode == "recorded":
            kept = self._reader.live
            kept[run.id] = live
            ended = [id_ for id_ in kept if id_ not in self._running]
            for id_ in ended[: max(0, len(kept) - KEPT)]:
                del kept[id_]
        live.task = asyncio.create_task(self._work(live), name=f"replay {run.id}")
        live.task.add_done_callback(lambda _: self._running.pop(run.id, None))

    async def _work(self, live: Live) -> None:
        """Do all that is left, and put the end on record. Where the engine ends, or nothing can be written, that is
        left for the next start.
        """
        run, error = live.run, None
        try:
            error = await self._outcomes(live)
        except (ShuttingDown, StoreFull, StoreUnavailable, ReplayEnded) as stopped:
            log.info("replay %s stops: %s", run.id, stopped.detail)
            return
        except EngineError as failed:
            error = failed.code
        except Exception:
            log.exception("replay %s failed", run.id)
            error = INTERNAL
        tally = live.tally if run.facts.mode == "recorded" else None
        with suppress(ReplayEnded, StoreError):
            await self._append(run.caller, run.id, partial(complete_replay, error=error, counts=tally))

    async def _outcomes(self, live: Live) -> str | None:
        """Do what is left; the code of what keeps the rest from being done."""
        run = live.run
        async with aclosing(self._modes[run.facts.mode].outcomes(run)) as outcomes:
            async for outcome in outcomes:
                await self._note(live, outcome)
                live.spent_micros += outcome.micros
                most = run.facts.max_cost_micros
                if most is not None and live.spent_micros >= most and run.left:
                    return OVER_COST
        return None

    async def _note(self, live: Live, outcome: Outcome) -> None:
        run = live.run
        if outcome.facts is not None:
            await self._append(run.caller, run.id, partial(note_result, facts=outcome.facts))
            run.done[outcome.facts.started] = outcome.facts
        elif outcome.result is not None:
            live.add(outcome.result)
            if len(live.results) % RESULTS_A_BELL == 1:
                self._store.bells.ring({(run.caller.tenant, run.id.int)})

    async def _append(self, caller: Caller, stream: UUID, drafts: Drafts, request: RequestKey | None = None) -> None:
        def decide(_: Place, state: Any) -> list[NewEvent]:
            return seal(drafts(state), caller, self._clock)

        keyed = self._store.keyed(caller.tenant, request)
        await self._store.append(Append(caller.tenant, stream, Exists(), decide, request=keyed))


def _run_before(connection: Connection, *, tenant: str, state: ReplayState) -> Run:
    """A replay that was cut off, as it is on record."""
    event, facts, model = started_of(connection, tenant, state)
    done = {each.started: each for each in compared_on_record(connection, tenant, state.id)}
    caller = Caller(tenant, event.actor, event.correlation)
    return Run(state.id, caller, facts, model, done, resumed=True)


def _acceptances(
    connection: Connection, *, tenant: str, replay: UUID, turns: Sequence[UUID]
) -> tuple[ReplayState, list[Acceptance]]:
    state = state_of(connection, tenant, replay)
    if state.suite is None:
        raise Invalid("results", "the replay is of no suite, so there is nothing to accept them for")
    if state.mode == "recorded":
        raise Invalid("results", "in the mode recorded the log answers, so there is no new answer to accept")
    found = {each.turn: each for each in compared_on_record(connection, tenant, replay)}
    accepted = []
    for turn in turns:
        result = found.get(turn)
        if result is None or result.new_turn is None or result.verdict not in {"same", "different"}:
            raise Invalid("results", f"there is no new answer to turn {turn} in this replay")
        accepted.append(Acceptance(result.started, position_of(connection, tenant, result.new_turn)))
    return state, accepted
