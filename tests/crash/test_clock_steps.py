"""The machine's clock steps back an hour, forward, or stands still: order, ids and cursors hold all the same."""

import asyncio
import os
import time
from collections import Counter
from itertools import pairwise

import pytest

from manent import engine
from manent.engine.clock import SystemClock, uuid7
from tests.crash.torture import LIMIT_S, TIMES, chance_of
from tests.crash.traced import provider
from tests.support import assert_rebuilds, audit, begin, chatting, frames_of, query, snapshot

HOUR_US = 3_600_000_000
STARTS = 3
SESSIONS = 4
STEPS = 6

CLOCKS = {
    "steps back": [0, 0, -HOUR_US],
    "steps forward": [0, 0, HOUR_US],
    "stands still": [None],
    "does anything": [0, None, -HOUR_US, HOUR_US, -24 * HOUR_US, 24 * HOUR_US, -1, 1],
}
"""What a clock does when it is looked at: a step of so many microseconds; None: it shows what it showed."""


class Stepping(SystemClock):
    """A machine's clock that somebody sets, again and again. What never steps back, does not."""

    def __init__(self, steps, chance):
        super().__init__()
        self.steps = steps
        self.chance = chance
        self.set_off_us = 0
        self.shown_us = time.time_ns() // 1000
        self.looked_at = Counter()

    def now_us(self):
        step = self.chance.choice(self.steps)
        before = self.shown_us
        if step is not None:
            self.set_off_us += step
            self.shown_us = time.time_ns() // 1000 + self.set_off_us
        self.looked_at["back" if self.shown_us < before else "still" if self.shown_us == before else "on"] += 1
        return self.shown_us

    def new_id(self):
        return uuid7(self.now_us() * 1000, os.urandom(10))


async def talk(chat, chance):
    """One session's life; each retried append gets its first answer, each turn is read again from anywhere."""
    session = (await chat.create_session(model="dictated/model")).id
    positions = []
    for _ in range(STEPS):
        if chance.random() < 0.7:
            message = engine.MessageIn("Again?", id=chat._parts.clock.new_id())
            (made,) = await chat.append_messages(session, [message])
            assert await chat.append_messages(session, [message]) == [made]
            positions.append(made.position)
            continue
        frames = await frames_of(chat, turn := await begin(chat, session, "Go."))
        ended = await chat.turn(turn)
        assert (ended.status, ended.started_at <= ended.ended_at) == ("completed", True)
        cursor = chance.randrange(len(frames))
        assert await frames_of(chat, turn, cursor) == frames[cursor:]
        assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
    assert positions == sorted(positions)
    view = await chat.session(session)
    assert view.created_at <= view.updated_at
    return session


async def following(chat, seen):
    """All of the log, as it is written."""
    async for batch in chat.follow(None, after=0):
        seen += [(event.position, event.recorded_at, event.id) for event in batch]


async def paged(read, chance, **more):
    """Everything, page by page."""
    items, cursor = [], more.pop("start")
    while True:
        page = await read(cursor, chance.randint(1, 3))
        items += page.items
        cursor = page.next
        if cursor is None:
            return items


async def check_cursors(chat, chance, sessions):
    """Each page goes on where the one before it ended: nothing twice, nothing left out, in order."""
    for order in ("activity", "created"):
        listed = await paged(
            lambda at, size, by=order: chat.sessions(order=by, after=at, limit=size), chance, start=None
        )
        assert sorted(view.id for view in listed) == sorted(sessions)
        keys = [(view.updated_at, view.id) if order == "activity" else view.id for view in listed]
        assert keys == sorted(keys, reverse=True)

    def messages(after, size):
        return chat.messages(sessions[0], after=after, limit=size)

    def events(after, size):
        return chat.log_events(after=after, limit=size * 40)

    listed = await paged(messages, chance, start=None)
    assert listed == (await chat.messages(sessions[0], limit=1000)).items
    positions = [event.position for event in await paged(events, chance, start=0)]
    assert positions == [*range(1, len(positions) + 1)]
    return len(positions)


async def life(path, clock, chance):
    """Some starts on one file, in each some sessions at once; and a reader who follows all of it."""
    sessions, seen = [], []
    for _ in range(STARTS):
        async with chatting(path, clock, providers=(provider(0),)) as chat:
            reader = asyncio.create_task(following(chat, now := []))
            sessions += await asyncio.gather(*(talk(chat, chance) for _ in range(SESSIONS)))
            events = await check_cursors(chat, chance, sessions)
            async with asyncio.timeout(10):
                while len(now) < events:  # noqa: ASYNC110 - it reads on
                    await asyncio.sleep(0.01)
            reader.cancel()
            assert now[: len(seen)] == seen
            seen = now
    return seen


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kind", CLOCKS)
def test_the_log_keeps_its_order_whatever_the_clock_does(tmp_path, tell, kind):
    """Positions and versions are in order of commit, times never run back within a log, no id comes twice, and every
    cursor goes on where it ended, also after a start with an earlier clock.
    """
    chance, looked_at, events = chance_of(kind), Counter(), 0
    for number in range(TIMES):
        path, clock = tmp_path / f"{number}.db", Stepping(CLOCKS[kind], chance)
        seen = asyncio.run(life(path, clock, chance))
        assert [position for position, _, _ in seen] == [*range(1, len(seen) + 1)]
        assert all(one <= other for (_, one, _), (_, other, _) in pairwise(seen))
        assert len({name for _, _, name in seen}) == len(seen)
        assert audit(path) == len(seen)
        assert_rebuilds(path, tmp_path / "copy.db")
        looked_at += clock.looked_at
        events += len(seen)
    tell(f"{events} events by a clock that {kind}, looked at {dict(looked_at)}: all in order")
    expected = {"steps back": "back", "stands still": "still"}.get(kind, "on")
    assert looked_at[expected] > 10


@pytest.mark.parametrize("hours", [-1, 1, -24])
def test_what_a_dead_server_left_is_ended_whatever_the_clock_says(tmp_path, hours):
    """A server dies in mid-reply, and the next one's clock is an hour or a day off: the turn is interrupted at once,
    its lease notwithstanding, and what was shown is kept.
    """
    path, dead = tmp_path / "chat.db", tmp_path / "dead.db"
    clock = Stepping([0], chance_of("dead"))

    async def die():
        async with chatting(path, clock, providers=(provider(0.01),), drain_s=0) as chat:
            session = await chat.create_session(model="dictated/model")
            turn = await begin(chat, session.id, "Go.")
            async for batch in chat.frames(turn):
                if batch[-1].number >= 5:
                    snapshot(path, dead)
                    break
            return turn, batch[-1].number

    turn, shown = asyncio.run(die())
    clock.set_off_us = hours * HOUR_US

    async def look():
        async with chatting(dead, clock, providers=(provider(0),)) as chat:
            ended = await chat.turn(turn)
            assert (ended.status, ended.started_at <= ended.ended_at) == ("interrupted", True)
            assert len(await frames_of(chat, turn)) > shown
            assert (await chat.say(ended.session_id, "Again.")).status == "completed"

    asyncio.run(look())
    assert query(dead, "SELECT count(*) FROM runs") == [(0,)]
    audit(dead)
