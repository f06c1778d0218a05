"""The supervisor owns the running turns: it starts and cancels them, and drains them at shutdown.

A turn's run is a row with an owner and a lease. While the owner lives it renews its leases; recovery ends only turns
whose lease has expired. The lock on an embedded database proves that the process that ran a turn before is dead, so
there every run found at the start is an orphan.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from uuid import UUID

from ..access.limits import RateLimits
from ..clock import Clock
from ..errors import RETRY_AFTER_S, EngineError, Overloaded, ShuttingDown
from ..log.base import RequestKey
from ..log.leases import ExtendLeases, OpenRun, extend_leases, request_cancel
from ..log.store import Store
from ..providers.registry import Providers
from ..providers.resilience import Guards
from ..providers.routes import ROUTE, RouteProvider
from ..providers.secrets import secrets_of
from ..sessions.turn_commands import TurnStop
from ..settings import Settings
from ..tools.runner import ToolRunner
from .journal_writer import JournalWriter
from .observer import Observer
from .recovery import SYSTEM
from .turn import RunningTurn, Runtime

log = logging.getLogger("manent.turns")

APPENDS_AT_ONCE = 4
"""Turns that append at the same time: enough to share the fixed cost of a commit."""
LET_GO_S = 2.0
"""The time that a turn which can be neither started nor ended gets at shutdown."""


class Supervisor:
    """The turns of one process."""

    def __init__(
        self,
        store: Store,
        providers: Providers,
        tools: ToolRunner,
        clock: Clock,
        settings: Settings,
        observer: Observer | None = None,
    ) -> None:
        owner, observer = clock.new_id(), observer or Observer()
        self.runtime = Runtime(
            store=store,
            journal=JournalWriter(store, owner, observer.flush_took),
            clock=clock,
            settings=settings,
            owner=owner,
            providers=providers,
            guards=Guards(settings, clock, observer.breaker_changed),
            limits=RateLimits(settings, clock),
            secrets=secrets_of(settings, providers.keys),
            tools=tools,
            observer=observer,
            appending=asyncio.Semaphore(APPENDS_AT_ONCE),
        )
        routes = providers.get(ROUTE)
        if isinstance(routes, RouteProvider):
            routes.left_alone = self.runtime.guards.left_alone
        self._turns: dict[UUID, RunningTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases = asyncio.create_task(self._renew_leases())
        self._starting = 0
        self._all_started = asyncio.Event()
        self._all_started.set()
        self.draining = False

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Admit one more turn while it is being started. Raises ShuttingDown or Overloaded."""
        if self.draining:
            raise ShuttingDown("the server is shutting down", retry_after_s=RETRY_AFTER_S)
        if len(self._turns) + self._starting >= self.runtime.settings.max_open_turns:
            raise Overloaded("too many turns are running", limit="max_open_turns", retry_after_s=RETRY_AFTER_S)
        self._starting += 1
        self._all_started.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if not self._starting:
                self._all_started.set()

    def run_of(self, tenant: str, session_id: UUID, turn_id: UUID) -> OpenRun:
        """The run and its lease, to be written with a turn's start."""
        return OpenRun(tenant, turn_id, session_id, self.runtime.owner, self._lease_end())

    def start(self, turn: RunningTurn) -> None:
        """Run a turn whose start, or whose resumption, is recorded."""
        self._turns[turn.id] = turn
        task = asyncio.create_task(turn.run(), name=f"turn {turn.id}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, turn))

    def find(self, turn_id: UUID) -> RunningTurn | None:
        """The turn, if it runs in this process."""
        return self._turns.get(turn_id)

    def running(self) -> list[RunningTurn]:
        """The turns that run in this process."""
        return list(self._turns.values())

    async def cancel(self, tenant: str, turn_id: UUID, actor: str, idempotency: RequestKey | None = None) -> None:
        """Cancel a turn; returns when it has ended. An ended turn stays as it is.

        The turn is stopped at once, even if the disk is slow. The cancellation is recorded too, so that it outlives the
        server: when this returns, the turn has ended, or the cancellation is on record.
        """
        running = self._turns.get(turn_id)
        if running is not None and running.caller.tenant == tenant:
            running.stop(TurnStop("cancelled", actor))
        work = partial(request_cancel, tenant=tenant, turn=turn_id, actor=actor, request=idempotency)
        is_open = await self.runtime.store.submit(work, urgent=True)
        if is_open and running is not None:
            await running.tail.end()

    async def drain(self) -> None:
        """Take no more turns, let those that run end within ``drain_s``, then interrupt the rest."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LET_GO_S):
                await self._all_started.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.runtime.settings.drain_s)
        for turn in self.running():
            turn.stop(TurnStop("shutdown", SYSTEM))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(LET_GO_S, self.runtime.settings.drain_s))

    async def close(self) -> None:
        """Drain, then abandon the turns that cannot be ended: the next start ends them."""
        await self.drain()
        tasks = {*self._tasks, self._leases}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LET_GO_S)

    def _ended(self, turn: RunningTurn, task: asyncio.Task[None]) -> None:
        if self._turns.get(turn.id) is turn:  # it may have been paused, and resumed already
            del self._turns[turn.id]
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("turn %s could not be ended", turn.id, exc_info=task.exception())

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self.runtime.settings.lease_s / 3)
            if not self._turns:
                continue
            work = ExtendLeases(self.runtime.owner, self._lease_end())
            with suppress(EngineError):
                await self.runtime.store.do(partial(extend_leases, work=work))

    def _lease_end(self) -> int:
        return self.runtime.clock.now_us() + self.runtime.settings.lease_s * 1_000_000
