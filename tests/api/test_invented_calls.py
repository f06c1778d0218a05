"""Calls of tools that were not offered, over HTTP: each gets an error that says so, and the turn goes on."""

import json

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem, read

MAX_ROUNDS = 3
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
NONE = "There is no tool 'teleport' here. There are no tools."


def call(name, number=1, **given):
    return {"tool": {"id": f"call_{number}", "name": name, "input": given}}


SCRIPT = {
    "dreamer": [{"steps": [{"text": "Beam me up."}, call("teleport")]}, {"steps": [{"text": " I walk."}]}],
    "silent": [{"steps": [call("teleport")]}, {"steps": [{"text": "I walk."}]}],
    "stubborn": [{"steps": [call("teleport")]}],
    "mixed": [
        {"steps": [call("echo", 1, text="here"), call("teleport", 2), call("weather", 3), call("calculator", 4)]},
        {"steps": [{"text": "Done."}]},
    ],
    "half_mixed": [{"steps": [call("echo", 1, text="here"), call("teleport", 2)]}, {"steps": [{"text": "Done."}]}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invented")
    settings = settings_on(folder, max_rounds=MAX_ROUNDS)
    (folder / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    with in_thread(settings) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def begin(client, model):
    return client.post("/api/sessions", json={"model": f"scripted/{model}"}).headers["location"]


def ask(client, path, **body):
    response = client.post(f"{path}/turns", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def results_of(turn):
    blocks = [block for message in turn["messages"] if message["role"] == "tool" for block in message["content"]]
    return [(block["tool_use_id"], block["content"], block.get("is_error", False)) for block in blocks]


def runners(client, path):
    """Who made each call on record."""
    events = client.get(f"{path}/events", params={"types": "message.appended,tool.called"}).json()["items"]
    messages = {event["position"]: event["body"]["content"] for event in events if event["type"] == "message.appended"}
    called = [event["facts"] for event in events if event["type"] == "tool.called"]
    blocks = {at: [block for block in content if block["type"] == "tool_use"] for at, content in messages.items()}
    return [(blocks[each["message"]][each["index"]]["id"], each.get("runner", "client")) for each in called]


def test_a_call_where_no_tool_was_offered(client):
    """It is no call of the caller's: its result says that there are no tools, the model answers on it, and the session
    goes on.
    """
    path = begin(client, "dreamer")
    turn = ask(client, path, content="Go.")
    assert (turn["status"], turn["stop_reason"]) == ("completed", "end_turn")
    assert results_of(turn) == [("call_1", NONE, True)]
    assert turn["message"]["content"][0]["text"] == " I walk."
    assert runners(client, path) == [("call_1", "server")]
    assert ask(client, path, content="And now?")["status"] == "completed"


def test_a_stream_with_a_call_that_was_invented(client):
    """Call and result are frames of the same stream, which ends once, completed; it reads the same from the record."""
    path = begin(client, "dreamer")
    frames = read(client, f"{path}/turns", "POST", json={"content": "Go.", "stream": True})
    assert [frame.event for frame in frames] == [
        *("turn.started", "block.started", "delta", "block.started", "delta", "message.appended"),
        *("tool.called", "tool.returned", "message.appended"),
        *("block.started", "delta", "message.appended", "turn.completed"),
    ]
    returned = next(frame.json for frame in frames if frame.event == "tool.returned")
    assert (returned["outcome"], returned["is_error"]) == ("unknown_tool", True)
    assert read(client, f"/api/turns/{frames[0].json['id']}/stream") == frames


def test_offered_invented_and_the_callers_calls_in_one_answer(client):
    """What was offered runs, what was not gets its error, and only the caller's is left to the caller, who is told of
    all names there are.
    """
    path = begin(client, "mixed")
    turn = ask(client, path, content="Go.", tools=["echo"], client_tools=[WEATHER])
    assert (turn["status"], turn["stop_reason"]) == ("completed", "tool_use")
    assert results_of(turn) == [
        ("call_1", "here", False),
        ("call_2", "There is no tool 'teleport' here. There are: echo, weather.", True),
        ("call_4", "There is no tool 'calculator' here. There are: echo, weather.", True),
    ]
    assert runners(client, path) == [
        *[("call_1", "server"), ("call_2", "server"), ("call_3", "client"), ("call_4", "server")]
    ]
    refused = client.post(f"{path}/turns", json={"content": "Never mind."})
    assert problem(refused, 409, "tool_results_missing")["tool_use_ids"] == ["call_3"]
    result = {"type": "tool_result", "tool_use_id": "call_3", "content": "Dry."}
    answered = ask(client, path, message={"role": "tool", "content": [result]}, client_tools=[WEATHER])
    assert answered["message"]["content"][0]["text"] == "Done."


def test_an_invented_call_beside_one_of_the_servers(client):
    """Both have their result in the order of the calls, and the turn has its answer."""
    turn = ask(client, begin(client, "half_mixed"), content="Go.", tools=["echo"])
    assert [(each, is_error) for each, _, is_error in results_of(turn)] == [("call_1", False), ("call_2", True)]
    assert turn["message"]["content"][0]["text"] == "Done."


def test_an_invented_call_where_the_callers_tools_alone_were_offered(client):
    """The names of the caller's are told, and nothing is waited for."""
    turn = ask(client, begin(client, "silent"), content="Go.", client_tools=[WEATHER])
    assert results_of(turn) == [("call_1", "There is no tool 'teleport' here. There are: weather.", True)]
    assert (turn["status"], turn["stop_reason"]) == ("completed", "end_turn")


def test_a_model_that_goes_on_inventing(client):
    """The turn ends at ``max_rounds``, every call has its result, and the session goes on."""
    path = begin(client, "stubborn")
    turn = ask(client, path, content="Go.")
    assert (turn["status"], turn["error"]["code"], turn["error"]["limit"]) == (
        *("failed", "turn_limit_reached", "max_rounds"),
    )
    assert results_of(turn) == [("call_1", NONE, True)] * MAX_ROUNDS
    assert ask(client, path, content="And now?", model="echo/echo")["status"] == "completed"


@pytest.mark.parametrize("route", ["complete", "chat"])
@pytest.mark.parametrize(("model", "reply"), [("dreamer", " I walk."), ("silent", "I walk.")])
def test_the_guides_answer_is_what_the_model_said_in_the_end(client, route, model, reply):
    """Never an empty reply; and the conversation goes on."""
    response = client.post(f"/api/ai/{route}", json={"model": f"scripted/{model}", "message": "Go."})
    assert (response.status_code, response.json()["data"]["reply"]) == (200, reply)
    session = response.headers["x-session-id"]
    again = client.post("/api/ai/chat", json={"session_id": session, "message": "And now?"})
    assert again.status_code == 200
    assert again.json()["data"]["reply"]


def test_the_guides_stream_goes_on_too(client):
    """Its text is that of all rounds, and it ends with its marker."""
    with opened(client, "GET", "/api/ai/stream", params={"q": "Go.", "model": "scripted/dreamer"}) as stream:
        data = [block.data for block in stream if block.data]
    assert data == ["Beam me up.", " I walk.", "[DONE]"]
