"""What the README shows under its commands is what they show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from manent.engine.providers.local.provider import local_model_available

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
VENV = Path(sys.prefix)
ADDRESS = "http://127.0.0.1:8000"
MARK = "\x1e"


def steps():
    """The commands of the README's consoles, each with the lines that it shows below."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def pattern(shown):
    """What output may look like: ``…`` stands for anything in its line, and alone for any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in shown.rstrip().splitlines()
    ]
    return re.compile("".join(lines) + r"\s*")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A server as the README starts it: its folder, its address, and what it said."""
    folder = tmp_path_factory.mktemp("first hour")
    (folder / ".venv").symlink_to(VENV)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANENT_")}
    command = [VENV / "bin/manent", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes) as server:
        address = server.stdout.readline().split()[-1]
        said = []
        while not said or not said[-1].startswith("  stop"):
            said.append(server.stderr.readline())
        yield folder, address, "".join(said).replace(address, ADDRESS)
        server.terminate()


@pytest.mark.skipif(not local_model_available(), reason="THE README'S FIRST HOUR IS NOT TESTED: no extra `local`")
def test_the_start_says_what_the_readme_shows(started):
    """The lines under ``scripts/serve`` are those of a server that starts."""
    *_, said = started
    ((_, shown),) = [each for each in steps() if each[0] == "scripts/serve"]
    assert pattern(shown).fullmatch(said), said


@pytest.mark.skipif(not local_model_available(), reason="THE README'S FIRST HOUR IS NOT TESTED: no extra `local`")
def test_each_command_of_the_first_conversation_shows_what_the_readme_shows(started):
    """They are typed one after the other in one shell, and none fails."""
    folder, address, _ = started
    typed = [each for each in steps() if each[0] != "scripts/serve"]
    script = "".join(f"{command}\nprintf '{MARK}%s:' $?\n" for command, _ in typed).replace(ADDRESS, address)
    done = subprocess.run(["bash", "-uc", script], cwd=folder, capture_output=True, text=True, check=False)
    outputs = done.stdout.replace(address, ADDRESS).split(MARK)
    assert len(outputs) == len(typed) + 1, done.stderr
    for number, (command, shown) in enumerate(typed):
        output = outputs[number].partition(":")[2] if number else outputs[0]
        assert outputs[number + 1].startswith("0:"), f"{command}\n{output}{done.stderr}"
        assert pattern(shown).fullmatch(output if output.endswith("\n") else output + "\n"), f"{command}\n{output}"
