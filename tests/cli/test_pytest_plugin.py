"""The plugin of pytest, as its users have it: real runs of pytest on files of their own."""

import asyncio
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tests.support import chatting

PLUGIN = "manent.api.testing.plugin"
REPLAYED = """
import pytest

@pytest.mark.manent_replay("smoke")
def test_recorded():
    pass
"""
WITH_A_RESULT = """
import pytest

@pytest.mark.manent_replay("first")
@pytest.mark.manent_replay("smoke")
class TestRecorded:
    def test_the_request(self, manent_result):
        assert manent_result.layers.request

def test_no_suite(manent_result):
    pass
"""
ANOTHER_RENDERER = """
from manent.engine.providers import echo

def changed(prompt):
    return echo.render_plain(prompt).replace(b"two", b"2" * 1000)

echo.EchoProvider.renderers = {echo.RENDERER: changed}
"""
ENGINE = """
import pytest
from manent import engine

@pytest.fixture
def manent_script():
    return {"models": {"poet": [{"steps": [{"text": "Roses."}]}]}}

def test_a_turn(manent_engine, tmp_path):
    session = manent_engine.create_session()
    assert manent_engine.say(session.id, "Go on.").text == "Roses."
    assert (tmp_path / "manent.db").exists()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_awaited(manent_settings):
    async with engine.open(manent_settings) as chat:
        session = await chat.create_session()
        assert (await chat.say(session.id, "Go on.")).text == "Roses."
"""
UNUSED = """
import sys

def test_nothing_is_imported():
    assert "manent.api.testing.plugin" in sys.modules
    assert [name for name in sys.modules if name.startswith("manent.engine")] == []
    assert "sqlalchemy" not in sys.modules
"""


@pytest.fixture
def suites(tmp_path):
    """A file with the suites ``smoke``, of three turns, ``first`` of one, and ``gone``; the ids of the three turns."""
    return asyncio.run(_record(tmp_path / "record" / "manent.db"))


async def _record(path):
    path.parent.mkdir()
    async with chatting(path) as chat:
        session = await chat.create_session(model="echo/echo", system="Be brief.")
        turns = [await chat.say(session.id, word) for word in ("one", "two", "three")]
        other = await chat.create_session(model="echo/echo")
        erased = await chat.say(other.id, "four")
        await chat.create_suite("smoke", [turn.id for turn in turns])
        await chat.create_suite("first", [turns[0].id])
        await chat.create_suite("gone", [erased.id])
        await chat.erase(other.id, "asked")
        return [str(turn.id) for turn in turns]


@pytest.fixture
def tested(tmp_path, environment):
    """Runs pytest in a folder on a file of tests, with the plugin as if it were installed."""
    installed = any(each.value == PLUGIN for each in entry_points(group="pytest11"))
    kept = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    plugins = ["-p", "no:schemathesis", "-p", "no:cacheprovider", *([] if installed else ["-p", PLUGIN])]

    def run(source, *options, conftest="", **names):
        (tmp_path / "test_it.py").write_text(source, "utf-8")
        (tmp_path / "conftest.py").write_text(conftest, "utf-8")
        return subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, "-c", os.devnull, "--rootdir", tmp_path, *options, "test_it.py"],
            cwd=tmp_path,
            env=environment | kept | names,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


def test_each_turn_of_a_suite_is_a_test(tested, suites):
    """One id a turn, which is chosen by it; the file is only read, beside a server or on a read-only medium."""
    done = tested(REPLAYED, "-v", "--strict-markers", "--manent-database", "record/manent.db")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"test_recorded\[(\S+)\] PASSED", done.stdout) == suites
    chosen = tested(REPLAYED, "-k", suites[1], MANENT_DATABASE="record/manent.db")
    assert "1 passed, 2 deselected" in chosen.stdout


def test_the_file_is_only_read(tested, suites, tmp_path, serve):
    """A read-only file is left as it was, and one that a server has can be read."""
    record = tmp_path / "record"
    before = {file.name: file.read_bytes() for file in record.iterdir()}
    for place in (*record.iterdir(), record):
        place.chmod(0o555 if place.is_dir() else 0o444)
    assert tested(REPLAYED, MANENT_DATABASE="record/manent.db").returncode == 0
    record.chmod(0o755)
    assert {name: (record / name).read_bytes() for name in before} == before
    for file in record.iterdir():
        file.chmod(0o644)
    with serve(record / "manent.db"):
        assert "3 passed" in tested(REPLAYED, MANENT_DATABASE="record/manent.db").stdout


def test_the_first_difference_is_the_message(tested, suites):
    """The turn's test fails, and no other; it says what differs in at most twelve lines, without a traceback."""
    done = tested(REPLAYED, conftest=ANOTHER_RENDERER, MANENT_DATABASE="record/manent.db")
    assert done.returncode == 1
    assert "2 failed, 1 passed" in done.stdout
    told = re.search(rf"_ test_recorded\[{suites[1]}\] _+\n(.*?)\n_", done.stdout, re.DOTALL)[1].splitlines()
    assert told[0] == f"turn {suites[1]} is not as it was recorded"
    assert told[1].startswith("suite smoke, session ")
    assert any(line.startswith("request differs at ") for line in told)
    assert len(told) <= 12
    assert max(map(len, told)) <= 201
    assert "Traceback" not in done.stdout


def test_a_test_may_ask_for_the_result(tested, suites):
    """Several suites are named in the ids; without a mark the fixture says what it goes with."""
    done = tested(WITH_A_RESULT, "-v", MANENT_DATABASE="record/manent.db")
    assert "4 passed, 1 error" in done.stdout
    assert f"test_the_request[first-{suites[0]}] PASSED" in done.stdout
    assert f"test_the_request[smoke-{suites[0]}] PASSED" in done.stdout
    assert '@pytest.mark.manent_replay("NAME") takes the name of a suite' in done.stdout


def test_erased_turns_are_skipped_loudly(tested, suites):
    """Each is counted, with the reason."""
    done = tested(REPLAYED.replace("smoke", "gone"), "-rs", MANENT_DATABASE="record/manent.db")
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)
    assert "its words are erased" in done.stdout


@pytest.mark.parametrize(
    ("mark", "database", "named"),
    [
        ('("smoke")', "", "--manent-database FILE, or MANENT_DATABASE"),
        ('("smoke")', "record/none.db", "record/none.db"),
        ('("smok")', "record/manent.db", "there is no suite 'smok'; there is first, gone, smoke"),
        ("", "record/manent.db", "takes the name of a suite"),
    ],
)
def test_wrong_use_is_said_in_a_line(tested, suites, mark, database, named):
    """A suite or a database that is not there ends the run as wrong use, and is named."""
    done = tested(REPLAYED.replace('("smoke")', mark), MANENT_DATABASE=database)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert named in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_on_workers_wrong_use_fails_with_the_same_words(tested, suites):
    """pytest-xdist would take its end for a crash; and what can be read is divided among the workers."""
    done = tested(REPLAYED.replace("smoke", "smok"), "-n", "1", MANENT_DATABASE="record/manent.db")
    assert (done.returncode, "there is no suite 'smok'" in done.stdout) == (1, True)
    assert "INTERNALERROR" not in done.stdout
    assert "3 passed" in tested(REPLAYED, "-n", "2", MANENT_DATABASE="record/manent.db").stdout


def test_the_fixtures_are_an_engine_on_a_script(tested):
    """On a temporary file; the script is a fixture to be overridden, and its model the default one."""
    done = tested(ENGINE, "-W", "error")
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


def test_unused_it_imports_nothing(tested):
    """Whoever has the package installed pays nothing for the plugin in other runs of pytest."""
    assert tested(UNUSED, "-p", "no:hypothesispytest").returncode == 0
