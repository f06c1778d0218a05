"""The commands on conversations that hold tools: calls, results, decisions and pauses are shown, and run again from the
record.
"""

import asyncio
import json
import shutil
from types import SimpleNamespace

import pytest

from manent import engine
from manent.engine.bootstrap import open_engine
from tests.cli.test_replay_script import REPLAY


@engine.tool(approval=True)
def open_door(name: str) -> str:
    """Opens a door."""
    return f"{name} is open"


def uses(*calls):
    """A script's model that makes these calls, and then tells."""
    steps = [{"tool": {"id": f"call_{number}", "name": name, "input": given}} for number, name, given in calls]
    return [{"steps": [{"text": "Let me see."}, *steps]}, {"steps": [{"text": "Seen."}]}]


MODELS = {
    "sums": uses((1, "calculator", {"expression": "6*7"}), (2, "calculator", {"expression": "1/0"})),
    "doors": uses((1, "open_door", {"name": "North"}), (2, "open_door", {"name": "South"})),
    "both": uses((1, "calculator", {"expression": "6*7"}), (2, "weather", {"city": "Rome"})),
    "other": [
        {"steps": [{"tool": {"id": "new_1", "name": "calculator", "input": {"expression": "7*6"}}}]},
        {"steps": [{"tool": {"id": "new_2", "name": "timestamp", "input": {}}}]},
        {"steps": [{"text": "Done."}]},
    ],
    "ever": [{"steps": [{"tool": {"id": "again", "name": "calculator", "input": {}}}]}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of conversations with tools, made once: what ran, what was decided, what waits."""
    folder = tmp_path_factory.mktemp("tools")
    script = folder / "script.json"
    script.write_text(json.dumps({"models": MODELS}), encoding="utf-8")
    settings = engine.Settings(database=str(folder / "manent.db"), script=str(script), drain_s=1, max_attempts=1)
    return SimpleNamespace(folder=folder, **asyncio.run(_make(settings)))


async def _make(settings):
    weather = engine.ToolSchema("weather", "", {"type": "object", "properties": {}})
    async with open_engine(settings, tools=[open_door]) as chat:

        async def begin(model, **options):
            session = await chat.create_session(model=f"scripted/{model}")
            return session.id, await chat.say(session.id, "Go on.", **options)

        sums, _ = await begin("sums", tools=("calculator",))
        await chat.say(sums, "Thanks.", model="echo/echo")
        decided, turn = await begin("doors", tools=("open_door",))
        await chat.decide(turn.id, "call_1", approve=True)
        await chat.decide(turn.id, "call_2", approve=False, reason="The \x1b[31msouth one stays shut.")
        await chat.ended(turn.id)
        waiting, _ = await begin("doors", tools=("open_door",))
        both, _ = await begin("both", tools=("calculator",), client_tools=(weather,))
        result = engine.MessageIn((b'{"type":"tool_result","tool_use_id":"call_2","content":"Dry."}',), "tool")
        await chat.append_messages(both, [result])
        await chat.ended((await chat.start_turn(both)).turn)
    return {"sums": sums, "decided": decided, "waiting": waiting, "both": both}


@pytest.fixture
def database(made, tmp_path):
    for name in ("manent.db", "manent.db.secret", "script.json"):
        shutil.copy(made.folder / name, tmp_path / name)


@pytest.fixture
def replay(call, database):
    """``scripts/replay.py``, with the same script."""

    def replay(*command):
        return call(*command, script=REPLAY, MANENT_SCRIPT="script.json")

    return replay


SUMS = [
    "Let me see.",
    '[asks for calculator {"expression":"6*7"}]',
    '[asks for calculator {"expression":"1/0"}]',
    "[result of call_1: 42]",
    "[error of call_2: calculator failed: division by zero]",
    "Seen.",
]


def test_calls_and_results_are_shown(call, made, database):
    """Each call with its input, each result with its call, under the role that said it."""
    done = call("show", made.sums)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert [line for line in said if line in SUMS] == SUMS
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("#")] == [
        *("user", "assistant", "tool", "tool", "assistant", "user", "assistant")
    ]


def test_a_turn_that_waits_is_said_to_wait(call, made, database):
    """It is not running, and the calls that it waits for are named."""
    done = call("show", made.waiting)
    assert "waits for a decision on call_1, call_2\n" in done.stdout
    assert "is running" not in done.stdout
    assert "is running" not in call("show", made.decided).stdout


def test_a_conversation_with_tools_is_played_back(replay, made):
    """Words, calls and results in the order in which they came."""
    done = replay(made.sums, "--pace", "0")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in SUMS] == SUMS


def test_decisions_are_played_back(replay, made):
    """Who said what to which call, and why, without commanding the terminal; and then what came of it."""
    done = replay(made.decided, "--pace", "0")
    lines = done.stdout.splitlines()
    at = lines.index("[local approves call_1]")
    assert lines[at : at + 4] == [
        "[local approves call_1]",
        "[local refuses call_2: The ␛[31msouth one stays shut.]",
        "[result of call_1: North is open]",
        "[error of call_2: Not called: a person refused this call (The ␛[31msouth one stays shut.).]",
    ]
    assert lines[-1] == "Seen."
    assert "the turn waits for a person: call_1 (open_door), call_2 (open_door)" in done.stderr


def test_a_turn_that_waits_is_played_back_as_far_as_it_is(replay, made):
    """Up to its pause, and that it is one."""
    done = replay(made.waiting, "--pace", "0")
    assert done.returncode == 0
    assert done.stdout.endswith('[asks for open_door {"name":"South"}]\n')
    assert "the turn waits for a person" in done.stderr


@pytest.mark.parametrize(
    ("name", "model", "counts"),
    [
        ("sums", "sums", "1 same, 1 different"),  # of which the second was answered by another
        ("decided", "doors", "1 same, 0 different"),
        ("both", "both", "2 same, 0 different"),
    ],
)
def test_run_again_the_same_model_says_the_same(replay, made, name, model, counts):
    """No tool runs, nobody is asked: what the tools gave, within a turn or from the caller, is given again."""
    done = replay(getattr(made, name), "--model", f"scripted/{model}")
    assert f" turns: {counts}, " in done.stdout.splitlines()[-1], done.stdout


def test_run_again_another_model_gets_what_is_on_record(replay, call, made):
    """The result of the same call; an error where there is none; and it is told of the same tools."""
    done = replay(made.sums, "--model", "scripted/other")
    assert done.returncode == 1
    (new,) = json.loads(call("sessions", "--json", "--limit", "1").stdout)
    shown = call("show", new["id"]).stdout
    assert "[error of new_1: no result is on record for this call]" in shown
    assert "[error of new_2: no result is on record for this call]" in shown
    digests = {
        event["facts"].get("tools")
        for session in (made.sums, new["id"])
        for event in json.loads(call("show", session, "--events", "--json").stdout)
        if event["type"] == "attempt.started" and event["facts"]["provider"] == "scripted"
    }
    assert len(digests - {None}) == 1


def test_run_again_a_model_that_never_has_enough_comes_to_an_end(replay, call, made):
    """After as many rounds as a turn may have, whatever it still asks for."""
    done = replay(made.decided, "--model", "scripted/ever")
    assert done.returncode == 1
    assert "the new turn failed" in done.stdout
    (new,) = json.loads(call("sessions", "--json", "--limit", "1").stdout)
    assert call("show", new["id"]).stdout.count("[asks for calculator") == 16
