"""The examples are short, and run as they stand: from anywhere, with no key, no server and no network."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
SAYS = {
    "record.py": ["What is said remains.", "turn.completed"],
    "explain.py": ["as they were sent: True", "in: last_user", "budget"],
    "fork.py": ["We go to the sea. By train.", "We go to the sea. By boat.", "shared up to version 7"],
    "replay.py": [
        "recorded: same same same",
        "forced: different recorded 'And Oslo?', now 'And Paris?'",
        "accepted: same same same",
    ],
    "verify.py": ["every event is what was recorded", "has other words than were committed to"],
}


def test_every_example_is_run():
    """None lies there untested."""
    assert {file.name for file in EXAMPLES.glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_is_short(tmp_path, name):
    """It says what it shows, in at most forty lines of code."""
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, tmp_path / "chat.db"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in SAYS[name] if line not in done.stdout] == []
