"""The synchronous door: the engine without ``await``, for scripts and notebooks."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import pytest

from manent import engine
from tests.support import query

PACED = "echo/paced"
"""Four characters every 20 ms."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def settings(path, **more):
    return engine.Settings(database=str(path), drain_s=1, **more)


def test_a_conversation_without_await(path):
    """Every kind of call: what is awaited is waited for, what is iterated over is iterated over."""
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo", title="Sync")
        turn = chat.say(session.id, "Is this on record?")
        assert (turn.status, turn.text) == ("completed", "Is this on record?")
        assert [message.text for message in chat.iter_messages(session.id)] == ["Is this on record?"] * 2
        assert [event.version for event in chat.iter_events(session.id)] == [*range(1, 8)]
        assert [each.id for each in chat.iter_sessions()] == [session.id]
        assert chat.messages(session.id, limit=1).next is not None
        assert [frame.type for batch in chat.frames(turn.id) for frame in batch][-1] == "turn.completed"
        assert "echo/echo" in {model.name for model in chat.models()}
        assert {tool.name for tool in chat.tools()} == {"echo", "calculator", "timestamp"}
        assert chat.evidence.inclusion(session.id, 1).position == 1
        assert (chat.settings.database, chat.default_model) != ("", "")
        assert len(list(chat.play_back(session.id))) > 3
    assert query(path, "SELECT count(*) FROM events") == [(7,)]


def test_a_stream_is_a_plain_iterator(path):
    """Deltas come while the turn runs; the ended turn is at hand afterwards; who leaves leaves it running."""
    with engine.open_sync(path) as chat:
        session = chat.create_session(model=PACED)
        stream = chat.stream(session.id, "one two three four")
        first = next(stream)
        assert chat.turn(stream.turn_id).status == "running"
        assert first + "".join(stream) == stream.turn.text == "one two three four"
        for _ in (left := chat.stream(session.id, "one two three four")):
            break
        turn = left.turn_id
        left.close()
        assert chat.ended(turn).text == "one two three four"
        with pytest.raises(engine.UnknownModel):
            next(chat.stream(session.id, "x", model="nobody/x"))


def test_errors_are_the_engines(path):
    """Each call raises what the engine raises; a misspelt argument is a TypeError."""
    with engine.open_sync(path) as chat:
        with pytest.raises(engine.SessionNotFound):
            chat.session("x")
        with pytest.raises(engine.SessionNotFound):
            next(chat.iter_messages(engine.new_id()))
        with pytest.raises(TypeError):
            chat.create_session(titel="x")
        with pytest.raises(engine.StoreLocked):
            engine.open_sync(path)
    with pytest.raises(engine.Invalid):
        engine.open_sync(engine.Settings(database=str(path), signing_key_file=str(path)))


def test_a_closed_engine_says_so(path):
    """Whatever is called after ``close``, and an iterator that was open; closing again does nothing."""
    chat = engine.open_sync(path)
    session = chat.create_session(model=PACED)
    stream = chat.stream(session.id, "x" * 400)
    next(stream)
    messages = chat.iter_messages(session.id)
    chat.close()
    for attempt in (chat.sessions, lambda: chat.say(session.id, "x"), lambda: next(messages), lambda: next(stream)):
        with pytest.raises(engine.StoreUnavailable, match="closed"):
            attempt()
    chat.close()
    with engine.open_sync(path) as again:
        assert again.session(session.id).open_turn_id is None


def test_who_waits_when_it_is_closed_is_told(path):
    """Another thread's call does not hang, and does not get half an answer."""
    chat = engine.open_sync(settings(path))
    session = chat.create_session(model=PACED)
    errors = []

    def wait():
        try:
            chat.say(session.id, "x" * 4000)
        except engine.EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while chat.session(session.id).open_turn_id is None:
        time.sleep(0.01)
    chat.close()
    thread.join(10)
    assert [type(error) for error in errors] == [engine.StoreUnavailable]


def test_an_error_of_closing_is_raised_once(path):
    """Whoever closes it learns that it was not closed well; closing again does nothing."""

    @asynccontextmanager
    async def opening():
        async with engine.open(path) as chat:
            yield chat
        raise engine.StoreFull("no room")

    chat = engine.SyncEngine(opening)
    chat.create_session()
    with pytest.raises(engine.StoreFull):
        chat.close()
    chat.close()


async def test_it_opens_where_a_loop_runs(path):
    """As in a notebook: a loop that runs in this thread is no obstacle."""
    assert asyncio.get_running_loop().is_running()
    with engine.open_sync(path) as chat:
        session = chat.create_session(model="echo/echo")
        assert "".join(chat.stream(session.id, "Hello.")) == "Hello."


def test_many_threads_may_share_it(path):
    """Each call is its own; all are on record."""
    with engine.open_sync(path) as chat:
        sessions = [chat.create_session(model="echo/echo").id for _ in range(8)]
        said = {}

        def talk(session):
            said[session] = "".join(chat.stream(session, f"I am {session}"))

        threads = [threading.Thread(target=talk, args=(session,)) for session in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert said == {session: f"I am {session}" for session in sessions}


def test_the_engines_own_thread_cannot_wait_for_itself(path):
    """A tool that is a coroutine runs there: calling the door from it is refused, where it would hang for ever."""
    doors = []

    @engine.tool
    async def looks() -> str:
        """Looks at the sessions."""
        try:
            doors[0].sessions()
        except RuntimeError as error:
            return str(error)
        return "it waited"

    @engine.tool
    def reads() -> str:
        """Reads the sessions."""
        return f"{len(doors[0].sessions().items)} session"

    script = path.with_name("script.json")
    calls = ", ".join(f'{{"tool": {{"id": "{name}", "name": "{name}", "input": {{}}}}}}' for name in ("looks", "reads"))
    script.write_text(
        f'{{"models": {{"main": [{{"match": "Go", "steps": [{calls}]}}, {{"match": "Go", "steps": []}}]}}}}'
    )
    with engine.open_sync(settings(path, script=str(script)), tools=[looks, reads]) as chat:
        doors.append(chat)
        turn = chat.say(chat.create_session(model="scripted/main").id, "Go.", tools=["looks", "reads"])
        given = [block.content for message in turn.messages for block in message.blocks() if message.role == "tool"]
    assert given == ["this runs on the engine's own thread, which cannot wait for itself", "1 session"]


def test_an_iterator_that_is_dropped_leaves_no_reader(path):
    """Also one that nobody closed: it is left when it is collected."""
    with engine.open_sync(settings(path, max_readers=1)) as chat:
        session = chat.create_session(model=PACED)
        turn = chat.start_turn(session.id, "x" * 80).turn
        frames = chat.frames(turn)
        next(frames)
        with pytest.raises(engine.Overloaded):
            next(chat.frames(turn))
        del frames
        gc.collect()
        assert chat.ended(turn).status == "completed"


INTERRUPTED = """
import os, signal, sys, threading
from manent import engine

chat = engine.open_sync(engine.Settings(database=sys.argv[1], drain_s=1))
session = chat.create_session(model="echo/paced").id

def open_turn():
    return chat.session(session).open_turn_id

def interrupted(call):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", chat.turn(open_turn()).status, flush=True)

interrupted(lambda: chat.say(session, "x" * 4000))
interrupted(lambda: list(chat.frames(open_turn())))
chat.cancel(open_turn())
interrupted(lambda: list(chat.stream(session, "x" * 4000)))
interrupted(lambda: chat.ended(open_turn()))
chat.close()
print("closed", flush=True)
"""


def test_ctrl_c_interrupts_a_call_and_no_more(path):
    """Whatever is waited for: KeyboardInterrupt comes at once, the turn goes on, and the engine works as before."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["interrupted running"] * 4 + ["closed"], done.stderr
    assert (done.returncode, done.stderr) == (0, "")


LEFT_OPEN = """
import sys
from manent import engine

chat = engine.open_sync(sys.argv[1])
session = chat.create_session(model="echo/paced")
stream = chat.stream(session.id, "x" * 4000)
next(stream)
print(session.id, flush=True)
"""


def test_a_script_that_forgets_to_close_ends(path):
    """It does not hang, and what it recorded is there; the next one ends its turn."""
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with engine.open_sync(path) as chat:
        (turn,) = chat.turns(done.stdout.strip()).items
        assert (turn.status, turn.text[:4]) == ("interrupted", "xxxx")


def test_ctrl_c_while_it_opens_leaves_nothing_locked(path, monkeypatch):
    """The file is free again in a moment, whatever the opening had come to."""
    opening, go_on = threading.Event(), threading.Event()

    def notice(_):
        opening.set()
        go_on.wait(10)

    def interrupt():
        opening.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        go_on.set()

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        engine.open_sync(path, notice=notice)
    for _ in range(100):
        try:
            engine.open_sync(path).close()
        except engine.StoreLocked:
            time.sleep(0.1)
        else:
            return
    pytest.fail("it is still locked")
