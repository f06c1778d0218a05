"""Readers: they follow a turn's frames or a log's events, from any cursor, live or long after.

A reader takes the frames after its cursor from the turn's tail, or, if the cursor lies before the tail, from the
database. It never slows the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from ..errors import RETRY_AFTER_S, Overloaded, SessionNotFound, ShuttingDown, TurnNotFound
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from ..log.store import Store
from ..sessions import queries
from ..sessions.lineage import stretches
from ..sessions.state import SessionState
from ..sessions.turn_state import TurnState
from ..settings import Settings
from .backlog import BYTES_AT_ONCE, FRAMES_AT_ONCE, Backlog, up_to_damage
from .frames import Frame
from .subscribers import Subscribers
from .tail import Tail

POLL_S = 0.25
"""The time between two reads of a turn that runs in another process."""

SHUTTING_DOWN = Frame(0, "shutting_down", b"{}")
"""The frame that tells readers of a shutdown. Their turn may still end in time. It is not part of the record."""

Found = TypeVar("Found", bound=Sized)
More = TypeVar("More")


class LiveTurn(Protocol):
    """The part of a running turn that its readers need. The turn knows nothing of them."""

    @property
    def id(self) -> UUID: ...
    @property
    def tenant(self) -> str: ...
    @property
    def tail(self) -> Tail: ...
    @property
    def subscribers(self) -> Subscribers: ...


class Follower:
    """Serves readers, at most ``max_readers`` at once. ``find`` and ``running`` give the turns that run in this
    process.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        find: Callable[[UUID], LiveTurn | None],
        running: Callable[[], Iterable[LiveTurn]],
    ) -> None:
        self._store = store
        self._find = find
        self._running = running
        self._settings = settings
        self._readers = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Tell the readers of turns that the server ends, and end the streams of those who follow a log, which has no
        end: a shutdown must not wait for them.
        """
        self._closing.set()
        for turn in self._running():
            turn.tail.ring()

    async def turn_state(self, tenant: str, turn_id: UUID) -> TurnState:
        """The state of a turn. Raises TurnNotFound."""
        state = await self._store.read(partial(queries.turn_state, tenant=tenant, turn=turn_id))
        if state is None:
            raise TurnNotFound("there is no such turn", turn_id=str(turn_id))
        return state

    def frames(self, tenant: str, turn_id: UUID, after: int = 0) -> AsyncGenerator[list[Frame], None]:
        """A turn's frames after a number, in batches, up to its end; an empty one every ``keepalive_s`` of silence.

        There is no generator around these two: it would double the cost of each batch.
        """
        running = self._find(turn_id)
        if running is None or running.tenant != tenant:
            return self._recorded(tenant, turn_id, after)
        return self._live(running, after)

    async def ended(self, tenant: str, turn_id: UUID, wait_s: float | None = None) -> bool:
        """Wait until a turn has ended, or is paused; False if ``wait_s`` was not enough. The caller counts as a reader
        of the turn; one that is cancelled meanwhile has disconnected.
        """
        with self._counted():
            running = self._find(turn_id)
            if running is None or running.tenant != tenant:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        return await self._over(tenant, turn_id)
                return False
            with running.subscribers.reader() as reader:
                try:
                    async with asyncio.timeout(wait_s):
                        await running.tail.end()
                except TimeoutError:
                    reader.excused = True
                    return False
            return True

    async def events(
        self, tenant: str, session_id: UUID | None, after: int | None = None
    ) -> AsyncGenerator[list[RecordedEvent], None]:
        """Follow the events of a session (or, for None, of the whole log) as they are committed: after a version (a
        position), or after the newest. An empty batch: there are no more events now.
        """
        with self._counted(), self._store.bells.listen(tenant, session_id) as bell:
            newest = await self._store.read(partial(_newest, tenant=tenant, session_id=session_id))
            cursor = newest if after is None else after
            while not self._closing.is_set():
                bell.clear()
                batch = await self._store.read(partial(_events, tenant=tenant, session_id=session_id, after=cursor))
                yield batch
                if batch:
                    cursor = batch[-1].position if session_id is None else batch[-1].version
                else:
                    await self._wait(bell, self._settings.keepalive_s)

    async def first(
        self, tenant: str, session_id: UUID | None, read: Callable[[], Awaitable[tuple[Found, More]]], wait_s: float
    ) -> tuple[Found, More]:
        """Wait until ``read`` finds something in a session (or, for None, in the whole log). After ``wait_s``, or when
        the server ends, the result may be empty. Raises ShuttingDown for a wait that begins while the server ends: that
        client would retry at once.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        ending = self._closing.is_set()
        with self._counted(), self._store.bells.listen(tenant, session_id) as bell:
            while True:
                bell.clear()
                found = await read()
                if ending and not len(found[0]):
                    raise ShuttingDown("the server is shutting down", retry_after_s=RETRY_AFTER_S)
                left_s = until - loop.time()
                if len(found[0]) or left_s <= 0 or self._closing.is_set():
                    return found
                await self._wait(bell, left_s)

    async def _wait(self, bell: asyncio.Event, timeout_s: float) -> None:
        waits = [asyncio.ensure_future(bell.wait()), asyncio.ensure_future(self._closing.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _live(self, turn: LiveTurn, after: int) -> AsyncGenerator[list[Frame], None]:
        tail = turn.tail
        cursor, loop, beat_s = after, asyncio.get_running_loop(), self._settings.keepalive_s / 2
        sent_at, told_end, backlog = loop.time(), False, None
        with self._counted(), turn.subscribers.reader(), _beating(tail, beat_s):
            while True:
                batch = tail.after(cursor, FRAMES_AT_ONCE)
                if batch is None:
                    backlog = backlog or Backlog(turn.tenant, turn.id)
                    batch = await self._store.read(partial(backlog.read, after=cursor))
                else:
                    backlog = None
                if batch:
                    cursor = batch[-1].number
                    yield batch
                elif tail.closed:
                    if tail.error is not None:
                        yield [tail.error]
                    return
                elif self._closing.is_set() and not told_end:
                    told_end = True
                    yield [SHUTTING_DOWN]
                elif loop.time() - sent_at >= beat_s:
                    yield []
                else:
                    await tail.next_ring()
                    continue
                sent_at = loop.time()

    async def _recorded(self, tenant: str, turn_id: UUID, after: int) -> AsyncGenerator[list[Frame], None]:
        """Follow a turn that does not run in this process: it has ended, or is paused, or another process runs it."""
        cursor, backlog, silent_s = after, Backlog(tenant, turn_id), 0.0
        with self._counted():
            while True:
                batch = await self._store.read(partial(backlog.read, after=cursor))
                if batch:
                    cursor, silent_s = batch[-1].number, 0.0
                    yield batch
                elif not backlog.running or self._closing.is_set():
                    return
                else:
                    await asyncio.sleep(POLL_S)
                    silent_s += POLL_S
                    if silent_s >= self._settings.keepalive_s:
                        silent_s = 0.0
                        yield []

    async def _over(self, tenant: str, turn_id: UUID) -> bool:
        """Wait until a turn of another process does not run any more; False if the server ends meanwhile."""
        while (await self.turn_state(tenant, turn_id)).status == "running":
            if self._closing.is_set():
                return False
            await asyncio.sleep(POLL_S)
        return True

    @property
    def readers(self) -> int:
        """How many there are now."""
        return self._readers

    def admit(self) -> None:
        """Raises Overloaded if there is no room for one more reader."""
        if self._readers >= self._settings.max_readers:
            raise Overloaded("too many streams are open", limit="max_readers", retry_after_s=RETRY_AFTER_S)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.admit()
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1


@contextmanager
def _beating(tail: Tail, every_s: float) -> Iterator[None]:
    """Wake the readers of a tail from time to time, so that they can send a keepalive: one timer a reader, because a
    timeout around each wait would cost as much as the wait.
    """
    timers: list[asyncio.TimerHandle] = []
    _beat_later(tail, every_s, timers)
    try:
        yield
    finally:
        timers.pop().cancel()


def _beat_later(tail: Tail, every_s: float, timers: list[asyncio.TimerHandle]) -> None:
    timers[:] = [asyncio.get_running_loop().call_later(every_s, _beat, tail, every_s, timers)]


def _beat(tail: Tail, every_s: float, timers: list[asyncio.TimerHandle]) -> None:
    tail.ring()
    _beat_later(tail, every_s, timers)


def _events(connection: Connection, *, tenant: str, session_id: UUID | None, after: int) -> list[RecordedEvent]:
    if session_id is None:
        read = reads.log_events(connection, tenant, after=after, limit=FRAMES_AT_ONCE, most_bytes=BYTES_AT_ONCE)
    else:
        along = stretches(connection, tenant, _state(connection, tenant, session_id), after)
        read = reads.events_along(connection, tenant, along, limit=FRAMES_AT_ONCE, most_bytes=BYTES_AT_ONCE)
    return up_to_damage(read)


def _newest(connection: Connection, *, tenant: str, session_id: UUID | None) -> int:
    if session_id is None:
        return reads.log_size(connection, tenant)
    return _state(connection, tenant, session_id).version


def _state(connection: Connection, tenant: str, session_id: UUID) -> SessionState:
    state = queries.session_state(connection, tenant, session_id)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session_id))
    return state
