"""Owns the running turns: starts them, cancels them, drains them at shutdown, and ends those whose server has died.

A turn's run is a row with an owner and a lease. While the owner lives it renews its leases; recovery ends only
turns whose lease is over. The lock on an embedded database proves that whoever ran a turn before is gone, so there
every run found at start is an orphan.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from uuid import UUID

from ..clock import Clock
from ..errors import RETRY_AFTER_S, EngineError, Overloaded, ShuttingDown
from ..log.base import RequestKey
from ..log.leases import ExtendLeases, OpenRun, extend_leases, request_cancel
from ..log.store import Store
from ..providers.registry import Providers
from ..providers.resilience import Guards
from ..settings import Settings
from ..tools.runner import ToolRunner
from .journal_writer import Journal
from .observer import Observer
from .outcomes import Stop
from .recovery import SYSTEM
from .turn import Kit, Turn

log = logging.getLogger("manent.turns")

APPENDS_AT_ONCE = 4
"""So many turns append at the same time; what a commit costs beside its rows is little then for each."""
LET_GO_S = 2.0
"""How long a turn that cannot be begun or ended may take to let go at shutdown."""


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
        self.kit = Kit(
            store=store,
            journal=Journal(store, owner, observer.flush_took),
            clock=clock,
            settings=settings,
            owner=owner,
            providers=providers,
            guards=Guards(settings, clock, observer.breaker_changed),
            tools=tools,
            observer=observer,
            appending=asyncio.Semaphore(APPENDS_AT_ONCE),
        )
        self._turns: dict[UUID, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leases = asyncio.create_task(self._renew_leases())
        self._starting = 0
        self._all_started = asyncio.Event()
        self._all_started.set()
        self.draining = False

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Room for one more turn, while it is being started. Raises ShuttingDown or Overloaded where there is none."""
        if self.draining:
            raise ShuttingDown("the server is shutting down", retry_after_s=RETRY_AFTER_S)
        if len(self._turns) + self._starting >= self.kit.settings.max_open_turns:
            raise Overloaded("too many turns are running", limit="max_open_turns", retry_after_s=RETRY_AFTER_S)
        self._starting += 1
        self._all_started.clear()
        try:
            yield
        finally:
            self._starting -= 1
            if not self._starting:
                self._all_started.set()

    def run_of(self, tenant: str, session: UUID, turn: UUID) -> OpenRun:
        """The scratch row that must be written with a turn's start."""
        return OpenRun(tenant, turn, session, self.kit.owner, self._lease_end())

    def start(self, turn: Turn) -> None:
        """Run a turn whose start, or whose going on, is recorded."""
        self._turns[turn.id] = turn
        task = asyncio.create_task(turn.run(), name=f"turn {turn.id}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, turn))

    def find(self, turn: UUID) -> Turn | None:
        """A turn that runs in this process."""
        return self._turns.get(turn)

    def running(self) -> list[Turn]:
        """The turns that run in this process."""
        return list(self._turns.values())

    async def cancel(self, tenant: str, turn: UUID, actor: str, request: RequestKey | None = None) -> None:
        """Have a turn cancelled; returns when it has ended. An ended turn stays as it is.

        It hears of it at once, whatever waits for the disk. The wish is put on record too, so that it outlives the
        server: when this returns, one or the other has.
        """
        running = self._turns.get(turn)
        if running is not None and running.caller.tenant == tenant:
            running.stop(Stop("cancelled", actor))
        work = partial(request_cancel, tenant=tenant, turn=turn, actor=actor, request=request)
        is_open = await self.kit.store.submit(work, urgent=True)
        if is_open and running is not None:
            await running.tail.end()

    async def drain(self) -> None:
        """Take no more turns, let those that run end within ``drain_s``, then interrupt the rest."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LET_GO_S):
                await self._all_started.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.kit.settings.drain_s)
        for turn in self.running():
            turn.stop(Stop("shutdown", SYSTEM))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(LET_GO_S, self.kit.settings.drain_s))

    async def close(self) -> None:
        """Drain, then let go of what cannot be ended: the next start ends it."""
        await self.drain()
        tasks = {*self._tasks, self._leases}
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LET_GO_S)

    def _ended(self, turn: Turn, task: asyncio.Task[None]) -> None:
        if self._turns.get(turn.id) is turn:  # it may have been paused, and go on already
            del self._turns[turn.id]
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("turn %s could not be ended", turn.id, exc_info=task.exception())

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self.kit.settings.lease_s / 3)
            if not self._turns:
                continue
            work = ExtendLeases(self.kit.owner, self._lease_end())
            with suppress(EngineError):
                await self.kit.store.do(partial(extend_leases, work=work))

    def _lease_end(self) -> int:
        return self.kit.clock.now_us() + self.kit.settings.lease_s * 1_000_000
