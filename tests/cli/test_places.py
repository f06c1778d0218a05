"""Commands on a file and over ``--url``: the same words, the same JSON; and what only one of the two can do."""

import json
import os
import time

import pytest

from tests.cli.conftest import MANENT
from tests.cli.test_export import verified

LOOKS = [
    ("sessions",),
    ("sessions", "--json"),
    ("sessions", "--status", "archived", "--branches", "all"),
    ("show", "{talked}"),
    ("show", "{talked}", "--json"),
    ("show", "{talked}", "--events", "--json"),
    ("show", "{talked}", "--version", "7", "--json"),
    ("show", "{broken}"),
    ("branches", "{talked}"),
    ("explain", "{talked}"),
    ("explain", "{talked}", "--attempt", "1", "--json"),
    ("models", "--json"),
    ("tools", "--json"),
    ("proof", "{talked}", "2"),
    ("checkpoint",),
    ("export", "{tools}", "--format", "openai", "--output", "-"),
]


def test_looking_is_the_same_in_both_places(call, serve, recorded, database):
    """What only reads prints the same of a file and of the server that has it."""
    names = {name: str(getattr(recorded, name)) for name in ("talked", "broken", "tools")}
    with serve(database) as server:
        for command in LOOKS:
            words = [word.format(**names) for word in command]
            there, here = call(*words, "--url", server.url), call(*words)
            assert (there.returncode, here.returncode) == (0, 0), (command, there.stderr, here.stderr)
            assert there.stdout == here.stdout, command
            assert there.stdout, command
        keys = [call("checkpoint", "--keys", *place).stdout for place in (("--url", server.url), ())]
    assert set(keys[0].split()) >= set(keys[1].split()) > set()


@pytest.mark.parametrize("over_api", [False, True])
def test_changing_works_in_both_places(call, serve, recorded, database, over_api):
    """Title, hold, fork and erase, on the file itself and by the server."""
    session = str(recorded.talked)

    def change(*place):
        assert "is called Another name" in call("title", session, "Another name", *place).stdout
        assert "is under legal hold" in call("hold", session[:-4], *place).stdout
        held = call("erase", session, "--reason", "asked to", *place)
        assert (held.returncode, "legal hold" in held.stderr) == (1, True)
        assert "is under no legal hold" in call("hold", session, "--off", *place).stdout
        fork = call("fork", session, "--version", "7", *place).stdout.strip()
        assert fork in call("branches", session, "--json", *place).stdout
        would = call("erase", session, "--reason", "asked to", "--version", "2", "--dry-run", *place).stdout
        assert f"{session}: would erase " in would
        assert f"{fork}: a branch that would lose " in would
        done = json.loads(call("erase", session, "--reason", "asked to", "--version", "2", "--json", *place).stdout)
        assert (2 in done["erased"], done["dry_run"]) == (True, False)
        assert json.loads(call("title", session, "", "--json", *place).stdout)["title"] is None

    if over_api:
        with serve(database) as server:
            change("--url", server.url)
    else:
        change()
    assert "erased" in call("show", session).stdout


@pytest.mark.parametrize("over_api", [False, True])
def test_events_are_followed(start, run, serve, recorded, database, over_api):
    """From the last ones on, each on a line as it is recorded; only those of the types that are asked for."""
    with serve(database) as server:
        place = ("--url", server.url) if over_api else ("--database", str(database))
        with start("tail", str(recorded.talked), "-n", "2", *place) as following:
            assert "message.appended   assistant echo/echo Grüße, 世界 🌍 second line" in following.stdout.readline()
            assert "turn.completed" in following.stdout.readline()
            assert run("ask", "--session", recorded.talked, "More.", "--url", server.url).returncode == 0
            lines = [following.stdout.readline() for _ in range(5)]
        assert [line.split()[4] for line in lines] == [
            "message.appended",
            "turn.started",
            "attempt.started",
            "attempt.ended",
            "message.appended",
        ]
        assert "user More." in lines[0]
        with start("tail", "--after", "0", "--type", "session.started", "--json", *place) as following:
            events = [json.loads(following.stdout.readline()) for _ in range(4)]
    assert {event["type"] for event in events} == {"session.started"}
    assert events[0]["session_id"] == str(recorded.talked)


def test_only_what_comes_is_followed(start, run, database, recorded):
    """Without --after a file's log is followed from its end, which another process moves."""
    with start("tail", "--database", str(database)) as following:
        time.sleep(3)
        assert run("title", recorded.talked, "New").returncode == 0
        assert "session.updated" in following.stdout.readline()


def test_a_bundle_goes_through_a_pipe(run, recorded, database, tmp_path):
    """- is standard output, also for a bundle; in a terminal it is refused."""
    command = 'manent export "$0" --output - > piped.zip'
    done = run("-c", command, recorded.talked, program=("bash",), PATH=_path())
    assert done.returncode == 0, done.stderr
    assert "standard output: " in done.stderr
    assert verified(tmp_path / "piped.zip", tmp_path).returncode == 0


def test_a_terminal_gets_no_bundle(terminal, recorded, database):
    """Its bytes would command it."""
    with terminal("export", str(recorded.talked), "--output", "-") as screen:
        assert "a bundle is not for a terminal" in screen.see_all()
        assert screen.process.wait(10) == 2


def test_a_server_writes_a_bundle(run, serve, recorded, database, tmp_path):
    """Over --url the same bundle comes, which verifies; into a file that is there it is not written."""
    with serve(database) as server:
        done = run("export", str(recorded.talked)[:-2], "--url", server.url)
        assert done.returncode == 0, done.stderr
        assert verified(tmp_path / f"{recorded.talked}.zip", tmp_path).returncode == 0
        again = run("export", recorded.talked, "--url", server.url)
        assert (again.returncode, "is there already" in again.stderr) == (1, True)


def _path():
    return f"{MANENT.parent}{os.pathsep}{os.environ['PATH']}"
