"""Clients of other projects, unmodified, each in an environment of its own, against a server process: what they are
told, and what gets on record of it.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from manent import engine
from tests.api import chat_upstream, claude_upstream
from tests.api.conftest import SCRIPT
from tests.api.harness import Process
from tests.clients.environments import HERE, node_modules, python_with
from tests.upstream import Claude

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]  # the first run installs them

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
DRIVE_S = 120
SUM = [{"steps": [{"tool": {"id": "call_1", "name": "Sum", "input": {"answer": 4}}}]}]
PYTHON = ("llm", "langchain-openai", "langchain-anthropic", "openai-agents", "litellm")
JAVASCRIPT = {"openai (JavaScript)": "openai.mjs", "@anthropic-ai/sdk (JavaScript)": "anthropic.mjs"}
QUICK = ("llm",)
"""Those that the default run has time for."""
PIECES = "Once more, in pieces."


def claude_says(text):
    """A whole stream of Claude's."""
    wire = Claude()
    events = [*wire.begins(), *wire.opens(), wire.says(text), *wire.ends()]
    return b"".join(events)


def line_for(client, url):
    """The README's line for a client, for a server elsewhere."""
    name, _, language = client.partition(" ")
    (row,) = [each for each in README.splitlines() if each.startswith(f"| `{name}` {language}")]
    return row.split("| `")[2].rpartition("`")[0].replace("http://127.0.0.1:8000", url)


class Run:
    """What a client told, and what the server has on record of it."""

    def __init__(self, told, sessions, turns, replayed):
        self.told = told
        self.asked = b""
        self.sessions = sessions
        self.turns = turns
        self.replayed = replayed

    def step(self, name):
        """What a step gave."""
        if name not in self.told:
            pytest.skip(f"its driver has no step {name}")
        found = self.told[name]
        assert "failed" not in found, found["failed"]
        return found

    def recorded(self, first):
        """The roles in the only session that begins with these words."""
        found = self.beginning(first)
        assert len(found) == 1, [[each["content"] for each in said] for said in self.sessions]
        return [each["role"] for each in found[0]]

    def beginning(self, first):
        """The sessions that begin with these words, forks too."""
        return [said for said in self.sessions if said[0]["content"][0]["text"] == first]


def command_for(client, url):
    """How a client's driver is run."""
    line = line_for(client, url)
    if client in JAVASCRIPT:
        home = node_modules()
        script = shutil.copy(HERE / "js" / JAVASCRIPT[client], home)
        return ["node", script, url, line]
    return [python_with(client), HERE / "drivers" / f"drive_{client.replace('-', '_')}.py", url, line]


def all_of(http, path, **more):
    return http.get(path, params={"limit": 1000} | more).raise_for_status().json()["items"]


def driven(server, client):
    """Run the client's driver."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    own.pop("PYTHONPATH", None)  # the project's modules are not the client's
    ran = subprocess.run(
        command_for(client, server.url), env=own, capture_output=True, text=True, timeout=DRIVE_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    with server.client() as http:
        ids = [each["id"] for each in all_of(http, "/api/sessions", branches="all")]
        sessions = [all_of(http, f"/api/sessions/{each}/messages") for each in ids]
        started = [each for each in all_of(http, "/api/events") if each["type"] == "turn.started"]
        turns = [http.get(f"/api/turns/{each['id']}/prompt").json()["matches"] for each in started]
        replayed = replay(http, ids)
    return Run(told, sessions, turns, replayed)


def replay(http, sessions):
    """The verdicts of the sessions' turns, done again with the log as the model."""
    begun = http.post("/api/replays", json={"sessions": sessions, "mode": "recorded"}).raise_for_status().json()
    with http.stream("GET", f"/api/replays/{begun['id']}/stream") as stream:
        stream.read()
    return [each["verdict"] for each in http.get(f"/api/replays/{begun['id']}").json()["results"]]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(client, marks=() if client in QUICK else pytest.mark.slow) for client in (*PYTHON, *JAVASCRIPT)
    ],
)
def run(request, tmp_path_factory):
    """One run of a client; when all is done the log is verified and folded again."""
    folder = tmp_path_factory.mktemp("client")
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT | {"sum": SUM}}), encoding="utf-8")
    with chat_upstream.upstream() as gpt, claude_upstream.upstream() as claude:
        claude.plays = [claude_says('{"answer": 4}')]
        vendors = {
            "MANENT_OPENAI_BASE_URL": f"http://127.0.0.1:{gpt.server_port}/v1",
            "MANENT_ANTHROPIC_BASE_URL": claude.address,
            "ANTHROPIC_API_KEY": "sk-theirs",
        }
        with Process(folder / "manent.db", MANENT_SCRIPT=str(script), MANENT_DRAIN_S="1", **vendors) as server:
            found = driven(server, request.param)
            found.asked = json.dumps(gpt.bodies).encode() + b"".join(raw for _, raw in claude.asked)
            assert server.stop() == 0
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()
    return found


def test_each_line_of_the_readme_is_run():
    """Here, or beside the two vendors' own clients for Python and the Vercel AI SDK."""
    table = README.split("\n## Point your client at Manent\n")[1].split("\n\n")[1]
    rows = [row.split(" | ")[0].removeprefix("| ").replace("`", "") for row in table.splitlines()[2:]]
    run_here = {*PYTHON, *JAVASCRIPT, "openai (Python)", "anthropic (Python)", "ai (JavaScript)"}
    assert {"llm" if row.startswith("llm ") else row for row in rows} == run_here


def test_a_conversation_goes_on_in_its_session(run):
    """By the README's line: the answers come, and what the client sends again is recognised."""
    assert run.step("text") == ["one", "two"]
    assert run.recorded("one") == ["user", "assistant"] * 2


def test_a_stream_comes_in_pieces(run):
    """As the model gives them."""
    pieces = run.step("stream")
    assert "".join(pieces) == PIECES
    assert len(pieces) > 2
    assert run.recorded(PIECES) == ["user", "assistant"]


def test_tools_go_round(run):
    """The call comes, its result goes back, and the answer stands in the same session."""
    assert run.step("tools") == [{"city": "Rome"}, "Dry."]
    assert run.recorded("Is it dry?") == ["user", "assistant", "tool", "assistant"]


def test_structured_output(run):
    """The client's own type comes back."""
    assert run.step("structured") == {"answer": 4}


def test_images_reach_the_model(run):
    """Their bytes are what the vendor was sent."""
    assert run.step("image") in {"Yes.", '{"answer": 4}'}
    assert b"iVBORw0KGgpvZiBhIHNvcnQ=" in run.asked


def test_an_edited_history_is_a_fork(run):
    """Both are on record, and share what is the same."""
    assert run.step("edited") == ["as it was", "as it is now"]
    was, now = sorted(run.beginning("Edit me."), key=lambda said: said[2]["position"])
    assert [each["id"] for each in was[:2]] == [each["id"] for each in now[:2]]
    assert [said[2]["content"][0]["text"] for said in (was, now)] == ["as it was", "as it is now"]


def test_an_unknown_model_is_the_clients_own_error(run):
    """With the status of the vendor."""
    error = run.step("error")
    assert error["type"].endswith("NotFoundError")
    assert error["status"] == 404
    assert "nothing" in error["message"]


def test_each_turn_is_explained_and_done_again(run):
    """What the model was sent is derived again from the log, to the byte, and a recorded replay finds no difference."""
    assert run.turns
    assert all(run.turns)
    assert run.replayed == ["same"] * len(run.turns)
