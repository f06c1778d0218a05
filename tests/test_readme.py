"""The README's promises, run as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from manent import engine
from manent.engine.providers.catalogue import Catalogue
from manent.engine.tools.mcp.config import mcp_available

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEEPER = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("api/README.md", "engine/README.md")}
MANENT = Path(sys.executable).with_name("manent")
PLUGIN = "manent.api.testing.plugin"


def blocks(language, section):
    """The code blocks of a language in a section, of the README or of a file that it points to."""
    (file,) = [each for each in (README, *DEEPER.values()) if f"\n## {section}\n" in each]
    text = file.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


TOUR, BRANCHES, REPLAYS, MODELS, TOOLS, ASKING = (
    "A tour with curl",
    "Branches",
    "Replays",
    "Claude, OpenAI and others",
    "Tools",
    "MCP servers, and a person's yes",
)
PARAMETERS = "Parameters, and routes"
SCRIPT = "From a script"
FILES = "Conversations as files"
SUITES = "Suites"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of a server on a database of its own, with the files that the README has its readers save."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "script.json").write_text(*blocks("json", TOOLS), encoding="utf-8")
    files = {"MANENT_SCRIPT": "script.json"}
    if mcp_available():
        (file,) = blocks("json", ASKING)
        (folder / "mcp.json").write_text(file.replace(".venv/bin/python", sys.executable), encoding="utf-8")
        (folder / "house.py").write_text(*blocks("python", ASKING), encoding="utf-8")
        files["MANENT_MCP_SERVERS_FILE"] = "mcp.json"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(
        [MANENT, "serve", "--port", "0"], cwd=folder, env=os.environ | files, text=True, **pipes
    ) as server:
        for line in server.stdout:
            if line.startswith("listening on "):
                break
        yield line.split()[-1]
        server.terminate()


def typed(address, folder, *sections):
    """What a reader sees who types the commands of these sections as they stand, none of which may fail."""
    commands = "\n".join(block for section in sections for block in blocks("bash", section))
    checked = commands.replace("http://127.0.0.1:8000", address).replace("curl -s", "curl --fail-with-body -s")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", checked], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_tour_works_one_after_the_other(address, tmp_path):
    """A reader who types the tour as it stands sees no command fail."""
    shown = typed(address, tmp_path, TOUR, BRANCHES, REPLAYS, MODELS, PARAMETERS, TOOLS, "Evidence")
    for expected in (
        "event: delta",
        "event: turn.completed",
        '"status":"cancelled"',
        "Say it again.",
        "data: [DONE]",
        '"title":"Another try"',
        '"text":"What is a lake?"',
        '"kind":"conversation"',
        "event: replay.compared",
        "event: replay.completed",
        '"mode":"forced"',
        '"siblings":[{"session_id":"',
        '"calculator"',
        "event: tool.called",
        '"content":"42"',
        "It is 42.",
        '"stop_reason":"tool_use"',
        "Take an umbrella.",
    ):
        assert expected in shown


@pytest.mark.skipif(not mcp_available(), reason="THE README'S APPROVALS ARE NOT TESTED: no extra `mcp`")
def test_a_person_says_yes(address, tmp_path):
    """The MCP server that the README writes is started, its tool waits, and runs when it may."""
    shown = typed(address, tmp_path, TOUR, TOOLS, ASKING)
    for expected in ('"pending_approvals":[]', "it is mine", "the north door is open", "Come in."):
        assert expected in shown


def test_the_file_of_models_is_one():
    """It is read, and its prices hold."""
    (file,) = blocks("json", MODELS)
    catalogue = Catalogue.read(("README.md", file.encode()))
    (model,) = catalogue.models("openai")
    assert model.info().price_at(catalogue.as_of).input == json.loads(file)["models"][0]["prices"][0]["input"]


async def test_the_file_of_routes_is_one(tmp_path):
    """It is read, and its routes and endpoints are served."""
    (file,) = blocks("json", PARAMETERS)
    (tmp_path / "routes.json").write_text(file, encoding="utf-8")
    (tmp_path / "there.key").write_text("key-of-there", encoding="utf-8")
    settings = engine.Settings(
        database=str(tmp_path / "chat.db"),
        routes_file=str(tmp_path / "routes.json"),
        openai_api_key="none",
        anthropic_api_key="none",
    )
    async with engine.open(settings) as chat:
        assert {"route/chat", "route/cheap", "route/spread"} <= {model.name for model in chat.models()}
        assert chat.model("here/llama-3").provider == "here"


MISUSE = """
from manent import engine


async def wrong(chat: engine.Engine, door: engine.SyncEngine, session: str) -> None:
    await chat.create_session(titel="x")  # wrong
    await chat.update_session(session, status="gone")  # wrong
    await chat.say(session, "x", temprature=1)  # wrong
    await chat.messages(session, engine.LOCAL)  # wrong
    (await chat.turns(session)).items[0].txt  # wrong
    chat.stream(session).turn  # wrong
    (await chat.evidence.inclusion(session, 1)).leave  # wrong
    door.create_session(titel="x")  # wrong
    door.say(session, "x", temprature=1)  # wrong
    door.say(session, "x").txt  # wrong
    next(door.iter_messages(session)).txt  # wrong
    next(door.stream(session, "x")).txt  # wrong
    door.evidence.tile("0", 0, 1)  # wrong
"""


@pytest.mark.slow
def test_the_examples_pass_a_strict_type_checker(tmp_path):
    """What a reader copies into a typed project is fully typed; and a mistake in a call is seen, whatever the call."""
    for number, script in enumerate(blocks("python", SCRIPT)):
        (tmp_path / f"example_{number}.py").write_text(script, encoding="utf-8")
    (tmp_path / "misuse.py").write_text(MISUSE, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", ".cache", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = re.findall(r"^(\S+):(\d+): error", done.stdout, re.MULTILINE)
    wrong = [number for number, line in enumerate(MISUSE.splitlines(), 1) if line.endswith("# wrong")]
    assert {(file, int(line)) for file, line in errors} == {("misuse.py", line) for line in wrong}, done.stdout


def run_example(number, folder):
    """What a reader sees who runs one of the scripts as it stands."""
    script = blocks("python", SCRIPT)[number]
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_script_prints_the_record(tmp_path):
    """The first script answers, and lists the events with their hashes."""
    lines = run_example(0, tmp_path)
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


def test_the_answer_is_streamed(tmp_path):
    """The second script shows the answer, how the turn ended, and the newest message."""
    shown, newest = run_example(1, tmp_path)
    assert re.fullmatch(r"Word by word, please\. \[completed, \d+ tokens\]", shown)
    assert newest == "Word by word, please. True"


def test_nothing_is_awaited(tmp_path):
    """The third script does the same without a coroutine."""
    said = "Is this on record?"
    assert run_example(2, tmp_path) == [said, f"user: {said}", f"assistant: {said}"]


def test_a_function_is_a_tool(tmp_path):
    """The fourth script lists its functions with their arguments, and its turn ends."""
    lines = run_example(3, tmp_path)
    assert lines[-3:] == ["count_words ['text'] False", "send ['to', 'words'] True", "completed"]


def test_a_conversation_is_run_from_its_file(tmp_path):
    """The file says what the README shows, and continuous integration gets its results."""
    (tmp_path / "umbrella.yaml").write_text(*blocks("yaml", FILES), encoding="utf-8")
    (command,), (shown,) = blocks("bash", FILES), blocks("text", FILES)
    typed_in = shlex.split(command.replace(".venv/bin/manent", shlex.quote(str(MANENT))))
    done = subprocess.run(typed_in, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, shown, "")
    assert 'failures="1"' in (tmp_path / "results.xml").read_text("utf-8")


def test_a_suite_is_kept_and_run(tmp_path):
    """The commands work one after the other, and the file of tests runs with the plugin."""
    with engine.open_sync(tmp_path / "manent.db") as chat:
        turn = chat.say(chat.create_session(model="echo/echo").id, "Is this on record?")
    (commands,), (tests,) = blocks("bash", SUITES), blocks("python", SUITES)
    typed_in = commands.replace(".venv/bin/manent", shlex.quote(str(MANENT)))
    names = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", typed_in], check=False, **names)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 turns: 1 same") == 2
    assert done.stdout.endswith("0 accepted, 0 rejected, 0 left\n")
    assert (tmp_path / "report.html").stat().st_size > 1000
    (tmp_path / "test_suite.py").write_text(tests, encoding="utf-8")
    installed = any(each.value == PLUGIN for each in entry_points(group="pytest11"))
    options = ["-p", "no:schemathesis", "-c", os.devnull, "--rootdir", tmp_path, *([] if installed else ["-p", PLUGIN])]
    command = [sys.executable, "-m", "pytest", "-v", *options, "--manent-database", "manent.db", "test_suite.py"]
    tested = subprocess.run(command, check=False, **names)
    assert tested.returncode == 0, tested.stdout
    assert f"test_recorded_turns[{turn.id}] PASSED" in tested.stdout
    assert "2 passed" in tested.stdout


def test_every_command_of_the_table_exists():
    """The README names no command that is not there, and leaves none out."""
    shown = subprocess.run([MANENT, "--help"], capture_output=True, text=True, check=True).stdout
    listed = shown.partition("Options:")[2].partition("Examples:")[0]
    there = set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE))
    assert there == set(re.findall(r"`manent ([a-z]+)", DEEPER["api/README.md"]))
