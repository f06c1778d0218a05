"""The commands as their users run them: real processes on real files. Nothing here asks the local model.

A process takes a second to begin, so what is one of many cases of a thing goes through ``call``, within the test's own.
"""

import asyncio
import fcntl
import os
import pty
import re
import runpy
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from manent import engine
from manent.api.cli.main import main
from tests.support import begin, chatting, copied, offered, says, shown

MANENT = Path(sys.executable).with_name("manent")
TIMEOUT_S = 60


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The caller's environment without any setting of theirs.

    Byte code is kept, here if not in its usual place: compiling everything anew takes each process three seconds.
    """
    foreign = ("MANENT_", "OPENAI_", "ANTHROPIC_", "PYTHONDONTWRITEBYTECODE", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        kept["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("pycache"))
    return kept | {"MANENT_MODEL": "echo/echo"}


@pytest.fixture
def run(tmp_path, environment):
    """Runs a command in a folder of its own to its end: ``run("sessions", "--json")``. Names in capitals are set."""

    def run(*command, program=(MANENT,), given="", **names):
        return subprocess.run(
            [*map(str, program), *map(str, command)],
            input=given,
            capture_output=True,
            encoding="utf-8",
            cwd=tmp_path,
            env=environment | names,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


@pytest.fixture
def call(tmp_path, environment, monkeypatch, capsys):
    """As ``run``, without a process of its own: the same ``main``, with the same folder, names and output."""

    def call(*command, script=None, **names):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "environ", environment | names)
        monkeypatch.setattr(sys, "argv", [str(script or MANENT), *map(str, command)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__") if script else main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=ended.value.code, stdout=printed.out, stderr=printed.err)

    return call


@pytest.fixture
def start(tmp_path, environment):
    """Starts a command, to be written to and read from while it runs; it is gone when the block ends."""

    @contextmanager
    def start(*command, program=(MANENT,)):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        arguments = [*map(str, program), *map(str, command)]
        with subprocess.Popen(arguments, **pipes, cwd=tmp_path, env=environment, encoding="utf-8") as process:
            try:
                yield process
            finally:
                process.kill()

    return start


@pytest.fixture
def serve(start):
    """A server on a file, from its line ``listening on`` to its end in order."""

    @contextmanager
    def serve(database, *options):
        with start("serve", "--database", database, "--port", "0", *options) as process:
            lines = iter(process.stdout.readline, "")
            url = next(line.split()[-1] for line in lines if line.startswith("listening on "))
            yield SimpleNamespace(url=url, pid=process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0

    return serve


SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")
"""What commands a terminal, and is not seen."""


class Terminal:
    """A terminal in which a process runs: keys go in, and what is written comes out. ``raw``: all that has come."""

    def __init__(self, descriptor, process):
        self._descriptor = descriptor
        self._read_to = 0
        self.process = process
        self.raw = b""

    def type(self, keys):
        os.write(self._descriptor, keys.encode())

    def interrupt(self, expected):
        """Presses Ctrl-C until this is written: a busy machine may deliver it between two reads of the line."""
        for _ in range(3):
            self.type("\x03")
            until = time.monotonic() + TIMEOUT_S / 12
            while shown_of(self.raw).find(expected, self._read_to) < 0 and self._read(until):
                """More has come."""
            if shown_of(self.raw).find(expected, self._read_to) >= 0:
                break
        self.see(expected)

    def see(self, expected):
        """Waits until this has been written since what was seen last; what came up to there, without what commands a
        terminal.
        """
        until = time.monotonic() + TIMEOUT_S / 3
        while (place := shown_of(self.raw).find(expected, self._read_to)) < 0:
            assert self._read(until), f"{expected!r} did not come: {shown_of(self.raw)[self._read_to :]!r}"
        begun, self._read_to = self._read_to, place + len(expected)
        return shown_of(self.raw)[begun : self._read_to]

    def see_all(self):
        """All that comes until the end."""
        until = time.monotonic() + TIMEOUT_S / 3
        while self._read(until):
            """Until nobody has the terminal open."""
        begun, self._read_to = self._read_to, len(shown_of(self.raw))
        return shown_of(self.raw)[begun:]

    def end(self):
        """The exit code, once all is read."""
        self.see_all()
        return self.process.wait(TIMEOUT_S / 3)

    def _read(self, until):
        """Whether something came."""
        if not select.select([self._descriptor], [], [], max(until - time.monotonic(), 0))[0]:
            return False
        try:
            piece = os.read(self._descriptor, 65536)
        except OSError:  # nobody has it open any more
            return False
        self.raw += piece
        return bool(piece)


def shown_of(data):
    return SEQUENCE.sub("", data.decode("utf-8", "replace")).replace("\r", "")


@pytest.fixture
def terminal(tmp_path, environment):
    """Runs a command in a terminal of its own, in which Ctrl-C and Ctrl-D work; it is gone when the block ends."""

    @contextmanager
    def terminal(*command, term="xterm-256color", rows=24, columns=80, **names):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        named = environment | {"TERM": term} | names
        login = partial(os.login_tty, theirs)
        command = [str(MANENT), *map(str, command)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=named,
            pass_fds=[theirs],
            preexec_fn=login,  # noqa: PLW1509 - no thread runs here that could hold a lock
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(ours, process)
            finally:
                process.kill()
                os.close(ours)

    return terminal


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A file with a little of everything; made once, never opened again, only copied."""
    return asyncio.run(_record(tmp_path_factory.mktemp("recorded") / "manent.db"))


async def _record(path):
    slow = says({"text": "Half of it. "}, {"hang": True})
    asking = says({"tool": {"id": "call_1", "name": "weather", "input": {"city": "Rome"}}})
    async with chatting(path, slow=slow, asking=asking) as chat:
        talked = await chat.create_session(model="echo/echo", title="A talk", system="Be brief.")
        for text in ("Is this on record?", "Grüße, 世界 🌍\nsecond line"):
            await chat.say(talked.id, text)
        broken = await chat.create_session(model="scripted/slow", title="Broken \x1b[31moff")
        turn = await begin(chat, broken.id, "Tell me all.")
        await shown(chat, turn, 3)
        await chat.cancel(turn)
        tools = await chat.create_session(model="scripted/asking", title="Tools")
        await chat.say(tools.id, "Is it raining?", client_tools=offered("weather"))
        result = engine.MessageIn(
            (b'{"type":"tool_result","tool_use_id":"call_1","content":"Rain all week."}',), "tool"
        )
        await chat.append_messages(tools.id, [result])
        archived = await chat.create_session(model="echo/echo", title="Old")
        await chat.update_session(archived.id, status="archived")
        other = await chat.create_session(caller=engine.Caller("acme"), model="echo/echo", title="Of another tenant")
    ids = {"talked": talked.id, "broken": broken.id, "tools": tools.id, "archived": archived.id, "other": other.id}
    return SimpleNamespace(path=path, **ids)


@pytest.fixture
def database(recorded, tmp_path):
    """A copy of the recorded file, in the folder in which commands run."""
    return copied(recorded.path, tmp_path, "manent.db")
