"""The one writer: a thread that owns the only writing connection, and commits for everybody who waits (*group
commit*).

Callers hand over a work and await its result. The thread takes all that waits (bounded), runs each work in one
transaction, commits once, and only then answers. Works that readers wait for come ahead of all others. A work that is
refused is refused alone. A database error rolls everything back and drops what the writer knew by heart; the works are
then done again one by one, so that each gets its own answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection

from ..clock import Clock
from ..errors import EngineError, Overloaded, StoreUnavailable
from ..settings import Settings
from .base import Decoder, Projector
from .sql.damage import Damage
from .sql.driver import transaction
from .sqlite.connection import (
    BEGIN_WRITING,
    DRIVER_ERRORS,
    PAGE_BYTES,
    checkpoint,
    meaning_of,
    needs_reopening,
    open_writer,
)
from .sqlite.purge import RETRY_S, Purger
from .sqlite.reopening import check_ends
from .transaction import Heads, StateKey, Transaction, UnrecordableError

log = logging.getLogger("manent.store")

Work = Callable[[Transaction], Any]
Changed = Callable[[set[StateKey]], None]
Took = Callable[[float], None]
"""Told how many seconds passed from handing a work over until it was durable."""

RESUME_S = 0.002
"""How long the writer waits for those it has just answered: they come again together with those who waited meanwhile,
one commit is made where there would be two, and both threads do not struggle for the interpreter's lock. A work that
comes ahead of all others is not kept waiting."""

BESIDE_AHEAD = 1
"""So many other works go along with those that come ahead of all: these do not wait long, and the others get on."""

PAGES_PER_COMMIT, PAGES_PER_TURN = 8, 2
"""About what a commit writes at the least, a leaf of each table and index; and what it writes for each turn of which it
has frames. SQLite tells it with a checkpoint only."""


class _Job(msgspec.Struct):
    """A work, who waits for it, and how it went."""

    work: Work
    future: asyncio.Future[Any]
    ahead: bool
    took: Took | None = None
    begun_s: float = 0.0
    result: Any = None
    error: Exception | None = None


class Writer:
    """See the module. ``changed`` is called on the event loop after each commit, with the sessions that it
    changed.
    """

    def __init__(
        self,
        path: Path,
        projector: Projector,
        clock: Clock,
        *,
        decode: Decoder | None = None,
        damage: Damage | None = None,
        changed: Changed,
        settings: Settings,
    ) -> None:
        self._projector = projector
        self._clock = clock
        self._changed = changed
        self._queue_writes = settings.queue_writes
        self._batch_writes = settings.batch_writes
        self._checkpoint_pages = settings.checkpoint_pages
        self._heads = Heads(settings.cached_sessions)
        self._acknowledged: dict[str, int] = {}
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._hurry = False
        self._ahead: deque[_Job] = deque()
        self._behind: deque[_Job] = deque()
        self._ending = False
        self._waiting = 0
        self._pages_waiting = 0
        self._closed = False
        self._resumed = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._purger = Purger(path)
        self._may_purge = False
        self._purges: deque[asyncio.Future[bool]] = deque()
        self._engine = open_writer(path, decode=decode, damage=damage)
        self._connection = self._engine.connect()
        self._distrusted = False
        self._thread = threading.Thread(target=self._run, name="manent-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Work) -> Any:
        """The result of ``work``, once it is durable.

        Raises what the work was refused with, Overloaded where too much waits, or a StoreError.
        """
        return await self.submit(work)

    def submit(
        self, work: Work, *, urgent: bool = False, ahead: bool = False, took: Took | None = None
    ) -> asyncio.Future[Any]:
        """As ``do``, without waiting: works are done in the order they are submitted, those ``ahead`` before all that
        wait: readers wait for them. ``urgent`` ones are taken however many wait: they belong to turns that run, which
        are bounded themselves. ``took`` is called for a work that was not refused.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._waiting >= self._queue_writes and not urgent:
            raise Overloaded("too many writes are waiting", limit="queue_writes", retry_after_s=1)
        self._waiting += 1
        job = _Job(work, self._loop.create_future(), ahead, took)
        if took is not None:
            job.begun_s = self._clock.monotonic_s()
        self._queue.put(job)
        if ahead:
            self._hurry = True
            self._resumed.set()
        return job.future

    @property
    def waiting(self) -> int:
        """How many works are not answered yet."""
        return self._waiting

    def begin_purging(self) -> None:
        """Purge what an earlier process has left to be purged, now and at the end: the file is known to be the right
        one.
        """
        self._may_purge = True
        self._purges.append(self._loop.create_future())
        self.submit(_nothing, urgent=True)

    async def purge(self) -> bool:
        """Clear the bytes of what was erased out of the file, after all that was submitted before. False: a reader's
        snapshot is in the way; it will be done when it has gone.
        """
        done: asyncio.Future[bool] = self._loop.create_future()
        self._purges.append(done)
        await self.submit(_nothing, urgent=True)
        return await done

    async def close(self) -> None:
        """Do what waits, then close the connection: it is the last one, and SQLite clears the write-ahead log
        away.
        """
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the writer's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._take():
            changed = self._commit(batch)
            self._answer(batch, changed)
            self._checkpoint()
            if self._purges:
                self._purge()
            if len(batch) > 1:
                self._resumed.wait(RESUME_S)
        with suppress(*DRIVER_ERRORS, EngineError):
            self._live_connection()  # the last one that is closed writes, and had better be a good one
        self._purge(look=self._may_purge)
        self._connection.close()
        self._engine.dispose()
        self._purger.close()

    def _take(self) -> list[_Job]:
        """Take the waiting works, up to the limit; if there are none, wait for the next. None: that was the end."""
        if not (self._ahead or self._behind or self._ending):
            self._line_up(self._next())
        self._hurry = False
        with suppress(queue.Empty):
            while not self._ending:
                self._line_up(self._queue.get_nowait())
        batch = _first(self._ahead, self._batch_writes)
        return batch + _first(self._behind, BESIDE_AHEAD if batch else self._batch_writes)

    def _line_up(self, job: _Job | None) -> None:
        if job is None:
            self._ending = True
        else:
            (self._ahead if job.ahead else self._behind).append(job)

    def _next(self) -> _Job | None:
        """Wait for the next work. While a purge is due, it is tried again whenever nothing comes for a while."""
        while True:
            try:
                return self._queue.get(timeout=RETRY_S if self._purger.due else None)
            except queue.Empty:
                self._purge()

    def _commit(self, batch: list[_Job]) -> set[StateKey]:
        """Run a batch in one transaction; on a database error one by one. Returns the sessions changed.

        After a failed write or sync nobody knows whether the commit is on the disk, so nothing is done again: all are
        told that it failed, and the file is opened and read anew.
        """
        try:
            return self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, nobody may be left waiting
            self._recover(error)
            if len(batch) == 1 or needs_reopening(error):
                verdict = self._verdict(error)
                for job in batch:
                    job.result, job.error = None, verdict
                return set()
        changed: set[StateKey] = set()
        for job in batch:
            changed |= self._commit([job])
        return changed

    def _transact(self, batch: list[_Job]) -> set[StateKey]:
        """Do the works of a batch in one transaction. When one comes that is ahead of them, those that are not done yet
        stand in line again, and are of this batch no more: a hundred ends of turns take 30 ms.
        """
        connection = self._live_connection()
        with transaction(connection, BEGIN_WRITING):
            tx = Transaction(connection, self._heads, self._projector, self._clock)
            for number, job in enumerate(batch):
                if number and self._hurry and not job.ahead:
                    self._behind.extendleft(reversed(batch[number:]))
                    del batch[number:]
                    break
                job.error = None
                try:
                    job.result = job.work(tx)
                except EngineError as refusal:
                    # Its traceback has this frame, and so would keep the whole batch until garbage is collected.
                    job.error = refusal.with_traceback(None)
            tx.flush()
        for tenant, _ in tx.changed:
            self._acknowledged[tenant] = self._heads.logs[tenant].size
        self._heads.trim()
        self._pages_waiting += _pages(tx)
        return tx.changed

    def _recover(self, error: Exception) -> None:
        self._heads.drop()
        self._projector.forget()
        self._distrusted = self._distrusted or needs_reopening(error)

    def _live_connection(self) -> Connection:
        """The connection; a new one if it is not to be trusted, or was closed. Raises while the file cannot be opened,
        or is not as it was left.
        """
        if self._distrusted or self._connection.closed:
            connection = self._engine.connect()
            try:
                check_ends(connection, self._acknowledged)
            except BaseException:
                connection.close()
                raise
            # Only now: SQLite writes when a file's last connection is closed, and would do so through the old one.
            with suppress(*DRIVER_ERRORS):
                if not self._connection.closed:
                    self._connection.invalidate()
                self._connection.close()
            self._connection, self._distrusted = connection, False
        return self._connection

    def _verdict(self, error: Exception) -> Exception:
        if isinstance(error, DRIVER_ERRORS):
            meaning = meaning_of(error)
            log.warning("a write failed: %s (%s)", meaning.detail, meaning.extra.get("reason"))
            return meaning
        if isinstance(error, EngineError):
            return error
        if isinstance(error, UnrecordableError) and isinstance(error.__cause__, EngineError):
            return error.__cause__
        log.error("a write failed", exc_info=error)
        return error

    def _checkpoint(self) -> None:
        """Move committed pages into the database file when enough of them wait: small, often, and never waiting
        for readers. Nobody waits for it; but a disk that fails it has failed the connection.
        """
        if self._pages_waiting < self._checkpoint_pages:
            return
        self._pages_waiting = 0
        try:
            checkpoint(self._live_connection())
        except (*DRIVER_ERRORS, EngineError) as error:
            if needs_reopening(error):
                self._recover(error)

    def _purge(self, *, look: bool = False) -> None:
        """Purge the file if that is due, and tell those who wait for it. ``look``: see first whether it is."""
        waiting = [self._purges.popleft() for _ in range(len(self._purges))]
        try:
            if look or waiting:
                self._purger.look(self._live_connection())
            if self._purger.due and self._purger.truncate_log(self._live_connection()):
                self._connection.close()
                self._purger.scrub()
                self._purger.done(self._live_connection())
        except Exception:  # whatever it was, it is tried again, and nobody may be left waiting
            log.warning("what was erased could not be purged yet", exc_info=True)
        with suppress(RuntimeError):
            for done in waiting:
                self._loop.call_soon_threadsafe(_settle_purge, done, not self._purger.due)

    def _answer(self, batch: list[_Job], changed: set[StateKey]) -> None:
        if len(batch) > 1:
            self._resumed.clear()
        with suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._settle, batch, changed)

    # --- back on the event loop ---------------------------------------------------------------------------------------

    def _settle(self, batch: list[_Job], changed: set[StateKey]) -> None:
        self._waiting -= len(batch)
        for job in batch:
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        if changed:
            self._changed(changed)
        if len(batch) > 1:  # else nobody waits for it
            # After those who were answered: their wake-ups stand in the loop's queue already.
            self._loop.call_soon(self._resumed.set)
        self._report(batch)

    def _report(self, batch: list[_Job]) -> None:
        now_s = self._clock.monotonic_s()
        for job in batch:
            if job.took is not None and job.error is None:
                job.took(now_s - job.begun_s)


def _first(jobs: deque[_Job], count: int) -> list[_Job]:
    """The first so many, taken out."""
    return [jobs.popleft() for _ in range(min(count, len(jobs)))]


def _pages(tx: Transaction) -> int:
    """About so many pages a transaction has written: each session has a row of its own, and each turn's frames lie
    beside one another; the other columns of an event, or of a frame, are about as large as its words.
    """
    return PAGES_PER_COMMIT + len(tx.changed) + PAGES_PER_TURN * tx.journaled + 2 * tx.word_bytes // PAGE_BYTES


def _nothing(_: Transaction) -> None:
    """A work that is only waited for."""


def _settle_purge(future: asyncio.Future[bool], done: bool) -> None:  # noqa: FBT001 - a result
    if not future.done():
        future.set_result(done)
