"""OpenAI's Responses over HTTP: exact shapes, streams, tools, any vendor's models behind them, and bad input, of which
nothing is recorded.
"""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import responses as openai_responses
from openai.types.responses import input_token_count_params, response_compact_params, response_create_params

from manent import engine
from manent.api.compat import response_forms, response_item_forms, responses_compact
from manent.api.compat.response_events import Events
from manent.api.compat.response_told import Told
from manent.api.http.dialects import OPENAI
from manent.api.http.errors import Problem
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, opened, read
from tests.api.responses_wire import (
    RESPONSES,
    TOOL,
    again,
    ask,
    body,
    checked,
    post,
    refused,
    stream,
    text,
    user,
    whole,
)
from tests.api.test_compat_chat import JSON, fields_of
from tests.api.wire_upstream import WIRE, playing


def place(response):
    assert response.status_code == 200, response.text
    return response.headers["x-manent-session"], response.headers["x-manent-turn"]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer(client):
    """Has every key of the protocol's, says where it is on record, and is the same when it is read again."""
    given = {"instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5, "user": "u-1"}
    response = post(client, "Hello.", **given)
    session, turn = place(response)
    answer = whole(response.json())
    message = client.get(f"/api/turns/{turn}").json()["message"]
    assert abs(answer["created_at"] - time.time()) < 60
    assert answer | {"created_at": 0, "completed_at": 0} == {
        "id": f"resp_{turn.replace('-', '')}",
        "object": "response",
        "created_at": 0,
        "completed_at": 0,
        "status": "completed",
        "incomplete_details": None,
        "model": "echo/echo",
        "previous_response_id": None,
        "instructions": "Be brief.",
        "output": [
            {
                "id": f"msg_{message['id'].replace('-', '')}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello."}],
            }
        ],
        "error": None,
        "tools": [],
        "tool_choice": "auto",
        "truncation": "disabled",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "temperature": 0.5,
        "reasoning": {"effort": None, "summary": None},
        "usage": {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 7,
        },
        "max_output_tokens": None,
        "max_tool_calls": None,
        "store": True,
        "background": False,
        "service_tier": "default",
        "metadata": {"a": "b"},
        "safety_identifier": None,
        "prompt_cache_key": None,
        "user": "u-1",
    }
    assert client.get(f"{RESPONSES}/{answer['id']}").json() == answer
    assert client.get(f"/api/sessions/{session}").json()["system"] == "Be brief."


def test_what_is_asked_for_is_given_back(client):
    """Tools, choices, formats, bounds and names, each as the protocol has it."""
    asked = {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "look"},
        "max_output_tokens": 50,
        "safety_identifier": "who",
        "prompt_cache_key": "cache",
        "parallel_tool_calls": True,
        "metadata": {},
    }
    answer = ask(client, [user("x")], model="scripted/late", **asked)
    assert {name: answer[name] for name in asked} == asked
    assert client.get(f"{RESPONSES}/{answer['id']}").json() == answer


def test_a_stream(client):
    """Tells an answer piece by piece, and the same at any later time."""
    events = stream(client, "Hello.", instructions="Be brief.")
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    first, last = events[0]["response"], events[-1]["response"]
    assert (first["status"], first["usage"], first["completed_at"], first["output"]) == ("in_progress", None, None, [])
    assert first["instructions"] == last["instructions"] == "Be brief."
    assert client.get(f"{RESPONSES}/{last['id']}").json() == last
    assert again(client, last["id"]) == events


def test_thoughts(client):
    """Are an item before the text, with a summary that is streamed."""
    events = stream(client, "two?", model="scripted/think")
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm, two."}]
    assert again(client, events[-1]["response"]["id"]) == events


def test_a_stream_from_a_number(client):
    """Holds what follows it; after the last there is nothing, and beyond it nothing can be."""
    events = stream(client, "two?", model="scripted/think")
    answer = events[-1]["response"]["id"]
    for after in (0, 5, len(events) - 2):
        assert again(client, answer, starting_after=after) == events[after + 1 :]
    assert again(client, answer, starting_after=len(events) - 1) == []
    path = f"{RESPONSES}/{answer}"
    refused(client.get(f"{path}?stream=true&starting_after={len(events)}"), 400, "invalid_value", "starting_after")
    refused(client.get(f"{path}?starting_after=1"), 400, "invalid_value", "starting_after")
    refused(client.get(f"{path}?stream=maybe"), 400, "invalid_value", "stream")


def test_tools_go_round(client):
    """The model calls, its client answers by the id of the response, and the model goes on there."""
    fields = {"model": "scripted/tools", "tools": [TOOL]}
    events = stream(client, "Rain?", **fields)
    first = events[-1]["response"]
    said, call = first["output"]
    assert said["content"][0]["text"] == "Let me look."
    assert (call["type"], call["name"], call["call_id"]) == ("function_call", "look", "call_1")
    assert json.loads(call["arguments"]) == {"city": "Rome"}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "No rain."}
    refused(post(client, "x", previous_response_id=first["id"], **fields), 400, "tool_results_missing", "input")
    second = ask(client, [result], previous_response_id=first["id"], **fields)
    assert text(second) == "Dry."
    items = client.get(f"{RESPONSES}/{second['id']}/input_items").json()["data"]
    assert [(item["type"], item["output"]) for item in items] == [("function_call_output", "No rain.")]
    history = [user("Rain?"), said, call, result, *second["output"], user("So?")]
    whole_history = post(client, history, model="scripted/late", tools=[TOOL])
    assert whole_history.headers["x-manent-session"] == place(client.get(f"{RESPONSES}/{second['id']}"))[0]


def test_a_history_goes_on_and_an_edited_one_forks(client):
    """As everywhere that a client keeps it, and items that it names are what is on record."""
    first = post(client, "one")
    (said,) = first.json()["output"]
    second = post(client, [user("one"), said, user("two")])
    assert place(second)[0] == place(first)[0]
    named_item = {"type": "item_reference", "id": said["id"]}
    third = post(client, [user("one"), named_item, user("two"), *second.json()["output"], user("three")])
    assert place(third)[0] == place(first)[0]
    edited = post(client, [user("one"), {"id": said["id"]}, user("too")])
    assert place(edited)[0] != place(first)[0]
    for response in (second, third, edited):
        assert client.get(f"/api/turns/{place(response)[1]}/prompt").json()["matches"]


def test_input_items_are_listed(client):
    """Those that came with the request, newest first or last, a page at a time."""
    parts = [{"type": "input_text", "text": "c"}, {"type": "input_text", "text": "d"}]
    items = [{"role": "developer", "content": "a"}, user("b"), {"type": "message", "role": "user", "content": parts}]
    answer = ask(client, items, model="scripted/late")
    path = f"{RESPONSES}/{answer['id']}/input_items"
    listed = client.get(path).json()
    assert openai_responses.ResponseItemList.model_validate(listed)
    assert [item["role"] for item in listed["data"]] == ["user", "user", "developer"]
    assert listed["data"][0]["content"] == parts
    ids = [item["id"] for item in listed["data"]]
    assert (listed["first_id"], listed["last_id"], listed["has_more"]) == (ids[0], ids[2], False)
    page = client.get(path, params={"limit": 2, "order": "asc"}).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    page = client.get(path, params={"order": "asc", "after": ids[1]}).json()
    assert ([item["id"] for item in page["data"]], page["has_more"]) == ([ids[0]], False)
    refused(client.get(path, params={"after": "msg_1"}), 400, "invalid_value", "after")
    refused(client.get(path, params={"limit": 101}), 400, "invalid_value", "limit")


def test_a_count_of_tokens(client):
    """Counts what is given, and what it goes on from; nothing is recorded."""
    first = ask(client, "one two three")

    def count(given, **fields):
        response = client.post(f"{RESPONSES}/input_tokens", json=body(given, **fields))
        assert response.status_code == 200, response.text
        assert openai_responses.InputTokenCountResponse.model_validate(response.json())
        assert response.headers["x-manent-estimate"] == "true"
        return response.json()["input_tokens"]

    alone = count("four")
    assert alone < count("four", instructions="Be brief.") < count("four", instructions="Be brief.", tools=[TOOL])
    assert count("four", previous_response_id=first["id"]) > alone + 3
    refused(
        client.post(f"{RESPONSES}/input_tokens", json=body("x", previous_response_id="resp_1")),
        404,
        "previous_response_not_found",
        "previous_response_id",
    )


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_turn_that_fails(client):
    """Whole: a status and the error. In a stream that has begun: its last event. Afterwards: a response that failed."""
    response = post(client, "x", model="scripted/fails")
    refused(response, 503, "provider_unavailable")
    name = f"resp_{response.headers['x-manent-turn'].replace('-', '')}"
    failed = whole(client.get(f"{RESPONSES}/{name}").json())
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "scripted failed: no"})
    assert text(failed) == "I brea"
    blocks = read(client, RESPONSES, "POST", json=body("y", model="scripted/fails", stream=True))
    events = checked(blocks)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "failed"
    assert again(client, events[-1]["response"]["id"]) == events
    refused(
        post(client, "z", previous_response_id=name),
        400,
        "previous_response_not_completed",
        "previous_response_id",
    )


def test_a_shutdown_ends_a_stream(tmp_path):
    """What came is on record, and the client is told that there will be no more."""
    asked = body("x", model="scripted/hang", stream=True)
    with (
        in_thread(settings_on(tmp_path)) as server,
        server.client() as client,
        opened(client, "POST", RESPONSES, json=asked) as left,
    ):
        blocks = [next(iter(left))]
        server.loop.call_soon_threadsafe(server.stop.set)
        blocks += list(left)
    events = checked(blocks)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["message"] == "the turn was interrupted"


def test_an_error_that_is_no_part_of_the_record_has_both_forms():
    """Clients look for either."""

    def error(problem):
        return OPENAI.refusal(problem.status, problem.code, problem.detail, problem.extra, "r").body

    sent = Events(Told(), error).failed(Problem(401, "unauthorized", "no longer"))
    event = json.loads(sent.split(b"data: ")[1].split(b"\n")[0])
    inner = {"message": "no longer", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    assert event == {
        "type": "error",
        "sequence_number": 0,
        "code": "invalid_api_key",
        "message": "no longer",
        "param": None,
        "error": inner,
    }


# --- any model --------------------------------------------------------------------------------------------------------


def vendors(folder, upstream, **options):
    url = f"http://127.0.0.1:{upstream.server_port}"
    return settings_on(folder, anthropic_base_url=url, openai_base_url=url, openai_api_key="sk-theirs", **options)


ANSWERS = [
    ("responses_text", "responses", {}),
    ("responses_reasoning", "responses", {}),
    ("responses_tools", "responses", {}),
    ("responses_refusal", "responses", {}),
    ("responses_annotations", "responses", {}),
    ("responses_incomplete", "responses", {"max_output_tokens": 16}),
    ("responses_filtered", "responses", {}),
    ("responses_unknown", "responses", {}),
    ("openai_tools", "chat_completions", {}),
    ("openai_annotations", "chat_completions", {}),
    ("openai_refusal", "chat_completions", {}),
    ("claude_thinking", "anthropic", {}),
    ("claude_tools", "anthropic", {}),
]


@pytest.mark.parametrize(("wire", "protocol", "fields"), named(ANSWERS))
def test_any_model_streams_what_it_says(tmp_path, wire, protocol, fields):
    """Whole, streamed, and read again: one answer, of whatever vendor; thoughts come back to it as they came."""
    model = "claude-sonnet-4-6" if protocol == "anthropic" else "openai/gpt-5"
    options = {} if protocol == "anthropic" else {"openai_api": protocol}
    with (
        playing(wire, wire) as upstream,
        in_thread(vendors(tmp_path, upstream, **options)) as server,
        server.client() as client,
    ):
        asked = {"model": model, "include": ["reasoning.encrypted_content"], **fields}
        events = stream(client, "x", **asked)
        streamed = events[-1]["response"]
        assert events[-1]["type"] == f"response.{streamed['status']}"
        assert again(client, streamed["id"]) == events
        answer = ask(client, "x", **asked)
        assert shape(answer) == shape(streamed)
        plain = client.get(f"{RESPONSES}/{answer['id']}").json()
        assert plain == answer


def test_thoughts_go_back_to_the_byte(tmp_path):
    """To the vendor whose they are, from a client that keeps everything and lets nothing be stored here."""
    with (
        playing("responses_reasoning", "responses_text", "claude_thinking", "claude_text") as upstream,
        in_thread(vendors(tmp_path, upstream, openai_api="responses")) as server,
        server.client() as client,
    ):
        fields = {"store": False, "include": ["reasoning.encrypted_content"]}
        for model, sent_back in (("openai/gpt-5", _reasoning_sent), ("claude-sonnet-4-6", _thoughts_sent)):
            first = ask(client, "x", model=model, **fields)
            assert any("encrypted_content" in item for item in first["output"])
            ask(client, [user("x"), *first["output"], user("y")], model=model, **fields)
            assert sent_back(upstream.bodies[-1]) == _said_upstream(upstream, model)


def _reasoning_sent(sent):
    return [item for item in sent["input"] if item["type"] == "reasoning"]


def _thoughts_sent(sent):
    return [block for block in sent["messages"][1]["content"] if "thinking" in block["type"]]


def _said_upstream(upstream, model):
    """What the vendor gave, as it stands in its stream."""
    name = "claude_thinking" if "claude" in model else "responses_reasoning"
    events = [json.loads(line[6:]) for line in (WIRE / f"{name}.sse").read_text().splitlines() if line[:5] == "data:"]
    if "claude" not in model:
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        return [item for item in done if item["type"] == "reasoning"]
    blocks = {}
    for event in events:
        if event["type"] == "content_block_start" and "thinking" in event["content_block"]["type"]:
            blocks[event["index"]] = dict(event["content_block"])
        if event["type"] == "content_block_delta" and event["delta"]["type"] in {"thinking_delta", "signature_delta"}:
            name = event["delta"]["type"].removesuffix("_delta")
            blocks[event["index"]][name] = blocks[event["index"]].get(name, "") + event["delta"][name]
    return list(blocks.values())


def test_what_is_asked_reaches_the_vendor(tmp_path):
    """Images, formats, efforts and tools; values that ask for nothing are not in its way."""
    with (
        playing("responses_text") as upstream,
        in_thread(vendors(tmp_path, upstream, openai_api="responses")) as server,
        server.client() as client,
    ):
        png = "data:image/png;base64,AAAA"
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
        given = [user([{"type": "input_text", "text": "c"}, {"type": "input_image", "image_url": png}])]
        fields = {
            "text": {"format": form, "verbosity": "medium"},
            "reasoning": {"effort": "low", "summary": "auto"},
            "tools": [TOOL],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "frequency_penalty": 0,
            "instructions": "Be brief.",
        }
        answer = ask(client, given, model="openai/gpt-5", **fields)
        sent = upstream.bodies[-1]
        assert sent["input"][0]["content"][1]["image_url"] == png
        assert sent["text"]["format"] == form
        assert (sent["reasoning"]["effort"], sent["tool_choice"]) == ("low", "required")
        assert (sent["parallel_tool_calls"], sent["instructions"]) == (False, "Be brief.")
        assert answer["reasoning"] == {"effort": "low", "summary": "auto"}
        assert answer["text"]["format"] == {"description": None, **form}
        listed = client.get(f"{RESPONSES}/{answer['id']}/input_items").json()["data"]
        assert listed[0]["content"][1]["image_url"] == png


def shape(answer):
    """What an answer says, without the ids of this one."""
    return [
        {name: value for name, value in item.items() if name not in {"id", "encrypted_content"}}
        for item in answer["output"]
    ]


# --- bad input --------------------------------------------------------------------------------------------------------


CONVERSATION = f"conv_{engine.new_id().hex}"

BAD = [
    ({}, "missing_required_parameter", "model"),
    ({"model": "echo/echo"}, "missing_required_parameter", "input"),
    (body([]), "missing_required_parameter", "input"),
    (body(7), "invalid_type", "input"),
    (body("hi", model=7), "invalid_type", "model"),
    (body("hi", thinking_budget=1), "unknown_parameter", "thinking_budget"),
    (body("hi", prompt={"id": "p"}), "unsupported_parameter", "prompt"),
    (body("hi", max_tool_calls=3), "unsupported_parameter", "max_tool_calls"),
    (body("hi", moderation={"model": "m"}), "unsupported_parameter", "moderation"),
    (body("hi", context_management=[{"type": "compaction"}]), "unsupported_parameter", "context_management"),
    (body("hi", service_tier="flex"), "unsupported_parameter", "service_tier"),
    (body("hi", top_logprobs=3), "unsupported_parameter", "top_logprobs"),
    (body("hi", tools=[{"type": "web_search"}]), "unsupported_parameter", "tools[0].type"),
    (body("hi", tools=[TOOL, {"type": "mcp", "server_label": "x"}]), "unsupported_parameter", "tools[1].type"),
    (body("hi", tools=[TOOL | {"name": "a b"}]), "invalid_value", "tools[0].name"),
    (body("hi", tools=[TOOL | {"more": 1}]), "unknown_parameter", "tools[0].more"),
    (body("hi", tools=[TOOL], tool_choice="maybe"), "invalid_value", "tool_choice"),
    (body("hi", tools=[TOOL], tool_choice={"type": "function", "name": "no"}), "invalid_value", "tool_choice.name"),
    (body("hi", tools=[TOOL], tool_choice={"type": "web_search"}), "invalid_value", "tool_choice.type"),
    (body("hi", text={"verbosity": "low"}), "invalid_value", "text.verbosity"),
    (body("hi", text={"format": {"type": "yaml"}}), "invalid_value", "text.format.type"),
    (body("hi", reasoning={"mode": "pro"}), "invalid_value", "reasoning.mode"),
    (body("hi", include=["message.output_text.logprobs"]), "unsupported_parameter", "include[0]"),
    (body("hi", include=["everything"]), "invalid_value", "include[0]"),
    (body("hi", stream_options={}), "invalid_value", "stream_options"),
    (body("hi", background=True, store=False), "invalid_value", "background"),
    (body("hi", temperature=3), "invalid_value", "temperature"),
    (body("hi", max_output_tokens=0), "invalid_value", "max_output_tokens"),
    (body("hi", metadata={"a": 1}), "invalid_type", "metadata.a"),
    (body("hi", metadata={str(n): "" for n in range(17)}), "invalid_value", "metadata"),
    (body("hi", user="x" * 300), "too_large", "user"),
    (body([user("")]), "empty_message", "input"),
    (body([user("x") | {"mood": "bad"}]), "unknown_parameter", "input[0].mood"),
    (body([{"type": "web_search_call", "id": "ws_1"}]), "unsupported_parameter", "input[0].type"),
    (body([user([{"type": "input_file", "file_id": "f"}])]), "unsupported_parameter", "input[0].content[0].type"),
    (body([user([{"type": "input_text", "text": "a\0"}])]), "nul_character", "input[0].content[0].text"),
    (
        body([user([{"type": "input_image", "image_url": "ftp://x/"}])]),
        "invalid_value",
        "input[0].content[0]",
    ),
    (body([{"type": "function_call_output", "call_id": "c", "output": "x"}]), "tool_call_not_found", "input"),
    (body([user("x"), {"role": "assistant", "content": "y"}]), "invalid_value", "input"),
    (body("hi", previous_response_id="resp_1", conversation=CONVERSATION), "mutually_exclusive_parameters", None),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("asked", "code", "param"), named(BAD))
def test_bad_input(client, asked, code, param):
    """Is refused with the name of what was wrong, and nothing of it is recorded."""
    param = "previous_response_id" if code == "mutually_exclusive_parameters" else param
    refused(client.post(RESPONSES, json=asked), 413 if code == "too_large" else 400, code, param)


@pytest.mark.usefixtures("unchanged")
def test_what_there_is_not(client):
    """Answers, items, conversations, models: the vendor's own 404, with the code that its clients look for."""
    nobody = engine.new_id().hex
    for name in ("resp_1", f"resp_{nobody}", f"conv_{nobody}"):
        refused(
            post(client, "x", previous_response_id=name), 404, "previous_response_not_found", "previous_response_id"
        )
    for name in ("conv_1", CONVERSATION, {"id": CONVERSATION}):
        refused(post(client, "x", conversation=name), 404, "conversation_not_found", "conversation")
    item = {"type": "item_reference", "id": f"msg_{nobody}"}
    refused(post(client, [item, user("x")]), 404, "item_not_found", "input[0].id")
    refused(post(client, "x", model="gpt-nothing"), 404, "model_not_found", "model")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        for name in ("nothing", f"resp_{nobody}"):
            refused(client.request(method, f"{RESPONSES}/{name}{path}"), 404, "response_not_found", "response_id")
    place_header = {"X-Manent-Session": str(engine.new_id())}
    refused(post(client, "x", conversation=CONVERSATION, headers=place_header), 400, "invalid_value", "conversation")


@given(
    field=st.sampled_from(sorted(response_forms.FIELDS.keys() - {"model", "stream", "background", "store"})),
    value=JSON,
    kind=st.sampled_from([*response_item_forms.ITEMS, "other"]),
    inner=st.sampled_from(["content", "output", "summary", "arguments", "call_id", "role", "id", "encrypted_content"]),
)
@settings(max_examples=60)
def test_no_body_is_the_servers_failure(client, field, value, kind, inner):
    """Whatever stands in a field: it is an answer, or a refusal in OpenAI's form that names a field."""
    item = {"type": kind, "role": "user", "content": "x", "call_id": "c", "name": "look", "arguments": "{}"}
    for asked in (body("hi") | {field: value}, body([{"type": kind, inner: value}]), body([item | {inner: value}])):
        response = client.post(RESPONSES, json=asked)
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            refused(response, response.status_code, *[response.json()["error"][name] for name in ("code", "param")])


# --- the tables -------------------------------------------------------------------------------------------------------


def test_the_table_holds_what_the_library_can_send():
    """Every field of the SDK's own request types has its row; there are no other rows but two of the public schema."""
    known = fields_of(response_create_params.ResponseCreateParamsNonStreaming) | fields_of(
        response_create_params.ResponseCreateParamsStreaming
    )
    assert response_forms.FIELDS.keys() - {"presence_penalty", "frequency_penalty"} == known
    assert responses_compact.FIELDS.keys() == fields_of(response_compact_params.ResponseCompactParams)
    assert response_forms.COUNTED.keys() == fields_of(input_token_count_params.InputTokenCountParams)


@pytest.mark.parametrize(
    ("form", "kind", "not_taken"),
    [
        (response_item_forms.MessageItem, openai_responses.ResponseOutputMessageParam, set()),
        (response_item_forms.MessageItem, openai_responses.EasyInputMessageParam, set()),
        (response_item_forms.CallItem, openai_responses.ResponseFunctionToolCallParam, {"async"}),
        (response_item_forms.ReasoningItem, openai_responses.ResponseReasoningItemParam, set()),
        (response_item_forms.TextPart, openai_responses.ResponseInputTextParam, set()),
        (response_item_forms.ImagePart, openai_responses.ResponseInputImageParam, set()),
        (response_item_forms.OutputTextPart, openai_responses.ResponseOutputTextParam, set()),
        (response_item_forms.RefusalPart, openai_responses.ResponseOutputRefusalParam, set()),
        (response_forms.FunctionTool, openai_responses.FunctionToolParam, {"async"}),
        (response_forms.TextOptions, openai_responses.ResponseTextConfigParam, set()),
        (response_forms.StreamOptions, response_create_params.StreamOptions, set()),
    ],
)
def test_forms_are_the_librarys(form, kind, not_taken):
    """What stands inside of a body has the SDK's fields, but for those that are refused by name."""
    assert fields_of(kind) - set(form.__struct_fields__) == not_taken
