"""The README's promises, run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MANENT = Path(sys.executable).with_name("manent")


def blocks(language, section):
    """The code blocks of a language in a section."""
    text = README.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a server on a database of its own."""
    folder = tmp_path_factory.mktemp("readme")
    with subprocess.Popen(
        [MANENT, "serve", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        for line in server.stdout:
            if line.startswith("listening on "):
                break
        yield line.split()[-1]
        server.terminate()


def test_every_command_of_the_tour_works_one_after_the_other(address, tmp_path):
    """A reader who types the tour as it stands sees no command fail."""
    sections = ("A tour with curl", "Claude, OpenAI and others", "Tools", "Evidence")
    tour = "\n".join(block for section in sections for block in blocks("bash", section)).replace(
        "http://127.0.0.1:8000", address
    )
    checked = tour.replace("curl -s", "curl --fail-with-body -s")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", checked], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        "event: delta",
        "event: turn.completed",
        '"status":"cancelled"',
        "Say it again.",
        "data: [DONE]",
        '"calculator"',
    ):
        assert expected in done.stdout


def test_the_script_prints_the_record(tmp_path):
    """The example script runs as it stands, answers, and lists the events with their hashes."""
    (script,) = blocks("python", "From a script")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "Is this on record?"
    assert [line.split()[1] for line in lines[1:]] == [
        "session.started",
        "message.appended",
        "turn.started",
        "attempt.started",
        "attempt.ended",
        "message.appended",
        "turn.completed",
    ]


def test_every_command_of_the_table_exists():
    """The README names no command that is not there, and leaves none out."""
    shown = subprocess.run([MANENT, "--help"], capture_output=True, text=True, check=True).stdout
    there = set(re.findall(r"^  ([a-z]+) ", shown.split("Commands:")[1], re.MULTILINE))
    assert there == set(re.findall(r"`manent ([a-z]+)", README))
