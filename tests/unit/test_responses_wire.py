"""OpenAI's Responses API on the wire: requests to the byte, streams in any cut, failures by their kind.

The streams in ``tests/golden/wire`` have the exact forms that OpenAI and llama.cpp send.
"""

import json
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import httpx
import httpx2
import msgspec
import openai
import pytest
import respx
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from manent.engine.clock import SystemClock
from manent.engine.errors import (
    ContextTooLong,
    Invalid,
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
from manent.engine.providers.base import (
    BlockStarted,
    BlockStopped,
    Delta,
    Ended,
    Parameters,
    Prompt,
    PromptMessage,
    UsageReported,
    VendorBlock,
)
from manent.engine.providers.local.provider import LocalProvider, local_model_available
from manent.engine.providers.openai.chat import OpenAIProvider
from manent.engine.providers.openai.responses import ResponsesProvider
from manent.engine.providers.openai.responses_render import RENDERERS, render_responses
from manent.engine.providers.openai.responses_stream import ResponsesStream
from manent.engine.providers.openai.vendor import OPENAI
from manent.engine.providers.wire.sse import EventReader
from manent.engine.providers.wire.vendor import Endpoint

WIRE = Path(__file__).parent.parent / "golden" / "wire"
ADDRESS = "http://upstream.test/v1"


# --- requests ---------------------------------------------------------------------------------------------------------

FORECAST = ToolSchema(
    "forecast",
    "Weather of a city",
    {
        "type": "object",
        "properties": {"town": {"type": "string"}, "days": {"type": "integer"}, "above": {"minimum": -0.5}},
        "required": ["town"],
    },
)
THOUGHT = (
    b'{ "id":"rs_1", "type":"reasoning",\t"summary":[{"type":"summary_text","text":"Hm \\u2028"}],'
    b'"encrypted_content":"gA+/=" }'
)
UNSAID = b'{"id":"rs_2","type":"reasoning","summary":[],"encrypted_content":"gB=="}'

CONVERSATION = (
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
            ThinkingBlock("Hm \u2028", vendor=msgspec.Raw(THOUGHT)),
            TextBlock("Let me "),
            TextBlock("look."),
            ToolUseBlock("call_1", "forecast", {"town": "Rome"}, '{ "town":"Rome" }'),
            OtherBlock("reasoning", UNSAID),
            ToolUseBlock("call_2", "forecast", {"town": "Oslo", "days": 2}),
        ),
    ),
    PromptMessage(
        "tool",
        (
            ToolResultBlock("call_1", (TextBlock("Dry: "), ImageBlock(UrlSource("https://example.org/rome.png")))),
            ToolResultBlock("call_2", "no such town", is_error=True),
        ),
    ),
    PromptMessage("assistant", (ToolUseBlock("call_3", "forecast", None, ""),)),
    PromptMessage("tool", (ToolResultBlock("call_3", ""),)),
    PromptMessage("assistant", (ThinkingBlock("Another vendor's.", vendor=msgspec.Raw(b'{"signature":"x"}')),)),
    PromptMessage("assistant", (TextBlock("Dry in "), TextBlock("Rome."), OtherBlock("reasoning", UNSAID))),
    PromptMessage("system", (TextBlock("Be polite."),)),
    PromptMessage("user", (TextBlock("Thanks."), OtherBlock("telepathy", b'{"type":"telepathy"}'))),
    PromptMessage(
        "user", (OtherBlock("input_file", b'{ "type":"input_file","file_id":"f1" }'), TextBlock("And this?"))
    ),
)

FULL = Prompt(
    model="gpt-5",
    system="Be brief.",
    messages=CONVERSATION,
    tools=(FORECAST,),
    parameters=Parameters(max_output_tokens=300, temperature=0.7, tool_choice="forecast"),
)


def test_a_request_has_the_bytes_it_always_had():
    """A whole conversation renders to the golden bytes: requests on record are derived again from the log."""
    golden = (WIRE / "openai-responses-1.request.json").read_bytes().removesuffix(b"\n")
    assert render_responses(FULL) == golden
    assert set(RENDERERS) == {"openai-responses/1"}


def test_a_request_is_what_the_vendors_own_client_may_send():
    """By the types of the official SDK, which know every field in it."""
    request = json.loads(render_responses(FULL))
    assert listed(TypeAdapter(ResponseCreateParamsStreaming).validate_python(request)) == request


def listed(value):
    """Lists for the SDK's lazy iterables: a field that it does not know would be missing."""
    if isinstance(value, Mapping):
        return {key: listed(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | None) else [listed(item) for item in value]


def items_of(*messages, model="gpt-5", **fields):
    """The items of a request."""
    return json.loads(render_responses(Prompt(model, messages, **fields)))["input"]


def test_the_least_request_has_nothing_that_was_not_asked_for():
    """But that nothing is stored, and what a model needs to go on with its thoughts."""
    assert render_responses(Prompt("m", (PromptMessage("user", (TextBlock("hi"),)),))) == (
        b'{"model":"m","input":[{"type":"message","role":"user","content":"hi"}],'
        b'"store":false,"include":["reasoning.encrypted_content"],"stream":true}'
    )


def test_reasoning_goes_back_byte_for_byte_before_what_it_led_to():
    """The vendor checks its seal, and its place."""
    request = render_responses(FULL)
    for item in (THOUGHT, UNSAID):
        assert request.count(item) == 1
    types = [item["type"] for item in json.loads(request)["input"]]
    assert types[1:6] == ["reasoning", "message", "function_call", "reasoning", "function_call"]


def test_reasoning_survives_being_kept_and_read():
    """From the wire to the store and back to the wire, no byte of it changes."""
    for block in (ThinkingBlock("Hm", vendor=msgspec.Raw(THOUGHT)), OtherBlock("reasoning", UNSAID)):
        again = read_block(raw_block(block))
        request = render_responses(Prompt("m", (PromptMessage("assistant", (again, TextBlock("x"))),)))
        assert (THOUGHT if isinstance(block, ThinkingBlock) else UNSAID) in request


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"reasoning","id":"rs_1","summary":[]}',
        b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":null,"content":[]}',
        b'{"type":"thinking","thinking":"x","signature":"y"}',
        b'{"type":"reasoning","encrypted_content":7}',
        b'"reasoning"',
    ],
)
def test_reasoning_that_cannot_be_used_again_is_left_out(raw):
    """Nothing is stored at the vendor's, who could find it by its id; and another vendor's is not understood."""
    said = PromptMessage("assistant", (ThinkingBlock("x", vendor=msgspec.Raw(raw)), TextBlock("y")))
    assert items_of(said) == [{"type": "message", "role": "assistant", "content": "y"}]


def test_reasoning_that_led_to_nothing_is_left_out():
    """The vendor demands the item that followed it."""
    assert items_of(PromptMessage("assistant", (OtherBlock("reasoning", UNSAID), TextBlock("")))) == []


@pytest.mark.parametrize(
    "model",
    ["gpt-4o", "gpt-4.1-mini-2025-04-14", "chatgpt-4o-latest", "gpt-5-chat-latest", "gpt-5.2-chat", "ft:gpt-4o:x"],
)
def test_a_model_that_does_not_reason_is_not_asked_to(model):
    """It refuses reasoning, and the wish for it."""
    asked = Prompt(model, (PromptMessage("assistant", (OtherBlock("reasoning", UNSAID), TextBlock("x"))),))
    request = json.loads(render_responses(asked))
    assert "include" not in request
    assert [item["type"] for item in request["input"]] == ["message"]


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.4-mini", "o3", "o4-mini", "openai/gpt-oss-20b", "gpt-5-codex"])
def test_any_other_model_may_reason(model):
    """New ones do."""
    assert b"reasoning.encrypted_content" in render_responses(Prompt(model, CONVERSATION))


def test_neighbours_of_one_role_become_one_message():
    """Texts of two messages stand apart by a blank line, unless something else stands between them."""
    rendered = items_of(
        PromptMessage("user", (TextBlock("a"),)),
        PromptMessage("user", (TextBlock("b"), TextBlock("c"))),
        PromptMessage("assistant", (TextBlock("d"),)),
        PromptMessage("assistant", (TextBlock("e"), ToolUseBlock("1", "f", {}), TextBlock("g"))),
    )
    assert [(item.get("role", item["type"]), item.get("content")) for item in rendered] == [
        ("user", "a\n\nbc"),
        ("assistant", "d\n\ne"),
        ("function_call", None),
        ("assistant", "g"),
    ]


def test_results_are_items_with_their_images():
    """Text alone is a string; an error is marked before all else."""
    shown = (ImageBlock(UrlSource("u")), TextBlock("x"))
    rendered = items_of(
        PromptMessage("tool", (ToolResultBlock("1", shown, is_error=True), ToolResultBlock("2", (TextBlock("y"),)))),
        PromptMessage("user", (ToolResultBlock("3", "z"), TextBlock("!"))),
    )
    assert [item.get("output", item.get("content")) for item in rendered] == [
        [
            {"type": "input_text", "text": "Error: "},
            {"type": "input_image", "image_url": "u", "detail": "auto"},
            {"type": "input_text", "text": "x"},
        ],
        "y",
        "z",
        "!",
    ]


@pytest.mark.parametrize(
    ("choice", "rendered"),
    [
        ("auto", "auto"),
        ("any", "required"),
        ("none", "none"),
        ("forecast", {"type": "function", "name": "forecast"}),
    ],
)
def test_a_tool_choice_has_the_vendors_word(choice, rendered):
    """The common words are translated, any other is a tool's name."""
    prompt = Prompt("m", CONVERSATION, tools=(FORECAST,), parameters=Parameters(tool_choice=choice))
    assert json.loads(render_responses(prompt))["tool_choice"] == rendered


def test_a_tool_choice_without_tools_is_left_out():
    """The vendor refuses it."""
    assert b"tool_choice" not in render_responses(Prompt("m", CONVERSATION, parameters=Parameters(tool_choice="auto")))


def test_stop_sequences_are_refused_by_name():
    """The protocol has none: an answer that goes on behind one would be another than was asked for."""
    with pytest.raises(Invalid, match="stop") as caught:
        render_responses(Prompt("m", CONVERSATION, parameters=Parameters(stop=("END",))))
    assert caught.value.extra["field"] == "stop"


# --- streams ----------------------------------------------------------------------------------------------------------


def chunks_of(*pieces):
    """What a stream gives that comes in these pieces."""
    reader, answer = EventReader(), ResponsesStream("openai")
    chunks = [chunk for piece in pieces for event in reader.feed(piece) for chunk in answer.feed(event)]
    if answer.failure is not None:
        raise answer.failure
    if not answer.ended:
        raise answer.broken_off()
    return chunks


def events(*datas, named=True):
    """A stream of these events."""
    raws = [data if isinstance(data, bytes) else json.dumps(data).encode() for data in datas]
    names = [b"event: " + data["type"].encode() + b"\n" if named and "type" in data else b"" for data in datas]
    return b"".join(name + b"data: " + raw + b"\n\n" for name, raw in zip(names, raws, strict=True))


def added(item, index=0):
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(item, index=0):
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def piece(kind, delta, index=0, **fields):
    return {"type": f"response.{kind}.delta", "output_index": index, "delta": delta, **fields}


def end(kind="completed", **fields):
    return {"type": f"response.{kind}", "response": {"id": "resp_1", **fields}}


def call(call_id, name="f", arguments="", **fields):
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **fields}


def message(*parts):
    content = [{"type": "output_text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


def said(chunks):
    """(type, text) of the blocks, in order; the text is the join of the deltas."""
    texts = {chunk.block: (chunk.type, []) for chunk in chunks if isinstance(chunk, BlockStarted)}
    for chunk in chunks:
        if isinstance(chunk, Delta):
            texts[chunk.block][1].append(chunk.text)
    return [(block_type, "".join(texts)) for block_type, texts in texts.values()]


def usage(raw, *figures):
    """Input, cached, written, output, reasoning."""
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return UsageReported(Usage(**dict(zip(names, figures, strict=True))), raw)


def full_usage(read, cached, written, out, reasoning):
    raw = (
        f'{{"input_tokens":{read},"input_tokens_details":{{"cached_tokens":{cached},"cache_write_tokens":{written}}},'
        f'"output_tokens":{out},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},'
        f'"total_tokens":{read + out}}}'
    )
    return usage(raw.encode(), read, cached, written, out, reasoning)


COMMENTARY = (
    b'{"id":"msg_0a","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],'
    b'"logprobs":[],"text":"I\'ll look."}],"phase":"commentary","role":"assistant"}'
)
ANNOTATED = (
    '{"id":"msg_0b","type":"message","status":"completed","content":[{"type":"output_text","annotations":['
    '{"type":"url_citation","start_index":0,"end_index":12,"title":"Rome – weather",'
    '"url":"https://example.org/rome?utm=1"},'
    '{"type":"file_citation","index":12,"file_id":"file-1","filename":"rome.pdf"}],"logprobs":[],'
    '"text":"Dry in Rome."}],'
    '"phase":"final_answer","role":"assistant"}'
).encode()

STREAMS = {
    "responses_text": [
        BlockStarted(0, "text"),
        Delta(0, "Ciao"),
        Delta(0, ", Roma\u2028"),
        Delta(0, "\U0001f327\n\n"),
        BlockStopped(0),
        full_usage(19, 4, 2, 10, 0),
        Ended("end_turn", "completed", "resp_0text"),
    ],
    "responses_tools": [
        VendorBlock(
            0,
            "reasoning",
            b'{"id":"rs_0t","type":"reasoning","encrypted_content":"gAAAAABo+encrypted/content==","summary":[]}',
        ),
        BlockStarted(1, "text"),
        Delta(1, "Let me "),
        Delta(1, "look."),
        BlockStopped(1),
        BlockStarted(2, "tool_use", "call_DdmO9pD3xa9XTPNJ32zg2hcA", "forecast"),
        Delta(2, '{"to'),
        BlockStarted(3, "tool_use", "call_ABCDEfghIJKLmnop12345678", "forecast"),
        Delta(3, '{"town":'),
        Delta(2, 'wn":"Rome"}'),
        Delta(3, '"Oslo"}'),
        BlockStopped(2),
        BlockStopped(3),
        full_usage(82, 0, 0, 64, 32),
        Ended("tool_use", "completed", "resp_0tools"),
    ],
    "responses_reasoning": [
        BlockStarted(0, "thinking"),
        Delta(0, "**Weather**"),
        Delta(0, "\n\nRome: "),
        Delta(0, "\n\n**Rain**"),
        Delta(0, " it is."),
        VendorBlock(
            0,
            "reasoning",
            b'{"id":"rs_0r","type":"reasoning","encrypted_content":"gAAAAABpZZ_encrypted","summary":['
            b'{"type":"summary_text","text":"**Weather**\\n\\nRome: "},'
            b'{"type":"summary_text","text":"**Rain** it is."}]}',
        ),
        BlockStopped(0),
        BlockStarted(1, "text"),
        Delta(1, "Yes."),
        BlockStopped(1),
        full_usage(30, 16, 0, 40, 36),
        Ended("end_turn", "completed", "resp_0reason"),
    ],
    "responses_refusal": [
        BlockStarted(0, "text"),
        Delta(0, "I'm sorry, "),
        Delta(0, "no."),
        VendorBlock(
            0,
            "message",
            b'{"id":"msg_0f","type":"message","status":"completed","content":[{"type":"refusal",'
            b'"refusal":"I\'m sorry, no."}],"role":"assistant"}',
        ),
        BlockStopped(0),
        full_usage(9, 0, 0, 6, 0),
        Ended("refusal", "completed", "resp_0refusal"),
    ],
    "responses_annotations": [
        BlockStarted(0, "text"),
        Delta(0, "I'll look."),
        VendorBlock(0, "message", COMMENTARY),
        BlockStopped(0),
        BlockStarted(1, "text"),
        Delta(1, "Dry in "),
        Delta(1, "Rome."),
        VendorBlock(1, "message", ANNOTATED),
        BlockStopped(1),
        full_usage(9, 0, 0, 6, 0),
        Ended("end_turn", "completed", "resp_0annotated"),
    ],
    "responses_incomplete": [
        BlockStarted(0, "text"),
        Delta(0, "Once upon"),
        Delta(0, " a time"),
        BlockStopped(0),
        full_usage(9, 0, 0, 16, 0),
        Ended("max_tokens", "max_output_tokens", "resp_0cut"),
    ],
    "responses_filtered": [
        BlockStarted(0, "text"),
        Delta(0, "How to "),
        BlockStopped(0),
        Ended("refusal", "content_filter", "resp_0filter"),
    ],
    "responses_unknown": [
        VendorBlock(
            0,
            "web_search_call",
            b'{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search","query":"rain"}}',
        ),
        VendorBlock(1, "telepathy_call", b'{"id":"tp_1","type":"telepathy_call","thought":{"deep":[1,2]}}'),
        BlockStarted(2, "text"),
        Delta(2, "Rain."),
        BlockStopped(2),
        Ended("end_turn", "completed", "resp_0unknown"),
    ],
    "responses_llamacpp": [
        BlockStarted(0, "text"),
        Delta(0, "While"),
        Delta(0, " the"),
        Delta(0, " two"),
        BlockStopped(0),
        usage(
            b'{"input_tokens":21,"output_tokens":3,"total_tokens":24,"input_tokens_details":{"cached_tokens":0}}',
            *(21, 0, None, 3, None),
        ),
        Ended("end_turn", "completed", "resp_WDQ5N18kLXGsELCbKzYHUSh4Y5TCsKIo"),
    ],
    "responses_halves": [
        BlockStarted(0, "text"),
        Delta(0, "a"),
        Delta(0, "\U0001f600b"),
        Delta(0, "\ufffdc"),
        Delta(0, "\ufffd"),
        BlockStopped(0),
        Ended("end_turn", "completed", "resp_0halves"),
    ],
}
OFFICIAL = sorted(set(STREAMS) - {"responses_unknown", "responses_llamacpp", "responses_halves"})


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_becomes_its_chunks(name):
    """What each vendor sends is told in the common chunks."""
    assert chunks_of((WIRE / f"{name}.sse").read_bytes()) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_cut_anywhere_gives_the_same_chunks(name, line_end):
    """Packets end where they like: after every byte, and one byte at a time."""
    wire = (WIRE / f"{name}.sse").read_bytes().replace(b"\n", line_end)
    step = 1 if line_end == b"\n" else 7
    for cut in range(0, len(wire), step):
        assert chunks_of(wire[:cut], wire[cut:]) == STREAMS[name]
    assert chunks_of(*(wire[at : at + 1] for at in range(len(wire)))) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_whole_events_gives_the_same_chunks(name):
    """As packets mostly come: one event each, or several; and also where the events have no names."""
    wire = (WIRE / f"{name}.sse").read_bytes()
    whole = [event + b"\n\n" for event in wire.split(b"\n\n")[:-1]]
    assert chunks_of(*whole) == STREAMS[name]
    assert chunks_of(whole[0], b"".join(whole[1:])) == STREAMS[name]
    assert chunks_of(*(event[event.index(b"data: ") :] for event in whole if b"data: " in event)) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_short_is_truncated(name):
    """However far it came: nothing but the last event ends an answer."""
    wire = (WIRE / f"{name}.sse").read_bytes()
    for end_of_it in range(0, len(wire) - 1, 3):
        with pytest.raises(ProviderTruncated):
            chunks_of(wire[:end_of_it])


def test_an_end_marker_of_the_other_protocol_is_no_end():
    """Some servers add it; without the last event before it, it says that the answer was cut."""
    answer = (added(message()), piece("output_text", "half an ans"))
    with pytest.raises(ProviderTruncated):
        chunks_of(events(*answer) + b"data: [DONE]\n\n")
    assert chunks_of(events(*answer, end()))[-1] == Ended("end_turn", "completed", "resp_1")


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_stream_is_what_the_vendors_own_client_reads(name):
    """The official SDK accepts every event and puts together the same answer."""
    wire, adapter, numbers = (WIRE / f"{name}.sse").read_bytes(), TypeAdapter(ResponseStreamEvent), []
    for event in sdk(wire).responses.create(model="gpt-5", input="hi", stream=True):
        adapter.validate_python(event.model_dump(exclude_unset=True, by_alias=True))
        numbers.append(event.sequence_number)
    assert numbers == list(range(wire.count(b"data: ")))
    with sdk(wire).responses.stream(model="gpt-5", input="hi") as stream:
        state = list(stream)[-1].response
    chunks = chunks_of(wire)
    assert said(chunks) == [block for item in state.output for block in blocks_of(item)]
    reported = [chunk.usage for chunk in chunks if isinstance(chunk, UsageReported)]
    assert [(each.input_tokens, each.output_tokens) for each in reported] == (
        [(state.usage.input_tokens, state.usage.output_tokens)] if state.usage else []
    )
    assert chunks[-1].response_id == state.id


def blocks_of(item):
    """An item of the SDK's as blocks."""
    match item.type:
        case "message":
            return [("text", part.text if part.type == "output_text" else part.refusal) for part in item.content]
        case "function_call":
            return [("tool_use", item.arguments)]
        case "reasoning":
            return [("thinking", "\n\n".join(part.text for part in item.summary))] if item.summary else []


def sdk(wire):
    """The official client, answered with these bytes."""
    client = httpx2.Client(
        transport=httpx2.MockTransport(
            lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=wire)
        )
    )
    return openai.OpenAI(api_key="none", base_url=ADDRESS, http_client=client, max_retries=0)


def test_a_message_that_says_more_than_its_text_goes_back_byte_for_byte():
    """Where its texts are still the same, each once; else they are texts."""
    parts = b'{"type":"output_text","text":"a"},{"type":"refusal","refusal":"b"}'
    two = b'{"type":"message","role":"assistant","content":[' + parts + b"]}"
    blocks = (
        TextBlock("I'll look.", msgspec.Raw(COMMENTARY)),
        TextBlock("Dry in Rome.", msgspec.Raw(ANNOTATED)),
        TextBlock("a", msgspec.Raw(two)),
        TextBlock("b"),
        TextBlock("c"),
    )

    def sent(*content):
        return render_responses(Prompt("m", (PromptMessage("assistant", content),)))

    plain = b'{"type":"message","role":"assistant","content":"c"}'
    assert b'"input":[' + b",".join((COMMENTARY, ANNOTATED, two, plain)) + b"]" in sent(*blocks)
    assert b'"content":"ac"' in sent(blocks[2], blocks[4])
    assert b'"content":"c"' in sent(TextBlock("c", msgspec.Raw(two)))
    assert b'"content":"c"' in sent(TextBlock("c", msgspec.Raw(b'{"type":"text","text":"c","citations":[{}]}')))


# --- items and pieces -------------------------------------------------------------------------------------------------


def test_what_came_in_no_pieces_is_taken_from_the_items_end():
    """Some servers send whole items."""
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}]}
    refusal = {"type": "refusal", "refusal": "no"}
    chunks = chunks_of(
        events(
            *(done(thought, 0), added(call("c"), 1), done(call("c", arguments="{}"), 1)),
            *(added(message(), 2), piece("output_text", "x", 2), done(message("x", refusal, ""), 2), end()),
        )
    )
    assert said(chunks) == [("thinking", "a\n\nb"), ("tool_use", "{}"), ("text", "x"), ("text", "no")]
    assert chunks[-1].stop_reason == "tool_use"


def test_an_item_that_was_never_sent_is_taken_from_the_answers_end():
    """Some servers say all at once; what came before is not said twice."""
    assert said(chunks_of(events(end(output=[message("a"), call("c", arguments="{}")])))) == [
        ("text", "a"),
        ("tool_use", "{}"),
    ]
    pieces = (added(message()), piece("output_text", "a"))
    assert said(chunks_of(events(*pieces, end(output=[message("a"), call("c", arguments="{}")])))) == [
        ("text", "a"),
        ("tool_use", "{}"),
    ]


@pytest.mark.parametrize("item_id", ["msg_1", "msg_2", None])
def test_an_answer_without_indexes_is_not_said_twice(item_id):
    """Its items are told apart by their ids, and where those change, what came in pieces is what counts."""
    event = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "a"}
    assert said(chunks_of(events(event, end(output=[message("a") | {"id": item_id}])))) == [("text", "a")]


def test_open_reasoning_is_thinking_too():
    """Open models show it, beside a summary or instead; where it comes in two kinds, they stand apart."""
    item = {"type": "reasoning", "id": "rs", "summary": [], "content": [{"type": "reasoning_text", "text": "ab"}]}
    chunks = chunks_of(
        events(
            *(added(item), piece("reasoning_text", "a"), piece("reasoning_text", "b"), piece("reasoning_text", "")),
            *(piece("reasoning_summary_text", "c"), done(item), end()),
        )
    )
    assert said(chunks) == [("thinking", "ab\n\nc")]
    assert VendorBlock(0, "reasoning", json.dumps(item).encode()) in chunks
    assert said(chunks_of(events(done(item), end()))) == [("thinking", "ab")]


def test_a_part_that_says_nothing_is_no_block():
    """An empty answer has none."""
    assert chunks_of(events(added(message()), piece("output_text", ""), done(message("")), end())) == [
        Ended("end_turn", "completed", "resp_1")
    ]


def test_blocks_that_nothing_ended_are_stopped_before_the_end():
    """Servers may leave out the ends of items."""
    chunks = chunks_of(events(added(call("c")), piece("output_text", "x", 1), end()))
    assert chunks[-3:] == [BlockStopped(0), BlockStopped(1), Ended("tool_use", "completed", "resp_1")]


def test_an_item_ends_once():
    """A second end says nothing new."""
    assert said(chunks_of(events(done(message("a")), done(message("a")), end()))) == [("text", "a")]


def test_a_call_without_an_id_gets_one():
    """It stands for the place of the call, so that it is the same each time."""
    chunks = chunks_of(events(added(call(None)), added(call(None), 1), end()))
    assert [chunk.id for chunk in chunks if isinstance(chunk, BlockStarted)] == ["call_0", "call_1"]


@pytest.mark.parametrize(
    ("last", "stop_reason", "word"),
    [
        (end(), "end_turn", "completed"),
        (end("incomplete", incomplete_details={"reason": "max_output_tokens"}), "max_tokens", "max_output_tokens"),
        (end("incomplete", incomplete_details={"reason": "content_filter"}), "refusal", "content_filter"),
        (end("incomplete", incomplete_details={"reason": "a_new_one"}), "a_new_one", "a_new_one"),
        (end("incomplete", incomplete_details={"reason": "words of somebody"}), "incomplete", "incomplete"),
        (end("incomplete", incomplete_details=None), "incomplete", "incomplete"),
    ],
)
def test_an_end_is_mapped(last, stop_reason, word):
    """What cut an answer goes before what it holds; an unknown reason passes."""
    assert chunks_of(events(piece("output_text", "x"), last))[-1] == Ended(stop_reason, word, "resp_1")


@pytest.mark.parametrize("given", [[], "x", {"input_tokens": -1}, {"input_tokens": 1.5}, {"output_tokens": "many"}])
def test_a_usage_that_is_none_is_not_reported(given):
    """The answer stands; what the vendor said is kept raw."""
    assert UsageReported(Usage(), json.dumps(given).encode()) in chunks_of(events(end(usage=given)))


# --- bad streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("data", "kind", "status", "vendor_code"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "words"}, ProviderUnavailable, None, None),
        ({"type": "error", "code": "invalid_prompt", "param": None}, ProviderRejected, None, None),
        ({"type": "error", "error": {"type": "server_error", "code": None}}, ProviderUnavailable, None, "server_error"),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "code": "context_length_exceeded"}},
            *(ContextTooLong, None, "context_length_exceeded"),
        ),
        ({"error": {"code": 429, "message": "words"}}, ProviderUnavailable, 429, "429"),
    ],
)
def test_an_error_in_the_stream_is_typed(data, kind, status, vendor_code, named):
    """In both shapes, by the vendor's code; its words go on record and into no detail."""
    with pytest.raises(kind) as caught:
        chunks_of(events(piece("output_text", "x"), data, named=named))
    error = caught.value
    assert (type(error), error.status, error.vendor_code) == (kind, status, vendor_code or data["code"])
    assert json.loads(error.upstream) == data
    assert "words" not in error.detail


def test_an_answer_that_failed_is_a_failure_with_its_usage():
    """What it cost is told first; of the event only the error goes on record, since it says back what was asked."""
    answer, chunks = ResponsesStream("openai"), []
    for event in EventReader().feed((WIRE / "responses_failed.sse").read_bytes()):
        chunks += answer.feed(event)
    assert chunks[-1] == full_usage(9, 0, 0, 2, 0)
    assert not answer.ended
    assert isinstance(answer.failure, ProviderUnavailable)
    assert answer.failure.vendor_code == "server_error"
    assert json.loads(answer.failure.upstream) == {
        "code": "server_error",
        "message": "The model failed to generate a response.",
    }
    with pytest.raises(ProviderUnavailable):
        chunks_of(events(end("failed", error=None)))


@pytest.mark.parametrize("name", ["responses_error_flat", "responses_error_nested", "responses_failed"])
def test_a_failing_stream_fails_wherever_it_is_cut(name):
    """The same way, with the same chunks before."""
    wire = (WIRE / f"{name}.sse").read_bytes()
    kinds = set()
    for cut in range(len(wire)):
        with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
            chunks_of(wire[:cut], wire[cut:])
        kinds.add((caught.type, caught.value.vendor_code, caught.value.upstream))
    assert len(kinds) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"hello",
        b"[]",
        b'"\\ud83d"',
        b"[" * 100_000,
        b'{"type":7}',
        b'{"type":"response.output_text.delta","output_index":0,"delta":7}',
        b'{"type":"response.output_text.delta","output_index":"\\ud83d","delta":"x"}',
        b'{"type":"response.output_item.added"}',
        b'{"type":"response.output_item.added","output_index":1,"item":[]}',
        b'{"type":"response.output_item.done","output_index":1,"item":{"type":"a type with words"}}',
        b'{"type":"response.output_item.done","output_index":1,"item":{"type":"text","text":7}}',
        b'{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning"}}',
        b'{"type":"response.completed"}',
        b'{"type":"response.completed","response":{"output":[7]}}',
        b'{"type":"response.function_call_arguments.delta","output_index":9,"delta":"{}"}',
        b'{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}',
        b'{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"a"}}',
        b'{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"rm -rf"}}',
        json.dumps(added(call("a b"), 1)).encode(),
        json.dumps(added(call("c"), 1)).encode(),
    ],
)
@pytest.mark.parametrize("name", [b"", b"event: response.output_text.delta\n"])
def test_an_event_of_another_form_is_malformed(data, name):
    """Broken JSON, wrong types, pieces of nothing, calls of no name or no new id: the vendor's failure."""
    answer = ResponsesStream("openai")
    good = events(added(call("c"), 5), added(message()), piece("output_text", "so far"))
    (*_, last) = [chunk for event in EventReader().feed(good) for chunk in answer.feed(event)]
    assert last == Delta(1, "so far")
    (bad,) = EventReader().feed(name + b"data: " + data + b"\n\n")
    with pytest.raises(ProviderMalformed, match="openai"):
        answer.feed(bad)


def test_a_piece_after_its_items_end_is_malformed():
    """The block is stopped: there is nowhere for it to go."""
    with pytest.raises(ProviderMalformed):
        chunks_of(events(added(message()), piece("output_text", "x"), done(message("x")), piece("output_text", "y")))


# --- the provider -----------------------------------------------------------------------------------------------------


def provider(router=None, **options):
    """One that asks a mocked upstream."""
    transport = httpx.MockTransport(router.async_handler) if router else httpx.AsyncBaseTransport()
    return ResponsesProvider(Endpoint(clock=SystemClock(), connect_timeout_s=5, transport=transport, **options))


async def test_it_sends_what_was_rendered_and_yields_what_comes():
    """To its own address, with its key, and the request's id stands in the end."""
    router, wire = respx.Router(), (WIRE / "responses_tools.sse").read_bytes()
    headers = {"content-type": "text/event-stream", "x-request-id": "req_1"}
    router.post(f"{ADDRESS}/responses").respond(200, headers=headers, content=wire)
    subject = provider(router, base_url=ADDRESS, api_key="sk-secret")
    request = subject.renderers[subject.renderer](FULL)
    *before, last = [chunk async for chunk in subject.stream(request)]
    assert before == STREAMS["responses_tools"][:-1]
    assert last.request_id == "req_1"
    assert router.calls.last.request.content == request
    assert router.calls.last.request.headers["authorization"] == "Bearer sk-secret"
    await subject.aclose()


@pytest.mark.parametrize("cut", [1, 100, 10_000])
async def test_an_answer_without_its_end_is_truncated(cut):
    """And what came is given before the failure."""
    router, wire = respx.Router(), (WIRE / "responses_text.sse").read_bytes()
    router.post(f"{ADDRESS}/responses").respond(200, content=wire[:-cut])
    with pytest.raises(ProviderTruncated):
        [chunk async for chunk in provider(router, base_url=ADDRESS).stream(b"{}")]


async def test_what_came_with_a_failure_is_given_before_it():
    """Its usage is part of the bill."""
    router = respx.Router()
    router.post(f"{ADDRESS}/responses").respond(200, content=(WIRE / "responses_failed.sse").read_bytes())
    chunks = provider(router, base_url=ADDRESS).stream(b"{}")
    before = [await anext(chunks) for _ in range(4)]
    assert before == [BlockStarted(0, "text"), Delta(0, "So far"), BlockStopped(0), full_usage(9, 0, 0, 2, 0)]
    with pytest.raises(ProviderUnavailable):
        await anext(chunks)


def test_it_goes_by_the_other_protocols_name_and_renders_for_both():
    """A setting decides which of the two is spoken; what either was sent can be derived again."""
    subject = provider()
    where = {"clock": SystemClock(), "connect_timeout_s": 5, "transport": httpx.AsyncBaseTransport()}
    chat = OpenAIProvider(Endpoint(**where))
    assert (subject.name, subject.renderer) == ("openai", "openai-responses/1")
    assert subject.renderers == chat.renderers
    assert set(subject.renderers) == {"openai-chat/1", "openai-chat-compat/1", "openai-responses/1"}
    assert subject.models() == chat.models()
    assert subject.model("gpt-5-2025-08-07").context_tokens == 400_000
    assert provider(base_url=OPENAI.url + "/").models()
    assert not provider(base_url=ADDRESS).models()


@pytest.mark.parametrize("options", [{"base_url": "http://x?key=secret"}, {"api_key": "sk secret"}])
def test_what_can_be_no_address_or_key_is_refused(options):
    """Before it breaks a request, and without showing it."""
    with pytest.raises(Invalid, match="openai_") as caught:
        provider(**options)
    assert "secret" not in caught.value.detail


@pytest.mark.local
@pytest.mark.skipif(not local_model_available(), reason="THE LOCAL MODEL IS NOT TESTED: no extra `local`")
async def test_a_real_server_is_understood():
    """llama.cpp speaks the protocol: an answer, and a conversation with a call and its result."""
    local = LocalProvider(clock=SystemClock(), connect_timeout_s=5)
    await local.start()
    child = local._child
    subject = ResponsesProvider(
        Endpoint(clock=SystemClock(), connect_timeout_s=5, base_url=child.base_url, api_key=child.api_key)
    )
    asked = PromptMessage("user", (TextBlock("Name some colours."),))
    called = (
        PromptMessage("assistant", (TextBlock("Let me look."), ToolUseBlock("c1", "forecast", {"town": "Rome"}))),
        PromptMessage("tool", (ToolResultBlock("c1", "Rain."),)),
    )
    for messages, tools in ([(asked,), ()], [(asked, *called), (FORECAST,)]):
        prompt = Prompt("smollm2-135m", messages, "Be brief.", tools=tools, parameters=Parameters(max_output_tokens=12))
        async with aclosing(subject.stream(render_responses(prompt))) as stream:
            chunks = [chunk async for chunk in stream]
        assert [block_type for block_type, text in said(chunks) if text] == ["text"]
        (reported,) = [chunk.usage for chunk in chunks if isinstance(chunk, UsageReported)]
        assert reported.input_tokens > 10
        assert reported.output_tokens <= 12
        assert chunks[-1].stop_reason == "end_turn"
        assert chunks[-1].response_id.startswith("resp_")
    await subject.aclose()
    await local.aclose()
