"""``scripts/replay.py``: a conversation played back, or run again."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPLAY = Path(__file__).parents[2] / "scripts" / "replay.py"


@pytest.fixture
def replay(run):
    def replay(*command, **names):
        return run(*command, program=(sys.executable, REPLAY), **names)

    return replay


def test_a_conversation_is_played_back(replay, recorded, database):
    """What was said is printed in order, with who said it; nothing is written."""
    before = Path(database).read_bytes()
    done = replay(recorded.talked, "--pace", "0")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line and not line.startswith(("#", "answer of echo/echo  "))]
    assert said == ["Is this on record?"] * 2 + ["Grüße, 世界 🌍", "second line"] * 2
    assert Path(database).read_bytes() == before


def test_the_pace_is_the_recorded_one_or_a_multiple(start, run, call):
    """A reply that took its time takes it again at 1x, and a quarter of it at 4x."""
    run("chat", "--model", "echo/paced", given="x" * 239 + ".\n")
    (session,) = json.loads(call("sessions", "--json").stdout)
    took = {}
    for pace in ("1x", "4x"):
        with start(session["id"], "--pace", pace, program=(sys.executable, REPLAY)) as replaying:
            while not replaying.stdout.readline().startswith("answer of echo/paced"):
                pass
            replaying.stdout.read(1)
            begun = time.monotonic()
            assert replaying.stdout.readline() == "x" * 238 + ".\n"
            took[pace] = time.monotonic() - begun
    assert 2 < took["1x"] / took["4x"] < 8


def test_running_again_on_echo_shows_no_difference(replay, call, recorded, database):
    """The same answers end in exit code 0, and the new session names the one it repeats."""
    done = replay(recorded.talked, "--model", "echo/echo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "2 turns: 2 same, 0 different, 0 skipped, 0 failed; 0 findings\n"
    newest = json.loads(call("sessions", "--json", "--limit", "1").stdout)[0]
    assert newest["metadata"] == {"replay_of": str(recorded.talked)}


def test_running_again_on_another_model_shows_the_differences(replay, recorded, database, tmp_path):
    """An answer that differs is printed with both, and the exit code is 1."""
    answers = [{"steps": [{"text": "Is this on record?"}]}, {"steps": [{"text": "Something \x1b[31melse"}]}]
    (tmp_path / "script.json").write_text(json.dumps({"models": {"other": answers}}))
    done = replay(recorded.talked, "--model", "scripted/other", MANENT_SCRIPT="script.json")
    assert done.returncode == 1
    assert "\n    - Grüße, 世界 🌍 second line\n    + Something ␛[31melse\n" in done.stdout
    assert done.stdout.endswith("2 turns: 1 same, 1 different, 0 skipped, 0 failed; 1 findings\n")


def test_beside_a_server_it_plays_back_and_does_not_run(replay, call, serve, recorded, database):
    """Playing back reads beside a server; running again would write, and names the server's pid."""
    with serve(database) as server:
        played = replay(str(recorded.talked)[:-2], "--pace", "0")
        refused = call(recorded.talked, "--model", "echo/echo", script=REPLAY)
    assert (played.returncode, played.stdout.count("Is this on record?")) == (0, 2)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"(pid {server.pid})" in refused.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("zzz",), 2),
        ((), 2),
        (("00", "--pace", "fast"), 2),
        (("00", "--model", "echo/echo", "--tenant", "A B"), 2),
        (("ffff",), 1),
        (("ffff", "--model", "echo/echo"), 1),
        (("ffff", "--database", "missing.db"), 1),
    ],
)
def test_slips_end_in_a_sentence_and_their_exit_code(call, database, command, code):
    """Wrong use is 2, what is not there is 1, and neither is a stack trace."""
    done = call(*command, script=REPLAY)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_model_is_wrong_use(call, recorded, database):
    """A model that nobody serves is refused with those there are."""
    done = call(recorded.talked, "--model", "echo/nothing", script=REPLAY)
    assert done.returncode == 2
    assert "there is echo/echo" in done.stderr


def test_started_with_another_python_it_finds_its_own(tmp_path, environment):
    """Without the environment it says what makes it; with it, it runs there, whichever Python started it."""
    script = tmp_path / "scripts" / "replay.py"
    script.parent.mkdir()
    shutil.copy(REPLAY, script)
    bare = [getattr(sys, "_base_executable", sys.executable), "-S", str(script), "--help"]
    done = subprocess.run(bare, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "scripts/serve" in done.stderr
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(shutil.which("echo"))
    done = subprocess.run(bare, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == f"{script} --help\n"
