"""A server dies: at the next start what it had shown is on record, its turns are interrupted, and sessions go on.

A death is a copy of the file at some moment: what a machine that loses power then would find. ``tests/crash`` kills
real processes.
"""

import asyncio
import json
import threading

import pytest

from manent import engine
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, VendorBlock
from manent.engine.sessions.turn_commands import TurnStop
from tests.support import (
    Dictated,
    assert_rebuilds,
    audit,
    begin,
    chatting,
    execute,
    frames_of,
    query,
    says,
    shown,
    snapshot,
    text_of,
    texts_of,
    told,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


@pytest.fixture
def dead(tmp_path):
    """Where the copy lies."""
    return tmp_path / "dead.db"


HANG = asyncio.Event().wait
TEXT = (BlockStarted(0, "text"), Delta(0, "Half "), Delta(0, "an é😀"))

DEATHS = {
    "before the first chunk": ((), []),
    "after a block began": ((BlockStarted(0, "text"),), [("text", "")]),
    "in text": (TEXT, [("text", "Half an é😀")]),
    "in thinking": ((BlockStarted(0, "thinking"), Delta(0, "Hm")), [("thinking", "Hm")]),
    "in a call": (
        (*TEXT, BlockStopped(0), BlockStarted(1, "tool_use", "a", "f"), Delta(1, '{"x')),
        [("text", "Half an é😀"), ("tool_use", '{"x')],
    ),
    "with two blocks at once": (
        (
            BlockStarted(0, "tool_use", "a", "f"),
            BlockStarted(1, "tool_use", "b", "g"),
            Delta(1, "1"),
            Delta(0, "0"),
            Delta(1, "2"),
        ),
        [("tool_use", "0"), ("tool_use", "12")],
    ),
    "after all was said": ((*TEXT, BlockStopped(0)), [("text", "Half an é😀")]),
}


async def die(path, dead, *steps, caller=engine.LOCAL):
    """Begin a turn that says this and hangs; what was shown of it, and a copy of the file."""
    provider = Dictated(*steps, HANG)
    count = 1 + sum(isinstance(step, BlockStarted | Delta) for step in steps)
    async with chatting(path, providers=(provider,), drain_s=0) as chat:
        session = await chat.create_session(caller=caller, model="dictated/model")
        message = "Go."
        turn = (await chat.start_turn(session.id, message, caller=caller)).turn
        batches, frames = chat.frames(turn, caller=caller), []
        while len(frames) < count:
            frames += await anext(batches)
        await batches.aclose()
        snapshot(path, dead)
    return session.id, turn, frames


@pytest.mark.parametrize(("steps", "blocks"), DEATHS.values(), ids=DEATHS)
async def test_what_was_shown_is_on_record(path, dead, steps, blocks):
    """At the next start the turn is interrupted, its message holds what was shown, the frames are the same, and the
    session goes on.
    """
    session, turn, frames = await die(path, dead, *steps)
    async with chatting(dead, main=says("Yes.")) as chat:
        view = await chat.turn(turn)
        assert view.status == "interrupted"
        if blocks:
            assert not view.message.complete
            assert [streamed(block) for block in view.message.blocks()] == blocks
        else:
            assert view.message is None
        after = await frames_of(chat, turn)
        assert after[: len(frames)] == frames
        ends = ["message.appended", "turn.interrupted"] if blocks else ["turn.interrupted"]
        assert told(after[len(frames) :]) == [*enumerate(ends, len(frames) + 1)]
        assert (await chat.say(session, "Again.", model="scripted/main")).status == "completed"
    assert query(dead, "SELECT count(*) FROM journal") == query(dead, "SELECT count(*) FROM runs") == [(0,)]
    audit(dead)
    assert_rebuilds(dead, dead.with_suffix(".copy"))


def streamed(block):
    kind = block.__struct_config__.tag
    return kind, block.input_text if kind == "tool_use" else block.text


async def test_a_vendors_block_among_the_others_does_not_spoil_the_message(path, dead):
    """A vendor's own block before the one that broke off: what was shown can be read again, from its frames too."""
    own = VendorBlock(1, "citation", b'{"type":"citation"}')
    two = (BlockStarted(2, "text"), Delta(2, "Two"))
    session, turn, frames = await die(path, dead, *TEXT, BlockStopped(0), own, *two)
    async with chatting(dead, main=says("Yes.")) as chat:
        after = await frames_of(chat, turn)
        assert after[: len(frames)] == frames
        assert texts_of(after) == {0: "Half an é😀", 2: "Two"}
        assert text_of((await chat.turn(turn)).message) == "Half an é😀Two"
        assert (await chat.say(session, "Again.", model="scripted/main")).status == "completed"


async def test_a_damaged_frame_ends_the_message_before_it(path, dead):
    """Of a journal in which a row is not what was written, what came before it is kept: no message has holes."""
    session, turn, frames = await die(path, dead, *TEXT)
    damaged = frames[-2].number
    execute(dead, f"UPDATE journal SET text = x'7878' WHERE frame = {damaged}")
    found = engine.verify_database(dead)
    assert found.problem == f"the row {turn.hex}, {damaged} of journal is damaged"
    async with chatting(dead, main=says("Yes.")) as chat:
        after = await frames_of(chat, turn)
        assert after[: damaged - 1] == frames[: damaged - 1]
        assert told(after[damaged - 1 :]) == [*enumerate(["message.appended", "turn.interrupted"], damaged)]
        assert (await chat.say(session, "Again.", model="scripted/main")).status == "completed"
    assert engine.verify_database(dead).problem is None


async def test_recovery_says_who_and_why(path, dead):
    """The end is the system's, for the reason that the server was lost; the attempt says the same."""
    session, turn, _ = await die(path, dead, *TEXT)
    notices = []
    async with engine.open(str(dead), notice=notices.append) as chat:
        events = (await chat.events(session)).items
    assert any("1 turn" in notice for notice in notices)
    attempt, message, end = events[-3:]
    assert (attempt.type, message.type, end.type) == ("attempt.ended", "message.appended", "turn.interrupted")
    assert json.loads(bytes(attempt.facts))["outcome"] == "server_lost"
    assert json.loads(bytes(end.facts)) == {"turn": str(turn), "frame": 6, "reason": "server_lost"}
    assert {event.actor for event in (attempt, end)} == {"system"}


async def test_a_wish_to_cancel_outlives_the_server(path, dead):
    """A turn that somebody had asked to cancel when the server died is cancelled, in their name."""
    session, turn, _ = await die(path, dead, *TEXT)
    execute(dead, "UPDATE runs SET cancelled_by = 'key:5'")
    async with chatting(dead) as chat:
        view = await chat.turn(turn)
        events = (await chat.events(session)).items
    assert view.status == "cancelled"
    assert (events[-1].type, events[-1].actor) == ("turn.cancelled", "key:5")
    assert text_of(view.message) == "Half an é😀"


async def test_every_open_turn_of_every_tenant_is_ended(path, dead):
    """However many were running, in whatever log: none is left open."""
    callers = [engine.Caller(f"tenant-{number % 3}", f"key:{number}") for number in range(7)]
    async with chatting(path, main=says("Half", {"hang": True}), drain_s=0) as chat:
        turns = []
        for caller in callers:
            session = await chat.create_session(caller=caller, model="scripted/main")
            message = "Go."
            turn = (await chat.start_turn(session.id, message, caller=caller)).turn
            turns.append(turn)
            batches, seen = chat.frames(turn, caller=caller), 0
            while seen < 3:
                seen += len(await anext(batches))
            await batches.aclose()
        snapshot(path, dead)
    async with chatting(dead) as chat:
        for turn, caller in zip(turns, callers, strict=True):
            view = await chat.turn(turn, caller=caller)
            assert (view.status, text_of(view.message)) == ("interrupted", "Half")
    audit(dead)


async def test_a_death_in_recovery_is_recovered_from(path, dead, tmp_path):
    """Recovery itself may die: the next start finishes it, and a start with nothing to recover writes nothing."""
    session, turn, frames = await die(path, dead, *TEXT)
    async with chatting(dead) as chat:
        again = await frames_of(chat, turn)
        size = len((await chat.events(session)).items)
    async with chatting(dead) as chat:
        assert await frames_of(chat, turn) == again
        assert len((await chat.events(session)).items) == size
    assert again[: len(frames)] == frames


async def test_an_interrupted_answer_can_be_gone_on_with(path, dead):
    """After recovery the turn can be continued with its partial answer, or done anew without it."""
    session, _, _ = await die(path, dead, *TEXT)
    async with chatting(dead, main=says("swer.")) as chat:
        await chat.ended(await begin(chat, session, model="scripted/main", continues=True))
        asked = [message["text"] for message in json.loads(chat.script.requests[-1])["messages"]]
        assert asked == ["Go.", "Half an é😀"]


async def test_a_turn_that_had_ended_is_left_as_it_was(path, dead):
    """A copy made after the end needs no recovery."""
    provider = Dictated(*TEXT, BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=(provider,)) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.")
        frames = await frames_of(chat, turn)
        snapshot(path, dead)
    async with chatting(dead) as chat:
        assert (await chat.turn(turn)).status == "completed"
        assert await frames_of(chat, turn) == frames


async def test_copies_made_at_any_moment_can_be_opened(path, tmp_path):
    """Wherever in a turn the power goes, the file opens, and holds at least what was shown before the copy was made."""
    answer = {"text": "0123456789" * 12, "chunk_chars": 2, "every_ms": 1}
    copies = []
    async with chatting(path, main=says({"thinking": "Hm. " * 5, "chunk_chars": 3}, answer)) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        frames = []
        async for batch in chat.frames(turn):
            frames += batch
            if len(copies) < len(frames) / 8:
                copies.append((snapshot(path, tmp_path / f"{len(copies)}.db"), len(frames)))
    assert len(copies) > 5
    for copy, count in copies:
        async with chatting(copy) as chat:
            after = await frames_of(chat, turn)
            assert after[:count] == frames[:count]
            assert (await chat.turn(turn)).status in {"interrupted", "completed"}
        audit(copy)


async def test_another_owners_turn_is_not_ended_twice(path):
    """A turn whose run was taken over records nothing more, and its readers are let go."""
    async with chatting(path, main=says("Half", {"hang": True})) as chat:
        session = await chat.create_session(model="scripted/main")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 3)
        reading = asyncio.ensure_future(frames_of(chat, turn))
        await chat._parts.store.do(
            lambda tx: tx.connection.exec_driver_sql("UPDATE runs SET owner = x'00000000000000000000000000000001'")
        )
        size = len((await chat.events(session.id)).items)
        chat._parts.supervisor.find(turn).stop(TurnStop("cancelled", "local"))
        async with asyncio.timeout(3):
            await reading
        assert len((await chat.events(session.id)).items) == size


async def test_after_a_frame_that_was_not_written_none_is(path, dead):
    """When a frame's commit fails, no later frame of its turn gets to disk: a gap would shift all that follows it."""
    entered, release = threading.Event(), threading.Event()
    held = []

    def hold(_):
        entered.set()
        assert release.wait(10)

    async def hold_the_writer():
        held.append(chat._parts.store.submit(hold))
        await asyncio.to_thread(entered.wait)

    async def go_on():
        await asyncio.sleep(0.01)  # the row before is on its way
        release.set()
        await asyncio.Event().wait()

    steps = (
        *TEXT,
        lambda: asyncio.sleep(0.05),
        hold_the_writer,
        Delta(0, "refused"),
        lambda: asyncio.sleep(0.01),
        Delta(0, "too late"),
        go_on,
    )
    async with chatting(path, providers=(Dictated(*steps),), batch_writes=1) as chat:
        session = await chat.create_session(model="dictated/model")
        guard = "CREATE TRIGGER t BEFORE INSERT ON journal WHEN NEW.frame = 5 BEGIN SELECT RAISE(ABORT, 'no'); END"
        await asyncio.to_thread(execute, path, guard)
        turn = await begin(chat, session.id, "Go.")
        running = chat._parts.supervisor.find(turn)
        async with asyncio.timeout(5):
            while running._attempt._recorder.error is None:  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            await chat._parts.store.submit(lambda _: snapshot(path, dead))
    journalled = [frame for (frame,) in query(dead, "SELECT frame FROM journal ORDER BY frame")]
    assert journalled == [*range(2, 2 + len(journalled))]
