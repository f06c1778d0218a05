"""Engines are killed with SIGKILL while a tool runs, between rounds and while a turn waits for a person.

At the next start each open call has a result, the turn is interrupted or waits as it did, and the session goes on.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from manent import engine
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.support import Dictated, assert_rebuilds, audit, awaited, call_ids, chatting, frames_of, query, says, text_of

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, sys, time
from manent import engine
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from manent.engine.providers.echo import render_plain
from tests.support import Dictated, begin, chatting

path, moment = sys.argv[1:]

@engine.tool
async def quick(text: str) -> str:
    "Returns at once."
    print("ran", text, flush=True)
    return f"{text} is done"

@engine.tool
async def slow() -> str:
    "Never returns."
    print("runs", flush=True)
    await asyncio.Event().wait()

@engine.tool
def blocked() -> str:
    "Never returns, and holds a thread."
    print("runs", flush=True)
    time.sleep(60)

@engine.tool(approval=True)
async def careful(text: str) -> str:
    "Needs a person."
    print("ran", text, flush=True)
    return f"{text} is done"

@engine.tool(approval=True)
async def held() -> str:
    "Needs a person, and never returns."
    print("runs", flush=True)
    await asyncio.Event().wait()

def render(prompt):
    if moment == "between rounds" and len(prompt.messages) > 2:
        print("between", flush=True)
        time.sleep(60)
    return render_plain(prompt)

CALLS = {
    "while tools run": (("a", "quick", '{"text":"a"}'), ("b", "slow", ""), ("c", "blocked", ""), ("d", "lookup", "")),
    "between rounds": (("a", "quick", '{"text":"a"}'), ("b", "quick", '{"text":"b"}')),
    "in the next answer": (("a", "quick", '{"text":"a"}'),),
    "while it waits": (
        ("a", "quick", '{"text":"a"}'),
        ("b", "careful", '{"text":"b"}'),
        ("c", "careful", '{"text":"c"}'),
    ),
    "while an approved call runs": (("a", "held", ""),),
}

class Model(Dictated):
    renderer = "crash/1"
    renderers = {"crash/1": render}

    async def stream(self, request):
        self.requests.append(request)
        if len(self.requests) > 1:
            yield BlockStarted(0, "text")
            for word in ("Half ", "an ", "answer"):
                yield Delta(0, word)
            await asyncio.Event().wait()
        for number, (call, name, given) in enumerate(CALLS[moment]):
            yield BlockStarted(number, "tool_use", call, name)
            if given:
                yield Delta(number, given)
            yield BlockStopped(number)
        yield Ended("tool_use")

async def main():
    lookup = engine.ToolSchema("lookup", "Looks.", {"type": "object"})
    tools = [quick, slow, blocked, careful, held]
    async with chatting(path, providers=(Model(),), tools=tools) as chat:
        session = await chat.create_session(model="dictated/model")
        names = tuple(tool.name for tool in tools)
        turn = await begin(chat, session.id, "Go.", tools=names, client_tools=(lookup,))
        print("turn", turn, flush=True)
        async for batch in chat.frames(turn):
            for frame in batch:
                print("frame", frame.number, frame.type, flush=True)
        print("stands", flush=True)
        if moment == "while an approved call runs":
            await chat.decide(turn, "a", approve=True, reason="Fine.")
        await asyncio.Event().wait()

asyncio.run(main())
"""


def environment(folder):
    """Nothing of the developer's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MANENT_", "OPENAI_"))}
    return kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT)}


def killed(path, moment, *lines):
    """An engine that is killed once it has said each of these lines: the turn, the frames it had shown, what ran."""
    command = [sys.executable, "-c", CHILD, str(path), moment]
    left, turn, frames, ran = list(lines), None, [], []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(path.parent)
    ) as process:
        try:
            for line in process.stdout:
                word, *more = line.split()
                if word == "turn":
                    turn = UUID(more[0])
                elif word == "frame":
                    frames.append((int(more[0]), more[1]))
                elif word == "ran":
                    ran.append(more[0])
                said = next((each for each in left if line.startswith(each)), None)
                if said is not None:
                    left.remove(said)
                if not left:
                    break
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert left == []
    return turn, frames, ran


async def outcomes(chat, session):
    """(call, outcome) of every return on record, in order."""
    events = (await chat.events(session, types=("tool.returned",))).items
    returned = [json.loads(bytes(event.facts)) for event in events]
    ids = await call_ids(chat, session)
    return [(ids[each["call"]], each["outcome"]) for each in returned]


async def checked(chat, turn, frames):
    """The turn, once its frames are seen to be those that were shown, and numbered densely from every cursor."""
    again = await frames_of(chat, turn)
    assert [(frame.number, frame.type) for frame in again][: len(frames)] == frames
    assert [frame.number for frame in again] == [*range(1, len(again) + 1)]
    for after in range(len(again)):
        assert await frames_of(chat, turn, after) == again[after:]
    return await chat.turn(turn)


DEATHS = {
    "while tools run": (
        ("runs", "runs", "frame 12 tool.returned"),
        ["a"],
        [("a", "completed"), ("b", "interrupted"), ("c", "interrupted"), ("d", "interrupted")],
        None,
    ),
    "between rounds": (("between",), ["a", "b"], [("a", "completed"), ("b", "completed")], None),
    "in the next answer": (("frame 11 delta",), ["a"], [("a", "completed")], "Half an answer"),
    "while an approved call runs": (("stands", "runs"), [], [("a", "interrupted")], None),
}


@pytest.mark.parametrize("moment", DEATHS)
def test_a_turn_that_was_killed_is_interrupted(tmp_path, moment):
    """Each call that was open has a result that says so, and none is made again; what had returned is there, what was
    shown is the same, and the session takes the next turn.
    """
    path = tmp_path / "chat.db"
    lines, made, returned, partial = DEATHS[moment]
    turn, frames, ran = killed(path, moment, *lines)
    assert ran == made

    async def look():
        async with chatting(path, other=says("Yes.")) as chat:
            view = await checked(chat, turn, frames)
            assert (view.status, view.error) == ("interrupted", None)
            assert await outcomes(chat, view.session_id) == returned
            events = (await chat.events(view.session_id)).items
            assert json.loads(bytes(events[-1].facts))["reason"] == "server_lost"
            assert view.attempts[0].outcome == "completed"
            if partial is not None:
                assert (text_of(view.message), view.message.complete) == (partial, False)
            assert (await chat.say(view.session_id, "Again.", model="scripted/other")).status == "completed"

    asyncio.run(look())
    assert query(path, "SELECT count(*) FROM runs") == query(path, "SELECT count(*) FROM journal") == [(0,)]
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")


@pytest.mark.parametrize("cancelled", [False, True], ids=["decided", "cancelled"])
def test_a_turn_that_waits_for_a_person_outlives_a_kill(tmp_path, cancelled):
    """It waits as it did, and its frames are the same; then it goes on when everything is decided, or is cancelled."""
    path, made = tmp_path / "chat.db", []
    turn, frames, ran = killed(path, "while it waits", "stands")
    assert (ran, frames[-1][1]) == (["a"], "turn.paused")

    @engine.tool(approval=True)
    async def careful(text: str) -> str:
        """Needs a person."""
        made.append(text)
        return f"{text} is done"

    model = Dictated(BlockStarted(0, "text"), Delta(0, "Done."), BlockStopped(0), Ended("end_turn"))

    async def look():
        async with chatting(path, tools=[careful], providers=(model,)) as chat:
            view = await checked(chat, turn, frames)
            assert (view.status, awaited(view)) == ("requires_action", ("b", "c"))
            assert (await chat.session(view.session_id)).open_turn_id == turn
            if cancelled:
                await chat.cancel(turn)
            else:
                await chat.decide(turn, "c", approve=False, reason="No.")
                await chat.decide(turn, "b", approve=True)
                assert text_of((await chat.ended(turn)).message) == "Done."
            view = await checked(chat, turn, frames)
            first, end = ("cancelled", "cancelled") if cancelled else ("completed", "refused")
            assert view.status == ("cancelled" if cancelled else "completed")
            assert await outcomes(chat, view.session_id) == [("a", "completed"), ("b", first), ("c", end)]
            assert (await chat.say(view.session_id, "Again.")).status == "completed"

    asyncio.run(look())
    assert made == ([] if cancelled else ["b"])
    assert query(path, "SELECT count(*) FROM runs") == query(path, "SELECT count(*) FROM journal") == [(0,)]
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")
