"""Anthropic's Messages over HTTP: exact shapes, histories on record, errors as that vendor's clients expect them, and
bad input, of which nothing is recorded.
"""

import hashlib
import json
import typing

import anthropic
import anthropic.types as stable
import anthropic.types.message_count_tokens_params as count_params
import anthropic.types.message_create_params as create_params
import msgspec
import pytest
from anthropic.types import beta
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.api.compat import messages_answers, messages_forms, messages_request
from manent.api.compat.sealed import SEALED, sealed
from manent.api.http.errors import Problem
from tests.api import chat_upstream, claude_upstream
from tests.api.claude_upstream import failure, said
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, read

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
SAMPLING = {"temperature", "top_p", "top_k"}
"""Fields of 2023-06-01, for which the newest library has no words any more."""
IN_HEADERS = {"betas"}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def asked(*messages, model="echo/echo", **fields):
    return {"model": model, "max_tokens": 100, "messages": list(messages)} | fields


def ask(client, *messages, headers=None, **fields):
    return client.post(MESSAGES, json=asked(*messages, **fields), headers=headers)


def place(response):
    assert response.status_code == 200, response.text
    return response.headers["x-manent-session"], response.headers["x-manent-turn"]


def refused(response, status, kind, code, param=None):
    """The error of a refusal, once it is seen to be a whole one in Anthropic's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    error = body["error"]
    assert (error["type"], error["code"], error.get("param")) == (kind, code, param), error
    return error


def events(client, *messages, **fields):
    """The events of a stream; each is named as its type."""
    blocks = [
        each for each in read(client, MESSAGES, "POST", json=asked(*messages, stream=True, **fields)) if each.data
    ]
    assert all(block.id is None and block.event == block.json["type"] for block in blocks)
    return [block.json for block in blocks if block.event != "ping"]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer(client):
    """Has every field that the protocol's has, and says where it is on record."""
    response = ask(client, user("Hello."), system="Be brief.")
    session, turn = place(response)
    message = client.get(f"/api/sessions/{session}/messages").json()["items"][1]
    assert response.json() == {
        "id": "msg_" + message["id"].replace("-", ""),
        "type": "message",
        "role": "assistant",
        "model": "echo/echo",
        "content": [{"type": "text", "text": "Hello.", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "context_management": None,
        "usage": {
            "input_tokens": 5,
            "output_tokens": 2,
            "cache_creation": None,
            "cache_creation_input_tokens": None,
            "cache_read_input_tokens": None,
            "output_tokens_details": None,
            "server_tool_use": None,
            "service_tier": None,
            "inference_geo": None,
        },
    }
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]


def test_a_stream(client):
    """The events of a thought and a text, each in its form, and the usage with the end."""
    found = events(client, user("Two?"), model="scripted/think")
    start, first, thought, signed, stop, second, *texts, stopped, delta, end = found
    assert start["message"]["content"] == []
    assert start["message"]["stop_reason"] is None
    assert start["message"]["usage"]["output_tokens"] == 0
    assert first == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    }
    assert thought["delta"] == {"type": "thinking_delta", "thinking": "Hm, two."}
    assert signed["delta"] == {"type": "signature_delta", "signature": ""}
    assert stop == {"type": "content_block_stop", "index": 0}
    assert second["content_block"] == {"type": "text", "text": "", "citations": None}
    assert "".join(each["delta"]["text"] for each in texts) == "Two."
    assert stopped == {"type": "content_block_stop", "index": 1}
    assert delta["delta"]["stop_reason"] == "end_turn"
    assert delta["usage"]["output_tokens"] > 0
    assert end == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("model", "system"), [("echo/echo", None), ("echo/echo", "Be brief. " * 50), ("scripted/think", None)]
)
def test_a_stream_begins_with_an_estimate_of_its_input(client, model, system):
    """For clients that read no other figure: not less than what is told at its end, which is cumulative and wins."""
    fields = {"model": model} | ({} if system is None else {"system": system})
    found = events(client, user("How many?"), **fields)
    first, last = found[0]["message"]["usage"], found[-2]["usage"]
    assert first["input_tokens"] >= last["input_tokens"] > 0
    assert first["output_tokens"] == 0
    assert first["cache_read_input_tokens"] is None


def test_the_official_client_adds_nothing_to_the_estimate(claude):
    """Its own reading of a stream has the figures of the end, which are the vendor's."""
    claude.upstream.plays = [said("claude_cache")]
    library = anthropic.Anthropic(api_key="any", base_url=claude.url, max_retries=0)
    with library.messages.stream(model="claude-sonnet-4-6", max_tokens=9, messages=[user("Cached?")]) as stream:
        first = next(iter(stream))
        estimate = first.message.usage.input_tokens
        told = stream.get_final_message().usage
    assert estimate > 0
    assert (told.input_tokens, told.output_tokens) == (21, 4)
    assert (told.cache_read_input_tokens, told.cache_creation_input_tokens) == (188087, 456)


def test_silence_is_a_ping(client):
    """As the protocol has it; it stands between events."""
    blocks = read(client, MESSAGES, "POST", json=asked(user("Wait."), model="scripted/silent", stream=True))
    pings = [block.json for block in blocks if block.event == "ping"]
    assert pings
    assert all(ping == {"type": "ping"} for ping in pings)


def test_calls_of_tools(client):
    """A call has a caller; a result beside other words becomes a message of its own, in the same session."""
    first = ask(client, user("Rome?"), model="scripted/tools", tools=[TOOL])
    call = {"type": "tool_use", "id": "call_1", "name": "look", "input": {"city": "Rome"}, "caller": {"type": "direct"}}
    assert first.json()["content"][1] == call
    assert first.json()["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "No rain."}
    history = [user("Rome?"), assistant(first.json()["content"]), user([{"type": "text", "text": "So?"}, result])]
    second = ask(client, *history, model="scripted/tools", tools=[TOOL])
    assert place(second)[0] == place(first)[0]
    messages = client.get(f"/api/sessions/{place(second)[0]}/messages").json()["items"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user", "assistant"]


def test_a_call_that_was_not_offered_is_the_clients(client):
    """The turn has one round, whatever the model asks for."""
    response = ask(client, user("Rome?"), model="scripted/tools")
    assert response.json()["stop_reason"] == "tool_use"
    turn = client.get(f"/api/turns/{place(response)[1]}").json()
    assert (turn["status"], len(turn["attempts"])) == ("completed", 1)
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "There is no such tool.", "is_error": True}
    history = [user("Rome?"), assistant(response.json()["content"]), user([result])]
    again = ask(client, *history, model="scripted/tools")
    assert place(again)[0] == place(response)[0]
    assert again.json()["content"][0]["text"] == "Dry."


def test_neighbours_of_one_role(client):
    """Two messages of the user in a row are two on record."""
    session, turn = place(ask(client, user("One."), user("Two."), assistant("A."), assistant("B."), user("Three.")))
    assert client.get(f"/api/sessions/{session}").json()["message_count"] == 6
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]


def test_a_message_of_the_systems(client):
    """In the midst of a conversation it stays where it is."""
    said_here = {"role": "system", "content": [{"type": "text", "text": "Be kind."}]}
    session, turn = place(ask(client, user("One."), assistant("A."), said_here, user("Two.")))
    roles = [each["role"] for each in client.get(f"/api/sessions/{session}/messages").json()["items"]]
    assert roles == ["user", "assistant", "system", "user", "assistant"]
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]


def test_the_system_prompt_may_change(client):
    """That is an update of the session, in the same append."""
    first = ask(client, user("Hi."), system=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}])
    history = [user("Hi."), assistant(first.json()["content"]), user("Again.")]
    second = ask(client, *history, system="Be long.")
    assert place(second)[0] == place(first)[0]
    assert client.get(f"/api/sessions/{place(second)[0]}").json()["system"] == "Be long."


def test_a_session_is_named_outright(client, session):
    """It goes on there, whatever is on record in it."""
    ask(client, user("Before."), headers={"x-manent-session": session})
    marked = user([{"type": "text", "text": "After.", "cache_control": {"type": "ephemeral"}}])
    again, turn = place(ask(client, marked, headers={"x-manent-session": session}))
    assert again == session
    assert client.get(f"/api/sessions/{session}").json()["message_count"] == 4
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]


def test_whom_the_client_speaks_for(client):
    """Two users of one key never share a session."""
    one = place(ask(client, user("Mine."), metadata={"user_id": "u1"}))[0]
    history = [user("Mine."), assistant("Mine."), user("More.")]
    assert client.get(f"/api/sessions/{one}").json()["user_id"] == "u1"
    assert place(ask(client, *history, metadata={"user_id": "u2"}))[0] != one
    assert place(ask(client, *history, metadata={"user_id": "u1"}))[0] == one


def test_claude_codes_request(client):
    """As Claude Code sends it, with all that stands beside the protocol."""
    mark = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    body = asked(
        user([{"type": "text", "text": "<system-reminder>x</system-reminder>"}, {"type": "text", "text": "Hi."}]),
        max_tokens=32000,
        temperature=1,
        stream=True,
        system=[
            {"type": "text", "text": "You are Claude Code."},
            {"type": "text", "text": "Rules.", "cache_control": mark},
        ],
        tools=[TOOL | {"description": "Looks.", "eager_input_streaming": True, "cache_control": mark}],
        thinking={"type": "adaptive"},
        output_config={"effort": "medium"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        metadata={"user_id": '{"device_id":"d","session_id":"s"}'},
    )
    headers = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14", "x-app": "cli"}
    response = client.post(f"{MESSAGES}?beta=true", json=body, headers=headers)
    session, turn = place(response)
    assert "event: message_stop" in response.text
    assert client.get(f"/api/sessions/{session}").json()["system"] == "You are Claude Code.\n\nRules."
    assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]
    counted = {name: body[name] for name in ("model", "messages", "system", "tools", "thinking", "output_config")}
    assert client.post(f"{COUNT}?beta=true", json=counted).json()["input_tokens"] > 0


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchanged")
def test_a_count_is_an_estimate_where_nobody_counts(client):
    """It says so, and nothing is recorded; an answer at the end may be counted."""
    body = {"model": "echo/echo", "messages": [user("Hello."), assistant("And")]}
    response = client.post(COUNT, json=body)
    assert response.json().keys() == {"input_tokens"}
    assert response.headers["x-manent-estimate"] == "true"
    more = client.post(COUNT, json=body | {"system": "Be brief.", "tools": [TOOL]})
    assert more.json()["input_tokens"] > response.json()["input_tokens"]


# --- bad input --------------------------------------------------------------------------------------------------------


def block(**fields):
    return asked(user([fields]))


BAD = [
    ({"model": "nobodys"}, 404, "not_found_error", "model_not_found", "model"),
    ({"max_tokens": None}, 400, "invalid_request_error", "invalid_type", "max_tokens"),
    ({"max_tokens": 1.5}, 400, "invalid_request_error", "invalid_type", "max_tokens"),
    ({"max_tokens": 10**9}, 400, "invalid_request_error", "invalid_value", "max_tokens"),
    ({"bogus": None}, 400, "invalid_request_error", "unknown_parameter", "bogus"),
    ({"messages": []}, 400, "invalid_request_error", "invalid_value", "messages"),
    ({"messages": "Hi."}, 400, "invalid_request_error", "invalid_type", "messages"),
    ({"messages": [user("")]}, 400, "invalid_request_error", "empty_message", "messages[0].content"),
    ({"messages": [user("a\0")]}, 400, "invalid_request_error", "nul_character", "messages[0].content"),
    (block(type="text", text="a\0"), 400, "invalid_request_error", "nul_character", "messages[0].content[0].text"),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        400,
        "invalid_request_error",
        "invalid_value",
        "messages[0].role",
    ),
    (
        {"messages": [user("a"), assistant("b")]},
        400,
        "invalid_request_error",
        "prefill_not_supported",
        "messages[1].role",
    ),
    ({"system": 7}, 400, "invalid_request_error", "invalid_type", "system"),
    ({"temperature": 1.5}, 400, "invalid_request_error", "invalid_value", "temperature"),
    ({"top_k": 0}, 400, "invalid_request_error", "invalid_value", "top_k"),
    ({"stop_sequences": ["a\0"]}, 400, "invalid_request_error", "nul_character", "stop_sequences[0]"),
    ({"service_tier": "standard_only"}, 400, "invalid_request_error", "parameter_not_supported", "service_tier"),
    ({"container": "c"}, 400, "invalid_request_error", "parameter_not_supported", "container"),
    ({"mcp_servers": [{}]}, 400, "invalid_request_error", "parameter_not_supported", "mcp_servers"),
    (
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        *(400, "invalid_request_error", "parameter_not_supported", "context_management"),
    ),
    ({"thinking": {"type": "enabled"}}, 400, "invalid_request_error", "missing_field", "thinking.budget_tokens"),
    (
        {"output_config": {"effort": "low"}},
        *(400, "invalid_request_error", "parameter_not_supported", "output_config.effort"),
    ),
    (
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        *(400, "invalid_request_error", "parameter_not_supported", "tools[0].type"),
    ),
    ({"tools": [TOOL, TOOL]}, 400, "invalid_request_error", "invalid_value", "tools"),
    (
        {"tools": [TOOL | {"input_schema": {"type": "array"}}]},
        *(400, "invalid_request_error", "invalid_value", "tools[0].input_schema"),
    ),
    ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "invalid_value", "tool_choice"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}},
        *(400, "invalid_request_error", "invalid_value", "tool_choice.name"),
    ),
    (block(type="document", source={}), 400, "invalid_request_error", "unknown_block", "messages[0].content[0].type"),
    (block(text="x"), 400, "invalid_request_error", "missing_field", "messages[0].content[0].type"),
    (block(type="text", text=7), 400, "invalid_request_error", "invalid_type", "messages[0].content[0].text"),
    (
        block(type="text", text="x", citations=[{"type": "char_location"}]),
        *(400, "invalid_request_error", "invalid_value", "messages[0].content[0].citations"),
    ),
    (
        block(type="tool_result", tool_use_id="c", content=[{"type": "text", "text": "x", "citations": [{}]}]),
        *(400, "invalid_request_error", "invalid_value", "messages[0].content[0].content[0].citations"),
    ),
    (
        block(type="text", text="x", cache_control={"type": "for ever"}),
        *(400, "invalid_request_error", "invalid_value", "messages[0].content[0].cache_control.type"),
    ),
    (
        block(type="image", source={"type": "file", "file_id": "f"}),
        *(400, "invalid_request_error", "invalid_value", "messages[0].content[0].source.type"),
    ),
    (
        block(type="image", source={"type": "base64", "media_type": "image/bmp", "data": "AAAA"}),
        *(400, "invalid_request_error", "invalid_value", "messages[0].content[0].source.media_type"),
    ),
    (
        block(type="tool_result", tool_use_id="nobodys", content="x"),
        *(400, "invalid_request_error", "tool_call_not_found", "messages"),
    ),
    (
        {
            "messages": [
                user("a"),
                assistant([{"type": "thinking", "thinking": "", "signature": "manent.block.eA"}]),
                user("b"),
            ]
        },
        *(400, "invalid_request_error", "invalid_value", "messages[1].content[0].signature"),
    ),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("fields", "status", "kind", "code", "param"), named(BAD))
def test_bad_input(client, fields, status, kind, code, param):
    """Is refused in the protocol's words, which name the field; nothing is recorded."""
    refused(client.post(MESSAGES, json=asked(user("Hi.")) | fields), status, kind, code, param)


@pytest.mark.usefixtures("unchanged")
def test_a_context_that_is_too_long(client):
    """Nothing is trimmed: the words that clients of the protocol look for, and what is too much."""
    kind, code = "invalid_request_error", "context_length_exceeded"
    refused(ask(client, user("Hi."), max_tokens=10_000_000), 400, kind, code, "max_tokens")
    error = refused(ask(client, user("x " * 100), max_tokens=9_999_990), 400, kind, code, "messages")
    assert "prompt is too long" in error["message"]


@pytest.mark.usefixtures("unchanged")
def test_results_that_are_missing(client):
    """A call must be answered before anything else is said."""
    call = {"type": "tool_use", "id": "c", "name": "look", "input": {}}
    response = ask(client, user("a"), assistant([call]), user("b"), tools=[TOOL])
    refused(response, 400, "invalid_request_error", "tool_results_missing")


@pytest.mark.usefixtures("unchanged")
def test_a_field_twice_and_no_json(client):
    """Readers differ on what such a body says."""
    headers = {"content-type": "application/json"}
    twice = client.post(MESSAGES, content=b'{"model":"echo/echo","model":"x"}', headers=headers)
    refused(twice, 400, "invalid_request_error", "duplicate_field", "model")
    refused(client.post(MESSAGES, content=b"{", headers=headers), 400, "invalid_request_error", "invalid_json", "body")
    refused(client.post(MESSAGES, content=b"x"), 415, "invalid_request_error", "unsupported_media_type", "Content-Type")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(sorted(messages_forms.FIELDS.keys() - {"model", "stream"})),
    value=JSON,
    role=st.sampled_from(["system", "user", "assistant"]),
    kind=st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"]),
    inner=st.sampled_from(["text", "source", "id", "input", "content", "thinking", "signature", "cache_control"]),
)
def test_no_body_is_the_servers_failure(client, field, value, role, kind, inner):
    """Whatever stands in a field: it is an answer, or a refusal in Anthropic's form that names a field."""
    odd = {"role": role, "content": [{"type": kind, "text": "x", inner: value}]}
    for body in (asked(user("Hi.")) | {field: value}, asked(odd, user("Hi."))):
        response = client.post(MESSAGES, json=body)
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            error = response.json()["error"]
            refused(response, response.status_code, error["type"], error["code"], error["param"])


# --- Claude -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def claude(tmp_path_factory):
    """A server whose Claude is an upstream; its log is verified in the end."""
    with claude_upstream.upstream() as vendor:
        given_here = {"anthropic_base_url": vendor.address, "anthropic_api_key": "sk-theirs", "max_attempts": 1}
        folder = tmp_path_factory.mktemp("claude")
        with in_thread(settings_on(folder, breaker_failures=1000, **given_here)) as server:
            server.upstream = vendor
            yield server
    assert engine.verify_database(str(folder / "manent.db")).problem is None


def test_a_failure_before_the_answer_has_a_status(claude):
    """Also of a stream; the headers say where it is on record, and if another try may help."""
    claude.upstream.plays = [failure(529, "overloaded_error")]
    with claude.client() as client:
        for stream in (False, True):
            response = ask(client, user("Fail."), model="claude-sonnet-4-6", stream=stream)
            refused(response, 529, "overloaded_error", "provider_unavailable")
            assert response.headers["x-manent-turn"]


def test_a_server_of_the_protocol_that_does_not_count(claude):
    """Others speak the protocol without that route: then it is an estimate. A count that fails is an error."""
    body = {"model": "claude-sonnet-4-6", "messages": [user("Hello.")]}
    with claude.client() as client:
        exact = client.post(COUNT, json=body)
        assert (exact.json(), exact.headers.get("x-manent-estimate")) == ({"input_tokens": claude_upstream.COUNT}, None)
        counts, claude.upstream.counts = claude.upstream.counts, failure(404, "not_found_error")
        estimate = client.post(COUNT, json=body)
        assert estimate.headers["x-manent-estimate"] == "true"
        assert 0 < estimate.json()["input_tokens"] < claude_upstream.COUNT
        claude.upstream.counts = failure(529, "overloaded_error")
        refused(client.post(COUNT, json=body), 529, "overloaded_error", "provider_unavailable")
        claude.upstream.counts = counts


def test_gpts_usage(tmp_path):
    """Its input is the whole; in this protocol cached tokens stand apart."""
    with chat_upstream.upstream() as vendor:
        address = f"http://127.0.0.1:{vendor.server_port}/v1"
        options = settings_on(tmp_path, openai_base_url=address, openai_api_key="k", openai_api="chat")
        with in_thread(options) as server, server.client() as client:
            answer = ask(client, user("Hi."), model="openai/gpt-x").json()
            last = events(client, user("Hi."), model="openai/gpt-x")[-2]
    assert answer["content"] == [{"type": "text", "text": "Yes.", "citations": None}]
    for usage in (answer["usage"], last["usage"]):
        told = [usage[name] for name in ("input_tokens", "cache_read_input_tokens", "output_tokens")]
        assert told == [600, 400, 500]


def test_redacted_thoughts_written_otherwise(claude):
    """A client may write the JSON of a block anew: it is the same history, and goes back as Claude gave it."""
    claude.upstream.plays = [said("claude_thinking"), said("claude_text")]
    with claude.client() as client:
        first = ask(client, user("Rain?"), model="claude-sonnet-4-6")
        content = [dict(reversed(each.items())) for each in first.json()["content"]]
        second = ask(client, user("Rain?"), assistant(content), user("Sure?"), model="claude-sonnet-4-6")
        assert place(second)[0] == place(first)[0]
        raw = claude.upstream.asked[-1][1]
        assert b'{"type":"redacted_thinking","data":"EmwKAhgBEgy3va3pzix' in raw
        prompt = client.get(f"/api/turns/{place(second)[1]}/prompt").json()
        assert prompt["matches"]


def test_a_stop_of_another_word(claude):
    """A context that was full is told in the protocol's word for it, as Claude told it."""
    stream = said("claude_text").replace(b'"stop_reason":"end_turn"', b'"stop_reason":"model_context_window_exceeded"')
    claude.upstream.plays = [stream]
    with claude.client() as client:
        response = ask(client, user("On and on."), model="claude-sonnet-4-6")
    assert response.json()["stop_reason"] == "model_context_window_exceeded"


def test_the_fallback_model_is_sent_what_the_client_has_sent(claude):
    """All of it, in the client's form, with its cache marks, whatever the session's window would hold."""
    long = "A long story. " * 3000
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig=="}
    mark = {"cache_control": {"type": "ephemeral"}}
    with claude.client() as client:
        claude.upstream.plays = [said("claude_text")]
        first = ask(client, user(long), model="claude-sonnet-4-6")
        session, _ = place(first)
        client.patch(f"/api/sessions/{session}", json={"fallback_model": "anthropic/claude-haiku-4-5"})
        answer = {"type": "text", "text": first.json()["content"][0]["text"]} | mark
        history = [user(long), assistant([thought, answer]), user([{"type": "text", "text": "And?"} | mark])]
        claude.upstream.plays = [failure(529, "overloaded_error"), said("claude_text")]
        second = ask(client, *history, model="claude-sonnet-4-6")
        assert place(second)[0] == session
        refused_one, answered = (json.loads(raw) for _, raw in claude.upstream.asked[-2:])
        assert (refused_one["model"], answered["model"]) == ("claude-sonnet-4-6", "claude-haiku-4-5")
        assert answered == refused_one | {"model": "claude-haiku-4-5"}
        assert answered["messages"][0]["content"][0]["text"] == long
        assert answered["messages"][1]["content"] == [thought, answer]
        assert answered["messages"][2]["content"][0]["cache_control"] == {"type": "ephemeral"}
        turn = place(second)[1]
        for attempt in (1, 2):
            prompt = client.get(f"/api/turns/{turn}/prompt", params={"attempt": attempt}).json()
            assert prompt["matches"]
            assert prompt["window"]["omitted"]["count"] == 0
        assert replayed(client, session)["verdict"] == "same"


def test_a_fallback_model_that_has_no_room_is_not_asked(claude):
    """Nothing is left out for it: the failure of the first stands."""
    with claude.client() as client:
        claude.upstream.plays = [said("claude_text")]
        long = "word " * 250_000
        first = ask(client, user(long), model="claude-opus-4-8")
        session, _ = place(first)
        client.patch(f"/api/sessions/{session}", json={"fallback_model": "anthropic/claude-haiku-4-5"})
        claude.upstream.plays = [failure(529, "overloaded_error"), said("claude_text")]
        asked_before = len(claude.upstream.asked)
        history = [user(long), assistant(first.json()["content"]), user("And?")]
        response = ask(client, *history, model="claude-opus-4-8")
        refused(response, 529, "overloaded_error", "provider_unavailable")
        assert response.headers["x-manent-session"] == session
        assert len(claude.upstream.asked) == asked_before + 1


def stopped_at(sequence):
    """A stream that ends at a stop sequence."""
    end = b'"stop_reason":"end_turn","stop_sequence":null'
    found = said("claude_text")
    assert end in found
    return found.replace(end, b'"stop_reason":"stop_sequence","stop_sequence":' + json.dumps(sequence).encode())


STOPS = {
    "one of two": ("B\n", ["A", "B\n"], "B\n"),
    "not told": (None, ["A", "B"], None),
    "nobody's": ("C", ["A", "B"], None),
    "no text": (7, ["A"], "A"),
    "half a character": ("\ud83d", ["A", "\ufffd"], "\ufffd"),
}


@pytest.mark.parametrize(("sequence", "asked_for", "told"), STOPS.values(), ids=STOPS)
def test_the_sequence_at_which_an_answer_stopped(claude, sequence, asked_for, told):
    """Is told as the vendor tells it, where it is one that was asked for, whole and streamed; it is on record, and
    the same when the record is replayed.
    """
    with claude.client() as client:
        fields = {"model": "claude-sonnet-4-6", "stop_sequences": asked_for}
        claude.upstream.plays = [stopped_at(sequence)]
        response = ask(client, user("Stop."), **fields)
        body = response.json()
        assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", told)
        delta = next(each for each in events(client, user("Stop."), **fields) if each["type"] == "message_delta")
        assert (delta["delta"]["stop_reason"], delta["delta"]["stop_sequence"]) == ("stop_sequence", told)
        session, turn = place(response)
        assert client.get(f"/api/turns/{turn}/prompt").json()["matches"]
        if told == sequence is not None:
            assert client.get(f"/api/turns/{turn}").json()["stop_sequence"] == sequence
        assert replayed(client, session)["verdict"] == "same"


def replayed(client, session):
    """The first result of a replay of what is on record."""
    begun = client.post("/api/replays", json={"sessions": [session], "mode": "recorded"}).json()
    with client.stream("GET", f"/api/replays/{begun['id']}/stream") as stream:
        stream.read()
    return client.get(f"/api/replays/{begun['id']}").json()["results"][0]


def test_a_recorded_replay_of_such_turns(claude):
    """With thoughts and cache marks: the requests are the same to the byte."""
    claude.upstream.plays = [said("claude_thinking"), said("claude_text")]
    marked = [{"type": "text", "text": "Replay?", "cache_control": {"type": "ephemeral"}}]
    with claude.client() as client:
        first = ask(client, user(marked), model="claude-sonnet-4-6")
        answer = [each for each in first.json()["content"] if each["type"] == "text"]
        second = ask(client, user(marked), assistant(answer), user("Sure?"), model="claude-sonnet-4-6")
        session = place(second)[0]
        begun = client.post("/api/replays", json={"sessions": [session], "mode": "recorded"}).json()
        with client.stream("GET", f"/api/replays/{begun['id']}/stream") as stream:
            stream.read()
        replay = client.get(f"/api/replays/{begun['id']}").json()
    assert [result["verdict"] for result in replay["results"]] == ["same", "same"], replay


# --- keys -------------------------------------------------------------------------------------------------------------


def test_both_ways_to_send_a_key(tmp_path):
    """By ``x-api-key`` and by ``Authorization``; a wrong one is the protocol's 401."""
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"id": "one", "sha256": hashlib.sha256(b"sk-one").hexdigest()}]), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(keys))) as server, server.client() as client:
        for headers in ({"x-api-key": "sk-one"}, {"authorization": "Bearer sk-one"}):
            assert ask(client, user("Hi."), headers=headers).status_code == 200
            body = {"model": "echo/echo", "messages": [user("Hi.")]}
            assert client.post(COUNT, json=body, headers=headers).status_code == 200
        before = server.size()
        refused(ask(client, user("Hi."), headers={"x-api-key": "sk-two"}), 401, "authentication_error", "unauthorized")
        assert server.size() == before


# --- the table --------------------------------------------------------------------------------------------------------


def fields_of(*kinds):
    return {name for kind in kinds for name in typing.get_type_hints(kind)}


def test_the_table_holds_what_the_library_can_send():
    """Each field of both of its forms is honoured, kept or refused, and no other is."""
    known = fields_of(
        create_params.MessageCreateParamsBase,
        create_params.MessageCreateParamsStreaming,
        beta_create_params.MessageCreateParamsBase,
    )
    assert messages_forms.FIELDS.keys() == known - IN_HEADERS | SAMPLING
    counted = fields_of(count_params.MessageCountTokensParams, beta_count_params.MessageCountTokensParams)
    assert messages_forms.COUNTED.keys() == counted - IN_HEADERS


@pytest.mark.parametrize(
    ("form", "kind", "not_taken"),
    [
        (messages_forms.TextPart, stable.TextBlockParam, set()),
        (messages_forms.ImagePart, stable.ImageBlockParam, set()),
        (messages_forms.CallPart, stable.ToolUseBlockParam, set()),
        (messages_forms.ResultPart, stable.ToolResultBlockParam, set()),
        (messages_forms.ThinkingPart, stable.ThinkingBlockParam, set()),
        (messages_forms.RedactedPart, stable.RedactedThinkingBlockParam, set()),
        (messages_forms.ClientTool, stable.ToolParam, set()),
        (messages_forms.OutputConfig, stable.OutputConfigParam, set()),
        (messages_forms.Metadata, stable.MetadataParam, set()),
        (messages_forms.CacheControl, beta.BetaCacheControlEphemeralParam, set()),
    ],
)
def test_forms_are_the_librarys(form, kind, not_taken):
    """What a client can write is read, field by field."""
    assert fields_of(kind) - not_taken <= set(form.__struct_fields__)


# --- other vendors' reasoning -----------------------------------------------------------------------------------------


@given(st.sampled_from(["thought", "block"]), st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3))
def test_a_form_under_a_signature_comes_back(kind, fields):
    """To the byte."""
    raw = msgspec.json.encode({"type": "reasoning"} | fields | {"type": "reasoning"})
    signature = sealed(kind, raw)
    part = msgspec.json.encode({"type": "thinking", "thinking": "Hm.", "signature": signature})
    body = msgspec.json.decode(
        msgspec.json.encode(asked(user("a"), assistant([msgspec.Raw(part)]), user("b"))), type=messages_forms.MessagesIn
    )
    request, _ = messages_request.client_request(body, lambda _: True)
    back = request.messages[1].content[0]
    assert bytes(back.vendor if kind == "thought" else back.raw) == raw
    told = messages_answers.block_told(back)
    assert told["signature"] == signature


@given(st.text("abc.-_", max_size=20))
def test_a_signature_that_nobody_was_given_is_refused_or_anthropics(text):
    """It never becomes another block."""
    part = {"type": "thinking", "thinking": "Hm.", "signature": f"manent.block.{text}"}
    raw = msgspec.json.encode(asked(user("a"), assistant([part]), user("b")))
    body = msgspec.json.decode(raw, type=messages_forms.MessagesIn)
    if SEALED.fullmatch(part["signature"]):
        with pytest.raises(Problem) as refusal:
            messages_request.client_request(body, lambda _: True)
        assert refusal.value.extra["field"] == "messages[1].content[0].signature"
    else:
        request, _ = messages_request.client_request(body, lambda _: True)
        assert request.messages[1].content[0].text == "Hm."
