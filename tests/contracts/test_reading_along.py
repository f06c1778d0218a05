"""Reading along: whoever reads a turn, whenever, from wherever, gets the same frames, each once and in order."""

import asyncio
import json
import random
from functools import partial

import pytest

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import Overloaded, SessionNotFound, TurnNotFound
from manent.engine.log.journal import journal_rows
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from manent.engine.streams.backlog import Backlog
from manent.engine.streams.subscribers import Subscribers
from manent.engine.streams.tail import Tail
from manent.engine.turns.attempt import RunningAttempt
from manent.engine.turns.recorder import Recorder
from manent.engine.turns.turn import RunningTurn
from tests.support import (
    Dictated,
    alive,
    begin,
    chatting,
    frames_of,
    offered,
    query,
    says,
    shown,
    text_of,
    texts_of,
    told,
    until,
)

LONG = "Lorem ipsum dolor sit amet, 漢字 😀 e\u0301 and so on. " * 4


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def paced(every_ms=2, chunk_chars=3):
    return says(
        {"thinking": LONG[:60], "chunk_chars": chunk_chars, "every_ms": every_ms},
        {"text": LONG, "chunk_chars": chunk_chars, "every_ms": every_ms},
        {"tool": {"id": "a", "name": "f", "input": {"x": 1}}, "chunk_chars": 2, "every_ms": every_ms},
    )


async def slowly(chat, turn, pause_s, after=0):
    """A reader that takes its time after each batch."""
    frames = []
    async for batch in chat.frames(turn, after=after):
        frames += batch
        await asyncio.sleep(pause_s)
    return frames


async def start(chat, **options):
    session = await chat.create_session(model="scripted/main")
    return await begin(chat, session.id, "Go.", client_tools=offered("f"), **options)


async def test_a_reader_at_any_time_gets_the_same_frames(path):
    """From the beginning, from the middle, after the end and after a restart: the same numbers, types and bytes."""
    async with chatting(path, main=paced()) as chat:
        turn = await start(chat)
        readers = [asyncio.ensure_future(frames_of(chat, turn))]
        for _ in range(12):
            await asyncio.sleep(0.015)
            readers.append(asyncio.ensure_future(frames_of(chat, turn)))
        first, *others = await asyncio.gather(*readers)
        assert [frame.number for frame in first] == [*range(1, len(first) + 1)]
        assert all(other == first for other in others)
        assert await frames_of(chat, turn) == first
        assert texts_of(first)[1] == LONG
    async with chatting(path) as chat:
        assert await frames_of(chat, turn) == first
        for after in range(len(first) + 3):
            assert await frames_of(chat, turn, after) == first[after:]


@pytest.mark.parametrize("tail_frames", [1, 4, 1024])
async def test_slow_readers_of_a_short_tail_miss_nothing(path, tail_frames):
    """A tail smaller than the turn, and readers slower than the model: every frame still comes once, in order."""
    async with chatting(path, main=paced(every_ms=1), tail_frames=tail_frames) as chat:
        turn = await start(chat)
        pauses = [0, 0.001, 0.01, 0.05, 0.2]
        readers = [asyncio.ensure_future(slowly(chat, turn, pause)) for pause in pauses]
        late = await shown(chat, turn, 20)
        middle = asyncio.ensure_future(slowly(chat, turn, 0.005, after=late[-1].number))
        frames = [await reader for reader in readers]
        assert [frame.number for frame in frames[0]] == [*range(1, len(frames[0]) + 1)]
        assert all(other == frames[0] for other in frames)
        assert late + await middle == frames[0]


async def test_fifty_readers_cost_one_call(path):
    """Ten watchers or fifty: the model is asked once, and everybody sees all."""
    async with chatting(path, main=paced(), tail_frames=16) as chat:
        turn = await start(chat)
        chance = random.Random(1)
        pauses = [chance.choice([0, 0, 0.003, 0.02]) for _ in range(50)]
        everybody = await asyncio.gather(*(slowly(chat, turn, pause) for pause in pauses))
        assert all(frames == everybody[0] for frames in everybody)
        assert len(chat.script.requests) == 1
        assert query(path, "SELECT count(*) FROM events WHERE type = 'attempt.started'") == [(1,)]


async def test_nothing_is_shown_that_is_not_on_disk(path):
    """Whatever a reader holds, somebody else who opens the file at that moment finds, as a journal row or an event."""
    async with chatting(path, main=paced()) as chat:
        turn = await start(chat)
        seen = 0
        async for batch in chat.frames(turn):
            last = batch[-1].number
            (journalled,) = query(path, "SELECT max(frame) FROM journal")[0]
            facts = [
                json.loads(found)
                for (found,) in query(path, "SELECT facts FROM events WHERE type != 'attempt.started'")
            ]
            recorded = max(fact.get("frame", 1) for fact in facts)
            assert last <= max(recorded, journalled or 0)
            seen += len(batch)
    assert seen > 80


async def test_pages_of_any_size_are_the_same_frames(path):
    """Read in pages of any size, from the journal while it runs and from the record afterwards, nothing is lost at a
    page's end.
    """
    release = asyncio.Event()
    steps = [
        BlockStarted(0, "thinking"),
        *(Delta(0, f"t{n} ") for n in range(5)),
        BlockStopped(0),
        BlockStarted(1, "text"),
        BlockStarted(2, "tool_use", "a", "f"),
        *(Delta(1 + n % 2, f"x{n} ") for n in range(9)),
    ]
    ends = [BlockStopped(1), BlockStopped(2), Ended("tool_use")]
    provider = Dictated(*steps, release.wait, *ends)
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.", client_tools=offered("f"))
        live = await shown(chat, turn, 1 + 3 + 5 + 9)
        await assert_paged(chat, turn, live)
        release.set()
        whole = await frames_of(chat, turn)
        assert whole[: len(live)] == live
        assert [kind for _, kind in told(whole)][-3:] == ["message.appended", "tool.called", "turn.completed"]
        await assert_paged(chat, turn, whole)


async def assert_paged(chat, turn, frames):
    """From every place, in pages of every size: all that follows, each once, until an empty page."""
    for limit in range(1, len(frames) + 2):
        for after in range(0, len(frames) + 1, 1 + limit // 4):
            backlog, found = Backlog("default", turn), frames[:after]
            while page := await chat._parts.store.read(partial(backlog.read, after=len(found), limit=limit)):
                assert len(page) <= limit
                found = found + page
            assert found == frames, (after, limit)


async def test_a_turn_can_be_read_by_another_process(path):
    """An engine that only reads follows a turn that runs elsewhere, to its end."""
    async with chatting(path, main=paced()) as chat, engine.open_beside(path) as beside:
        turn = await start(chat)
        frames, others = await asyncio.gather(frames_of(chat, turn), frames_of(beside, turn))
        assert others == frames


async def test_a_reader_that_knows_everything_is_told_nothing(path):
    """After the last frame there is nothing; before the end a reader at the last frame waits for the next."""
    async with chatting(path, main=says("Hi.")) as chat:
        turn = await start(chat)
        frames = await frames_of(chat, turn)
        last = frames[-1].number
        assert await frames_of(chat, turn, last) == await frames_of(chat, turn, last + 100) == []
        assert [await chat.serving.read_to_end(turn, number) for number in (0, last - 1, last)] == [False, False, True]


async def test_a_reader_ahead_of_a_running_turn_waits(path):
    """A cursor beyond what there is gets what comes after it, and nothing before."""
    async with chatting(path, main=paced()) as chat:
        turn = await start(chat)
        ahead = asyncio.ensure_future(frames_of(chat, turn, after=30))
        whole = await frames_of(chat, turn)
        assert await ahead == whole[30:]


async def test_a_turn_is_its_tenants(path):
    """Another tenant, or a turn that does not exist, is not found, running or ended."""
    async with chatting(path, main=paced()) as chat:
        turn = await start(chat)
        for _ in range(2):
            for missing, caller in ((turn, engine.Caller("other")), (new_id(), engine.LOCAL)):
                with pytest.raises(TurnNotFound):
                    await frames_of(chat, missing, caller=caller)
            await frames_of(chat, turn)


async def test_silence_is_told_too(path):
    """A reader is given an empty batch every ``keepalive_s`` while nothing comes, and no frame is lost by it."""
    async with chatting(path, main=says("a", {"pause_ms": 200}, "b"), keepalive_s=0.02) as chat:
        turn = await start(chat)
        batches = [batch async for batch in chat.frames(turn)]
        assert batches.count([]) >= 2
        assert texts_of([frame for batch in batches for frame in batch]) == {0: "ab"}


async def test_only_so_many_read_at_once(path):
    """Beyond ``max_readers`` a reader is refused; one who leaves, in whatever way, makes room."""
    async with chatting(path, main=says("Half", {"hang": True}), max_readers=2) as chat:
        turn = await start(chat)
        first, second = chat.frames(turn), chat.frames(turn)
        for reader in (first, second):
            await anext(reader)
        for refused in (chat.frames(turn), chat.follow(None)):
            with pytest.raises(Overloaded) as error:
                await anext(refused)
            assert error.value.extra["limit"] == "max_readers"
        await first.aclose()
        await until(lambda: asyncio.sleep(0, chat._parts.follower._readers == 1))
        reading = asyncio.ensure_future(frames_of(chat, turn))
        await asyncio.sleep(0.02)
        reading.cancel()
        await asyncio.wait([reading])
        await until(lambda: asyncio.sleep(0, chat._parts.follower._readers == 1))
        await second.aclose()
        await until(lambda: asyncio.sleep(0, chat._parts.follower._readers == 0))
        await chat.cancel(turn)


# --- who leaves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wish", "status"), [("continue", "completed"), ("cancel", "cancelled")])
async def test_what_becomes_of_a_turn_that_nobody_reads(path, wish, status):
    """When its last reader leaves a turn goes on, unless its caller wished otherwise; never to be read is no reason."""
    go_on = asyncio.Event()
    provider = Dictated(
        BlockStarted(0, "text"), Delta(0, "Half"), go_on.wait, Delta(0, " and half."), Ended("end_turn")
    )
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.", on_disconnect=wish)
        stays = asyncio.ensure_future(frames_of(chat, turn))
        await shown(chat, turn, 3)
        await asyncio.sleep(0.02)
        assert (await chat.turn(turn)).status == "running"
        stays.cancel()
        await asyncio.wait([stays])
        if wish == "continue":
            go_on.set()
        await until(lambda: ended(chat, turn))
        go_on.set()
        view = await chat.turn(turn)
        assert (view.status, text_of(view.message)) == (status, "Half and half." if wish == "continue" else "Half")
        unread = await begin(chat, session.id, "Again.", on_disconnect=wish)
        assert (await chat.ended(unread)).status == "completed"


async def ended(chat, turn):
    return (await chat.turn(turn)).status != "running"


# --- following the log ------------------------------------------------------------------------------------------------


async def test_a_log_is_followed_as_it_is_committed(path):
    """From a version or position on, first what there is, then an empty batch, then what comes, each once."""
    async with chatting(path) as chat:
        session, other = await chat.create_session(), await chat.create_session()
        await chat.append_message(session.id, "One.")
        seen = {}

        async def follow(name, what, after):
            async for batch in chat.follow(what, after=after):
                seen.setdefault(name, []).extend([event.position for event in batch] or ["all"])

        wishes = {
            "session": (session.id, 0),
            "late": (session.id, 1),
            "log": (None, 2),
            "new": (None, None),
            "new of session": (session.id, None),
        }
        tasks = [asyncio.ensure_future(follow(name, *wish)) for name, wish in wishes.items()]
        await until(lambda: asyncio.sleep(0, all("all" in seen.get(name, ()) for name in wishes)))
        await chat.append_message(session.id, "Two.")
        await chat.append_message(other.id, "Elsewhere.")
        await chat.append_message(session.id, "Three.")
        await until(lambda: asyncio.sleep(0, all(6 in seen[name] for name in wishes)))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    positions = {name: [number for number in found if number != "all"] for name, found in seen.items()}
    assert positions == {
        "session": [1, 3, 4, 6],
        "late": [3, 4, 6],
        "log": [3, 4, 5, 6],
        "new": [4, 5, 6],
        "new of session": [4, 6],
    }
    assert seen["session"][2] == "all"
    assert seen["new"][0] == "all"


async def test_a_session_that_does_not_exist_cannot_be_followed(path):
    """From its newest event there is nothing to follow, and that is said."""
    async with chatting(path) as chat:
        with pytest.raises(SessionNotFound):
            await anext(chat.follow(new_id()))


async def test_a_session_that_does_not_exist_cannot_be_followed_from_a_version(path):
    """With a cursor it is not there either: who follows it would wait for ever."""
    async with chatting(path) as chat:
        with pytest.raises(SessionNotFound):
            await anext(chat.follow(new_id(), after=0))


async def test_a_follower_misses_nothing_under_load(path):
    """Many sessions write at once; who follows the log sees every position once, in order."""
    async with chatting(path) as chat:
        sessions = [await chat.create_session() for _ in range(10)]
        positions = []

        async def follow():
            async for batch in chat.follow(None, after=0):
                positions.extend(event.position for event in batch)
                if positions and positions[-1] == 160:
                    return

        async def write(session):
            for number in range(15):
                await chat.append_message(session.id, f"{number}")

        async with asyncio.timeout(20):
            await asyncio.gather(follow(), *(write(session) for session in sessions))
        assert positions == [*range(1, 161)]


# --- what remains -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_collector")
async def test_a_turn_that_has_ended_leaves_nothing_behind(path):
    """Neither the turn, nor its frames, nor what asked the model stays in memory until somebody looks for circles."""
    before = alive(RunningTurn, Tail, Recorder, RunningAttempt, Subscribers)
    async with chatting(path, main=says("Hello ", "world")) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        for number in range(3):
            frames = await frames_of(chat, await begin(chat, session, f"Question {number}"))
            assert frames[-1].type == "turn.completed"
        await chat.serving.ready()  # the writer keeps hold of what it did last
        assert alive(RunningTurn, Tail, Recorder, RunningAttempt, Subscribers) <= before


async def test_the_journal_is_empty_when_no_turn_runs(path):
    """A turn's journal goes with its end: the message's cuts are what gives its frames back."""
    async with chatting(path, main=paced()) as chat:
        turn = await start(chat)
        await shown(chat, turn, 10)
        assert await chat._parts.store.read(lambda c: journal_rows(c, "default", turn))
        await chat.ended(turn)
    assert query(path, "SELECT count(*) FROM journal") == query(path, "SELECT count(*) FROM runs") == [(0,)]
