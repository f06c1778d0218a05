"""OpenAI's Chat Completions over HTTP: exact shapes, histories on record, errors as that vendor's clients expect them,
and bad input, of which nothing is recorded.
"""

import hashlib
import json
import socket
import time
import typing
from functools import partial

import httpx
import openai.types.chat as openai_chat
import openai.types.chat.completion_create_params as create_params
import pytest
from anthropic.types import ModelInfo
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Model

from manent import engine
from manent.api.compat import chat_forms
from tests.api import chat_upstream
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, opened, read
from tests.api.wire_upstream import playing

CHAT = "/v1/chat/completions"
KEY, OTHER = "sk-one", "sk-two"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def asked(*messages, model="echo/echo", **fields):
    return {"model": model, "messages": list(messages), **fields}


def ask(client, *messages, headers=None, **fields):
    return client.post(CHAT, json=asked(*messages, **fields), headers=headers)


def place(response):
    assert response.status_code == 200, response.text
    return response.headers["x-manent-session"], response.headers["x-manent-turn"]


def refused(response, status, code, param=None):
    """The error of a refusal, once it is seen to be a whole one in OpenAI's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.json().keys() == {"error"}
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["message"]
    return error


def chunks(client, *messages, **fields):
    """The chunks of a stream, which ends with its marker."""
    blocks = [block for block in read(client, CHAT, "POST", json=asked(*messages, stream=True, **fields)) if block.data]
    assert all(block.id is None and block.event is None for block in blocks)
    assert blocks[-1].data == "[DONE]"
    return [block.json for block in blocks[:-1]]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer(client):
    """Has every field that the protocol's has, and says where it is on record."""
    response = ask(client, {"role": "system", "content": "Be brief."}, user("Hello."))
    session, turn = place(response)
    body = response.json()
    created = body.pop("created")
    assert abs(created - time.time()) < 60
    assert body == {
        "id": f"chatcmpl-{turn.replace('-', '')}",
        "object": "chat.completion",
        "model": "echo/echo",
        "service_tier": "default",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }
    recorded = client.get(f"/api/sessions/{session}").json()
    assert recorded["system"] == "Be brief."
    assert client.get(f"/api/turns/{turn}").json()["message"]["content"] == [{"type": "text", "text": "Hello."}]


def test_a_stream(client):
    """Role first, then the text, the reason, and the usage only for who asks for it."""
    plain = chunks(client, user("Hello."))
    common = {key: plain[0][key] for key in ("id", "object", "created", "model", "service_tier")}
    assert common["object"] == "chat.completion.chunk"
    assert common["id"].startswith("chatcmpl-")

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return common | {"choices": [choice]}

    first, last = chunk({"role": "assistant", "content": "", "refusal": None}), chunk({}, "stop")
    assert plain == [first, chunk({"content": "Hello."}), last]
    common["id"] = "another"
    told = chunks(client, user("Hello."), stream_options={"include_usage": True, "include_obfuscation": False})
    assert [each["usage"] is None for each in told] == [True, True, True, False]
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["total_tokens"] == 4


def test_calls_of_tools(client):
    """A call comes with its index, its id and name once, and its arguments in fragments; the result goes on there."""
    fields = {"model": "scripted/tools", "tools": [TOOL]}
    whole = ask(client, user("Rain?"), **fields)
    session, _ = place(whole)
    choice = whole.json()["choices"][0]
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Rome"}'}}
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [call]
    streamed = chunks(client, user("Rain, now?"), **fields)
    deltas = [each["choices"][0]["delta"] for each in streamed]
    assert [each["tool_calls"] for each in deltas if "tool_calls" in each] == [
        [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"city":"Rome"}'}}],
    ]
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"
    result = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "dry"}]}
    answer = ask(client, user("Rain?"), choice["message"], result, **fields)
    assert answer.json()["choices"][0]["message"]["content"] == "Dry."
    assert place(answer)[0] == session
    refused(ask(client, user("Rain?"), choice["message"], user("So?"), **fields), 400, "tool_results_missing")


def test_a_call_without_text_has_no_content(server, client):
    """Its content is null then, as the protocol has it."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "not JSON"}}
    answer = ask(client, user("a"), {"role": "assistant", "content": None, "tool_calls": [call]}, _result("c1", "b"))
    session, turn = place(answer)
    recorded = client.get(f"/api/sessions/{session}/messages").json()["items"]
    assert recorded[1]["content"] == [{"type": "tool_use", "id": "c1", "name": "look", "input_text": "not JSON"}]
    assert recorded[1]["turn_id"] is None
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"] is True


def _result(call, text):
    return {"role": "tool", "tool_call_id": call, "content": text}


def test_a_call_of_a_tool_that_was_not_offered(client):
    """Is the client's as any other: nothing runs here, and the conversation goes on with its result."""
    first = ask(client, user("Rain, unasked?"), model="scripted/tools")
    choice = first.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    said = [user("Rain, unasked?"), choice["message"], _result("call_1", "dry")]
    again = ask(client, *said, model="scripted/tools")
    assert again.json()["choices"][0]["message"]["content"] == "Dry."
    assert place(again)[0] == place(first)[0]


def test_an_empty_answer_goes_on(tmp_path):
    """It is recognised as any other, though nobody could append it."""
    script = tmp_path / "empty.json"
    script.write_text(json.dumps({"models": {"empty": [{"steps": []}, {"steps": []}]}}), encoding="utf-8")
    with in_thread(settings_on(tmp_path, script=str(script))) as server, server.client() as client:
        first = ask(client, user("x"), model="scripted/empty")
        message = first.json()["choices"][0]["message"]
        assert message["content"] == ""
        assert place(ask(client, user("x"), message, user("y"), model="scripted/empty"))[0] == place(first)[0]
        refused(ask(client, user("z"), assistant(""), user("y")), 400, "empty_message", "messages")


def test_silence_is_a_comment(client):
    """While a model says nothing the stream holds comments alone: neither an id nor a time to retry."""
    with opened(client, "POST", CHAT, json=asked(user("x"), model="scripted/silent", stream=True)) as stream:
        blocks = list(stream)
    assert any(block.raw.startswith(b":") for block in blocks)
    assert all(block.raw.startswith((b": ", b"data: ")) for block in blocks)


# --- histories --------------------------------------------------------------------------------------------------------


def test_a_history_goes_on_and_an_edited_one_forks(client):
    """What was said is recognised; what is said otherwise is a fork; the prompt is derived again, and a place can be
    named outright.
    """
    first = ask(client, user("one"))
    session, _ = place(first)
    said = [user("one"), first.json()["choices"][0]["message"]]
    assert place(ask(client, *said, {"role": "developer", "content": "Now loud."}, user("two")))[0] == session
    fork, turn = place(ask(client, *said, user("other")))
    assert fork != session
    assert client.get(f"/api/sessions/{fork}").json()["parent"]["session_id"] == session
    prompt = client.get(f"/api/turns/{turn}/prompt").json()
    assert prompt["matches"] is True
    assert [message["text"] for message in prompt["request"]["messages"]] == ["one", "one", "other"]
    named_one = ask(client, user("from elsewhere"), headers={"X-Manent-Session": session})
    assert place(named_one)[0] == session


def test_what_is_said_of_a_conversation_is_on_record(client):
    """The system prompt, the metadata and for whom the client speaks; what changes is changed there."""
    fields = {"metadata": {"ticket": "7"}, "safety_identifier": "user-1"}
    first = ask(client, {"role": "system", "content": "a"}, user("one"), **fields)
    session, _ = place(first)
    said = [user("one"), assistant("one"), user("two")]
    again = ask(client, {"role": "developer", "content": "b"}, *said, **fields | {"metadata": {"ticket": "8"}})
    assert place(again)[0] == session
    recorded = client.get(f"/api/sessions/{session}").json()
    assert (recorded["system"], recorded["metadata"], recorded["user_id"]) == ("b", {"ticket": "8"}, "user-1")
    types = [event["type"] for event in client.get(f"/api/sessions/{session}/events").json()["items"]]
    assert types.count("session.updated") == 1
    assert place(ask(client, *said, safety_identifier="user-2"))[0] != session


def test_a_retry_is_given_the_first_answer(server, client):
    """As a library repeats a request by itself; one that comes without that word, or after a failure, is asked anew."""
    counted = {"x-stainless-retry-count": "1"}
    first = place(ask(client, user("once")))
    assert place(ask(client, user("once"), headers=counted)) == first
    assert place(ask(client, user("once")))[1] != first[1]
    failing = {"model": "scripted/fails"}
    tried = ask(client, user("fail once"), **failing)
    refused(tried, 503, "provider_unavailable")
    again = ask(client, user("fail once"), headers=counted, **failing)
    assert again.headers["x-manent-turn"] != tried.headers["x-manent-turn"]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_turn_that_fails(client):
    """Whole: a status and the error. In a stream that has begun: the error, and no marker of the end."""
    failed = ask(client, user("x"), model="scripted/fails")
    error = refused(failed, 503, "provider_unavailable")
    assert error["type"] == "server_error"
    turn = client.get(f"/api/turns/{failed.headers['x-manent-turn']}").json()
    assert turn["status"] == "failed"
    assert turn["message"]["content"] == [{"type": "text", "text": "I brea"}]
    streamed = asked(user("y"), model="scripted/fails", stream=True)
    blocks = [block.json for block in read(client, CHAT, "POST", json=streamed)]
    assert "".join(block["choices"][0]["delta"].get("content", "") for block in blocks[:-1]) == "I brea"
    assert blocks[-1]["error"]["code"] == "provider_unavailable"


@pytest.fixture
def vendor(tmp_path, upstream):
    """A server whose models are at an upstream."""
    options = {"openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1", "max_attempts": 1}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_that_fails_before_it_has_said_anything(vendor, stream):
    """Is answered with a status also where a stream was asked for; a client does not repeat what cannot help."""
    failed = ask(vendor, user("x"), model="openai/broken", stream=stream)
    refused(failed, 503, "provider_unavailable")
    assert "x-should-retry" not in failed.headers
    rejected = ask(vendor, user("x"), model="openai/picky", stream=stream)
    refused(rejected, 502, "provider_rejected")
    assert rejected.headers["x-should-retry"] == "false"
    assert chat_upstream.Upstream.__name__ not in rejected.text


def test_what_a_vendor_says_beside_the_text(vendor):
    """Annotations and refusals are told as the protocol tells them, and taken back in a history."""
    cited = ask(vendor, user("x"), model="openai/cited").json()["choices"][0]["message"]
    assert (cited["content"], cited["annotations"]) == ("Yes.", [chat_upstream.CITED])
    deltas = [each["choices"][0]["delta"] for each in chunks(vendor, user("y"), model="openai/cited")]
    assert [each["annotations"] for each in deltas if "annotations" in each] == [[chat_upstream.CITED]]
    answer = ask(vendor, user("z"), model="openai/refusing")
    choice = answer.json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert (choice["message"]["content"], choice["message"]["refusal"]) == (None, "No.")
    again = ask(vendor, user("z"), choice["message"], user("Why?"), model="openai/gpt-test")
    assert place(again)[0] == place(answer)[0]


def test_parameters_reach_the_model(vendor, upstream):
    """As the vendor has them; values that ask for nothing are not in its way."""
    schema = {"name": "sum", "schema": {"type": "object"}, "strict": True, "description": "A sum."}
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "presence_penalty": 0.5,
        "logit_bias": {"7": -100},
        "stop": ["END"],
        "response_format": {"type": "json_schema", "json_schema": schema},
        "reasoning_effort": "low",
    }
    place(ask(vendor, user("x"), model="openai/gpt-test", frequency_penalty=0, max_tokens=9, **given))
    sent = upstream.bodies[-1]
    stop = {"stop": ["END"]}
    assert {name: sent[name] for name in given} == given | stop
    assert "frequency_penalty" not in sent
    for field, value, param in (
        ("top_p", 2, "top_p"),
        ("seed", 1 << 63, "seed"),
        ("reasoning_effort", "much", "reasoning_effort"),
        ("response_format", {"type": "xml"}, "response_format.type"),
        ("response_format", {"type": "json_schema"}, "response_format.json_schema.schema"),
        ("logit_bias", {"x": 1}, "logit_bias"),
    ):
        refused(ask(vendor, user("x"), model="openai/gpt-test", **{field: value}), 400, "invalid_value", param)


def test_a_cancelled_turn(server, client):
    """Whoever waits for it is told."""
    with opened(client, "POST", CHAT, json=asked(user("x"), model="scripted/hang", stream=True)) as stream:
        turn = stream.response.headers["x-manent-turn"]
        with server.client() as other:
            assert other.post(f"/api/turns/{turn}/cancel").status_code == 200
        blocks = [block.json for block in stream if block.data]
    assert blocks[-1]["error"]["code"] == "turn_cancelled"


def test_who_leaves_a_stream_is_waited_for_and_then_no_longer(tmp_path):
    """The turn is cancelled when the grace is over; who comes again before reads on."""
    with in_thread(settings_on(tmp_path, disconnect_grace_s=1)) as server, server.client() as client:
        body = asked(user("x"), model="scripted/slow", stream=True)
        with opened(client, "POST", CHAT, json=body) as stream:
            turn = stream.response.headers["x-manent-turn"]
            next(iter(stream))
        again = read(client, CHAT, "POST", json=body, headers={"x-stainless-retry-count": "1"})
        assert again[-1].data == "[DONE]"
        assert client.get(f"/api/turns/{turn}").json()["status"] == "completed"
        with opened(client, "POST", CHAT, json=asked(user("y"), model="scripted/hang", stream=True)) as stream:
            turn = stream.response.headers["x-manent-turn"]
            next(iter(stream))
        until_s = time.monotonic() + 20
        while client.get("/metrics").text.find('outcome="cancelled"') < 0 and time.monotonic() < until_s:
            time.sleep(0.1)
        assert client.get(f"/api/turns/{turn}").json()["status"] == "cancelled"


def test_who_leaves_a_whole_answer(tmp_path):
    """Is no reader any more, and its turn is cancelled when the grace is over."""
    with in_thread(settings_on(tmp_path, disconnect_grace_s=1)) as server, server.client() as client:
        body = asked(user("x"), model="scripted/hang")
        with pytest.raises(httpx.ReadTimeout):
            client.post(CHAT, json=body, timeout=0.5)
        (session,) = client.get("/api/sessions").json()["items"]
        ends = client.get(f"/api/sessions/{session['id']}/events?types=turn.cancelled&wait=20").json()["items"]
        assert len(ends) == 1
        assert "manent_readers 0" in client.get("/metrics").text.replace(".0", "")


def test_a_shutdown_ends_a_stream_with_an_error(tmp_path):
    """What came is on record, and the client is told that there will be no more."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        body = asked(user("x"), model="scripted/hang", stream=True)
        with opened(client, "POST", CHAT, json=body) as stream:
            blocks = [next(iter(stream))]
            server.loop.call_soon_threadsafe(server.stop.set)
            blocks += list(stream)
    told = [block.json for block in blocks if block.data]
    assert told[-1]["error"]["code"] == "turn_interrupted"
    assert told[-1]["error"]["type"] == "server_error"


# --- any model --------------------------------------------------------------------------------------------------------


def tool(name):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("stream", [False, True])
def test_claude_behind_this_door(tmp_path, stream):
    """Its calls have arguments, also where it wrote none; its thinking, which this protocol has no word for, goes back
    to it as it came.
    """
    with (
        playing("claude_tools", "claude_text", "claude_thinking", "claude_text") as upstream,
        in_thread(settings_on(tmp_path, anthropic_base_url=f"http://127.0.0.1:{upstream.server_port}")) as server,
        server.client() as client,
    ):
        fields = {"model": "claude-sonnet-4-6", "tools": [tool("forecast"), tool("timestamp")]}
        message = said_by(client, user("Rain?"), stream=stream, **fields)
        calls = message["tool_calls"]
        assert message["content"] == "Let me look."
        assert [json.loads(call["function"]["arguments"]) for call in calls] == [
            {"town": "Rome", "days": 2},
            {"town": "Oslo"},
            {},
        ]
        said = [user("Rain?"), message, *(_result(call["id"], "dry") for call in calls)]
        said_by(client, *said, stream=stream, **fields)
        sent = upstream.bodies[-1]["messages"]
        assert [block["type"] for block in sent[1]["content"]] == ["text", "tool_use", "tool_use", "tool_use"]
        assert [block["tool_use_id"] for block in sent[2]["content"]] == [call["id"] for call in calls]
        thought = said_by(client, user("Think."), stream=stream, **fields)
        assert thought.keys() <= {"role", "content", "refusal", "annotations", "tool_calls"}
        results = [_result(call["id"], "done") for call in thought.get("tool_calls") or ()]
        said_by(client, user("Think."), thought, *(results or [user("And?")]), stream=stream, **fields)
        blocks = upstream.bodies[-1]["messages"][1]["content"]
        assert blocks[0]["type"] == "thinking"
        assert blocks[0]["signature"]
        turns = [
            event for event in client.get("/api/events?limit=1000").json()["items"] if event["type"] == "turn.started"
        ]
        for turn in turns:
            assert client.get(f"/api/turns/{turn['id']}/prompt").json()["matches"] is True
        assert len({turn["session_id"] for turn in turns}) == 2


def said_by(client, *messages, stream, **fields):
    """The message of an answer; of a stream as clients join it."""
    if not stream:
        return ask(client, *messages, **fields).json()["choices"][0]["message"]
    content, calls = "", {}
    for chunk in chunks(client, *messages, **fields):
        delta = chunk["choices"][0]["delta"]
        content += delta.get("content") or ""
        for part in delta.get("tool_calls", ()):
            call = calls.setdefault(part["index"], part | {"function": {"name": "", "arguments": ""}})
            call["function"]["name"] += part["function"].get("name", "")
            call["function"]["arguments"] += part["function"]["arguments"]
    return assistant(content or None) | ({"tool_calls": list(calls.values())} if calls else {})


# --- bad input --------------------------------------------------------------------------------------------------------


def image(url, **fields):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **fields}}]}


HI = [user("hi")]

BAD = [
    ({}, "missing_required_parameter", "model"),
    ({"model": "echo/echo"}, "missing_required_parameter", "messages"),
    ({"model": 7, "messages": HI}, "invalid_type", "model"),
    ({"model": "echo/echo", "messages": {}}, "invalid_type", "messages"),
    ({"model": "echo/echo", "messages": []}, "invalid_value", "messages"),
    (asked({"role": "system", "content": "x"}), "invalid_value", "messages"),
    (asked(*HI, thinking_budget=1), "unknown_parameter", "thinking_budget"),
    (asked(*HI, n=2), "unsupported_parameter", "n"),
    (asked(*HI, n=True), "unsupported_parameter", "n"),
    (asked(*HI, store=1), "invalid_type", "store"),
    (asked(*HI, functions=[]), "unsupported_parameter", "functions"),
    (asked(*HI, modalities=["text", "audio"]), "unsupported_parameter", "modalities"),
    (asked(*HI, audio={"voice": "x"}), "unsupported_parameter", "audio"),
    (asked(*HI, prediction={}), "unsupported_parameter", "prediction"),
    (asked(*HI, web_search_options={}), "unsupported_parameter", "web_search_options"),
    (asked(*HI, service_tier="flex"), "unsupported_parameter", "service_tier"),
    (asked(*HI, logprobs=True), "unsupported_parameter", "logprobs"),
    (asked(*HI, temperature="hot"), "invalid_type", "temperature"),
    (asked(*HI, temperature=3), "invalid_value", "temperature"),
    (asked(*HI, max_tokens=0), "invalid_value", "max_tokens"),
    (asked(*HI, max_tokens=1 << 50), "invalid_value", "max_tokens"),
    (asked(*HI, max_completion_tokens=1 << 50), "invalid_value", "max_completion_tokens"),
    (asked(*HI, max_completion_tokens=1, max_tokens=1), "invalid_value", "max_tokens"),
    (asked(*HI, stop=["x"] * 17), "invalid_value", "stop"),
    (asked(*HI, metadata={"a": 1}), "invalid_type", "metadata.a"),
    (asked(*HI, metadata={str(n): "" for n in range(17)}), "invalid_value", "metadata"),
    (asked(*HI, metadata={"k" * 65: ""}), "invalid_value", "metadata"),
    (asked(*HI, metadata={"k": "v" * 513}), "invalid_value", "metadata.k"),
    (asked(*HI, user="x" * 300), "too_large", "user"),
    (asked(*HI, safety_identifier="x" * 300), "too_large", "safety_identifier"),
    (asked(*HI, stream_options={"include_usage": True}), "invalid_value", "stream_options"),
    (asked(*HI, stream=True, stream_options={"x": 1}), "unknown_parameter", "stream_options.x"),
    (asked("hi"), "invalid_type", "messages[0]"),
    (asked({"content": "x"}), "missing_required_parameter", "messages[0].role"),
    (asked({"role": "function", "content": "x"}), "invalid_value", "messages[0].role"),
    (asked({"role": "user"}), "missing_required_parameter", "messages[0].content"),
    (asked(*HI, user(7)), "invalid_type", "messages[1].content"),
    (asked(user(None)), "missing_required_parameter", "messages[0].content"),
    (asked({"role": "system", "content": None}, *HI), "missing_required_parameter", "messages[0].content"),
    (asked(user("x") | {"name": "bob"}), "unsupported_parameter", "messages[0].name"),
    (asked(user("x") | {"mood": "bad"}), "unknown_parameter", "messages[0].mood"),
    (asked(user([{"type": "text"}])), "missing_required_parameter", "messages[0].content[0].text"),
    (asked(user([{"type": "input_audio", "input_audio": {}}])), "invalid_value", "messages[0].content[0].type"),
    (asked(user("a\0b")), "nul_character", "messages[0].content"),
    (asked(user("")), "empty_message", "messages[0].content"),
    (asked({"role": "system", "content": "s"}, *HI, user([])), "empty_message", "messages[2].content"),
    (asked(*HI, {"role": "developer", "content": ""}, user("x")), "empty_message", "messages[1].content"),
    (asked(*HI, assistant("x")), "invalid_value", "messages[1].role"),
    (asked({"role": "system", "content": "s"}, *HI, assistant("")), "invalid_value", "messages[2].role"),
    (asked(image("ftp://x/y.png")), "invalid_value", "messages[0].content[0].image_url.url"),
    (asked(image("data:image/png,xx")), "invalid_value", "messages[0].content[0].image_url.url"),
    (asked(image("data:image/png;base64,!")), "invalid_value", "messages[0].content[0].image_url.url"),
    (
        asked({"role": "system", "content": "s"}, image("data:text/plain;base64,AAAA")),
        "invalid_value",
        "messages[1].content[0].image_url.url",
    ),
    (
        asked(image("https://x.example/y.png", detail="high")),
        "unsupported_parameter",
        "messages[0].content[0].image_url.detail",
    ),
    (asked(_result("nobody", "x")), "tool_call_not_found", "messages"),
    (asked(*HI, tools=[{"type": "custom"}]), "invalid_value", "tools[0].type"),
    (asked(*HI, tools=[{"type": "function", "function": {"name": "a b"}}]), "invalid_value", "tools[0].function.name"),
    (asked(*HI, tools=[TOOL], tool_choice="maybe"), "invalid_value", "tool_choice"),
    (
        asked(*HI, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "no"}}),
        "invalid_value",
        "tool_choice.function.name",
    ),
    (asked(*HI, tools=[TOOL], tool_choice={"type": "allowed_tools"}), "invalid_value", "tool_choice.type"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("body", "code", "param"), named(BAD))
def test_bad_input(client, body, code, param):
    """Is refused with the name of what was wrong, and nothing of it is recorded."""
    refused(client.post(CHAT, json=body), 413 if code == "too_large" else 400, code, param)


@pytest.mark.usefixtures("unchanged")
def test_bodies_that_are_no_json(client):
    """Or that can be read in two ways."""
    headers = {"content-type": "application/json"}
    refused(client.post(CHAT, content=b"{", headers=headers), 400, "invalid_json", "body")
    refused(client.post(CHAT, content=b"\xff", headers=headers), 400, "invalid_json")
    refused(client.post(CHAT, content=b'{"model":"a","model":"b"}', headers=headers), 400, "duplicate_field", "model")
    refused(client.post(CHAT, content=b"[" * 200 + b"]" * 200, headers=headers), 400, "invalid_type", "body")
    refused(
        client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"}),
        415,
        "unsupported_media_type",
        "Content-Type",
    )
    refused(client.post(f"{CHAT}?api-version=1", json=asked(*HI)), 400, "unknown_parameter", "api-version")


@pytest.mark.usefixtures("unchanged")
def test_what_there_is_not(client):
    """Models, sessions, routes: the vendor's own 404, or 405."""
    refused(ask(client, *HI, model="gpt-nothing"), 404, "model_not_found", "model")
    absent = {"X-Manent-Session": str(engine.new_id())}
    refused(ask(client, *HI, headers=absent), 404, "session_not_found", "X-Manent-Session")
    refused(ask(client, *HI, headers={"X-Manent-Session": "x"}), 400, "invalid_id", "X-Manent-Session")
    refused(client.get("/v1/nothing"), 404, "not_found")
    refused(client.get(f"{CHAT}/chatcmpl-1"), 404, "completion_not_found", "completion_id")
    refused(client.put(CHAT, json={}), 405, "method_not_allowed")
    other = client.get("/v1/nothing", headers={"anthropic-version": "2023-06-01"})
    assert other.json()["error"]["type"] == "not_found_error"
    assert other.json()["request_id"] == other.headers["request-id"] == other.headers["x-request-id"]


def test_limits_of_size(tmp_path):
    """On the body, on the messages, on one of them, on the head, and on what the model takes."""
    options = {"drop_in_max_body_bytes": 9000, "drop_in_max_messages": 3, "drop_in_max_block_bytes": 5000}
    with in_thread(settings_on(tmp_path, **options, max_header_bytes=9000)) as server, server.client() as client:
        before = server.size()
        refused(ask(client, user("x" * 10_000)), 413, "body_too_large")
        refused(ask(client, *HI * 4), 413, "too_large", "messages")
        large = ask(client, {"role": "system", "content": "s"}, user("x" * 6000))
        error = refused(large, 413, "too_large", "messages[1].content")
        assert "drop_in_max_block_bytes allows 5000" in error["message"]
        refused(ask(client, *HI, headers={"x-long": "x" * 10_000}), 431, "headers_too_large")
        assert server.size() == before


@pytest.mark.usefixtures("unchanged")
def test_a_context_that_is_too_long(client):
    """Nothing is trimmed: the protocol's own error, which names what is too much."""
    for name in ("max_tokens", "max_completion_tokens"):
        refused(ask(client, *HI, **{name: 10_000_000}), 400, "context_length_exceeded", name)
    error = refused(ask(client, user("x " * 100), max_tokens=9_999_990), 400, "context_length_exceeded", "messages")
    assert "prompt is too long" in error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    field=st.sampled_from(sorted(chat_forms.FIELDS.keys() - {"model", "stream"})),
    value=JSON,
    role=st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    inner=st.sampled_from(["content", "tool_calls", "tool_call_id", "refusal", "name"]),
)
@settings(max_examples=60)
def test_no_body_is_the_servers_failure(client, field, value, role, inner):
    """Whatever stands in a field: it is an answer, or a refusal in OpenAI's form that names a field."""
    message = {"role": role, "content": "x"} | ({"tool_call_id": "c"} if role == "tool" else {})
    for body in (asked(*HI) | {field: value}, asked(message | {inner: value}, *HI)):
        response = client.post(CHAT, json=body)
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            refused(response, response.status_code, *[response.json()["error"][name] for name in ("code", "param")])


# --- the table --------------------------------------------------------------------------------------------------------


def fields_of(kind):
    return typing.get_type_hints(kind, include_extras=True).keys()


def test_the_table_holds_what_the_library_can_send():
    """Every field of the SDK's own request type has its row, and there is no other row."""
    known = fields_of(create_params.CompletionCreateParamsNonStreaming) | fields_of(
        create_params.CompletionCreateParamsStreaming
    )
    assert chat_forms.FIELDS.keys() == known


@pytest.mark.parametrize(
    ("form", "kind", "not_taken"),
    [
        (chat_forms.UserSaid, openai_chat.ChatCompletionUserMessageParam, set()),
        (chat_forms.SystemSaid, openai_chat.ChatCompletionSystemMessageParam, set()),
        (chat_forms.DeveloperSaid, openai_chat.ChatCompletionDeveloperMessageParam, set()),
        (chat_forms.AssistantSaid, openai_chat.ChatCompletionAssistantMessageParam, set()),
        (chat_forms.ToolSaid, openai_chat.ChatCompletionToolMessageParam, set()),
        (chat_forms.TextPart, openai_chat.ChatCompletionContentPartTextParam, {"prompt_cache_breakpoint"}),
        (chat_forms.ImagePart, openai_chat.ChatCompletionContentPartImageParam, {"prompt_cache_breakpoint"}),
        (chat_forms.FunctionTool, openai_chat.ChatCompletionFunctionToolParam, set()),
        (chat_forms.StreamOptions, openai_chat.ChatCompletionStreamOptionsParam, set()),
    ],
)
def test_forms_are_the_librarys(form, kind, not_taken):
    """What stands inside of a body has the SDK's fields, but for those that are refused by name."""
    tag = form.__struct_config__.tag_field
    taken = {*form.__struct_fields__} | ({tag} if tag else set())
    assert fields_of(kind) - not_taken <= taken


# --- keys and limits --------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    """A server with keys, of which each may start two turns a minute."""
    keys = [
        {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes}
        for name, key, scopes in (("one", KEY, ["chat"]), ("two", OTHER, ["audit"]))
    ]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    options = {"api_keys_file": str(file), "key_requests_per_min": 2, "key_tokens_per_min": 1000}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        yield client


def test_keys(guarded):
    """Both ways to send one; without one, or without its scope, the protocol's own refusal."""
    assert refused(ask(guarded, *HI), 401, "invalid_api_key")["type"] == "invalid_request_error"
    refused(ask(guarded, *HI, headers={"authorization": "Bearer no"}), 401, "invalid_api_key")
    refused(ask(guarded, *HI, headers={"authorization": f"Bearer {OTHER}"}), 403, "scope_missing")
    place(ask(guarded, *HI, headers={"authorization": f"Bearer {KEY}"}))
    place(ask(guarded, *HI, headers={"x-api-key": KEY}))
    theirs = guarded.get("/v1/models", headers={"x-api-key": "no"})
    assert (theirs.status_code, theirs.json()["error"]["type"]) == (401, "authentication_error")
    assert guarded.get("/v1/models", headers={"x-api-key": KEY}).status_code == 200
    assert guarded.get("/api/sessions", headers={"x-api-key": KEY}).status_code == 401


def test_a_key_that_is_revoked(tmp_path, guarded):
    """Ends a stream with the protocol's own error, and no marker of the end."""
    body = asked(user("x"), model="scripted/hang", stream=True)
    with opened(guarded, "POST", CHAT, json=body, headers={"authorization": f"Bearer {KEY}"}) as stream:
        blocks = [next(iter(stream))]
        (tmp_path / "keys.json").write_text("[]", encoding="utf-8")
        blocks += list(stream)
    assert [block.json for block in blocks if block.data][-1]["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("path", "dialect"), [(CHAT, "openai"), ("/v1/messages", "anthropic"), ("/v1/models", "openai")]
)
def test_a_head_without_end(server, path, dialect):
    """Is refused on the socket, in the form that belongs to the path."""
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * 40_000}".encode())
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    told = json.loads(body)
    assert head.startswith(b"HTTP/1.1 431 " if dialect == "openai" else b"HTTP/1.1 413 ")
    assert (b"\r\nrequest-id: " in head) == (dialect == "anthropic")
    assert told["error"]["code"] == "headers_too_large"
    assert ("request_id" in told) == (dialect == "anthropic")


def test_limits_are_told_in_the_protocols_headers(guarded):
    """What the key may do in a minute, what is left, and when all is; and after the last, when to come again."""
    key = {"authorization": f"Bearer {KEY}"}
    first = ask(guarded, *HI, headers=key)
    told = {name: value for name, value in first.headers.items() if name.startswith("x-ratelimit-")}
    assert told["x-ratelimit-limit-requests"] == "2"
    assert told["x-ratelimit-remaining-requests"] == "1"
    assert 0 < float(told["x-ratelimit-reset-requests"].removesuffix("s")) <= 30
    assert told["x-ratelimit-limit-tokens"] == "1000"
    assert int(told["x-ratelimit-remaining-tokens"]) < 1000
    place(ask(guarded, *HI, headers=key))
    over = ask(guarded, *HI, headers=key)
    assert refused(over, 429, "rate_limit_exceeded")["type"] == "requests"
    assert 0 < int(over.headers["retry-after"]) <= 60
    assert over.headers["x-ratelimit-remaining-requests"] == "0"


# --- models -----------------------------------------------------------------------------------------------------------


def test_models(client):
    """One object that both vendors' libraries read; a page at a time for who asks so."""
    page = client.get("/v1/models").json()
    names = [model["id"] for model in page["data"]]
    assert page.keys() == {"object", "data", "has_more", "first_id", "last_id"}
    assert (page["object"], page["has_more"], page["first_id"], page["last_id"]) == ("list", False, names[0], names[-1])
    for model in page["data"]:
        assert Model.model_validate(model, strict=True).id == ModelInfo.model_validate(model).id
    one = client.get("/v1/models/echo%2Fecho").json()
    assert one == client.get("/v1/models/echo/echo").json() == page["data"][names.index("echo/echo")]
    assert (one["object"], one["type"], one["owned_by"]) == ("model", "model", "echo")
    refused(client.get("/v1/models/nothing"), 404, "model_not_found", "model")
    first = client.get("/v1/models", params={"limit": 2}).json()
    after = client.get("/v1/models", params={"limit": 2, "after_id": first["last_id"]}).json()
    before = client.get("/v1/models", params={"limit": 1, "before_id": after["last_id"]}).json()
    assert first["has_more"]
    assert [model["id"] for model in first["data"] + after["data"]] == names[:4]
    assert [model["id"] for model in before["data"]] == names[2:3]
    refused(client.get("/v1/models?after_id=x"), 400, "invalid_value", "after_id")


# --- the record -------------------------------------------------------------------------------------------------------


def replayed(client, sessions):
    """The verdicts on the turns of sessions, done once more with the log as the model."""
    begun = client.post("/api/replays", json={"sessions": sessions, "mode": "recorded"}).json()
    with client.stream("GET", f"/api/replays/{begun['id']}/stream") as stream:
        stream.read()
    return [result["verdict"] for result in client.get(f"/api/replays/{begun['id']}").json()["results"]]


def test_the_record_verifies(tmp_path):
    """After conversations of every kind the log is whole, projections are as they would be rebuilt, and turns can be
    done again to the byte.
    """
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        said = [user("one")]
        for text in ("two", "three"):
            answer = ask(client, *said, metadata={"said": text})
            said += [answer.json()["choices"][0]["message"], user(text)]
        chunks(client, *said[:3], user("forked"))
        ask(client, user("Rain?"), model="scripted/tools", tools=[TOOL])
        turns = [event for event in client.get("/api/events").json()["items"] if event["type"] == "turn.started"]
        assert len(turns) == 4
        for turn in turns:
            assert client.get(f"/api/turns/{turn['id']}/prompt").json()["matches"] is True
        verdicts = replayed(client, sorted({turn["session_id"] for turn in turns}))
        assert set(verdicts) == {"same"}
        assert len(verdicts) >= len(turns)
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()
