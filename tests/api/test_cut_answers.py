"""Answers that were cut: which of their items say that they are not whole, wherever they are shown."""

import json
import time

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread
from tests.api.responses_wire import RESPONSES, again, ask, stream

TOOLS = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
CALL = {"id": "call_1", "name": "look", "input": {"city": "Rome"}}
HALF = {"id": "call_2", "name": "look", "input_text": '{"city": "Mil'}

SCRIPT = {
    "text": [{"steps": [{"thinking": "Hm."}, {"text": "Once upon"}, {"end": "max_tokens"}]}],
    "call": [{"steps": [{"text": "I look."}, {"tool": CALL}, {"tool": HALF}, {"end": "max_tokens"}]}],
    "between": [{"steps": [{"tool": HALF}, {"tool": CALL}, {"text": "So"}, {"end": "max_tokens"}]}],
    "thought": [{"steps": [{"text": "Let me think."}, {"thinking": "Hm"}, {"end": "max_tokens"}]}],
    "filtered": [{"steps": [{"text": "The secret is"}, {"end": "refusal"}]}],
    "broken": [{"steps": [{"tool": CALL}, {"text": "I brea"}, {"truncate": True}]}],
    "hang": [{"steps": [{"tool": CALL}, {"text": "Wait"}, {"hang": True}]}],
}
CUT = {
    "text": [None, "incomplete"],
    "call": ["completed", "completed", "incomplete"],
    "between": ["incomplete", "completed", "incomplete"],
    "thought": ["completed", None],
    "filtered": ["incomplete"],
}
"""Statuses of the items of an answer, by its model."""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    script = folder / "cut.json"
    script.write_text(json.dumps({"models": SCRIPT}))
    with in_thread(settings_on(folder, script=str(script))) as server, server.client() as client:
        yield client


def statuses(answer):
    return [item.get("status") for item in answer["output"]]


@pytest.mark.parametrize("model", CUT)
def test_the_item_that_was_cut_is_not_whole(client, model):
    """In the answer, in its events, and wherever they are read again; what had ended before it is whole."""
    asked = {"model": f"scripted/{model}", "tools": TOOLS}
    events = stream(client, "x", **asked)
    streamed = events[-1]["response"]
    assert (streamed["status"], statuses(streamed)) == ("incomplete", CUT[model])
    assert again(client, streamed["id"]) == events
    answer = ask(client, "x", **asked)
    assert statuses(answer) == CUT[model]
    assert client.get(f"{RESPONSES}/{answer['id']}").json() == answer


def test_items_of_a_conversation_say_so_too(client):
    """Listed and read one by one, they are those of the answer."""
    conversation = client.post("/v1/conversations", json={}).json()["id"]
    answer = ask(client, "x", model="scripted/text", conversation=conversation)
    listed = client.get(f"/v1/conversations/{conversation}/items?order=asc").json()["data"]
    assert listed[1:] == answer["output"]
    for item in answer["output"]:
        assert client.get(f"/v1/conversations/{conversation}/items/{item['id']}").json() == item


def test_a_failed_answer_says_what_it_broke_off_in(client):
    """What had been said before it, whole."""
    events = stream(client, "x", model="scripted/broken", tools=TOOLS)
    failed = events[-1]["response"]
    assert (failed["status"], statuses(failed)) == ("failed", ["completed", "incomplete"])
    assert again(client, failed["id"]) == events
    assert client.get(f"{RESPONSES}/{failed['id']}").json() == failed


def test_a_cancelled_answer_says_what_it_was_cut_in(client):
    """So do its events."""
    begun = ask(client, "x", model="scripted/hang", tools=TOOLS, background=True)["id"]
    time.sleep(0.5)
    cancelled = client.post(f"{RESPONSES}/{begun}/cancel", json={}).json()
    assert (cancelled["status"], statuses(cancelled)) == ("cancelled", ["completed", "incomplete"])
    events = again(client, begun)
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == cancelled["output"]
    assert events[-1]["response"]["output"] == cancelled["output"]
