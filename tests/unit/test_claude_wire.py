"""Anthropic's Messages API on the wire: requests to the byte, streams in any cut, failures by their kind.

The streams in ``tests/golden/wire`` have the exact forms that Anthropic sends. The vendor's own client reads them too,
and must come to the same answer; its types take our requests.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import anthropic
import httpx
import httpx2
import msgspec
import pytest
import respx
from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import TypeAdapter

from manent.engine.clock import SystemClock
from manent.engine.errors import (
    Invalid,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderTruncated,
    ProviderUnavailable,
)
from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
    raw_block,
    read_block,
)
from manent.engine.events.usage import Usage
from manent.engine.providers.anthropic.messages import ANTHROPIC, ClaudeProvider
from manent.engine.providers.anthropic.render import RENDERERS, VERSIONS
from manent.engine.providers.anthropic.stream import MessageStream
from manent.engine.providers.base import (
    BlockStarted,
    BlockStopped,
    Delta,
    Ended,
    Parameters,
    Prompt,
    PromptMessage,
    Reasoning,
    ResponseFormat,
    UsageReported,
    VendorBlock,
)
from manent.engine.providers.local.provider import LocalProvider, local_model_available
from manent.engine.providers.wire.sse import SseDecoder
from manent.engine.providers.wire.vendor import Endpoint

WIRE = Path(__file__).parent.parent / "golden" / "wire"
ADDRESS = "https://upstream.test"
SIGNATURE = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds+/u/3w=="


# --- requests ---------------------------------------------------------------------------------------------------------

SIGNED = b'{ "type":"thinking", "thinking":"They want \\u0077eather.","signature":"' + SIGNATURE.encode() + b'" }'
REDACTED = b'{"type":"redacted_thinking",  "data":"EmwKAhgB+/=="}'
SEARCH = b'{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"rain" }}'
OWN_CALL = b'{"type":"tool_use","id":"toolu_4","name":"forecast","input":{"days": 1},"caller":{"type":"direct"}}'

FORECAST = ToolSchema(
    "forecast",
    "Weather of a city",
    {
        "type": "object",
        "properties": {"town": {"type": "string"}, "days": {"type": "integer"}, "above": {"minimum": -0.5}},
        "required": ["town"],
    },
)
TIMESTAMP = ToolSchema("timestamp", "", {"type": "object", "properties": {}})

CONVERSATION = (
    PromptMessage("system", (TextBlock("And polite."),)),
    PromptMessage(
        "user",
        (
            TextBlock("What is this, and will it rain there? \U0001f327 \u2028 “quoted”\n"),
            ImageBlock(Base64Source("image/png", "iVBORw0KGgo=")),
            ImageBlock(UrlSource("https://example.org/map.png")),
        ),
    ),
    PromptMessage(
        "assistant",
        (
            ThinkingBlock("They want weather.", vendor=msgspec.Raw(SIGNED)),
            OtherBlock("redacted_thinking", REDACTED),
            ThinkingBlock("Of another vendor.", vendor=msgspec.Raw(b'{"type":"reasoning","id":"rs_1"}')),
            TextBlock("\n\n"),
            TextBlock("Let me look."),
            ToolUseBlock("toolu_1", "forecast", {"town": "Rome"}, '{ "town":"Rome" }'),
            ToolUseBlock("call.2", "forecast", {"town": "Oslo", "days": 2}),
        ),
    ),
    PromptMessage("system", (TextBlock("Metric units."),)),
    PromptMessage(
        "tool",
        (
            ToolResultBlock(
                "toolu_1",
                (TextBlock("Dry: "), TextBlock(""), ImageBlock(UrlSource("https://example.org/rome.png"))),
            ),
            ToolResultBlock("call.2", "no such town", is_error=True),
        ),
    ),
    PromptMessage("assistant", (ThinkingBlock("Unsigned."), ToolUseBlock("toolu_3", "timestamp", None, '{"broken'))),
    PromptMessage("assistant", (ToolUseBlock("toolu_4", "forecast", {"days": 1}, "", msgspec.Raw(OWN_CALL)),)),
    PromptMessage("tool", (ToolResultBlock("toolu_3", ""),)),
    PromptMessage("tool", (ToolResultBlock("toolu_4", "", is_error=True),)),
    PromptMessage("assistant", (OtherBlock("server_tool_use", SEARCH), OtherBlock("refusal", b'{"type":"refusal"}'))),
    PromptMessage("assistant", (TextBlock("Dry in "), TextBlock("Rome."))),
    PromptMessage("user", (TextBlock("Thanks."), OtherBlock("telepathy", b'{"type":"telepathy"}'))),
    PromptMessage("user", (TextBlock("And this?"),)),
)

FULL = Prompt(
    model="claude-sonnet-4-6",
    system="Be brief.",
    messages=CONVERSATION,
    tools=(FORECAST, TIMESTAMP),
    parameters=Parameters(max_output_tokens=300, temperature=0.7, stop=("END", "\n\n"), tool_choice="forecast"),
)
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"dry":{"type":"boolean"}},"additionalProperties":false}')
EVERYTHING = Parameters(
    max_output_tokens=300,
    stop=("END",),
    tool_choice="auto",
    response_format=ResponseFormat("json_schema", "weather", SCHEMA, strict=True),
    reasoning=Reasoning("medium"),
    parallel_tool_calls=False,
)
"""All that the newer version takes."""


@pytest.mark.parametrize("name", RENDERERS)
def test_a_request_has_the_bytes_it_always_had(name):
    """A whole conversation renders to the golden bytes: requests on record are derived again from the log."""
    golden = WIRE / f"{name.replace('/', '-')}.request.json"
    assert RENDERERS[name](FULL) == golden.read_bytes().removesuffix(b"\n")


def test_the_renderers_differ_in_the_temperature_and_the_breakpoints_alone():
    """The first for the newer version left the temperature out; a breakpoint stands on the last tool, system and two
    messages.
    """
    plain, cached, newer, newer_cached, *newest = (json.loads(RENDERERS[name](FULL)) for name in VERSIONS)
    assert newest == [plain, cached]
    assert plain == newer | {"temperature": 0.7}
    assert cached == newer_cached | {"temperature": 0.7}
    assert "temperature" not in newer
    text = json.dumps(cached)
    assert text.count("cache_control") == 4
    bare = json.loads(text.replace(', "cache_control": {"type": "ephemeral"}', ""))
    assert bare == plain | {"system": [{"type": "text", "text": plain["system"]}]}


def rendered(*messages, name="anthropic-messages/1", model="claude-haiku-4-5", **given_):
    """A request."""
    return json.loads(RENDERERS[name](Prompt(model, messages, **given_)))


def said_by(role, *blocks):
    """What is sent of one message."""
    (message,) = rendered(PromptMessage(role, blocks))["messages"]
    return message["content"]


def test_the_least_request_has_nothing_that_was_not_asked_for():
    """But the limit, which the vendor demands: it is the model's."""
    prompt = Prompt("claude-haiku-4-5-20251001", (PromptMessage("user", (TextBlock("hi"),)),))
    assert RENDERERS["anthropic-messages/1"](prompt) == (
        b'{"model":"claude-haiku-4-5-20251001","max_tokens":64000,'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}'
    )


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-sonnet-latest", 8192),
        ("claude-3-7-sonnet-20250219", 64_000),
        ("claude-opus-4", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-1", 32_000),
        ("claude-opus-4-5", 64_000),
        ("claude-sonnet-4-5-20250929", 64_000),
        ("claude-opus-4-8", 128_000),
        ("claude-of-tomorrow", 128_000),
        ("smollm2-135m", 4096),
    ],
)
def test_where_no_limit_is_asked_for_it_is_the_models_own(model, limit):
    """A vendor refuses a request without one, and one beyond it."""
    assert rendered(PromptMessage("user", (TextBlock("hi"),)), model=model)["max_tokens"] == limit


def test_the_known_models_are_asked_for_their_limit():
    """The renderer's figures and the provider's are the same today."""
    for info in ANTHROPIC.models:
        assert rendered(model=info.name)["max_tokens"] == info.max_output_tokens


def test_thinking_goes_back_byte_for_byte():
    """The signature is over what was said: not a blank is changed, and no other thinking is sent."""
    for name in RENDERERS:
        request = RENDERERS[name](FULL)
        assert SIGNED in request
        assert REDACTED in request
        assert b"another vendor" not in request
        assert b"Unsigned" not in request


@pytest.mark.parametrize(
    "vendor",
    [
        b'{"type":"thinking","thinking":"x","signature":""}',
        b'{"type":"thinking","signature":"s"}',
        b'{"type":"thinking","thinking":"x","signature":7}',
        b'{"type":"thinking","thinking":"\\ud83d","signature":"s"}',
        b'"thinking"',
        b"[" * 5000,
    ],
)
def test_thinking_in_another_form_is_left_out(vendor):
    """The vendor would refuse it."""
    assert said_by("assistant", ThinkingBlock("x", vendor=msgspec.Raw(vendor)), TextBlock("y")) == [
        {"type": "text", "text": "y"}
    ]


def test_thinking_at_the_end_of_a_message_is_left_out():
    """The vendor refuses it there; a message of thoughts alone is none."""
    thoughts = (ThinkingBlock("x", vendor=msgspec.Raw(SIGNED)), OtherBlock("redacted_thinking", REDACTED))
    assert said_by("assistant", TextBlock("y"), *thoughts) == [{"type": "text", "text": "y"}]
    messages = rendered(PromptMessage("user", (TextBlock("?"),)), PromptMessage("assistant", thoughts))["messages"]
    assert [message["role"] for message in messages] == ["user"]


@pytest.mark.parametrize(
    ("block", "sent"),
    [
        (ToolUseBlock("1", "f", {"x": 1}, '{"x":  1.0}'), {"x": 1.0}),
        (ToolUseBlock("1", "f", {"x": 1}), {"x": 1}),
        (ToolUseBlock("1", "f", None, "[1]"), {}),
        (ToolUseBlock("1", "f", None, ""), {}),
        (ToolUseBlock("1", "f"), {}),
        (ToolUseBlock("1", "f", {"x": 1}, "[" * 5000), {"x": 1}),
        (ToolUseBlock("1", "f", {"x": 1}, None, msgspec.Raw(b'{"type":"function_call","id":"1"}')), {"x": 1}),
        (ToolUseBlock("1", "f", {"x": 1}, None, msgspec.Raw(OWN_CALL)), {"x": 1}),
    ],
)
def test_a_calls_input_is_an_object(block, sent):
    """As the model wrote it, or its parse, or empty; a form that is not of this call is not sent."""
    assert said_by("assistant", block) == [{"type": "tool_use", "id": "1", "name": "f", "input": sent}]


def test_ids_of_other_vendors_are_made_fit_in_call_and_result():
    """The same way in both, so that they still belong together."""
    ((_, call), (result,)) = (
        message["content"]
        for message in rendered(
            PromptMessage("assistant", (TextBlock("x"), ToolUseBlock("call.0:a_b-c", "f", {}))),
            PromptMessage("tool", (ToolResultBlock("call.0:a_b-c", "x"),)),
        )["messages"]
    )
    assert call["id"] == result["tool_use_id"] == "call_0_a_b-c"


def test_results_come_first_in_a_users_message():
    """Whatever was said between a call and its result, and in the order they came."""
    messages = rendered(
        PromptMessage("assistant", (ToolUseBlock("1", "f", {}), ToolUseBlock("2", "f", {}))),
        PromptMessage("user", (TextBlock("Wait."),)),
        PromptMessage("tool", (ToolResultBlock("2", "b"), ToolResultBlock("1", "a"))),
    )["messages"]
    assert [block.get("tool_use_id", block.get("text")) for block in messages[1]["content"]] == ["2", "1", "Wait."]


@pytest.mark.parametrize(
    ("block", "sent"),
    [
        (ToolResultBlock("1", "x"), {"content": "x"}),
        (ToolResultBlock("1", ""), {}),
        (ToolResultBlock("1", (TextBlock(" "),)), {}),
        (ToolResultBlock("1", "", is_error=True), {"content": "error", "is_error": True}),
        (ToolResultBlock("1", (TextBlock("x"),), is_error=True), {"content": [{"type": "text", "text": "x"}]}),
    ],
)
def test_a_result_says_what_it_has_to_say(block, sent):
    """A failure always says something: the vendor refuses one that does not."""
    failed = {"is_error": True} if block.is_error else {}
    assert said_by("tool", block) == [{"type": "tool_result", "tool_use_id": "1", **sent, **failed}]


def test_what_a_role_cannot_say_is_left_out():
    """Images and results are not the assistant's, calls and thoughts not the user's, and only known types pass."""
    image, call, result = ImageBlock(UrlSource("u")), ToolUseBlock("1", "f", {}), ToolResultBlock("1", "x")
    document = OtherBlock("document", b'{"type":"document"}')
    text = TextBlock("t")
    assert said_by("assistant", image, result, document, text) == [{"type": "text", "text": "t"}]
    thought = ThinkingBlock("x", vendor=msgspec.Raw(SIGNED))
    assert said_by("user", call, thought, OtherBlock("redacted_thinking", REDACTED), document) == [{"type": "document"}]


@pytest.mark.parametrize("kind", ["server_tool_use", "mcp_tool_use", "web_search_tool_result", "colour_tool_result"])
def test_blocks_of_tools_that_ran_at_the_vendor_go_back_as_they_came(kind):
    """Of any such tool, also one to come."""
    raw = b'{"type":"' + kind.encode() + b'",  "x":1.50}'
    prompt = Prompt("claude-x", (PromptMessage("assistant", (OtherBlock(kind, raw),)),))
    assert all(raw in render(prompt) for render in RENDERERS.values())


def test_system_messages_have_a_place():
    """Before all others they belong to the system prompt; later they are said where they stand, marked."""
    request = rendered(
        PromptMessage("system", (TextBlock("a"), TextBlock("b"))),
        PromptMessage("system", (TextBlock(" "),)),
        PromptMessage("user", (TextBlock("c"),)),
        PromptMessage("assistant", (TextBlock("d"),)),
        PromptMessage("system", (TextBlock("e"), ImageBlock(UrlSource("u")))),
    )
    assert request["system"] == "ab"
    assert [block["text"] for message in request["messages"] for block in message["content"]] == [
        "c",
        "d",
        "<system-message>\ne\n</system-message>",
    ]
    assert "system" not in rendered(PromptMessage("user", (TextBlock("c"),)), system=" \n")


def test_a_final_message_of_the_assistant_has_no_white_space_at_its_end():
    """The vendor refuses it; elsewhere it stays."""
    first = PromptMessage("assistant", (TextBlock("a \n"),))
    messages = rendered(first, PromptMessage("user", (TextBlock("b \n"),)), first)["messages"]
    assert [message["content"][-1]["text"] for message in messages] == ["a \n", "b \n", "a"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("any", {"type": "any"}),
        ("none", {"type": "none"}),
        ("forecast", {"type": "tool", "name": "forecast"}),
    ],
)
def test_a_tool_choice_has_the_vendors_form(choice, sent):
    """A word, or a tool's name; without tools the vendor refuses it, so it is left out."""
    parameters = Parameters(tool_choice=choice)
    assert rendered(tools=(FORECAST,), parameters=parameters)["tool_choice"] == sent
    assert "tool_choice" not in rendered(parameters=parameters)


def test_stop_sequences_of_white_space_are_left_out():
    """The vendor refuses them."""
    assert rendered(parameters=Parameters(stop=("\n", "END", " ")))["stop_sequences"] == ["END"]
    assert "stop_sequences" not in rendered(parameters=Parameters(stop=("\n",)))


@pytest.mark.parametrize(
    ("temperature", "sent"), [(0.0, b"0.0"), (1, b"1.0"), (1e-07, b"1e-07"), (0.1 + 0.2, b"0.30000000000000004")]
)
def test_a_temperature_is_written_in_pythons_shortest_form(temperature, sent):
    """Its bytes do not hang on an encoder's version."""
    prompt = Prompt("claude-x", (), parameters=Parameters(temperature=temperature))
    assert b'"temperature":' + sent + b"," in RENDERERS["anthropic-messages/1"](prompt)


def test_breakpoints_are_never_put_on_what_is_passed_on():
    """Its bytes stay as they came; the block before it is marked, or none."""
    document = OtherBlock("document", b'{"type":"document"}')
    name = "anthropic-messages-cached/1"
    asked = rendered(PromptMessage("user", (TextBlock("a"), document)), name=name)
    assert asked["messages"][0]["content"] == [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "document"},
    ]
    assert rendered(PromptMessage("user", (document,)), name=name)["messages"][0]["content"] == [{"type": "document"}]


# --- requests, by the vendor's own types ------------------------------------------------------------------------------


def looked_at(value):
    """Pydantic checks what is iterable only when somebody looks."""
    if isinstance(value, Mapping):
        return {key: looked_at(item) for key, item in value.items()}
    return [looked_at(item) for item in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


@pytest.mark.parametrize("name", RENDERERS)
def test_a_request_is_of_the_vendors_types(name):
    """The golden conversation, whole: what the types have no word for is the temperature of the older version."""
    request = json.loads(RENDERERS[name](FULL))
    older = {"temperature": 0.7} if "temperature" in request else {}
    assert looked_at(TypeAdapter(MessageCreateParamsStreaming).validate_python(request)) | older == request


@pytest.mark.parametrize("reasoning", [Reasoning("max"), Reasoning("none"), Reasoning(budget_tokens=1024)])
def test_parameters_are_of_the_vendors_types(reasoning):
    """Those that the types have a word for: of the older version alone are temperature, top_p and top_k."""
    parameters = replace(EVERYTHING, max_output_tokens=2000, reasoning=reasoning, parallel_tool_calls=True)
    request = json.loads(RENDERERS["anthropic-messages-2026/2"](replace(FULL, parameters=parameters)))
    assert {"output_config", "thinking"} <= request.keys()
    assert looked_at(TypeAdapter(MessageCreateParamsStreaming).validate_python(request)) == request


@pytest.mark.parametrize("name", [name for name in VERSIONS if "-2026" in name])
def test_the_vendors_client_sends_the_same_request(name):
    """It sends what it is given, to the same place; its version is the one this renderer is for."""
    sent = []

    def answer(request):
        sent.append(request)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"")

    request = json.loads(RENDERERS[name](replace(FULL, parameters=EVERYTHING)))
    with vendors_client(answer) as client:
        client.messages.create(**request).close()
    assert json.loads(sent[0].content) == request
    assert sent[0].headers["anthropic-version"] == VERSIONS[name]
    assert sent[0].url.path == "/v1/messages"


def vendors_client(answer):
    """The official client over a fake upstream."""
    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="k", base_url=ADDRESS, http_client=transport, max_retries=0)


# --- streams ----------------------------------------------------------------------------------------------------------


def chunks_of(*pieces):
    """What a stream gives that comes in these pieces."""
    decoder, answer = SseDecoder(), MessageStream("anthropic")
    chunks = [chunk for piece in pieces for event in decoder.feed(piece) for chunk in answer.feed(event)]
    if not answer.ended:
        raise answer.broken_off()
    return chunks


def event(kind, **fields):
    """An event on the wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def starting(index=0, kind="text", **fields):
    """The beginning of a block; a text is empty."""
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def piece(kind="text_delta", index=0, **fields):
    """A piece of a block."""
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def stopping(index=0):
    """The end of a block."""
    return event("content_block_stop", index=index)


def ending(reason="end_turn", **usage):
    """How an answer ends."""
    return event("message_delta", delta={"stop_reason": reason}, usage=usage) + event("message_stop")


MESSAGE = event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 3, "output_tokens": 1}})
CALL = {"kind": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


def content_of(chunks):
    """The blocks, in the vendor's own form."""
    blocks = {}
    for chunk in chunks:
        match chunk:
            case BlockStarted(number, "tool_use", call, name):
                blocks[number] = {"type": "tool_use", "id": call, "name": name, "input": ""}
            case BlockStarted(number, kind):
                blocks[number] = {"type": kind, kind: ""}
            case Delta(number, text):
                field = "input" if blocks[number]["type"] == "tool_use" else blocks[number]["type"]
                blocks[number][field] += text
            case VendorBlock(number, _, raw):
                blocks[number] = json.loads(raw)
    for block in blocks.values():
        if isinstance(block.get("input"), str):
            block["input"] = json.loads(block["input"])
    return [blocks[number] for number in range(len(blocks))]


def usage_of(chunks):
    """The last that was said of it."""
    return [chunk.usage for chunk in chunks if isinstance(chunk, UsageReported)][-1]


def skeleton(chunks):
    """The chunks without what they say of usage, which other tests look at."""
    return [chunk for chunk in chunks if not isinstance(chunk, UsageReported)]


CITED = (
    '{"citations":[{"type":"char_location","cited_text":"Summers are dry. “Very” dry.","document_index":0,'
    '"document_title":"Weather in Rome","start_char_index":20,"end_char_index":48,"file_id":null},'
    '{"type":"page_location","cited_text":"Dry.\\r\\n","document_index":1,"document_title":null,"start_page_number":2,'
    '"end_page_number":3,"file_id":null}],"type":"text","text":"Roman summers are dry"}'
).encode()

STREAMS = {
    "claude_text": [
        BlockStarted(0, "text"),
        Delta(0, "Ciao"),
        Delta(0, ", Roma\u2028"),
        Delta(0, "\U0001f327\n\n"),
        BlockStopped(0),
        Ended("end_turn", "end_turn", "msg_01EcyWo6m4hyW8KHs2y2pei5"),
    ],
    "claude_thinking": [
        BlockStarted(0, "thinking"),
        Delta(0, "Rain in "),
        Delta(0, "“Rome”?\n"),
        VendorBlock(
            0,
            "thinking",
            f'{{"type":"thinking","thinking":"Rain in “Rome”?\\n","signature":"{SIGNATURE}"}}'.encode(),
        ),
        BlockStopped(0),
        VendorBlock(
            1,
            "redacted_thinking",
            b'{"type":"redacted_thinking","data":"EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpPkNRj2'
            b'YfWXGmKDxH4mPnZ5sQ7vB9URj2pLmN3kF8/dW5hR7xJ0aP1oLs9yTcMnVKf2wRpEGjH9XZaBt4UvDcPrQ=="}',
        ),
        BlockStarted(2, "thinking"),
        VendorBlock(2, "thinking", b'{"type":"thinking","thinking":"","signature":"ErUBCkYIBRgC+A=="}'),
        BlockStopped(2),
        BlockStarted(3, "text"),
        Delta(3, "No."),
        BlockStopped(3),
        Ended("end_turn", "end_turn", "msg_018J5iQyrGb5Xgy5CWx3iQFB"),
    ],
    "claude_tools": [
        BlockStarted(0, "text"),
        Delta(0, "Let me look."),
        BlockStopped(0),
        BlockStarted(1, "tool_use", "toolu_01T1x1fJ34qAmk2tNTrN7Up6", "forecast"),
        Delta(1, '{"town":'),
        Delta(1, ' "Ro'),
        Delta(1, 'me", "days": 2.0}'),
        BlockStopped(1),
        BlockStarted(2, "tool_use", "toolu_01A09q90qw90lq917835lq9", "forecast"),
        Delta(2, '{"town":"Osl'),
        Delta(2, 'o"}'),
        VendorBlock(
            2,
            "tool_use",
            b'{"type":"tool_use","id":"toolu_01A09q90qw90lq917835lq9","name":"forecast",'
            b'"input":{"town":"Oslo"},"caller":{"type":"direct"}}',
        ),
        BlockStopped(2),
        BlockStarted(3, "tool_use", "toolu_01D7FLrfh4GYq7yT1ULFeyMV", "timestamp"),
        Delta(3, "{}"),
        BlockStopped(3),
        Ended("tool_use", "tool_use", "msg_014p7gG3wDgGV9EUtLvnow3U"),
    ],
    "claude_refusal": [
        BlockStarted(0, "text"),
        Delta(0, "I can"),
        BlockStopped(0),
        Ended("refusal", "refusal", "msg_01RefusalQx7n9ybEwm6kTg3u"),
    ],
    "claude_pause_turn": [
        BlockStarted(0, "text"),
        Delta(0, "I'll search."),
        BlockStopped(0),
        VendorBlock(
            1,
            "server_tool_use",
            b'{"type":"server_tool_use","id":"srvtoolu_014hJH82Qum7Td6UV8gDXThB","name":"web_search",'
            b'"input":{"query": "weather Rome"}}',
        ),
        VendorBlock(
            2,
            "web_search_tool_result",
            b'{"type":"web_search_tool_result","tool_use_id":"srvtoolu_014hJH82Qum7Td6UV8gDXThB","content":'
            b'[{"type":"web_search_result","title":"Rome","url":"https://example.org/rome",'
            b'"encrypted_content":"Ev0DCioIAxgCIiQ3NmU4ZmI4OC1k==","page_age":null}]}',
        ),
        BlockStarted(3, "text"),
        Delta(3, "Dry in Rome."),
        VendorBlock(
            3,
            "text",
            b'{"type":"text","text":"Dry in Rome.","citations":[{"type":"web_search_result_location",'
            b'"cited_text":"Dry.","url":"https://example.org/rome","title":"Rome","encrypted_index":"Eo8BCioIAhgB"}]}',
        ),
        BlockStopped(3),
        Ended("pause_turn", "pause_turn", "msg_01G5NQd6y5vwXw1mBsrzEbsD"),
    ],
    "claude_citations": [
        BlockStarted(0, "text"),
        Delta(0, "The document says that "),
        BlockStopped(0),
        BlockStarted(1, "text"),
        Delta(1, "Roman summers"),
        Delta(1, " are dry"),
        VendorBlock(1, "text", CITED),
        BlockStopped(1),
        BlockStarted(2, "text"),
        Delta(2, "."),
        BlockStopped(2),
        Ended("end_turn", "end_turn", "msg_01CitedWo6m4hyW8KHs2y2pei"),
    ],
    "claude_cache": [
        BlockStarted(0, "text"),
        Delta(0, "One,"),
        BlockStopped(0),
        Ended("stop_sequence", "stop_sequence", "msg_01CacheYrs8mJ5wT3uVf2nEKz", stop_sequence="two"),
    ],
    "claude_unknown": [
        VendorBlock(0, "telepathy", b'{"type":"telepathy","text":{"waves":[1,2.5]},"input":null}'),
        BlockStarted(1, "text"),
        Delta(1, "So"),
        Delta(1, " be it."),
        BlockStopped(1),
        Ended("max_tokens", "model_context_window_exceeded", "msg_01Unknown"),
    ],
    "claude_halves": [
        BlockStarted(0, "text"),
        Delta(0, "a"),
        Delta(0, "\U0001f600b"),
        Delta(0, "\ufffd"),
        BlockStopped(0),
        BlockStarted(1, "tool_use", "toolu_01Halves", "f"),
        Delta(1, '{"x":"'),
        Delta(1, '\U0001f600"}'),
        BlockStopped(1),
        VendorBlock(2, "redacted_thinking", '{"type": "redacted_thinking", "data": "\ufffdx"}'.encode()),
        Ended("tool_use", "tool_use", "msg_01Halves"),
    ],
}
OF_THE_VENDOR = sorted(STREAMS.keys() - {"claude_unknown", "claude_halves"})
"""Those that hold only what the vendor's client knows."""


def wire_of(name):
    return (WIRE / f"{name}.sse").read_bytes()


def test_every_golden_stream_is_tested():
    """None lies there unread."""
    assert {path.stem for path in WIRE.glob("claude_*.sse")} == STREAMS.keys()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_becomes_its_chunks(name):
    """What the vendor sends is told in the common chunks."""
    assert skeleton(chunks_of(wire_of(name))) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_cut_anywhere_gives_the_same_chunks(name, line_end):
    """Packets end where they like: after every byte, and one byte at a time."""
    whole = chunks_of(wire_of(name))
    wire = wire_of(name).replace(b"\n", line_end)
    for cut in range(0, len(wire), 1 if line_end == b"\n" else 7):
        assert chunks_of(wire[:cut], wire[cut:]) == whole
    assert chunks_of(*(wire[at : at + 1] for at in range(len(wire)))) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_short_is_truncated(name):
    """However far it came: nothing but the end marker ends an answer."""
    wire = wire_of(name)
    for end in range(0, len(wire) - 1, 3):
        with pytest.raises(ProviderTruncated):
            chunks_of(wire[:end])


def test_a_stop_reason_without_an_end_marker_is_truncated():
    """An error may follow it."""
    with pytest.raises(ProviderTruncated):
        chunks_of(MESSAGE + event("message_delta", delta={"stop_reason": "end_turn"}))


@pytest.mark.parametrize(
    ("reason", "calls", "stop_reason"),
    [
        ("end_turn", False, "end_turn"),
        ("end_turn", True, "tool_use"),
        ("tool_use", False, "end_turn"),
        ("max_tokens", True, "max_tokens"),
        ("stop_sequence", False, "stop_sequence"),
        ("refusal", False, "refusal"),
        ("pause_turn", False, "pause_turn"),
        ("model_context_window_exceeded", False, "max_tokens"),
        ("a_new_reason", False, "a_new_reason"),
        (None, False, "end_turn"),
        (None, True, "tool_use"),
    ],
)
def test_a_stop_reason_is_mapped(reason, calls, stop_reason):
    """The vendor's own is kept beside it; an unknown one passes; calls are waited for, but not if they were cut."""
    said = starting(**CALL) + stopping() if calls else b""
    *_, ended = chunks_of(MESSAGE + said + ending(reason))
    assert ended == Ended(stop_reason, reason, "msg_1")


def test_blocks_left_open_are_stopped_before_the_end():
    """By us, if the vendor forgets it, with all that belongs to them."""
    chunks = chunks_of(
        MESSAGE
        + starting(4, "thinking", thinking="")
        + piece("signature_delta", 4, signature="s")
        + starting(7, **CALL)
        + starting(9, "telepathy")
        + ending()
    )
    assert skeleton(chunks)[2:] == [
        VendorBlock(0, "thinking", b'{"type":"thinking","thinking":"","signature":"s"}'),
        BlockStopped(0),
        Delta(1, "{}"),
        BlockStopped(1),
        VendorBlock(2, "telepathy", b'{"type": "telepathy"}'),
        Ended("tool_use", "end_turn", "msg_1"),
    ]


def test_thinking_without_a_signature_has_no_form_of_the_vendors():
    """It could not be sent back."""
    chunks = chunks_of(starting(kind="thinking", thinking="Hm") + piece("thinking_delta", thinking=".") + ending())
    assert chunks[:-1] == [BlockStarted(0, "thinking"), Delta(0, "Hm"), Delta(0, "."), BlockStopped(0)]


def test_thinking_comes_back_as_it_came():
    """From the stream over the log to the next request: the same text and signature."""
    (vendor,) = (
        chunk for chunk in chunks_of(wire_of("claude_thinking")) if isinstance(chunk, VendorBlock) and not chunk.block
    )
    stored = raw_block(ThinkingBlock("Rain in “Rome”?\n", vendor=msgspec.Raw(vendor.raw)))
    prompt = Prompt("claude-x", (PromptMessage("assistant", (read_block(stored), TextBlock("No."))),))
    assert all(vendor.raw in render(prompt) for render in RENDERERS.values())


def test_an_input_that_comes_at_once_is_the_calls_input():
    """Some servers do not stream it."""
    whole = CALL | {"input": {"x": 1}}
    assert content_of(chunks_of(starting(**whole) + stopping() + ending())) == [
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}
    ]


@pytest.mark.parametrize("pieces", [["{"], ["[1]"], ['{"x":', "}"]])
def test_a_broken_input_stays_as_the_model_wrote_it(pieces):
    """What it means is for others to say; the vendor's form of the call, which could not hold it, is not made."""
    said = b"".join(piece("input_json_delta", partial_json=text) for text in pieces)
    chunks = chunks_of(starting(**CALL, caller={"type": "direct"}) + said + stopping() + ending())
    assert chunks[1:-1] == [*(Delta(0, text) for text in pieces), BlockStopped(0)]


def test_a_broken_input_of_the_vendors_own_tool_leaves_it_as_it_began():
    """It ran there; we only keep it."""
    said = piece("input_json_delta", partial_json='{"x"')
    chunks = chunks_of(starting(kind="server_tool_use", input={}) + said + stopping() + ending())
    assert chunks[0] == VendorBlock(0, "server_tool_use", b'{"type": "server_tool_use", "input": {}}')


def test_usage_is_a_running_total():
    """The last figures win, those left out stay, and the total of the input is of its three classes."""
    first, last = (chunk for chunk in chunks_of(wire_of("claude_cache")) if isinstance(chunk, UsageReported))
    assert first.usage == Usage(188_563, cache_read_tokens=188_086, cache_write_tokens=456)
    assert last.usage == Usage(188_564, cache_read_tokens=188_087, cache_write_tokens=456, output_tokens=4)
    assert json.loads(last.raw) == {
        "input_tokens": 21,
        "cache_creation_input_tokens": 456,
        "cache_read_input_tokens": 188_087,
        "cache_creation": {"ephemeral_5m_input_tokens": 356, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 4,
        "service_tier": "standard",
    }
    assert usage_of(chunks_of(wire_of("claude_thinking"))).reasoning_tokens == 280


def test_usage_waits_for_the_first_block():
    """Until something is said, an answer may fail as if it had not begun, and be asked for again."""
    answer, decoder = MessageStream("anthropic"), SseDecoder()
    message, ping, block = decoder.feed(MESSAGE + event("ping") + starting(text=""))
    assert answer.feed(message) == answer.feed(ping) == []
    assert answer.feed(block) == [
        UsageReported(Usage(input_tokens=3), b'{"input_tokens":3,"output_tokens":1}'),
        BlockStarted(0, "text"),
    ]


@pytest.mark.parametrize(
    "figures", [{"input_tokens": -1}, {"input_tokens": "many"}, {"input_tokens": 1e99}, {"input_tokens": 1.5}]
)
def test_a_usage_that_is_none_is_not_reported(figures):
    """The answer stands; what the vendor said is kept raw."""
    (reported, _) = chunks_of(ending(**figures))
    assert reported.usage == Usage()
    assert json.loads(reported.raw) == figures


@pytest.mark.parametrize("usage", [None, [], "much", {}])
def test_an_answer_may_come_without_usage(usage):
    """It does not fail for its bill."""
    wire = event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage) + event("message_stop")
    assert chunks_of(wire) == [Ended("end_turn", "end_turn")]


def test_a_figure_beyond_all_numbers_is_not_kept():
    """What goes on record can be read from there."""
    wire = b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":1e999}}\n\n' + event("message_stop")
    assert chunks_of(wire) == [Ended("end_turn")]


def test_a_usage_beyond_all_bounds_is_not_kept():
    """Its figures are."""
    (reported, _) = chunks_of(ending(output_tokens=7, much="x" * 20_000))
    assert reported == UsageReported(Usage(output_tokens=7), b"{}")


@pytest.mark.parametrize("given_id", [7, None, "x" * 129, "a\nb", "\ud83d"])
def test_an_answers_id_is_one_or_nothing(given_id):
    """It goes on record as the vendor wrote it, if it can be stored."""
    *_, ended = chunks_of(event("message_start", message={"id": given_id}) + ending())
    assert ended.response_id is None


@pytest.mark.parametrize(
    "wire",
    [
        b"event: ping\n\n",
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b": nothing\n\n",
        b"event: new_event\ndata: {}\n\n",
        event("new_event", index="x", delta=7, content_block=[], message=None),
        piece("new_delta", text={"no": "text"}),
        piece("new_delta", index="none"),
        piece("new_delta", text="\ud83d"),
    ],
)
def test_what_is_unknown_is_passed_over(wire):
    """The vendor adds events and deltas without asking."""
    chunks = chunks_of(starting() + wire + piece(text="x") + stopping() + ending())
    assert chunks[:-1] == [BlockStarted(0, "text"), Delta(0, "x"), BlockStopped(0)]


def test_citations_of_half_a_character_are_mended():
    """And what was there when the block began comes first; a citation of a thought is malformed."""
    begins = event(
        "content_block_start", index=0, content_block={"type": "text", "text": "x", "citations": [{"cited_text": "a"}]}
    )
    wire = begins + piece("citations_delta", citation={"cited_text": "\ud83d"}) + stopping() + ending()
    (vendor,) = [chunk for chunk in chunks_of(wire) if isinstance(chunk, VendorBlock)]
    assert json.loads(vendor.raw)["citations"] == [{"cited_text": "a"}, {"cited_text": "\ufffd"}]
    with pytest.raises(ProviderMalformed):
        chunks_of(starting(kind="thinking", thinking="") + piece("citations_delta", citation={}))


def test_citations_without_end_are_too_large():
    """They are passed on only when the block stops, so there is a bound."""
    cited = piece("citations_delta", citation={"cited_text": "x" * (1 << 20)})
    with pytest.raises(ProviderError, match="without end"):
        chunks_of(starting(), *[cited] * 20)


def test_a_cited_text_goes_back_byte_for_byte():
    """Where it is still the text that was cited, and the assistant said it; else it is a text."""
    cited = TextBlock("Roman summers are dry", msgspec.Raw(CITED))
    request = RENDERERS["anthropic-messages/1"](
        Prompt(
            "claude-x", (PromptMessage("assistant", (cited, TextBlock("."))), PromptMessage("user", (TextBlock("?"),)))
        )
    )
    assert b"[" + CITED + b',{"type":"text","text":"."}]' in request
    plain = [{"type": "text", "text": "Roman summers are dry"}]
    assert said_by("user", cited) == plain
    for vendor in (b'{"type":"text","text":"Another","citations":[{}]}', b'{"type":"message"}', b"[]"):
        assert said_by("assistant", replace(cited, vendor=msgspec.Raw(vendor))) == plain


def test_events_need_no_name_on_the_wire():
    """Some gateways drop it: the data says it too."""
    for name in STREAMS:
        unnamed = re.sub(rb"(?m)^event: .*\n", b"", wire_of(name))
        assert chunks_of(unnamed) == chunks_of(wire_of(name))


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n\n",
        b"data: hello\n\n",
        b"data: [DONE]\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b'data: "\\ud83d"\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        b'data: {"type":7}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"cut off"\n\n',
        b'data: {"type":"content_block_start","index":1,"content_block":{"type":"telepathy","x":NaN}}\n\n',
        b'data: {"type":"content_block_start","index":1,"content_block":'
        + b'{"a":' * 5000
        + b"1"
        + b"}" * 5000
        + b"}\n\n",
        event("message_start"),
        event("message_start", message="none"),
        event("message_delta"),
        event("message_delta", delta={"stop_reason": 7}),
        event("message_delta", delta={"stop_reason": "a reason with words"}),
        event("message_delta", delta={"stop_reason": "x" * 65}),
        event("message_delta", delta={"stop_reason": "\ud83d"}),
        event("content_block_start", index=1),
        event("content_block_start", index="1", content_block={"type": "text"}),
        event("content_block_start", index=1, content_block="text"),
        starting(1, ""),
        starting(1, "x" * 129),
        starting(1, None),
        starting(1, "text", text=7),
        starting(1, "thinking", thinking=[]),
        starting(1, "tool_use"),
        starting(1, "tool_use", id="a", name="f", input=[]),
        starting(0, "text"),
        piece(),
        piece(text=7),
        piece(kind=7, text="x"),
        piece(index=1, text="x"),
        piece(index=-1, text="x"),
        piece("thinking_delta", thinking="x"),
        piece("input_json_delta", partial_json="x"),
        piece("signature_delta", signature="x"),
        event("content_block_delta", index=0, delta="x"),
        event("content_block_stop"),
        stopping(1),
        stopping() + stopping(),
        stopping() + piece(text="x"),
    ],
)
def test_an_event_of_another_form_is_malformed(bad):
    """Broken JSON, wrong types and pieces of nothing are the vendor's failure, and what came before them is told."""
    answer, decoder = MessageStream("anthropic"), SseDecoder()
    answer.request_id = "req_1"
    first, second, *others = decoder.feed(starting() + piece(text="so far") + bad)
    assert [*answer.feed(first), *answer.feed(second)] == [BlockStarted(0, "text"), Delta(0, "so far")]
    *others, last = others
    for other in others:
        answer.feed(other)
    with pytest.raises(ProviderMalformed, match="anthropic sent") as caught:
        answer.feed(last)
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    ("call", "name"),
    [("x" * 129, "f"), ("a b", "f"), ("a\n", "f"), ("", "f"), ("a", "f" * 129), ("a", "rm -rf"), ("a", "")],
)
def test_a_call_whose_id_or_name_is_none_is_malformed(call, name):
    """They stand among facts, which are hashed for ever: no text gets in there."""
    with pytest.raises(ProviderMalformed):
        chunks_of(starting(kind="tool_use", id=call, name=name))


def test_two_calls_of_one_id_are_malformed():
    """A result could not be told to answer the one or the other."""
    with pytest.raises(ProviderMalformed):
        chunks_of(starting(0, **CALL) + stopping(0) + starting(1, **CALL))


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"event: error\n", b"event: ping\n"]), st.binary(max_size=60)), max_size=4)
)
def test_nothing_but_failures_of_the_provider_comes_of_garbage(lines):
    """Whatever bytes an upstream sends."""
    wire = b"".join(name + b"data: " + data + b"\n\n" for name, data in lines)
    with pytest.raises(ProviderError):
        chunks_of(wire)


@given(st.data())
def test_nothing_but_failures_of_the_provider_comes_of_a_spoilt_stream(data):
    """One byte of a golden stream is another: an answer, or a failure."""
    wire = bytearray(wire_of(data.draw(st.sampled_from(sorted(STREAMS)))))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        chunks = chunks_of(bytes(wire))
    except ProviderError:
        return
    assert isinstance(chunks[-1], Ended)
    assert all(json.loads(chunk.raw) for chunk in chunks if isinstance(chunk, VendorBlock))


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", ProviderUnavailable),
        ("api_error", ProviderUnavailable),
        ("rate_limit_error", ProviderUnavailable),
        ("timeout_error", ProviderUnavailable),
        ("an_error_to_come", ProviderUnavailable),
        ("invalid_request_error", ProviderRejected),
        ("authentication_error", ProviderRejected),
        ("permission_error", ProviderRejected),
        ("not_found_error", ProviderRejected),
        ("request_too_large", ProviderRejected),
    ],
)
def test_an_error_in_the_stream_is_typed(kind, failure):
    """By the vendor's type; its words go on record and into no detail."""
    error = {"type": kind, "message": "words of somebody"}
    for wire in (event("error", error=error), event("error", error=error).partition(b"\n")[2]):
        answer, decoder = MessageStream("anthropic"), SseDecoder()
        answer.request_id = "req_1"
        *before, last = decoder.feed(MESSAGE + starting() + piece(text="x") + wire)
        assert [chunk for each in before for chunk in answer.feed(each)][-1] == Delta(0, "x")
        with pytest.raises(failure) as caught:
            answer.feed(last)
        assert (caught.value.vendor_code, caught.value.request_id) == (kind, "req_1")
        assert json.loads(caught.value.upstream)["error"] == error
        assert "words" not in caught.value.detail


@pytest.mark.parametrize(
    "wire", [b"event: error\ndata: Overloaded\n\n", b'data: {"error": {"code": 500, "message": "m"}}\n\n']
)
def test_an_error_in_a_gateways_form_is_an_error(wire):
    """By name without a form, or bare."""
    with pytest.raises(ProviderUnavailable):
        chunks_of(MESSAGE + wire)


# --- streams, by the vendor's own client ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_THE_VENDOR)
def test_the_golden_streams_are_of_the_vendors_types(name):
    """Event by event, but for those that its client drops before it looks."""
    adapter = TypeAdapter(RawMessageStreamEvent)
    for each in SseDecoder().feed(wire_of(name)):
        if each.event != "ping":
            assert adapter.validate_json(each.data).type == each.event


@pytest.mark.parametrize("name", OF_THE_VENDOR)
def test_the_vendors_client_comes_to_the_same_answer(name):
    """Blocks, stop reason, id and figures."""

    def answer(_):
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=wire_of(name))

    question = [{"role": "user", "content": "?"}]
    with (
        vendors_client(answer) as client,
        client.messages.stream(model="claude-x", max_tokens=9, messages=question) as stream,
    ):
        message = stream.get_final_message()
    *chunks, ended = chunks_of(wire_of(name))
    known = [block.to_dict(exclude_unset=True) for block in message.content]
    assert content_of(chunks) == known
    assert (ended.vendor_stop_reason, ended.response_id) == (message.stop_reason, message.id)
    usage, theirs = usage_of(chunks), message.usage
    total = theirs.input_tokens + theirs.cache_creation_input_tokens + theirs.cache_read_input_tokens
    assert (usage.input_tokens, usage.output_tokens) == (total, theirs.output_tokens)


# --- the provider -----------------------------------------------------------------------------------------------------


def provider_over(router=None, **options):
    """The provider over a fake upstream."""
    transport = httpx.MockTransport(router.async_handler) if router else None
    where = {"base_url": ADDRESS, "api_key": "sk-ant-secret"}
    where |= {name: options.pop(name) for name in where if name in options}
    endpoint = Endpoint(clock=SystemClock(), connect_timeout_s=5, transport=transport, **where)
    return ClaudeProvider(endpoint, **options)


def streaming(name="claude_text"):
    """An upstream that plays a golden stream."""
    router = respx.Router()
    router.post(f"{ADDRESS}/v1/messages").respond(
        200, headers={"content-type": "text/event-stream; charset=utf-8", "request-id": "req_9"}, content=wire_of(name)
    )
    return router


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/"])
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("sampled", [{}, {"temperature": 0.0}, {"top_p": 1.0}, {"top_k": 1}])
async def test_a_request_is_sent_with_the_version_it_was_rendered_for(address, version, cached, sampled):
    """To the right place, with the key and nothing but the rendered bytes; with sampling parameters, with the newest
    version that takes them.
    """
    router = streaming()
    provider = provider_over(router, base_url=address, version=version, cache_breakpoints=cached)
    assert VERSIONS[provider.renderer] == version
    assert ("cached" in provider.renderer) == cached
    parameters = replace(EVERYTHING, **sampled)
    request = provider.renderers[provider.renderer](replace(FULL, parameters=parameters))
    *_, ended = [chunk async for chunk in provider.stream(request)]
    assert ended == Ended("end_turn", "end_turn", "msg_01EcyWo6m4hyW8KHs2y2pei5", "req_9")
    sent = router.calls.last.request
    assert sent.content == request
    assert sent.headers["anthropic-version"] == ("2023-06-01" if sampled else version)
    assert sent.headers["x-api-key"] == "sk-ant-secret"
    assert sent.headers["content-type"] == "application/json"
    assert "authorization" not in sent.headers
    await provider.aclose()


async def test_without_a_key_none_is_sent():
    """A server of one's own may need none."""
    router = streaming()
    assert [chunk async for chunk in provider_over(router, api_key=None).stream(b"{}")]
    assert "x-api-key" not in router.calls.last.request.headers


@pytest.mark.parametrize(
    ("status", "kind", "failure"),
    [
        (400, "invalid_request_error", ProviderRejected),
        (401, "authentication_error", ProviderRejected),
        (402, "billing_error", ProviderRejected),
        (403, "permission_error", ProviderRejected),
        (404, "not_found_error", ProviderRejected),
        (413, "request_too_large", ProviderRejected),
        (429, "rate_limit_error", ProviderUnavailable),
        (500, "api_error", ProviderUnavailable),
        (504, "timeout_error", ProviderUnavailable),
        (529, "overloaded_error", ProviderUnavailable),
    ],
)
async def test_a_status_is_typed(status, kind, failure):
    """With the vendor's code and the request's id, and never with the key."""
    body = {"type": "error", "error": {"type": kind, "message": "you sent sk-ant-secret"}, "request_id": "req_7"}
    router = respx.Router()
    router.post(f"{ADDRESS}/v1/messages").respond(
        status, headers={"request-id": "req_7", "retry-after": "3"}, json=body
    )
    with pytest.raises(failure) as caught:
        await anext(provider_over(router).stream(b"{}"))
    error = caught.value
    assert (error.status, error.vendor_code, error.request_id, error.retry_after_s) == (status, kind, "req_7", 3)
    assert "sk-ant-secret" not in f"{error.detail} {error.upstream} {error.extra}"


async def test_tokens_are_counted_of_what_the_counting_accepts():
    """The same request, without what is about the answer."""
    router = respx.Router()
    router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(json={"input_tokens": 2095})
    provider = provider_over(router)
    request = provider.renderers[provider.renderer](FULL)
    assert await provider.count_tokens(request) == 2095
    sent = router.calls.last.request
    fields = json.loads(sent.content)
    assert fields.keys() == {"model", "system", "messages", "tools", "tool_choice"}
    assert looked_at(TypeAdapter(MessageCountTokensParams).validate_python(fields)) == fields
    assert fields.items() <= json.loads(request).items()
    assert SIGNED in sent.content
    assert sent.headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"1"}', b"[" * 9999, b" " * 99_999 + b"1"]
)
async def test_a_count_that_is_none_is_malformed(body):
    """Whatever the upstream says instead."""
    router = respx.Router()
    router.post(f"{ADDRESS}/v1/messages/count_tokens").respond(
        content=body, headers={"content-type": "application/json"}
    )
    with pytest.raises(ProviderMalformed):
        await provider_over(router).count_tokens(b"{}")


async def test_what_is_no_request_is_not_counted():
    """Nothing is sent."""
    with pytest.raises(ProviderRejected):
        await provider_over(respx.Router()).count_tokens(b"\xff")


def test_the_vendor_serves_its_own_models():
    """Known by name, or by name and date; others of that prefix may be served; any name elsewhere."""
    vendor = ClaudeProvider(Endpoint(clock=SystemClock(), connect_timeout_s=5))
    assert [vendor.model(info.name) for info in vendor.models()] == list(ANTHROPIC.models)
    dated = vendor.model("claude-haiku-4-5-20251001")
    assert (dated.name, dated.context_tokens, dated.max_output_tokens) == ("claude-haiku-4-5-20251001", 200_000, 64_000)
    unknown = vendor.model("claude-next-9")
    assert (unknown.family, unknown.context_tokens) == ("claude-5", None)
    assert vendor.model("gpt-5") is None
    elsewhere = provider_over()
    assert list(elsewhere.models()) == []
    assert elsewhere.model("qwen3").name == "qwen3"
    assert elsewhere.model("claude-haiku-4-5").context_tokens == 200_000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", "upstream.test"),
        ("base_url", "https://secret@upstream.test"),
        ("base_url", "https://upstream.test?key=secret"),
        ("base_url", "https://[secret"),
        ("api_key", "secret with blanks"),
        ("api_key", "secret\n"),
        ("api_key", "sécret"),
        ("version", "2023-01-01"),
    ],
)
def test_what_can_be_no_setting_is_refused(field, value):
    """By its name, and without repeating what might be a secret."""
    with pytest.raises(Invalid) as caught:
        provider_over(**{field: value})
    assert caught.value.extra["field"] == f"anthropic_{field}"
    assert "cret" not in caught.value.detail


# --- a real server of the protocol ------------------------------------------------------------------------------------


@pytest.mark.local
@pytest.mark.skipif(not local_model_available(), reason="THE LOCAL MODEL IS NOT TESTED: no extra `local`")
@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
async def test_a_real_server_of_the_protocol_is_understood(version):
    """The local model's server speaks it too: a whole conversation is answered, and counted."""
    local = LocalProvider(clock=SystemClock(), connect_timeout_s=5)
    await local.start()
    child = local._child
    provider = provider_over(
        base_url=child.base_url.removesuffix("/v1"), api_key=child.api_key, version=version, cache_breakpoints=True
    )
    asked = (
        PromptMessage("user", (TextBlock("Name a colour."),)),
        PromptMessage("assistant", (TextBlock("Red."),)),
        PromptMessage("system", (TextBlock("Be polite."),)),
        PromptMessage("user", (TextBlock("Another."),)),
    )
    prompt = Prompt("smollm2-135m", asked, "Be brief.", parameters=Parameters(max_output_tokens=8, temperature=0.5))
    request = provider.renderers[provider.renderer](prompt)
    try:
        counted = await provider.count_tokens(request)
        *chunks, ended = [chunk async for chunk in provider.stream(request)]
    finally:
        await provider.aclose()
        await local.aclose()
    assert ended.stop_reason in {"end_turn", "max_tokens"}
    assert [block["type"] for block in content_of(chunks)] == ["text"]
    usage = usage_of(chunks)
    assert 0 < usage.output_tokens <= 8
    assert abs(usage.input_tokens - counted) <= 1
