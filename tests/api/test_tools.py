"""Tools over HTTP, on the real process: the loop of model and tools, tools that the caller runs, calls that a person
must decide on, and every bad word about any of them.
"""

import hashlib
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from manent.engine import Settings
from manent.engine.tools.mcp.config import mcp_available
from tests.api.harness import END_FRAMES, Process, in_thread, named, opened, problem, read, text_of
from tests.support import awaited

NOBODY = "01890000-0000-7000-8000-000000000000"
BUILT_IN = ["echo", "calculator", "timestamp"]
MCP_SERVER = Path(__file__).parents[1] / "mcp_server.py"

needs_mcp = pytest.mark.skipif(not mcp_available(), reason="APPROVALS ARE NOT TESTED: no extra `mcp`")


def call(number, name, given=None, **more):
    """A step of the script: a call of a tool."""
    return {"tool": {"id": f"call_{number}", "name": name, "input": given or {}, **more}}


def then(*steps):
    """A script's model that makes these calls, and then says so."""
    return [{"steps": list(steps)}, {"steps": [{"text": "Done."}]}]


SCRIPT = {
    "sum": [
        {"steps": [{"text": "Let me see."}, call(1, "calculator", {"expression": "6*7"})]},
        {"steps": [{"text": "It is 42."}, {"usage": {"input_tokens": 9, "output_tokens": 4}}]},
    ],
    "many": then(
        call(1, "echo", {"text": "one"}), call(2, "timestamp"), call(3, "echo", {"text": "three"}), call(4, "echo", {})
    ),
    "again": [{"steps": [call(1, "echo", {"text": "again"})]}],
    "unknown": then(call(1, "nothing")),
    "barred": then(call(1, "calculator", {"expression": "1"})),
    "broken": then(call(1, "echo", input=None, input_text='{"text": "half')),
    "listed": then(call(1, "echo", input=None, input_text='["text"]')),
    "twice": then(call(1, "echo", input=None, input_text='{"text": "a", "t\\u0065xt": "b"}')),
    "unfit": then(call(1, "echo", {"text": 5})),
    "more": then(call(1, "echo", {"text": "x", "colour": "red"})),
    "zero": then(call(1, "calculator", {"expression": "1/0"})),
    "weather": then(
        {"text": "Let me ask."}, call(1, "weather", {"city": "Rome"}), call(2, "weather", {"city": "Oslo"})
    ),
    "mixed": then(call(1, "echo", {"text": "here"}), call(2, "weather", {"city": "Rome"})),
    "greet": then(call(1, "house_greet", {"name": "Ann"}), call(2, "house_greet", {"name": "Bob"})),
    "unfit_greeting": then(call(1, "nothing"), call(2, "echo", {"text": 5})),
    "hang": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def settings_in(folder):
    """The script and, where they can be had, the tools of an MCP server, which need a person's yes."""
    (folder / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    settings = {"script": str(folder / "script.json"), "max_rounds": 3, "drain_s": 1}
    if mcp_available():
        house = {"command": sys.executable, "args": [str(MCP_SERVER)], "approval": True}
        (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"house": house}}), encoding="utf-8")
        settings["mcp_servers_file"] = str(folder / "mcp.json")
    return settings


def start(folder, **settings):
    """The real process."""
    environment = {f"MANENT_{name.upper()}": str(value) for name, value in (settings_in(folder) | settings).items()}
    return Process(str(folder / "manent.db"), **environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start(tmp_path_factory.mktemp("tools")) as server:
        yield server
        assert server.stop() == 0, server.lines
        assert not any("Traceback" in line for line in server.lines), server.lines


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def begin(client, model, **fields):
    """A new session's path."""
    name = model if "/" in model else f"scripted/{model}"
    return client.post("/api/sessions", json={"model": name, **fields}).headers["location"]


def ask(client, path, content="Go on.", **fields):
    """The turn that a waiting caller is given."""
    response = client.post(f"{path}/turns", json={"content": content, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def events(client, path, *types):
    return client.get(f"{path}/events", params={"types": ",".join(types), "limit": 1000}).json()["items"]


def results_of(turn):
    """What the turn's tools gave back: (call, content, whether it is an error)."""
    blocks = [block for message in turn["messages"] if message["role"] == "tool" for block in message["content"]]
    return [(block["tool_use_id"], block["content"], block.get("is_error", False)) for block in blocks]


def give(*results):
    """A message of the caller's results."""
    blocks = [{"type": "tool_result", "tool_use_id": call, "content": content} for call, content in results]
    return {"message": {"role": "tool", "content": blocks}}


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_tool_runs_between_two_rounds_of_the_stream(client):
    """The call is told before it runs, its result after, and the model answers on it, all in one turn and in order."""
    path = begin(client, "sum")
    body = {"content": "6*7?", "tools": ["calculator"], "stream": True}
    frames = read(client, f"{path}/turns", "POST", json=body)
    assert [frame.event for frame in frames] == [
        *("turn.started", "block.started", "delta", "block.started", "delta", "message.appended"),
        *("tool.called", "tool.returned", "message.appended"),
        *("block.started", "delta", "message.appended", "turn.completed"),
    ]
    assert [frame.id for frame in frames] == [str(number) for number in range(1, 14)]
    asked, called, returned, result, answer = (frames[number].json for number in (5, 6, 7, 8, 11))
    assert frames[3].json | {"message_id": ""} == {
        "message_id": "",
        "block": 1,
        "type": "tool_use",
        "id": "call_1",
        "name": "calculator",
    }
    assert json.loads(frames[4].json["text"]) == {"expression": "6*7"}
    assert called == {"tool_use_id": "call_1", "name": "calculator", "message_id": asked["id"], "runner": "server"}
    assert returned | {"duration_ms": 0} == {
        "tool_use_id": "call_1",
        "name": "calculator",
        "outcome": "completed",
        "is_error": False,
        "duration_ms": 0,
    }
    assert result["role"] == "tool"
    assert result["content"] == [{"type": "tool_result", "tool_use_id": "call_1", "content": "42"}]
    assert text_of(frames[9:]) == "It is 42." == answer["content"][0]["text"]
    turn = client.get(f"/api/turns/{frames[-1].json['id']}").json()
    assert [message["role"] for message in turn["messages"]] == ["assistant", "tool", "assistant"]
    assert [(each["round"], each["attempt"], each["outcome"]) for each in turn["attempts"]] == [
        (1, 1, "completed"),
        (2, 1, "completed"),
    ]
    again = read(client, f"/api/turns/{turn['id']}/stream")
    assert [frame.raw for frame in again] == [frame.raw for frame in frames]
    rest = read(client, f"/api/turns/{turn['id']}/stream", headers={"Last-Event-ID": "7"})
    assert [frame.raw for frame in rest] == [frame.raw for frame in frames[7:]]


def test_who_waits_gets_the_whole_turn(client):
    """One answer holds all rounds, the usage of all of them, and the last words of the model."""
    path = begin(client, "sum")
    turn = ask(client, path, "6*7?", tools=["calculator"])
    assert (turn["status"], turn["stop_reason"], awaited(turn)) == ("completed", "end_turn", [])
    assert [message["role"] for message in turn["messages"]] == ["assistant", "tool", "assistant"]
    assert turn["message"] == turn["messages"][-1]
    used = [attempt["usage"] for attempt in turn["attempts"]]
    assert used[1] | {"estimated": False} == used[1]
    assert turn["usage"]["output_tokens"] == used[0]["output_tokens"] + 4
    assert turn["usage"]["estimated"], "the first round's was counted here"
    assert client.get(f"/api/turns/{turn['id']}").json() == turn
    assert client.get(path).json()["usage"] == turn["usage"]
    assert [each["role"] for each in client.get(f"{path}/messages").json()["items"]] == [
        *("user", "assistant", "tool", "assistant")
    ]


def test_calls_of_one_answer_are_answered_in_its_order(client):
    """All are told before any runs; results come in the order in which the model asked, one message each."""
    path = begin(client, "many")
    turn = ask(client, path, tools=["timestamp", "echo"])
    results = results_of(turn)
    assert [each[0] for each in results] == ["call_1", "call_2", "call_3", "call_4"]
    assert [(content, is_error) for _, content, is_error in (results[0], results[2])] == [
        ("one", False),
        ("three", False),
    ]
    assert results[3][2], "text is missing"
    told = [event["type"] for event in events(client, path, "tool.called", "tool.returned")]
    assert told == ["tool.called"] * 4 + ["tool.returned"] * 4


@pytest.mark.parametrize(
    ("model", "outcome", "words"),
    [
        ("unknown", "unknown_tool", "There is no tool 'nothing' here. There are: echo."),
        ("barred", "tool_not_allowed", "There is no tool 'calculator' here. There are: echo."),
        ("broken", "invalid_arguments", "the arguments must be a JSON object"),
        ("listed", "invalid_arguments", "the arguments must be a JSON object"),
        ("twice", "invalid_arguments", "Not called: text: is given twice."),
        ("unfit", "invalid_arguments", "Expected `str`, got `int`"),
        ("more", "invalid_arguments", "unknown field `colour`"),
    ],
)
def test_a_call_that_cannot_be_made_is_told_to_the_model(client, model, outcome, words):
    """It is no failure of the turn: the model reads what was wrong, and goes on."""
    path = begin(client, model)
    frames = read(client, f"{path}/turns", "POST", json={"content": "x", "tools": ["echo"], "stream": True})
    (returned,) = (frame.json for frame in frames if frame.event == "tool.returned")
    assert (returned["outcome"], returned["is_error"]) == (outcome, True)
    turn = client.get(f"/api/turns/{frames[-1].json['id']}").json()
    assert (turn["status"], turn["message"]["content"][0]["text"]) == ("completed", "Done.")
    ((_, content, is_error),) = results_of(turn)
    assert words in content
    assert is_error


def test_a_tool_that_fails_says_so_to_the_model(client):
    """Its own words, and no more."""
    turn = ask(client, begin(client, "zero"), tools=["calculator"])
    assert results_of(turn) == [("call_1", "calculator failed: division by zero", True)]
    assert turn["status"] == "completed"


def test_a_turn_goes_round_no_more_often_than_it_may(client):
    """Then it fails with a code of its own, every call has its result, and the session is open for the next."""
    path = begin(client, "again")
    turn = ask(client, path, tools=["echo"])
    assert (turn["status"], turn["error"]["code"]) == ("failed", "turn_limit_reached")
    assert [attempt["round"] for attempt in turn["attempts"]] == [1, 2, 3]
    assert len(results_of(turn)) == 3
    answered = client.post(f"{path}/turns", json={"model": "echo/echo"}).json()
    assert answered["status"] == "completed"


@pytest.mark.parametrize(
    ("choice", "recorded"),
    [(None, None), ("auto", "auto"), ("any", "any"), ("required", "any"), ("none", "none"), ("echo", "echo")],
)
def test_how_a_model_chooses_is_recorded_with_each_attempt(client, choice, recorded):
    """A model that must call a tool may answer in the next round. OpenAI's word for ``any`` is understood."""
    path = begin(client, "barred")
    ask(client, path, tools=["echo"], tool_choice=choice)
    first, second = (event["facts"] for event in events(client, path, "attempt.started"))
    assert first.get("tool_choice") == recorded
    assert second.get("tool_choice") == ("auto" if recorded in {"any", "echo"} else recorded)
    assert first["tools"] == second["tools"], "schemas are kept once, under their digest"


def test_a_choice_without_tools_is_passed_over(client):
    """There is nothing to choose, and vendors refuse it."""
    path = begin(client, "echo/echo")
    assert ask(client, path, "x", tool_choice="auto")["status"] == "completed"
    assert "tool_choice" not in events(client, path, "attempt.started")[0]["facts"]


# --- which tools there are --------------------------------------------------------------------------------------------


def test_the_tools_there_are(client):
    """Each with all that a model is told of it, in the order in which they were registered."""
    tools = client.get("/api/tools").json()
    assert tools["next_cursor"] is None
    assert [tool["name"] for tool in tools["items"]][:3] == BUILT_IN
    for tool in tools["items"]:
        assert tool.keys() == {"name", "description", "parameters", "approval"}
        assert tool["parameters"]["type"] == "object"
        assert tool["approval"] is (tool["name"] not in BUILT_IN)
    calculator = tools["items"][1]
    assert calculator["description"].startswith("Computes an arithmetic expression")
    assert calculator["parameters"]["required"] == ["expression"]
    assert calculator["parameters"]["additionalProperties"] is False


def test_an_allow_list_bounds_what_is_listed_asked_for_and_run(client):
    """It may name tools that are not here; it can be changed, and null allows all again."""
    path = begin(client, "barred", allowed_tools=["echo", "elsewhere"])
    session = client.get(path).json()
    assert session["allowed_tools"] == ["echo", "elsewhere"]

    def listed():
        return [tool["name"] for tool in client.get("/api/tools", params={"session_id": session["id"]}).json()["items"]]

    assert listed() == ["echo"]
    for name in ("calculator", "elsewhere"):
        refused = client.post(f"{path}/turns", json={"content": "x", "tools": ["echo", name]})
        assert problem(refused, 400, "unknown_tool", "tools")["available"] == ["echo"]
    turn = ask(client, path, tools=["echo"])
    assert results_of(turn) == [("call_1", "There is no tool 'calculator' here. There are: echo.", True)]
    assert client.patch(path, json={"allowed_tools": []}).json()["allowed_tools"] == []
    assert listed() == []
    problem(client.post(f"{path}/turns", json={"content": "x", "tools": ["echo"]}), 400, "unknown_tool", "tools")
    assert client.patch(path, json={"allowed_tools": None}).json()["allowed_tools"] is None
    assert listed()[:3] == BUILT_IN
    assert client.get(path, params={"version": 1}).json()["allowed_tools"] == ["echo", "elsewhere"]


def test_no_tool_is_offered_that_was_not_asked_for(client):
    """A turn that names none has none: a model that calls a registered one all the same is told so, and goes on."""
    turn = ask(client, begin(client, "sum"))
    assert (turn["status"], turn["stop_reason"]) == ("completed", "end_turn")
    assert [message["role"] for message in turn["messages"]] == ["assistant", "tool", "assistant"]
    assert results_of(turn) == [("call_1", "There is no tool 'calculator' here. There are no tools.", True)]
    assert turn["message"]["content"][0]["text"] == "It is 42."


# --- tools that the caller runs ---------------------------------------------------------------------------------------


def ask_with(client, path, body):
    response = client.post(f"{path}/turns", json=body)
    assert response.status_code == 200, response.text
    return response.json()


FORMS = [
    WEATHER,
    {"name": "weather", "input_schema": WEATHER["parameters"]},
    {"type": "custom", "name": "weather", "input_schema": WEATHER["parameters"]},
    {"type": "function", "function": WEATHER},
    {"type": "function", "function": {**WEATHER, "strict": True}},
    {"type": "function", **WEATHER, "strict": False},
    {"name": "weather"},
]


@pytest.mark.parametrize("form", named((form,) for form in FORMS))
def test_the_caller_runs_its_own_tools(client, form):
    """The turn completes with tool_use; its results are the input of the next, and the model answers on them. The
    schema may come as the vendors have it.
    """
    path = begin(client, "weather")
    body = {"content": "Rain?", "client_tools": [form], "stream": True}
    frames = read(client, f"{path}/turns", "POST", json=body)
    turn = client.get(f"/api/turns/{frames[-1].json['id']}").json()
    assert (frames[-1].event, turn["stop_reason"]) == ("turn.completed", "tool_use")
    assert [(frame.json["tool_use_id"], frame.json["runner"]) for frame in frames if frame.event == "tool.called"] == [
        ("call_1", "client"),
        ("call_2", "client"),
    ]
    assert "tool.returned" not in {frame.event for frame in frames}
    assert turn["message"]["content"][1]["input"] == {"city": "Rome"}
    body = give(("call_2", "Snow"), ("call_1", "Dry")) | {"client_tools": [form]}
    answered = ask_with(client, path, body)
    assert (answered["status"], answered["message"]["content"][0]["text"]) == ("completed", "Done.")
    assert answered["id"] != turn["id"]
    assert [each["role"] for each in client.get(f"{path}/messages").json()["items"]] == [
        *("user", "assistant", "tool", "assistant")
    ]


def test_a_strict_tool_is_on_record_so(client):
    """In either form; one that does not say it is recorded as before."""
    for form, strict in (({**WEATHER, "strict": True}, True), (FORMS[4], True), (FORMS[0], None)):
        turn = ask_with(client, begin(client, "weather"), {"content": "Rain?", "client_tools": [form]})
        (told,) = client.get(f"/api/turns/{turn['id']}/prompt").json()["tools"]
        assert told.get("strict") is strict


def test_results_may_be_appended_before_the_turn(client):
    """One by one, as they come in; the turn then has nothing to add, and begins when the last is there."""
    path = begin(client, "weather")
    ask(client, path, client_tools=[WEATHER])
    first, second = (give((name, "Dry"))["message"] for name in ("call_2", "call_1"))
    first["content"][0] |= {"content": [{"type": "text", "text": "no station there"}], "is_error": True}
    assert client.post(f"{path}/messages", json=first).status_code == 201
    assert problem(client.post(f"{path}/turns", json={}), 409, "tool_results_missing")["tool_use_ids"] == ["call_1"]
    assert client.post(f"{path}/messages", json=second).status_code == 201
    assert ask_with(client, path, {})["message"]["content"][0]["text"] == "Done."


@pytest.fixture(scope="module")
def waiting(client):
    """A session whose caller has two results to give."""
    path = begin(client, "weather")
    ask(client, path, client_tools=[WEATHER])
    return path


@pytest.mark.parametrize(
    ("body", "status", "code", "left"),
    [
        ({"content": "Never mind."}, 409, "tool_results_missing", ["call_1", "call_2"]),
        ({}, 409, "tool_results_missing", ["call_1", "call_2"]),
        (give(("call_1", "Dry")), 409, "tool_results_missing", ["call_2"]),
        (give(("call_3", "Dry")), 400, "tool_call_not_found", None),
        (give(("call_1", "Dry"), ("call_1", "Wet")), 400, "tool_call_not_found", None),
        (give(("call_1", "a"), ("call_2", "b"), ("call_3", "c")), 400, "tool_call_not_found", None),
        ({"message": {"role": "tool", "content": "Dry"}}, 400, "invalid_value", None),
        (
            {"message": {"role": "user", "content": give(("call_1", "x"))["message"]["content"]}},
            400,
            "invalid_value",
            None,
        ),
    ],
)
def test_nothing_but_the_results_may_come_next(client, server, waiting, body, status, code, left):
    """Anything else is refused, with the calls that wait; nothing gets on record."""
    before = server.size()
    refused = problem(client.post(f"{waiting}/turns", json=body), status, code)
    assert refused.get("tool_use_ids") == left
    assert server.size() == before


def test_a_model_may_call_tools_of_both_sides_at_once(client):
    """Those of the server run in the turn, and the caller is left with its own."""
    path = begin(client, "mixed")
    turn = ask(client, path, tools=["echo"], client_tools=[WEATHER])
    assert (turn["status"], turn["stop_reason"]) == ("completed", "tool_use")
    assert results_of(turn) == [("call_1", "here", False)]
    refused = client.post(f"{path}/turns", json={"content": "x"})
    assert problem(refused, 409, "tool_results_missing")["tool_use_ids"] == ["call_2"]
    answered = ask_with(client, path, give(("call_2", "Dry")) | {"tools": ["echo"], "client_tools": [WEATHER]})
    assert answered["message"]["content"][0]["text"] == "Done."


# --- calls that a person must decide on -------------------------------------------------------------------------------


def decide(client, turn, number, approve, **more):
    return client.post(
        f"/api/turns/{turn}/decisions", json={"tool_use_id": f"call_{number}", "approve": approve, **more}
    )


def paused(client):
    """A session's path, and the id of its turn, which waits for two decisions."""
    path = begin(client, "greet")
    return path, ask(client, path, tools=["house_greet"])["id"]


@needs_mcp
def test_a_turn_waits_for_a_person_and_goes_on_with_their_word(client):
    """The stream closes at the pause and is numbered on after it; who decided, how and why is on record."""
    path = begin(client, "greet")
    body = {"content": "Greet them.", "tools": ["house_greet"], "stream": True}
    before = read(client, f"{path}/turns", "POST", json=body)
    assert [frame.event for frame in before][-3:] == ["tool.called", "tool.called", "turn.paused"]
    turn = before[-1].json
    assert (turn["status"], awaited(turn)) == ("requires_action", ["call_1", "call_2"])
    assert (turn["ended_at"], turn["stop_reason"]) == (None, None)
    stands = client.get(f"/api/turns/{turn['id']}").json()
    assert [message["id"] for message in stands.pop("messages")] == turn.pop("message_ids")
    asking = stands.pop("message")
    assert stands == turn
    wanted = [
        {"tool_use_id": block["id"], "name": block["name"], "input": block["input"]} for block in asking["content"]
    ]
    assert turn["pending_approvals"] == [call | {"message_id": asking["id"]} for call in wanted]
    assert client.get(path).json()["open_turn_id"] == turn["id"]
    for kind in ("messages", "turns"):
        refused = problem(client.post(f"{path}/{kind}", json={"content": "x"}), 409, "turn_already_open")
        assert refused["turn_id"] == turn["id"]
    nothing_new = client.get(f"/api/turns/{turn['id']}/stream", headers={"Last-Event-ID": before[-1].id})
    assert nothing_new.status_code == 204

    first = decide(client, turn["id"], 1, approve=True)
    assert (first.status_code, first.json()["status"]) == (200, "requires_action")
    assert awaited(first.json()) == ["call_2"]
    last = decide(client, turn["id"], 2, approve=False, reason="Bob is away")
    assert (last.status_code, awaited(last.json())) == (200, [])
    rest = read(client, f"/api/turns/{turn['id']}/stream", headers={"Last-Event-ID": before[-1].id})
    assert [frame.event for frame in rest] == [
        *("tool.approved", "tool.refused", "turn.resumed"),
        *("tool.returned", "message.appended", "tool.returned", "message.appended"),
        *("block.started", "delta", "message.appended", "turn.completed"),
    ]
    assert rest[0].json == {"tool_use_id": "call_1", "approve": True, "reason": None, "actor": "local"}
    assert rest[1].json == {"tool_use_id": "call_2", "approve": False, "reason": "Bob is away", "actor": "local"}
    assert results_of(client.get(f"/api/turns/{turn['id']}").json()) == [
        ("call_1", "hello Ann", False),
        ("call_2", "Not called: a person refused this call (Bob is away).", True),
    ]
    assert all(int(one.id) + 1 == int(other.id) for one, other in pairwise(before + rest))
    told = [(event["actor"], event["body"]) for event in events(client, path, "tool.approved", "tool.refused")]
    assert [actor for actor, _ in told] == ["local", "local"]
    assert told[1][1]["reason"] == "Bob is away"
    assert client.get(path).json()["open_turn_id"] is None


@needs_mcp
def test_a_call_that_cannot_be_made_needs_no_decision(client):
    """Nobody is asked about a tool that is not there, or an input that does not fit."""
    turn = ask(client, begin(client, "unfit_greeting"), tools=["house_greet", "echo"])
    assert turn["status"] == "completed"
    assert [is_error for _, _, is_error in results_of(turn)] == [True, True]


@needs_mcp
def test_a_turn_that_waits_can_be_cancelled(client):
    """Its calls are answered for the model's sake, and no decision is taken any more."""
    path, turn = paused(client)
    cancelled = client.post(f"/api/turns/{turn}/cancel").json()
    assert (cancelled["status"], awaited(cancelled)) == ("cancelled", [])
    assert [is_error for _, _, is_error in results_of(cancelled)] == [True, True]
    refused = problem(decide(client, turn, 1, approve=True), 409, "no_decision_awaited")
    assert refused["turn_status"] == "cancelled"
    assert read(client, f"/api/turns/{turn}/stream")[-1].event == "turn.cancelled"
    assert ask_with(client, path, {"content": "x", "model": "echo/echo"})["status"] == "completed"


@needs_mcp
def test_the_same_decision_sent_again_is_answered_again(client):
    """With its key it is the same one; with other words it is refused, and without a key it comes too late."""
    path, turn = paused(client)
    url, key = f"/api/turns/{turn}/decisions", {"Idempotency-Key": "yes-1"}
    body = {"tool_use_id": "call_1", "approve": True, "reason": "why not"}
    assert [client.post(url, json=body, headers=key).status_code for _ in range(2)] == [200, 200]
    problem(client.post(url, json=body | {"approve": False}, headers=key), 422, "idempotency_mismatch")
    problem(client.post(url, json=body), 409, "no_decision_awaited", "tool_use_id")
    assert len(events(client, path, "tool.approved", "tool.refused")) == 1
    last = {"tool_use_id": "call_2", "approve": True}
    keyed = {"Idempotency-Key": "yes-2"}
    assert client.post(url, json=last, headers=keyed).status_code == 200
    assert read(client, f"/api/turns/{turn}/stream")[-1].event == "turn.completed"
    assert client.post(url, json=last, headers=keyed).json()["status"] == "completed"


@needs_mcp
def test_of_many_who_decide_at_once_each_call_hears_one(client):
    """Sixteen people press yes and no: every call is decided once, runs at most once, and the turn completes."""
    _, turn = paused(client)
    with ThreadPoolExecutor(16) as people:
        answers = [people.submit(decide, client, turn, 1 + each % 2, each % 3 == 0) for each in range(16)]
    statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [200] * 2 + [409] * 14
    frames = read(client, f"/api/turns/{turn}/stream")
    assert frames[-1].event == "turn.completed"
    kinds = [frame.event for frame in frames]
    assert kinds.count("turn.resumed") == 1
    assert kinds.count("tool.returned") == kinds.count("tool.approved") + kinds.count("tool.refused") == 2


@needs_mcp
def test_a_server_that_died_meanwhile_still_waits(tmp_path):
    """A paused turn outlives a kill; another tenant cannot see it, and the key that decides is recorded."""
    people = {"alice": "red", "bob": "blue"}
    keys = [
        {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": tenant, "scopes": ["chat"]}
        for name, tenant in people.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
    keyed = {"api_keys_file": str(tmp_path / "keys.json")}
    again = Settings(database=str(tmp_path / "manent.db"), port=0, **settings_in(tmp_path), **keyed)

    def calling(server, name):
        return server.client(headers={"Authorization": f"Bearer {name}"})

    with start(tmp_path, **keyed) as server, calling(server, "alice") as alice:
        path, turn = paused(alice)
        before = read(alice, f"/api/turns/{turn}/stream")
        server.stop(signal.SIGKILL)
    with in_thread(again) as server, calling(server, "alice") as alice, calling(server, "bob") as bob:
        assert not any("left open" in line for line in server.lines)
        stands = alice.get(f"/api/turns/{turn}").json()
        assert [message["id"] for message in stands["messages"]] == before[-1].json["message_ids"]
        assert stands["pending_approvals"] == before[-1].json["pending_approvals"]
        problem(decide(bob, turn, 1, approve=True), 404, "turn_not_found")
        assert awaited(decide(alice, turn, 1, approve=True).json()) == ["call_2"]
        assert decide(alice, turn, 2, approve=True).status_code == 200
        frames = read(alice, f"/api/turns/{turn}/stream")
        assert [frame.raw for frame in frames[: len(before)]] == [frame.raw for frame in before]
        ended = alice.get(f"/api/turns/{turn}").json()
        assert results_of(ended) == [("call_1", "hello Ann", False), ("call_2", "hello Bob", False)]
        assert {event["actor"] for event in events(alice, path, "tool.approved")} == {"key:alice"}


# --- what cannot be ---------------------------------------------------------------------------------------------------


def tools(*given, **more):
    return {"content": "x", "client_tools": list(given), **more}


LARGE = {"name": "a", "parameters": {"type": "object", "description": "x" * (256 << 10)}}
TURNS = [  # body, status, code, field
    # names of registered tools
    ({"content": "x", "tools": ["nothing"]}, 400, "unknown_tool", "tools"),
    ({"content": "x", "tools": ["echo", "ECHO"]}, 400, "unknown_tool", "tools"),
    ({"content": "x", "tools": [""]}, 400, "unknown_tool", "tools"),
    ({"content": "x", "tools": ["\0"]}, 400, "unknown_tool", "tools"),
    ({"content": "x", "tools": ["e" * 9999]}, 400, "unknown_tool", "tools"),
    ({"content": "x", "tools": "echo"}, 400, "invalid_value", "tools"),
    ({"content": "x", "tools": None}, 400, "invalid_value", "tools"),
    ({"content": "x", "tools": {"echo": True}}, 400, "invalid_value", "tools"),
    ({"content": "x", "tools": ["echo", 5]}, 400, "invalid_value", "tools[1]"),
    ({"content": "x", "tools": [WEATHER]}, 400, "invalid_value", "tools[0]"),
    # the caller's own
    (tools(WEATHER, WEATHER), 400, "invalid_value", "client_tools"),
    (tools({"name": "echo"}, tools=["echo"]), 400, "invalid_value", "client_tools"),
    (tools(5), 400, "invalid_value", "client_tools[0]"),
    (tools("weather"), 400, "invalid_value", "client_tools[0]"),
    ({"content": "x", "client_tools": WEATHER}, 400, "invalid_value", "client_tools"),
    ({"content": "x", "client_tools": None}, 400, "invalid_value", "client_tools"),
    (tools(WEATHER, {"description": "x"}), 400, "missing_field", "client_tools[1].name"),
    (tools({}), 400, "missing_field", "client_tools[0].name"),
    (tools({"name": ""}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "a b"}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "a.b"}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "wétter"}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "a\n"}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "a" * 65}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": None}), 400, "invalid_value", "client_tools[0].name"),
    (tools({"name": "a", "description": 5}), 400, "invalid_value", "client_tools[0].description"),
    (tools({"name": "a", "description": "\0"}), 400, "nul_character", "client_tools[0].description"),
    (tools({"name": "a", "colour": 1}), 400, "unknown_field", "client_tools[0].colour"),
    (tools({"name": "a", "type": "web_search"}), 400, "invalid_value", "client_tools[0].type"),
    # their schemas
    (tools({"name": "a", "parameters": {}}), 400, "invalid_value", "client_tools[0].parameters"),
    (tools({"name": "a", "parameters": None}), 400, "invalid_value", "client_tools[0].parameters"),
    (tools({"name": "a", "parameters": "object"}), 400, "invalid_value", "client_tools[0].parameters"),
    (tools({"name": "a", "parameters": {"type": "array"}}), 400, "invalid_value", "client_tools[0].parameters"),
    (tools({"name": "a", "parameters": {"type": ["object"]}}), 400, "invalid_value", "client_tools[0].parameters"),
    (tools({"name": "a", "input_schema": {"type": "x"}}), 400, "invalid_value", "client_tools[0].parameters"),
    (
        tools({"name": "a", "parameters": {"type": "object", "properties": ["city"]}}),
        400,
        "invalid_value",
        "client_tools[0].parameters.properties",
    ),
    (
        tools({"name": "a", "parameters": {"type": "object", "required": "city"}}),
        400,
        "invalid_value",
        "client_tools[0].parameters.required",
    ),
    (
        tools({"name": "a", "parameters": {"type": "object", "title": "\0"}}),
        400,
        "nul_character",
        "client_tools[0].parameters.title",
    ),
    (
        tools({"name": "a", "parameters": {"type": "object"}, "input_schema": {"type": "object"}}),
        400,
        "invalid_value",
        "client_tools[0].input_schema",
    ),
    (tools({"type": "function", "function": {}}), 400, "missing_field", "client_tools[0].function.name"),
    (tools({"type": "function", "function": "f"}), 400, "invalid_value", "client_tools[0].function"),
    (tools({"function": {"name": "a", "x": 1}}), 400, "unknown_field", "client_tools[0].function.x"),
    (tools({"function": WEATHER, "name": "b"}), 400, "invalid_value", "client_tools[0].function"),
    (tools({"function": WEATHER, "description": "b"}), 400, "invalid_value", "client_tools[0].function"),
    (tools({"function": WEATHER, "parameters": {}}), 400, "invalid_value", "client_tools[0].function"),
    # how many, and how large
    (tools(*({"name": f"a{number}"} for number in range(129))), 413, "too_large", "tools"),
    (tools(*({"name": f"a{number}"} for number in range(126)), tools=BUILT_IN), 413, "too_large", "tools"),
    (tools(LARGE, budget_tokens=1_000_000), 413, "too_large", "tools"),
    (tools({"name": "a", "description": "long " * 20_000}), 422, "budget_too_small", "budget_tokens"),
    # the choice
    ({"content": "x", "tools": ["echo"], "tool_choice": "calculator"}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": "ANY"}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": ""}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": "\0"}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": True}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": ["echo"]}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tools": ["echo"], "tool_choice": {"type": "any"}}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tool_choice": "echo"}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tool_choice": "any"}, 400, "invalid_value", "tool_choice"),
    ({"content": "x", "tool_choice": "required"}, 400, "invalid_value", "tool_choice"),
]


@pytest.fixture(scope="module")
def plain(client):
    """A session in which nothing has happened."""
    return begin(client, "echo/echo")


@pytest.fixture
def unchanged(server):
    """Nothing gets on record during the test."""
    before = server.size()
    yield
    assert server.size() == before


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("body", "status", "code", "field"), named(TURNS))
def test_tools_that_cannot_be_offered(client, plain, body, status, code, field):
    """Refused with the field's name before anything begins."""
    unchanged = client.get(plain).json()
    problem(client.post(f"{plain}/turns", json=body), status, code, field)
    assert client.get(plain).json() == unchanged


def test_as_many_and_as_large_tools_as_there_may_be(client, plain):
    """At the limit, and not one below it."""
    most = [{"name": f"a{number}"} for number in range(125)]
    assert ask(client, plain, tools=BUILT_IN, client_tools=most, budget_tokens=1_000_000)["status"] == "completed"
    large = {"name": "a", "parameters": {"type": "object", "description": "x" * ((256 << 10) - 200)}}
    assert ask(client, plain, client_tools=[large], budget_tokens=1_000_000)["status"] == "completed"


SESSIONS = [  # body, status, code, field
    ({"allowed_tools": "echo"}, 400, "invalid_value", "allowed_tools"),
    ({"allowed_tools": ["echo", 5]}, 400, "invalid_value", "allowed_tools[1]"),
    ({"allowed_tools": ["echo", "a b"]}, 400, "invalid_value", "allowed_tools[1]"),
    ({"allowed_tools": [""]}, 400, "invalid_value", "allowed_tools[0]"),
    ({"allowed_tools": ["\0"]}, 400, "invalid_value", "allowed_tools[0]"),
    ({"allowed_tools": ["a" * 65]}, 400, "invalid_value", "allowed_tools[0]"),
    ({"allowed_tools": [f"a{number}" for number in range(129)]}, 413, "too_large", "allowed_tools"),
    ({"fallback_model": "nobody/none"}, 400, "unknown_model", "fallback_model"),
    ({"fallback_model": "echo/none"}, 400, "unknown_model", "fallback_model"),
    ({"fallback_model": ""}, 400, "invalid_value", "fallback_model"),
    ({"fallback_model": 5}, 400, "invalid_value", "fallback_model"),
    ({"fallback_model": "x" * 201}, 400, "invalid_value", "fallback_model"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(("body", "status", "code", "field"), named(SESSIONS))
def test_what_a_session_cannot_allow(client, plain, method, body, status, code, field):
    """An allow-list of what can be no names, and a model that nobody serves."""
    path = "/api/sessions" if method == "POST" else plain
    problem(client.request(method, path, json=body), status, code, field)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("query", "status", "code", "field"),
    [
        ("session_id=x", 400, "invalid_id", "session_id"),
        ("session_id=", 400, "invalid_value", "session_id"),
        (f"session_id={NOBODY}", 404, "session_not_found", None),
        ("session=x", 400, "unknown_parameter", "session"),
        ("offset=1", 400, "unknown_parameter", "offset"),
    ],
)
def test_what_cannot_be_asked_of_the_list(client, query, status, code, field):
    """Refused with the parameter's name."""
    problem(client.get(f"/api/tools?{query}"), status, code, field)


WORD = {"tool_use_id": "call_1", "approve": True}
DECISIONS = [  # body, status, code, field
    ({}, 400, "missing_field", None),
    ({"tool_use_id": "call_1"}, 400, "missing_field", "approve"),
    ({"approve": True}, 400, "missing_field", "tool_use_id"),
    (WORD | {"approve": "yes"}, 400, "invalid_value", "approve"),
    (WORD | {"approve": 1}, 400, "invalid_value", "approve"),
    (WORD | {"approve": None}, 400, "invalid_value", "approve"),
    (WORD | {"tool_use_id": 1}, 400, "invalid_value", "tool_use_id"),
    (WORD | {"tool_use_id": None}, 400, "invalid_value", "tool_use_id"),
    (WORD | {"reason": 5}, 400, "invalid_value", "reason"),
    (WORD | {"reason": "a\0b"}, 400, "nul_character", "reason"),
    (WORD | {"reason": "x" * 2001}, 413, "too_large", "reason"),
    (WORD | {"why": "x"}, 400, "unknown_field", "why"),
    ([WORD], 400, "invalid_value", "body"),
    (WORD | {"tool_use_id": "call_9"}, 409, "no_decision_awaited", "tool_use_id"),
    (WORD | {"tool_use_id": "\0"}, 409, "no_decision_awaited", "tool_use_id"),
    (WORD | {"tool_use_id": ""}, 409, "no_decision_awaited", "tool_use_id"),
    (WORD | {"tool_use_id": "x" * 100_000}, 409, "no_decision_awaited", "tool_use_id"),
]


@pytest.fixture(scope="module")
def undecided(client):
    """A turn that waits."""
    return paused(client)[1]


@needs_mcp
@pytest.mark.parametrize(("body", "status", "code", "field"), named(DECISIONS))
def test_a_decision_that_is_none(client, server, undecided, body, status, code, field):
    """Refused with the field's name; the turn waits on."""
    before = server.size()
    problem(client.post(f"/api/turns/{undecided}/decisions", json=body), status, code, field)
    assert server.size() == before
    assert awaited(client.get(f"/api/turns/{undecided}").json()) == ["call_1", "call_2"]


@needs_mcp
def test_a_reason_may_be_as_long_as_it_may(client):
    """To the character; and an empty one is one."""
    path, turn = paused(client)
    reason = "\U0001f600" * 2000
    assert decide(client, turn, 1, approve=False, reason=reason).status_code == 200
    assert decide(client, turn, 2, approve=True, reason="").status_code == 200
    recorded = events(client, path, "tool.approved", "tool.refused")
    assert [event["body"]["reason"] for event in recorded] == [reason, ""]


@pytest.mark.parametrize("kind", ["completed", "running", "nobody", "no id"])
def test_a_decision_on_a_turn_that_waits_for_none(client, kind):
    """One that has ended, one that runs, and one that is not there: refused, whatever the call is named."""
    if kind == "completed":
        path = begin(client, "sum")
        turn = ask(client, path, tools=["calculator"])["id"]
    elif kind == "running":
        path = begin(client, "hang")
        with opened(client, "POST", f"{path}/turns", json={"content": "x", "stream": True}) as stream:
            turn = stream.until("delta")[0].json["id"]
    else:
        path, turn = begin(client, "sum"), NOBODY if kind == "nobody" else "x"
    before = events(client, path, "tool.approved", "tool.refused")
    response = decide(client, turn, 1, approve=True)
    if kind in {"completed", "running"}:
        assert problem(response, 409, "no_decision_awaited")["turn_status"] == kind
    elif kind == "nobody":
        problem(response, 404, "turn_not_found")
    else:
        problem(response, 400, "invalid_id", "turn_id")
    assert events(client, path, "tool.approved", "tool.refused") == before == []
    if kind == "running":
        client.post(f"/api/turns/{turn}/cancel")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {"Content-Type": "application/json"}, 400, "missing_body"),
        (b"{", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    ],
)
def test_a_decision_that_is_no_json(client, content, headers, status, code):
    """Refused before anybody looks for the turn."""
    problem(client.post(f"/api/turns/{NOBODY}/decisions", content=content, headers=headers), status, code)


def test_every_stream_here_ended_as_it_should(client):
    """Each turn of these tests that is over has exactly one end, and its numbers are dense."""
    ended = 0
    for session in client.get("/api/sessions", params={"limit": 1000}).json()["items"]:
        for turn in client.get(f"/api/sessions/{session['id']}/turns").json()["items"]:
            frames = read(client, f"/api/turns/{turn['id']}/stream")
            assert [frame.id for frame in frames] == [str(number) for number in range(1, len(frames) + 1)]
            ends = sum(frame.event in END_FRAMES for frame in frames)
            assert ends == (turn["status"] != "requires_action")
            ended += ends
    assert ended
