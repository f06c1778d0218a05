"""A forced replay of 200 turns is killed with SIGKILL in the middle, and gone on with.

No turn whose answer is on record is asked again; only those that were under way are, once more.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from manent import engine
from tests.support import assert_rebuilds, audit, query

ROOT = Path(__file__).parents[2]
TURNS, JOBS = 200, 4

CHILD = """
import asyncio, os, sys
from manent import engine

async def main():
    names = {name: value for name, value in os.environ.items() if name.startswith(("MANENT_", "OPENAI_"))}
    async with engine.open(engine.from_mapping(names)) as chat:
        if sys.argv[1] == "start":
            replay = await chat.start_replay(sys.argv[2], model="openai/gpt-4o-mini", jobs=int(sys.argv[3]))
        else:
            replay = await chat.resume_replay(sys.argv[2])
        print(replay.id, flush=True)
        async for batch in chat.follow_replay(replay.id):
            for each in batch:
                print(each.number, each.result.verdict, each.result.repeated, flush=True)

asyncio.run(main())
"""


class Upstream(BaseHTTPRequestHandler):
    """A vendor that counts what it is asked, and takes its time."""

    asked = 0
    lock = threading.Lock()

    def do_POST(self):
        with Upstream.lock:
            Upstream.asked += 1
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(0.02)
        chunks = [
            {"choices": [{"index": 0, "delta": {"content": "counted"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        lines = [f"data: {json.dumps({'id': 'x', 'object': 'chat.completion.chunk', **each})}\n\n" for each in chunks]
        body = "".join([*lines, "data: [DONE]\n\n"]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nobody reads it."""


@pytest.fixture
def upstream():
    """The address of a vendor."""
    Upstream.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def child(path, upstream, *command):
    """A process that runs the replay."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MANENT_", "OPENAI_"))}
    names = {
        "PYTHONPATH": os.pathsep.join([str(ROOT / ".src"), str(ROOT)]),
        "OPENAI_API_KEY": "sk-test-0123456789",
        "MANENT_OPENAI_BASE_URL": upstream,
        "MANENT_MAX_ATTEMPTS": "1",
        "MANENT_DATABASE": str(path),
    }
    line = [sys.executable, "-c", CHILD, *map(str, command)]
    return subprocess.Popen(line, env=kept | names, stdout=subprocess.PIPE, text=True, cwd=path.parent)


async def talk(path):
    """A session of so many turns; its id."""
    async with engine.open(str(path)) as chat:
        session = await chat.create_session(model="echo/echo")
        for number in range(TURNS):
            await chat.say(session.id, f"number {number}")
        return session.id


@pytest.mark.parametrize("after", [30, 110])
def test_a_killed_replay_goes_on_and_asks_no_answered_turn_again(tmp_path, upstream, after):
    """Killed in the middle and gone on with: 200 results, and at most 200 + jobs requests; the file is whole."""
    path = tmp_path / "chat.db"
    session = asyncio.run(talk(path))
    with child(path, upstream, "start", session, JOBS) as first:
        replay = first.stdout.readline().strip()
        for _ in range(after):
            assert first.stdout.readline()
        first.send_signal(signal.SIGKILL)
    assert after <= Upstream.asked < TURNS
    with child(path, upstream, "resume", replay) as second:
        told = second.communicate(timeout=120)[0].splitlines()[1:]
    assert second.returncode == 0
    results = [line.split() for line in told]
    assert len(results) == TURNS
    assert {verdict for _, verdict, _ in results} == {"different"}
    assert Upstream.asked <= TURNS + JOBS
    repeated = sum(flag == "True" for *_, flag in results)
    assert repeated <= JOBS
    assert Upstream.asked <= TURNS + repeated
    forks = query(path, "SELECT count(*) FROM forks WHERE replay IS NOT NULL")[0][0]
    assert forks == TURNS + repeated
    audit(path)
    assert_rebuilds(path, tmp_path / "again.db")
    assert engine.verify_database(str(path)).problem is None
