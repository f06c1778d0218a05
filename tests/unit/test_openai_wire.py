"""OpenAI's Chat Completions on the wire: requests to the byte, streams in any cut, failures by their kind.

The streams in ``tests/golden/wire`` have the exact forms that OpenAI, vLLM, Ollama and llama.cpp send.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import httpx2
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from manent.engine.errors import (
    ContextTooLong,
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
from manent.engine.providers.openai.chat_render import RENDERERS, render_chat, render_chat_compat
from manent.engine.providers.openai.chat_stream import ChatStream
from manent.engine.providers.wire.sse import EventReader, SseDecoder

WIRE = Path(__file__).parent.parent / "golden" / "wire"


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
            ThinkingBlock("They want weather.", vendor=msgspec.Raw(b'{"signature":"x"}')),
            TextBlock("Let me look."),
            ToolUseBlock("call_1", "forecast", {"town": "Rome"}, '{ "town":"Rome" }'),
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
    PromptMessage("assistant", (ThinkingBlock("Only a thought, which is not sent."),)),
    PromptMessage(
        "assistant", (TextBlock("Dry in "), TextBlock("Rome."), OtherBlock("refusal", b'{"type":"refusal"}'))
    ),
    PromptMessage("user", (TextBlock("Thanks."), OtherBlock("telepathy", b'{"type":"telepathy"}'))),
    PromptMessage("user", (OtherBlock("file", b'{ "type":"file","file":{"file_id":"f1"} }'), TextBlock("And this?"))),
)

FULL = Prompt(
    model="gpt-5",
    system="Be brief.",
    messages=CONVERSATION,
    tools=(FORECAST,),
    parameters=Parameters(max_output_tokens=300, temperature=0.7, stop=("END", "\n\n"), tool_choice="forecast"),
)


@pytest.mark.parametrize(
    ("render", "name"), [(render_chat, "openai-chat-1"), (render_chat_compat, "openai-chat-compat-1")]
)
def test_a_request_has_the_bytes_it_always_had(render, name):
    """A whole conversation renders to the golden bytes: requests on record are derived again from the log."""
    assert render(FULL) == (WIRE / f"{name}.request.json").read_bytes().removesuffix(b"\n")


@pytest.mark.parametrize("render", [render_chat, render_chat_compat])
def test_a_request_is_what_the_vendors_own_client_may_send(render):
    """By the types of the official SDK, which know every field in it."""
    request = json.loads(render(FULL))
    assert listed(TypeAdapter(CompletionCreateParamsStreaming).validate_python(request)) == request


def listed(value):
    """Lists for the SDK's lazy iterables: a field that it does not know would be missing."""
    if isinstance(value, Mapping):
        return {key: listed(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | None) else [listed(item) for item in value]


def messages_of(*messages, system=None):
    """The messages of a request."""
    return json.loads(render_chat(Prompt("m", messages, system=system)))["messages"]


def test_the_least_request_has_nothing_that_was_not_asked_for():
    """Text alone is a string, and no parameter is made up."""
    assert render_chat(Prompt("m", (PromptMessage("user", (TextBlock("hi"),)),))) == (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_the_two_renderers_differ_in_the_name_of_the_limit_alone():
    """A server that knows only the older name gets that, and nothing else changes."""
    assert render_chat(FULL).replace(b"max_completion_tokens", b"max_tokens") == render_chat_compat(FULL)
    assert set(RENDERERS) == {"openai-chat/1", "openai-chat-compat/1"}


def test_neighbours_of_one_role_become_one_message():
    """Texts of two messages stand apart by a blank line; a system prompt and a first system message are neighbours."""
    rendered = messages_of(
        PromptMessage("system", (TextBlock("And polite."),)),
        PromptMessage("user", (TextBlock("a"),)),
        PromptMessage("user", (TextBlock("b"), TextBlock("c"))),
        PromptMessage("assistant", (TextBlock("d"),)),
        PromptMessage("assistant", (TextBlock("e"), ToolUseBlock("1", "f", {}))),
        system="Be brief.",
    )
    assert [(message["role"], message["content"]) for message in rendered] == [
        ("system", "Be brief.\n\nAnd polite."),
        ("user", "a\n\nbc"),
        ("assistant", "d\n\ne"),
    ]
    assert rendered[2]["tool_calls"] == [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def test_results_stay_apart_and_their_images_follow_the_last():
    """Each result directly answers its call: what cannot stand in a result comes after all of them."""
    shown = ToolResultBlock("1", (ImageBlock(UrlSource("u")),))
    rendered = messages_of(
        PromptMessage("assistant", (ToolUseBlock("1", "f", {}), ToolUseBlock("2", "f", {}))),
        PromptMessage("tool", (shown,)),
        PromptMessage("tool", (ToolResultBlock("2", "x"),)),
    )
    assert [message["role"] for message in rendered] == ["assistant", "tool", "tool", "user"]
    assert rendered[1] == {"role": "tool", "tool_call_id": "1", "content": "[image]"}
    assert rendered[3]["content"] == [{"type": "image_url", "image_url": {"url": "u"}}]


@pytest.mark.parametrize(
    ("choice", "rendered"),
    [
        ("auto", "auto"),
        ("any", "required"),
        ("none", "none"),
        ("forecast", {"type": "function", "function": {"name": "forecast"}}),
    ],
)
def test_a_tool_choice_has_the_vendors_word(choice, rendered):
    """The common words are translated, any other is a tool's name."""
    prompt = Prompt("m", CONVERSATION, tools=(FORECAST,), parameters=Parameters(tool_choice=choice))
    assert json.loads(render_chat(prompt))["tool_choice"] == rendered


def test_a_tool_choice_without_tools_is_left_out():
    """The vendor refuses it."""
    assert b"tool_choice" not in render_chat(Prompt("m", CONVERSATION, parameters=Parameters(tool_choice="auto")))


@pytest.mark.parametrize(
    ("temperature", "rendered"), [(0.0, b"0.0"), (1, b"1.0"), (1e-07, b"1e-07"), (0.1 + 0.2, b"0.30000000000000004")]
)
def test_a_temperature_is_written_in_pythons_shortest_form(temperature, rendered):
    """Its bytes do not hang on an encoder's version."""
    request = render_chat(Prompt("m", CONVERSATION, parameters=Parameters(temperature=temperature)))
    assert b'"temperature":' + rendered + b"," in request


# --- streams ----------------------------------------------------------------------------------------------------------


def chunks_of(*pieces, events=ChatStream):
    """What a stream gives that comes in these pieces."""
    reader, answer = EventReader(), events("openai")
    chunks = [chunk for piece in pieces for event in reader.feed(piece) for chunk in answer.feed(event)]
    if not answer.ended:
        raise answer.broken_off()
    return chunks


def events(*datas):
    """A stream of these data."""
    raws = (data if isinstance(data, bytes) else json.dumps(data).encode() for data in datas)
    return b"".join(b"data: " + raw + b"\n\n" for raw in raws)


def delta(finish=None, **fields):
    """An event with one delta."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def said(chunks):
    """(type, text) of the blocks, in order; the text is the join of the deltas."""
    texts = {chunk.block: (chunk.type, []) for chunk in chunks if isinstance(chunk, BlockStarted)}
    for chunk in chunks:
        if isinstance(chunk, Delta):
            texts[chunk.block][1].append(chunk.text)
    return [(block_type, "".join(texts)) for block_type, texts in texts.values()]


ANNOTATIONS = (
    '{"type": "annotations", "annotations": [{"type": "url_citation", "url_citation": {"end_index": 12, '
    '"start_index": 0, "title": "Rome – weather", "url": "https://example.org/rome"}}]}'
).encode()

STREAMS = {
    "openai_text": [
        BlockStarted(0, "text"),
        Delta(0, "Ciao"),
        Delta(0, ", Roma\u2028"),
        Delta(0, "\U0001f327\n\n"),
        UsageReported(
            Usage(input_tokens=19, cache_read_tokens=4, output_tokens=10, reasoning_tokens=3),
            b'{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,'
            b'"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},'
            b'"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}',
        ),
        BlockStopped(0),
        Ended("end_turn", "stop", "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG"),
    ],
    "openai_tools": [
        BlockStarted(0, "text"),
        Delta(0, "Let me look."),
        BlockStopped(0),
        BlockStarted(1, "tool_use", "call_DdmO9pD3xa9XTPNJ32zg2hcA", "forecast"),
        Delta(1, '{"to'),
        BlockStarted(2, "tool_use", "call_ABCDEfghIJKLmnop12345678", "forecast"),
        Delta(2, '{"town":'),
        Delta(1, 'wn":"Rome"}'),
        Delta(2, '"Oslo"}'),
        UsageReported(
            Usage(input_tokens=82, output_tokens=34), b'{"prompt_tokens":82,"completion_tokens":34,"total_tokens":116}'
        ),
        BlockStopped(1),
        BlockStopped(2),
        Ended("tool_use", "tool_calls", "chatcmpl-tools"),
    ],
    "openai_refusal": [
        BlockStarted(0, "text"),
        Delta(0, "I'm sorry, "),
        Delta(0, "no."),
        VendorBlock(0, "refusal", b'{"type":"refusal","refusal":"I\'m sorry, no."}'),
        BlockStopped(0),
        Ended("refusal", "stop", "chatcmpl-refusal"),
    ],
    "openai_annotations": [
        BlockStarted(0, "text"),
        Delta(0, "Dry in "),
        Delta(0, "Rome."),
        VendorBlock(0, "annotations", ANNOTATIONS),
        BlockStopped(0),
        Ended("end_turn", "stop", "chatcmpl-annotated"),
    ],
    "openai_filtered": [
        BlockStarted(0, "text"),
        Delta(0, "How to "),
        UsageReported(
            Usage(input_tokens=11, cache_read_tokens=0, cache_write_tokens=5, output_tokens=3, reasoning_tokens=0),
            b'{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14,'
            b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0,"cache_write_tokens":5},'
            b'"completion_tokens_details":{"reasoning_tokens":0}}',
        ),
        BlockStopped(0),
        Ended("refusal", "content_filter", "chatcmpl-filtered"),
    ],
    "vllm_reasoning": [
        BlockStarted(0, "thinking"),
        Delta(0, "Hm."),
        Delta(0, " Rain."),
        BlockStopped(0),
        BlockStarted(1, "text"),
        Delta(1, "Yes."),
        UsageReported(
            Usage(input_tokens=9, output_tokens=7), b'{"prompt_tokens":9,"total_tokens":16,"completion_tokens":7}'
        ),
        BlockStopped(1),
        Ended("end_turn", "stop", "chatcmpl-6f4e"),
    ],
    "ollama_tools": [
        BlockStarted(0, "thinking"),
        Delta(0, "A tool."),
        BlockStopped(0),
        BlockStarted(1, "tool_use", "call_8xk2", "forecast"),
        Delta(1, '{"town":"Rome"}'),
        UsageReported(
            Usage(input_tokens=169, output_tokens=23),
            b'{"prompt_tokens":169,"completion_tokens":23,"total_tokens":192}',
        ),
        BlockStopped(1),
        Ended("tool_use", "tool_calls", "chatcmpl-431"),
    ],
    "llamacpp_text": [
        BlockStarted(0, "text"),
        Delta(0, "It"),
        Delta(0, " was"),
        UsageReported(
            Usage(input_tokens=36, cache_read_tokens=0, output_tokens=2),
            b'{"completion_tokens":2,"prompt_tokens":36,"total_tokens":38,"prompt_tokens_details":{"cached_tokens":0}}',
        ),
        BlockStopped(0),
        Ended("max_tokens", "length", "chatcmpl-1gWfQ0wDoXNMzIa8T6XcC2SiLJ6g02gd"),
    ],
    "halves": [
        BlockStarted(0, "text"),
        Delta(0, "a"),
        Delta(0, "\U0001f600b"),
        Delta(0, "\ufffdc"),
        BlockStopped(0),
        BlockStarted(1, "tool_use", "call_1", "f"),
        Delta(1, '{"x":"'),
        Delta(1, '\U0001f600"}'),
        BlockStarted(2, "text"),
        Delta(2, "d"),
        BlockStopped(1),
        Delta(2, "\ufffd"),
        BlockStopped(2),
        Ended("tool_use", "tool_calls", "chatcmpl-halves"),
    ],
}


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
    """As packets mostly come: one event each, or several."""
    whole = [event + b"\n\n" for event in (WIRE / f"{name}.sse").read_bytes().split(b"\n\n")[:-1]]
    assert chunks_of(*whole) == STREAMS[name]
    assert chunks_of(whole[0], b"".join(whole[1:])) == STREAMS[name]


@given(
    st.lists(
        st.sampled_from(
            [
                *("data: a\n\n", "data: \u2028\n\n", "event: e\ndata: b\n\n", "data: c\r\n\n", "data: d\ndata: e\n\n"),
                *(
                    "data:f\n\n",
                    "event:\ndata: g\n\n",
                    ": h\n\n",
                    "event: i\n\n",
                    "\n",
                    "id: 1\n",
                    "data: j\n",
                    "\ufeff",
                ),
                *("data: \n\n", "\r", "event: k\n", "\r\n"),
            ]
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_whole_events_are_read_as_the_decoder_reads_them(parts, cuts):
    """The short way differs in its speed alone, wherever a stream is cut."""
    data = "".join(parts).encode()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    reader, decoder = EventReader(), SseDecoder()
    for start, end in pairwise(places):
        assert [*reader.feed(data[start:end])] == [*decoder.feed(data[start:end])]


def test_whole_events_that_are_not_utf_8_are_malformed():
    """The short way leaves them to the decoder."""
    reader = EventReader()
    assert len([*reader.feed(b"data: a\n\n")]) == 1
    with pytest.raises(ProviderMalformed, match="UTF-8"):
        list(reader.feed(b"data: \xff\n\n"))


@pytest.mark.parametrize("name", [name for name in STREAMS if name.startswith("openai_")])
def test_a_stream_is_what_the_vendors_own_client_reads(name):
    """The official SDK accepts every event and puts together the same answer."""
    wire, state, seen = (WIRE / f"{name}.sse").read_bytes(), ChatCompletionStreamState(), 0
    for chunk in sdk(wire).chat.completions.create(model="gpt-5", messages=[], stream=True):
        TypeAdapter(ChatCompletionChunk).validate_python(chunk.model_dump(exclude_unset=True))
        state.handle_chunk(chunk)
        seen += 1
    assert seen == wire.count(b"data: {")
    choice = state.current_completion_snapshot.choices[0]
    texts = [choice.message.content or choice.message.refusal]
    texts += [call.function.arguments for call in choice.message.tool_calls or ()]
    chunks = chunks_of(wire)
    assert [text for _, text in said(chunks)] == texts
    assert choice.finish_reason == chunks[-1].vendor_stop_reason
    usage = state.current_completion_snapshot.usage
    reported = [chunk.usage for chunk in chunks if isinstance(chunk, UsageReported)]
    assert [(each.input_tokens, each.output_tokens) for each in reported] == (
        [(usage.prompt_tokens, usage.completion_tokens)] if usage else []
    )


def sdk(wire):
    """The official client, answered with these bytes."""
    answer = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=wire)
    client = httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))
    return openai.OpenAI(api_key="none", base_url="http://upstream.test/v1", http_client=client, max_retries=0)


def test_a_refusal_is_a_block_of_its_own():
    """Beside a text, in whatever order they come; annotations without a text stand alone."""
    wire = events(
        delta(content="a"), delta(refusal="b"), delta(content="c", annotations=[{"n": 1}]), delta("stop"), b"[DONE]"
    )
    assert said(chunks_of(wire)) == [("text", "a"), ("text", "b"), ("text", "c")]
    forms = [(chunk.block, chunk.type) for chunk in chunks_of(wire) if isinstance(chunk, VendorBlock)]
    assert forms == [(1, "refusal"), (2, "annotations")]
    alone = chunks_of(events(delta(annotations=[{"n": 1}]), delta("stop"), b"[DONE]"))
    assert alone[:-1] == [VendorBlock(0, "annotations", b'{"type": "annotations", "annotations": [{"n": 1}]}')]


def test_a_refusal_goes_back_as_a_refusal():
    """To OpenAI, where it is still the same; other servers may not know such a part."""
    refusal = msgspec.Raw(b'{ "type": "refusal","refusal":"No."}')
    asked = Prompt("m", (PromptMessage("assistant", (TextBlock("Hm. "), TextBlock("No.", refusal))),))
    parts = b'"content":[{"type":"text","text":"Hm. "},{ "type": "refusal","refusal":"No."}]'
    assert parts in render_chat(asked)
    assert b'"content":"Hm. No."' in render_chat_compat(asked)
    changed = Prompt("m", (PromptMessage("assistant", (TextBlock("Yes.", refusal),)),))
    assert b'"content":"Yes."' in render_chat(changed)
    assert b'"content":"No."' in render_chat(Prompt("m", (PromptMessage("user", (TextBlock("No.", refusal),)),)))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_short_is_truncated(name):
    """However far it came: nothing but the end marker ends an answer."""
    wire = (WIRE / f"{name}.sse").read_bytes()
    for end in range(0, len(wire) - 1, 3):
        with pytest.raises(ProviderTruncated):
            chunks_of(wire[:end])


def test_an_end_marker_without_a_finish_reason_is_truncated():
    """Both are demanded: a gateway may add the marker to a stream that broke off behind it."""
    with pytest.raises(ProviderTruncated):
        chunks_of(events(delta(content="half an ans"), b"[DONE]"))


def test_a_finish_reason_without_an_end_marker_is_truncated():
    """Usage might have followed, or an error."""
    with pytest.raises(ProviderTruncated):
        chunks_of(events(delta(content="all of it"), delta("stop")))


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "end_turn"),
        ("function_call", "end_turn"),
        ("eos_token", "eos_token"),
    ],
)
def test_a_finish_reason_is_mapped(finish, stop_reason):
    """An unknown one passes; a call that never came is not waited for."""
    *_, ended = chunks_of(events(delta(content="x"), delta(finish), b"[DONE]"))
    assert ended == Ended(stop_reason, finish)


def test_calls_end_in_tool_use_whatever_the_vendor_says():
    """Some servers say `stop` after a call; its result is waited for all the same."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    *_, ended = chunks_of(events(delta(tool_calls=[call]), delta("stop"), b"[DONE]"))
    assert ended == Ended("tool_use", "stop")


def test_a_call_without_an_id_gets_one():
    """It stands for the place of the call, so that it is the same each time."""
    calls = [{"index": index, "function": {"name": "f", "arguments": "{}"}} for index in (0, 1)]
    chunks = chunks_of(events(delta(tool_calls=calls), delta("tool_calls"), b"[DONE]"))
    assert [chunk.id for chunk in chunks if isinstance(chunk, BlockStarted)] == ["call_0", "call_1"]


def test_calls_that_all_have_one_index_are_told_apart_by_their_ids():
    """Some servers never count."""
    calls = [{"id": call_id, "function": {"name": "f", "arguments": '{"x":1}'}} for call_id in ("a", "b")]
    chunks = chunks_of(events(*(delta(tool_calls=[call]) for call in calls), delta("tool_calls"), b"[DONE]"))
    assert said(chunks) == [("tool_use", '{"x":1}'), ("tool_use", '{"x":1}')]


def test_an_id_that_comes_with_each_fragment_is_one_call():
    """Some servers repeat what they said once."""
    fragments = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": text}} for text in ('{"x"', ":1}")]
    chunks = chunks_of(events(*(delta(tool_calls=[call]) for call in fragments), delta("tool_calls"), b"[DONE]"))
    assert said(chunks) == [("tool_use", '{"x":1}')]


def test_fragments_without_an_index_belong_to_the_last_call_or_to_their_id():
    """Some servers never count, and still send in pieces."""
    fragments = [
        {"id": "a", "function": {"name": "f", "arguments": '{"x"'}},
        {"function": {"arguments": ":1}"}},
        {"id": "b", "function": {"name": "g", "arguments": "{"}},
        {"id": "a", "function": {"arguments": " "}},
        {"function": {"arguments": "}"}},
    ]
    chunks = chunks_of(events(*(delta(tool_calls=[call]) for call in fragments), delta("tool_calls"), b"[DONE]"))
    assert said(chunks) == [("tool_use", '{"x":1} '), ("tool_use", "{}")]


def test_an_index_may_be_left_out_once_it_was_said():
    """And may come late: a call's place among the calls is its index then."""
    fragments = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
        {"id": "b", "function": {"name": "g", "arguments": "{"}},
        {"index": 1, "function": {"arguments": '"y":2'}},
        {"index": 0, "function": {"arguments": '"x":1}'}},
        {"function": {"arguments": "}"}},
    ]
    chunks = chunks_of(events(*(delta(tool_calls=[call]) for call in fragments), delta("tool_calls"), b"[DONE]"))
    assert said(chunks) == [("tool_use", '{"x":1}'), ("tool_use", '{"y":2}')]


@pytest.mark.parametrize("place", [{"index": 0}, {"index": 0, "id": ""}, {}])
def test_whole_calls_that_nothing_tells_apart_are_calls_each(place):
    """Without ids, a name after whole arguments begins another; before that it is a name said twice."""
    whole = [{**place, "function": {"name": name, "arguments": '{"x":1}'}} for name in "fg"]
    again = [{**place, "function": {"name": "h", "arguments": text}} for text in ('{"y"', ":2}")]
    chunks = chunks_of(events(*(delta(tool_calls=[call]) for call in (*whole, *again)), delta("tool_calls"), b"[DONE]"))
    assert said(chunks) == [("tool_use", '{"x":1}'), ("tool_use", '{"x":1}'), ("tool_use", '{"y":2}')]
    assert [chunk.name for chunk in chunks if isinstance(chunk, BlockStarted)] == ["f", "g", "h"]


def test_the_form_before_tools_is_a_call_too():
    """Old servers answer with `function_call`."""
    chunks = chunks_of(
        events(
            delta(function_call={"name": "f", "arguments": '{"x"'}),
            delta(function_call={"arguments": ":1}"}),
            delta("function_call"),
            b"[DONE]",
        )
    )
    assert said(chunks) == [("tool_use", '{"x":1}')]
    assert chunks[-1].stop_reason == "tool_use"


def test_blocks_follow_each_other_as_they_are_said():
    """Thinking and text end each other, and each new one has a number of its own."""
    chunks = chunks_of(
        events(
            delta(reasoning="a"), delta(content="b"), delta(reasoning="c"), delta(content="d"), delta("stop"), b"[DONE]"
        )
    )
    assert said(chunks) == [("thinking", "a"), ("text", "b"), ("thinking", "c"), ("text", "d")]


def test_only_the_first_choice_is_an_answer():
    """Others are never asked for."""
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}
    chunks = chunks_of(events(other, delta(content="yes"), delta("stop"), other, b"[DONE]"))
    assert said(chunks) == [("text", "yes")]
    assert chunks[-1].stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("given", "response_id"),
    [('"chatcmpl-1"', "chatcmpl-1"), ("7", None), ('"\\ud83d"', None), (f'"{"x" * 129}"', None)],
)
def test_an_answers_id_is_one_or_nothing(given, response_id):
    """It goes on record as the vendor wrote it, if it can be stored."""
    end = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"id":' + given.encode() + b"}"
    assert chunks_of(events(end, b"[DONE]")) == [Ended("end_turn", "stop", response_id)]


def test_an_answer_of_nothing_has_no_blocks():
    """A model may say nothing and end."""
    assert chunks_of(events(delta(content=""), delta("stop"), b"[DONE]")) == [Ended("end_turn", "stop")]


@pytest.mark.parametrize(
    "usage",
    ['{"prompt_tokens": -1}', '{"prompt_tokens": "many"}', "[]", '{"prompt_tokens": 1e99}', '{"prompt_tokens": 1.5}'],
)
def test_a_usage_that_is_none_is_not_reported(usage):
    """The answer stands; what the vendor said is kept raw."""
    wire = events(delta(content="x"), delta("stop"), b'{"choices":[],"usage":' + usage.encode() + b"}", b"[DONE]")
    assert UsageReported(Usage(), usage.encode()) in chunks_of(wire)


def test_a_usage_with_half_a_character_can_be_kept():
    """It goes on record as JSON that can be read again."""
    wire = events(delta("stop"), b'{"choices":[],"usage":{"prompt_tokens":3,"x":"\\ud83d"}}', b"[DONE]")
    assert UsageReported(Usage(input_tokens=3), '{"prompt_tokens": 3, "x": "\ufffd"}'.encode()) in chunks_of(wire)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"hello",
        b'{"choices":[{"index":0,"delta":{"content":"cut off"',
        b'{"choices":"none"}',
        b'{"choices":[{"delta":{"content":7}}]}',
        b"[]",
        b'"\\ud83d"',
        b'{"choices":[{"delta":{"content":"\\ud83d"},"index":"\\ud83d"}]}',
        b"[" * 100_000,
        b'{"choices":[{"index":0,"delta":{},"finish_reason":"a reason with words"}]}',
        b'{"choices":[{"index":0,"delta":{},"finish_reason":"' + b"x" * 65 + b'"}]}',
    ],
)
def test_an_event_of_another_form_is_malformed(data):
    """Broken JSON and wrong types are the vendor's failure, and what came before them is told."""
    answer = ChatStream("openai")
    good, bad = SseDecoder().feed(events(delta(content="so far"), data))
    assert answer.feed(good) == [BlockStarted(0, "text"), Delta(0, "so far")]
    with pytest.raises(ProviderMalformed, match="openai"):
        answer.feed(bad)


@pytest.mark.parametrize(
    "call",
    [
        {"id": "x" * 129, "function": {"name": "f"}},
        {"id": "a b", "function": {"name": "f"}},
        {"id": "a\n", "function": {"name": "f"}},
        {"id": "ä", "function": {"name": "f"}},
        {"id": "a", "function": {"name": "f" * 129}},
        {"id": "a", "function": {"name": "rm -rf"}},
        {"id": "a", "function": {"name": ""}},
        {"id": "a", "function": {"arguments": "{}"}},
        {"id": "a"},
    ],
)
def test_a_call_whose_id_or_name_is_none_is_malformed(call):
    """They stand among facts, which are hashed for ever: no text gets in there."""
    with pytest.raises(ProviderMalformed):
        chunks_of(events(delta(tool_calls=[{"index": 0, **call}])))


def test_two_calls_of_one_id_are_malformed():
    """A result could not be told to answer the one or the other."""
    calls = [{"index": index, "id": "a", "function": {"name": "f"}} for index in (0, 1)]
    with pytest.raises(ProviderMalformed):
        chunks_of(events(delta(tool_calls=calls)))


@pytest.mark.parametrize(
    ("data", "kind", "status", "vendor_code"),
    [
        ({"error": {"message": "m", "type": "server_error", "code": None}}, ProviderUnavailable, None, "server_error"),
        (
            {"error": {"message": "m", "type": "t", "code": "rate_limit_exceeded"}},
            ProviderUnavailable,
            None,
            "rate_limit_exceeded",
        ),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, ProviderRejected, None, "invalid_request_error"),
        (
            {"error": {"message": "m", "code": "context_length_exceeded"}},
            ContextTooLong,
            None,
            "context_length_exceeded",
        ),
        ({"error": {"message": "m", "code": 429}, "choices": []}, ProviderUnavailable, 429, "429"),
        ({"error": {"message": "m", "code": "400"}}, ProviderRejected, 400, "400"),
        ({"error": {"code": 500, "message": "m", "type": "server_error"}}, ProviderUnavailable, 500, "500"),
        ({"error": "m"}, ProviderUnavailable, None, None),
        ({"error": {"code": "words of somebody"}}, ProviderUnavailable, None, None),
        ({"error": {"code": 10**30}}, ProviderUnavailable, None, None),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, ProviderRejected, 400, "400"),
        ({"type": "error", "code": "rate_limit_exceeded"}, ProviderUnavailable, None, "rate_limit_exceeded"),
        ({"type": "error", "error": {"type": "server_error"}}, ProviderUnavailable, None, "server_error"),
    ],
)
def test_an_error_in_the_stream_is_typed(data, kind, status, vendor_code):
    """By the vendor's code; its words go on record and into no detail."""
    with pytest.raises(kind) as caught:
        chunks_of(events(delta(content="x"), data))
    error = caught.value
    assert (type(error), error.status, error.vendor_code) == (kind, status, vendor_code)
    assert json.loads(error.upstream) == data
    assert error.detail.startswith("openai ")
    assert "words" not in error.detail


def test_an_error_event_by_name_is_an_error():
    """Some servers name the event and send the bare object."""
    with pytest.raises(ProviderUnavailable):
        chunks_of(b'event: error\ndata: {"message":"boom"}\n\n')


def test_an_error_with_half_a_character_is_an_error():
    """The slow way of reading knows errors too."""
    with pytest.raises(ProviderRejected):
        chunks_of(events(b'{"error":{"message":"\\ud83d","code":400}}'))
