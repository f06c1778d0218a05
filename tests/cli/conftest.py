"""The commands as their users run them: real processes on real files. Nothing here asks the local model.

A process takes a second to begin, so what is one of many cases of a thing goes through ``call``, within the test's own.
"""

import asyncio
import os
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager
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
