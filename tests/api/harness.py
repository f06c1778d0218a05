"""A server to test against, in this process or as the real command; a client for its streams; what a refusal is."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import uvloop

from manent.api import server as api_server

MANENT = Path(sys.executable).with_name("manent")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
END_FRAMES = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}
PATIENCE_S = 60


# --- servers ----------------------------------------------------------------------------------------------------------


class Server:
    """One that listens at ``url`` on the file ``database``."""

    def __init__(self, url, database):
        self.url = url
        self.database = Path(database)

    def client(self, **options):
        return httpx.Client(base_url=self.url, timeout=PATIENCE_S, **options)

    @property
    def host(self):
        url = httpx.URL(self.url)
        return url.host, url.port

    def size(self):
        """What is on record: events, and requests remembered."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            return connection.execute(
                "SELECT (SELECT coalesce(sum(size), 0) FROM heads), (SELECT count(*) FROM requests)"
            ).fetchone()
        finally:
            connection.close()


@contextmanager
def in_thread(settings):
    """The server of ``manent serve``, all but its signals, on a loop and a thread of its own."""
    ready, state, lines = threading.Event(), {}, []

    async def serve():
        stop = state["stop"] = asyncio.Event()
        try:
            async with api_server.running(settings, lines.append) as running:
                state["server"] = Server(running.address, settings.database)
                state["server"].lines = lines
                state["server"].chat = running.chat
                state["server"].loop = asyncio.get_running_loop()
                state["server"].stop = stop
                ready.set()
                await stop.wait()
        except BaseException as error:  # noqa: BLE001 - whatever it was, the test gets it
            state["error"] = error
        finally:
            ready.set()

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="server under test")
    thread.start()
    ready.wait(PATIENCE_S)
    if "error" in state:
        raise state["error"]
    try:
        yield state["server"]
    finally:
        state["server"].loop.call_soon_threadsafe(state["stop"].set)
        thread.join(PATIENCE_S)
    assert "error" not in state, state["error"]


class Process(Server):
    """``manent serve`` itself. ``lines`` are those of its standard error, ``output`` those of its standard output."""

    def __init__(self, database, *options, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MANENT_")}
        self.lines = []
        self.popen = subprocess.Popen(
            [MANENT, "serve", "--port", "0", "--database", database, "--model", "echo/echo", *options],
            env=inherited | {"MANENT_MAX_ATTEMPTS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(database).parent,
        )
        self._reading = threading.Thread(target=self._read_errors, daemon=True)
        self._reading.start()
        self.output = [self.popen.stdout.readline().rstrip("\n")]
        assert self.output[0].startswith("listening on "), self.lines
        super().__init__(self.output[0].removeprefix("listening on "), database)

    def _read_errors(self):
        for line in self.popen.stderr:
            self.lines.append(line.rstrip("\n"))

    def said(self, text):
        """The first line of standard error that holds a text, as soon as there is one."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            found = next((line for line in list(self.lines) if text in line), None)
            if found is not None:
                return found
            time.sleep(0.01)
        raise AssertionError(f"the server never said {text!r}: {self.lines}")

    def send(self, number=signal.SIGTERM):
        self.popen.send_signal(number)

    def wait(self):
        """Its exit code, when it has said all."""
        self.output += self.popen.stdout.read().splitlines()
        self._reading.join(PATIENCE_S)
        return self.popen.wait(PATIENCE_S)

    def stop(self, number=signal.SIGTERM):
        self.send(number)
        return self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait()
        self.popen.stdout.close()
        self.popen.stderr.close()


# --- streams ----------------------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """One block of a stream: what it says, and its bytes. A comment has no event and no data."""

    id: str | None
    event: str | None
    data: str | None
    raw: bytes

    @property
    def json(self):
        return json.loads(self.data)


def parse(raw):
    """All blocks of a stream; a half block at the end is an error."""
    *blocks, rest = raw.split(b"\n\n")
    assert rest == b"", f"the stream ends within a block: {rest!r}"
    return [_block(block) for block in blocks]


def _block(raw):
    fields = {"id": None, "event": None}
    data = []
    for line in raw.decode().split("\n"):
        assert "\r" not in line
        if line.startswith(":"):
            continue
        name, separator, value = line.partition(": ")
        assert separator, f"not a field: {line!r}"
        if name == "data":
            data.append(value)
        else:
            assert fields[name] is None, f"{name} stands twice in {raw!r}"
            fields[name] = value
    return Sent(fields["id"], fields["event"], "\n".join(data) if data else None, raw)


class Stream:
    """A stream being read: blocks as they come, and all bytes so far."""

    def __init__(self, response):
        self.response = response
        self.raw = b""
        self._chunks = response.iter_raw()
        self._read = 0

    def __iter__(self):
        """Blocks, comments too, until the stream ends."""
        while True:
            end = self.raw.find(b"\n\n", self._read)
            if end >= 0:
                block, self._read = self.raw[self._read : end], end + 2
                yield _block(block)
                continue
            chunk = next(self._chunks, None)
            if chunk is None:
                assert self._read == len(self.raw), f"the stream ends within a block: {self.raw[self._read :]!r}"
                return
            self.raw += chunk

    def until(self, wanted):
        """Blocks up to and with the first that is wanted (its event, or a function of it)."""
        blocks = []
        for block in self:
            blocks.append(block)
            if wanted(block) if callable(wanted) else block.event == wanted:
                return blocks
        raise AssertionError(f"the stream ended before {wanted}: {self.raw[-500:]!r}")


@contextmanager
def opened(client, method, path, **options):
    """A stream that was answered with 200."""
    with client.stream(method, path, **options) as response:
        if response.status_code != 200:
            response.read()
            raise AssertionError(f"{response.status_code} {response.text}")
        yield Stream(response)


def read(client, path, method="GET", **options):
    """A whole stream: its blocks without comments."""
    with opened(client, method, path, **options) as stream:
        blocks = list(stream)
    return [block for block in blocks if block.data is not None or block.id is not None]


def text_of(frames, block=0):
    """The deltas of a block, joined."""
    deltas = [frame.json for frame in frames if frame.event == "delta"]
    return "".join(delta["text"] for delta in deltas if delta["block"] == block)


# --- lists ------------------------------------------------------------------------------------------------------------


def pages(client, path, **parameters):
    """All items of a list, a page at a time, and how many pages there were."""
    items, count, cursor = [], 0, {}
    while True:
        page = client.get(path, params=parameters | cursor).json()
        assert page.keys() == {"items", "next_cursor"}
        items += page["items"]
        count += 1
        if page["next_cursor"] is None:
            return items, count
        cursor = {"cursor": page["next_cursor"]}


# --- refusals ---------------------------------------------------------------------------------------------------------


def problem(response, status, code, field=None):
    """The problem document of a refusal, once it is seen to be a whole one."""
    assert response.status_code == status, f"{response.status_code} {response.text}"
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code, body
    check_problem(response, body)
    if field is not None:
        assert body["field"] == field, body
    return body


def check_problem(response, body):
    assert body["status"] == response.status_code
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    assert re.fullmatch("[a-z0-9_]+", body["code"])
    assert REQUEST_ID.fullmatch(body["request_id"])
    assert response.headers["x-request-id"] == body["request_id"]


def is_refusal(response):
    """Whether it is a whole refusal of the client's input: never the server's failure."""
    assert 400 <= response.status_code < 500, f"{response.status_code} {response.text}"
    if response.headers["content-type"] == "application/problem+json":
        check_problem(response, response.json())
    else:
        assert {"error", "request_id"} == response.json().keys()
    return True


def named(rows):
    """Rows of parameters with ids that differ and can be read."""
    return [
        pytest.param(*row, id=f"{number}-" + "-".join(str(value)[:24] for value in row if value is not None))
        for number, row in enumerate(rows)
    ]
