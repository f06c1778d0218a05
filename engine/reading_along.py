"""Reading along: a turn's frames and a log's events, from any cursor, live or long after.

A reader takes what follows its cursor from the turn's tail, or, where the cursor lies before it, from the
database; it never slows the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from uuid import UUID

import msgspec

from engine.answer import START
from engine.errors import Overloaded, SessionNotFound, TurnNotFound
from engine.projections import queries
from engine.projections.turn import TurnState
from engine.recorder import frame_of
from engine.settings import Settings
from engine.store import reading
from engine.store.base import Connection, RecordedEvent
from engine.store.log import Store
from engine.store.runs import journal_rows
from engine.story import Story
from engine.supervisor import Supervisor
from engine.tail import Tail
from engine.views import Frame, Turn

FRAMES_AT_ONCE = 512
"""Most frames, or events, that a reader is given at once."""

POLL_S = 0.25
"""How often a turn that runs in another process is looked at."""


class Follower:
    """Gives readers what they follow. Bounded: ``max_readers`` at once."""

    def __init__(self, store: Store, supervisor: Supervisor, settings: Settings) -> None:
        self._store = store
        self._supervisor = supervisor
        self._settings = settings
        self._readers = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let go of those who follow a log, which has no end: a shutdown must not wait for them."""
        self._closing.set()

    async def turn_state(self, tenant: str, turn: UUID) -> TurnState:
        """Raises TurnNotFound."""
        state = await self._store.read(partial(queries.turn_state, tenant=tenant, turn=turn))
        if state is None:
            raise TurnNotFound("there is no such turn", turn_id=str(turn))
        return state

    async def frames(
        self, tenant: str, turn: UUID, after: int = 0, *, present: bool = True
    ) -> AsyncGenerator[list[Frame], None]:
        """A turn's frames after a number, in batches, up to its end; an empty batch every ``keepalive_s`` of silence.
        ``present``: this reader's leaving may cancel a turn that wished so.
        """
        with self._counted():
            running = self._supervisor.find(turn)
            if running is None or running.caller.tenant != tenant:
                async for batch in self._recorded(tenant, turn, after):
                    yield batch
                return
            tail = running.tail
            tail.readers += present
            try:
                async for batch in self._live(tenant, turn, tail, after):
                    yield batch
            finally:
                tail.readers -= present
                if present and tail.readers == 0 and not tail.closed and running.story.state.on_disconnect == "cancel":
                    running.stop_for_absence()

    async def events(
        self, tenant: str, session: UUID | None, after: int | None = None
    ) -> AsyncGenerator[list[RecordedEvent], None]:
        """Events of a session (or, for None, of the whole log) as they are committed: after a version (a
        position), or from the newest. An empty batch says that all there is was given.
        """
        with self._counted(), self._store.bells.listen(tenant, session) as bell:
            newest = await self._store.read(partial(_newest, tenant=tenant, session=session))
            cursor = newest if after is None else after
            while not self._closing.is_set():
                bell.clear()
                batch = await self._store.read(partial(_events, tenant=tenant, session=session, after=cursor))
                yield batch
                if batch:
                    cursor = batch[-1].position if session is None else batch[-1].version
                else:
                    await self._wait(bell)

    async def _wait(self, bell: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(bell.wait()), asyncio.ensure_future(self._closing.wait())]
        try:
            await asyncio.wait(waits, timeout=self._settings.keepalive_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _live(self, tenant: str, turn: UUID, tail: Tail, after: int) -> AsyncGenerator[list[Frame], None]:
        cursor, loop, beat_s = after, asyncio.get_running_loop(), self._settings.keepalive_s / 2
        told_at = loop.time()
        with _beating(tail, beat_s):
            while True:
                batch = tail.after(cursor)
                if batch is None:
                    batch = await self._read_frames(tenant, turn, cursor)
                if batch:
                    cursor = batch[-1].number
                    yield batch
                elif tail.closed:
                    if tail.error is not None:
                        yield [tail.error]
                    return
                elif loop.time() - told_at >= beat_s:
                    yield []
                else:
                    await tail.rung()
                    continue
                told_at = loop.time()

    async def _recorded(self, tenant: str, turn: UUID, after: int) -> AsyncGenerator[list[Frame], None]:
        cursor = after
        while (state := await self.turn_state(tenant, turn)).end_version is None:
            batch = await self._read_frames(tenant, turn, cursor)
            if batch:
                cursor = batch[-1].number
                yield batch
            elif state.status != "running":
                return
            else:
                await asyncio.sleep(POLL_S)
        # It has ended and changes no more: its events are read once, and told as they are asked for.
        events = await self._store.read(partial(turn_events, tenant=tenant, state=state))
        frames = told(turn, events, cursor)
        while batch := list(islice(frames, FRAMES_AT_ONCE)):
            yield batch

    async def _read_frames(self, tenant: str, turn: UUID, after: int) -> list[Frame]:
        return await self._store.read(partial(read_frames, tenant=tenant, turn=turn, after=after))

    def admit(self) -> None:
        """Raises Overloaded where there is no room for one more reader."""
        if self._readers >= self._settings.max_readers:
            raise Overloaded("too many streams are open", limit="max_readers", retry_after_s=5)

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
    """Ring a tail from time to time, so that who waits for it can say that it is alive: one timer a reader, where a
    time limit on each wait would cost as much as what is waited for.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def beat() -> None:
        tail.ring()
        timers[:] = [loop.call_later(every_s, beat)]

    timers.append(loop.call_later(every_s, beat))
    try:
        yield
    finally:
        timers[0].cancel()


def told(turn: UUID, events: Sequence[RecordedEvent], after: int) -> Iterator[Frame]:
    """The frames of a turn's events that follow a number, one by one."""
    story = Story(turn)
    for event in events:
        yield from story.deltas(event, after)
        for frame in story.tell(event):
            if frame.number > after:
                yield frame


def read_frames(
    connection: Connection, tenant: str, turn: UUID, after: int, limit: int = FRAMES_AT_ONCE
) -> list[Frame]:
    """The next frames of a turn after a number, from the record and, while it runs, from the journal: one
    snapshot.
    """
    state = queries.turn_state(connection, tenant, turn)
    assert state is not None
    story = Story(turn)
    frames: list[Frame] = []
    for event in turn_events(connection, tenant, state):
        told = story.tell(event, deltas_after=after, limit=limit - len(frames))
        frames += [frame for frame in told if frame.number > after]
        if len(frames) >= limit:
            return frames[:limit]
    if state.end_version is None:
        frames += _journalled(connection, tenant, turn, max(after, story.state.frame), limit - len(frames))
    return frames


def turn_events(connection: Connection, tenant: str, state: TurnState) -> list[RecordedEvent]:
    """The session's events from a turn's start to its end, or to now."""
    up_to = {} if state.end_version is None else {"up_to": state.end_version}
    return reading.session_events(connection, tenant, state.session, after=state.version - 1, **up_to)


def _journalled(connection: Connection, tenant: str, turn: UUID, after: int, limit: int) -> list[Frame]:
    starts = journal_rows(connection, tenant, turn, kind=START)
    types = {row.block: str(msgspec.json.decode(row.text)["type"]) for row in starts}
    rows = journal_rows(connection, tenant, turn, after=after, limit=limit)
    return [frame_of(row, types[row.block]) for row in rows]


def _events(connection: Connection, *, tenant: str, session: UUID | None, after: int) -> list[RecordedEvent]:
    if session is None:
        return reading.log_events(connection, tenant, after=after, limit=FRAMES_AT_ONCE)
    return reading.session_events(connection, tenant, session, after=after, limit=FRAMES_AT_ONCE)


def _newest(connection: Connection, *, tenant: str, session: UUID | None) -> int:
    if session is None:
        return reading.log_size(connection, tenant)
    state = queries.session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    return state.version


def read_turn(connection: Connection, *, tenant: str, turn: UUID) -> Turn:
    state = queries.turn_state(connection, tenant, turn)
    if state is None:
        raise TurnNotFound("there is no such turn", turn_id=str(turn))
    return turn_of(connection, tenant, state)


def read_turns(
    connection: Connection, *, tenant: str, session: UUID, after: int | None, limit: int, descending: bool
) -> list[tuple[int, Turn]]:
    states = queries.list_turns(connection, tenant, session, after=after, limit=limit, descending=descending)
    return [(state.version, turn_of(connection, tenant, state)) for state in states]


def turn_of(connection: Connection, tenant: str, state: TurnState) -> Turn:
    story = Story(state.id)
    for event in turn_events(connection, tenant, state):
        story.tell(event)
    return story.view()
