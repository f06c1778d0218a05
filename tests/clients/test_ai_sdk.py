"""The Vercel AI SDK, unmodified, against a server process: its chat as ``useChat`` has it, at the routes of its own
protocol, and its provider for OpenAI at Chat Completions.
"""

import json
import os
import shutil
import subprocess
from typing import NamedTuple

import pytest

from manent import engine
from tests.api import chat_upstream
from tests.api.harness import Process
from tests.api.ui_messages import needs_mcp, options_in
from tests.clients.environments import HERE, node, node_modules
from tests.clients.test_other_clients import line_for

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.timeout(900)]  # the first run installs it

DRIVE_S = 240
NODE = 22
ALPHABET = "abcdefghijklmnopqrstuvwxyz" * 2


class Run(NamedTuple):
    """What a driver told by its steps, the messages of each session, and of each session its parent."""

    told: dict
    messages: dict
    parents: dict

    def step(self, name):
        """What a step gave."""
        found = self.told[name]
        assert not isinstance(found, dict) or "failed" not in found, found["failed"]
        return found

    def roles(self, session):
        return [message["role"] for message in self.messages[session]]


def driven(folder, driver):
    """Run a driver; then the log is verified, every prompt is derived again, and the projections are folded again."""
    home, command = node_modules(), node(NODE)
    script = shutil.copy(HERE / "js" / driver, home)
    options = {f"MANENT_{name.upper()}": value for name, value in options_in(folder).items()}
    own = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    with chat_upstream.upstream() as gpt:
        options["MANENT_OPENAI_BASE_URL"] = f"http://127.0.0.1:{gpt.server_port}/v1"
        with Process(folder / "manent.db", MANENT_DRAIN_S="1", **options) as server, server.client() as http:
            line = line_for("ai (JavaScript)", server.url)
            typed, pipes = [command, script, server.url, line], {"capture_output": True, "text": True}
            ran = subprocess.run(typed, env=own, timeout=DRIVE_S, check=False, **pipes)
            assert ran.returncode == 0, ran.stderr
            told = json.loads(ran.stdout.splitlines()[-1])
            found = http.get("/api/sessions", params={"limit": 1000, "branches": "all"}).json()["items"]
            messages = {each["id"]: http.get(f"/api/sessions/{each['id']}/messages").json()["items"] for each in found}
            events = http.get("/api/events", params={"limit": 1000}).json()["items"]
            for turn in [event["id"] for event in events if event["type"] == "turn.started"]:
                assert http.get(f"/api/turns/{turn}/prompt").json()["matches"] is True
            assert server.stop() == 0
    assert engine.verify_database(str(folder / "manent.db")).problem is None
    assert engine.rebuild_projections(str(folder / "manent.db")).differed == ()
    return Run(told, messages, {each["id"]: each["parent"] for each in found})


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return driven(tmp_path_factory.mktemp("ai"), "ai_sdk.mjs")


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    return driven(tmp_path_factory.mktemp("provider"), "ai_sdk_openai.mjs")


# --- its chat ---------------------------------------------------------------------------------------------------------


def test_a_chat_goes_on_in_its_session(chat):
    """The answers come with their place on record and their usage, and the messages are valid ones."""
    told = chat.step("text")
    assert told["texts"] == ["one", "one", "two", "two"]
    session, again = told["sessions"]
    assert (session, chat.roles(session)) == (again, ["user", "assistant"] * 2)
    assert told["usage"]["usage"]["totalTokens"] > 0


def test_a_stream_comes_in_pieces(chat):
    """As the model gives them."""
    seen = chat.step("stream")
    assert seen[-1] == "Two."
    assert seen == sorted(seen, key=len)
    assert len({*seen}) > 3


def test_a_stream_that_broke_off_is_resumed(chat):
    """From its beginning, into the same message; once it has ended there is nothing to be resumed."""
    told = chat.step("resume")
    assert (told["before"]["status"], told["status"]) == ("error", "ready")
    assert told["before"]["message"] == told["message"]
    assert len(told["before"]["text"]) < len(ALPHABET)
    assert (told["text"], told["count"], told["late"]) == (ALPHABET, 2, 1)


def test_a_page_that_is_reloaded(chat):
    """A chat that was left while its answer was given has all of it, under the same name."""
    assert chat.step("reload") == {"text": ALPHABET, "same": True}


def test_an_answer_is_given_again(chat):
    """Of the first message too: in a fork, in which the chat goes on."""
    told = chat.step("regenerate")
    first, second, after = told["sessions"]
    assert chat.parents[second] == {"session_id": first, "version": 1}
    assert second == after
    assert told["ids"][0] != told["ids"][1]
    assert told["texts"] == ["one", "Two.", "more", "Two."]


def test_a_message_is_edited(chat):
    """Is a fork from before it."""
    told = chat.step("edit")
    before, after = told["sessions"]
    assert chat.parents[after]["session_id"] == before
    assert told["texts"] == ["one", "one", "zwei", "zwei"]
    assert chat.roles(before) == chat.roles(after) == ["user", "assistant"] * 2


def test_files_are_blocks(chat):
    """An image and a text, before what was written."""
    told = chat.step("files")
    assert told["text"] == "Yes."
    kinds = [block["type"] for block in chat.messages[told["session"]][0]["content"]]
    assert kinds == ["image", "text", "text", "text"]
    assert chat.messages[told["session"]][0]["content"][1]["text"] == "words of a file"


def test_errors_are_told(chat):
    """As parts where the answer had begun, and as the body of a refusal; the chat goes on after both."""
    told = chat.step("errors")
    assert (told["text"], told["statuses"], told["after"]) == ("I brea", ["error", "error"], "Now.")
    assert told["errors"][0] == "scripted failed: no"
    assert json.loads(told["errors"][1])["error"]["code"] == "model_not_found"


def test_an_answer_is_stopped(chat):
    """Twice is no error; the chat goes on in its session."""
    told = chat.step("stop")
    assert told["told"] == [{"success": True, "stopped": True}, {"success": True, "stopped": False}]
    assert (told["status"], told["text"], told["same"]) == ("ready", "On.", True)


def test_tools_that_the_client_runs(chat):
    """Go round by themselves, in one message; also where the last stream of it broke off and was resumed."""
    told = chat.step("tools")
    assert told["called"] == told["outputs"] == ["Rome", "Oslo"]
    assert (told["text"], told["count"]) == (ALPHABET, 2)
    assert chat.roles(told["session"]) == ["user", *["assistant", "tool"] * 2, "assistant", "user", "assistant"]
    cut = chat.step("toolsCut")
    assert cut["before"]["status"] == "error"
    assert (cut["text"], cut["outputs"], cut["count"]) == (ALPHABET, ["Rome", "Oslo"], 2)


def test_tools_that_run_here(chat):
    """Are steps of one message."""
    told = chat.step("here")
    assert (told["output"], told["state"], told["text"]) == ("42", "output-available", "Let me see.It is 42.")
    assert told["steps"] == ["step-start", "text", "tool-calculator", "step-start", "text"]


@needs_mcp
def test_a_person_decides(chat):
    """The same turn goes on, in the same message; who comes back before is asked again."""
    told = chat.step("approvals")
    assert told["asked"] == told["askedAgain"] == ["approval-requested"] * 2
    assert told["done"] == [["output-available", "hello Ann"], ["output-denied", "Bob is away"]]
    assert (told["text"], told["same"], told["count"]) == ("Done.", True, 2)
    (session,) = told["sessions"]
    assert session == told["after"]


# --- its provider for OpenAI ------------------------------------------------------------------------------------------


def test_the_provider_at_chat_completions(provider):
    """Text, pieces, tools and an answer of a schema; and what is sent again is recognised."""
    assert provider.step("text")["texts"] == ["one", "two"]
    assert "".join(provider.step("stream")) == "Once more, in pieces."
    assert provider.step("tools") == [{"city": "Rome"}, "Dry."]
    assert provider.step("structured") == {"answer": 4}
    assert provider.step("error")["status"] == 404
    begun = [each for each in provider.messages.values() if each[0]["content"][0]["text"] == "one"]
    assert [[message["role"] for message in said] for said in begun] == [["user", "assistant"] * 2]
