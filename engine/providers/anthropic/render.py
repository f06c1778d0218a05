"""Prompts as requests of Anthropic's Messages API: pure, and kept for ever, since recorded requests are derived again.

Each renderer is for one ``anthropic-version`` (``VERSIONS``). The version ``2026-10-21`` refuses sampling parameters:
a request with any of them is sent with ``2023-06-01`` (``version_of`` sees it by the request's bytes). The first
renderers for the newer version left out the temperature instead. The cached ones mark up to four breakpoints of the
prompt cache: the last tool, the system prompt and the ends of the last two user messages. Those that a client has set
stand in all (``cache_marks``), in the stead of ours.

The form of a prompt in this protocol:

* Messages of user and tool are its user messages, and neighbours of one role become one message. In a user message
  tool results stand first, as the API demands; else blocks keep their order. A system message before all others belongs
  to the system prompt; a later one is said in a user message, between ``<system-message>`` marks, since most models
  know no other place for it.
* Texts and stop sequences of white space alone are left out, and so is white space at the end of the last message if
  the assistant says it: the API refuses them all.
* A text goes back byte for byte if the assistant said it with Anthropic's citations.
* Thinking goes back byte for byte if the block has Anthropic's own signed form. Else it is left out, and so it is at
  the end of a message, where the API refuses it.
* A call goes back in Anthropic's own form if it has one, else with its input as the model wrote it where that is a JSON
  object, else with its parse, else with ``{}``. Signs in ids of other vendors that the API refuses become ``_``.
* A block of another type is passed on, as it came, if the assistant says it and its type is one of Anthropic's
  (``redacted_thinking``, tools that ran at Anthropic and their results), or a user and it is one of ``PASSED_ON``.
  Images are the user's or a result's. All else is left out, and so is a message that has nothing left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby, takewhile
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from ...events.blocks import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
)
from ..base import Parameters, Prompt, PromptMessage, Renderer
from .cache_marks import Wire, clients, control_at, has_marks, mark_end, marked_system, marked_tools, whole_request
from .parameters_render import later_parameters, number, with_parallel

Version = Literal["2023-06-01", "2026-10-21"]

MESSAGES = "anthropic-messages/1"
MESSAGES_CACHED = "anthropic-messages-cached/1"
MESSAGES_2026_UNSAMPLED = "anthropic-messages-2026/1"
MESSAGES_2026_CACHED_UNSAMPLED = "anthropic-messages-2026-cached/1"
MESSAGES_2026 = "anthropic-messages-2026/2"
MESSAGES_2026_CACHED = "anthropic-messages-2026-cached/2"

VERSIONS: Mapping[str, Version] = {
    MESSAGES: "2023-06-01",
    MESSAGES_CACHED: "2023-06-01",
    MESSAGES_2026_UNSAMPLED: "2026-10-21",
    MESSAGES_2026_CACHED_UNSAMPLED: "2026-10-21",
    MESSAGES_2026: "2026-10-21",
    MESSAGES_2026_CACHED: "2026-10-21",
}
"""The version that a renderer's requests are sent with, unless they hold sampling parameters."""

SAMPLED: Version = "2023-06-01"
"""The newest version that takes sampling parameters."""

PASSED_ON = frozenset({"document", "search_result", "container_upload"})
"""Types of user blocks in the protocol that the common form has no word for."""

# Types of blocks that ran or were made at Anthropic; future tools are expected to be named in the same way.
_OWN = re.compile(r"redacted_thinking|container_upload|compaction|[a-z0-9_]+_tool_(use|result)")

# The protocol requires a limit, so without one from the caller it is the model's own. A recorded request depends on
# these figures, so they never change under these renderers' names, whatever a catalogue says later.
_OUTPUT_TOKENS = (
    (re.compile(r"claude-3-7-"), 64_000),
    (re.compile(r"claude-3-5-"), 8_192),
    (re.compile(r"claude-3-"), 4_096),
    (re.compile(r"claude-opus-4($|-(0|1|20))"), 32_000),
    (re.compile(r"claude-(opus-4-5|sonnet-4|haiku-4)"), 64_000),
    (re.compile(r"claude-"), 128_000),
)
_OTHER_OUTPUT_TOKENS = 4_096
"""Of models that are not Claude: servers of the same protocol refuse what their context cannot hold."""

_CHOICES = frozenset({"auto", "any", "none"})
_FOREIGN_SIGN = re.compile(r"[^A-Za-z0-9_-]")
_BETWEEN_MESSAGES = "\n\n"
_CACHED_MESSAGES = 2
_EMPTY_FAILURE = "error"

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True):
    """A block that is being rendered."""

    wire: Wire
    kind: Literal["text", "thought", "result", "other"] = "other"


class _Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    parts: list[_Part]


class _CitedText(msgspec.Struct):
    """Anthropic's form of a text with citations."""

    type: Literal["text"]
    text: str
    citations: list[Any]


class _SignedThought(msgspec.Struct):
    """Anthropic's form of a thinking block."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class _OwnCall(msgspec.Struct):
    """Anthropic's form of a call."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class _Sampling(msgspec.Struct, frozen=True):
    """The sampling parameters of a request."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


_NOT_SAMPLED = _Sampling()
_read_sampling = msgspec.json.Decoder(_Sampling).decode
_read_cited = msgspec.json.Decoder(_CitedText).decode
_read_thought = msgspec.json.Decoder(_SignedThought).decode
_read_call = msgspec.json.Decoder(_OwnCall).decode
_read_object = msgspec.json.Decoder(dict[str, Any]).decode


def renderer_for(version: Version, *, cache_breakpoints: bool) -> str:
    """The name of the renderer for requests of this version."""
    if version == "2026-10-21":
        return MESSAGES_2026_CACHED if cache_breakpoints else MESSAGES_2026
    return MESSAGES_CACHED if cache_breakpoints else MESSAGES


def _render(prompt: Prompt, *, sampling: bool, cached: bool) -> bytes:
    first = [*takewhile(lambda message: message.role == "system", prompt.messages)]
    texts = [prompt.system or "", *map(_system_text, first)]
    system = _BETWEEN_MESSAGES.join(text for text in texts if text.strip())
    messages = _merged(_messages(prompt.messages[len(first) :]))
    max_tokens = _max_tokens(prompt)
    request: dict[str, Any] = {"model": prompt.model, "max_tokens": max_tokens}
    if system:
        request["system"] = marked_system(system, prompt, cached=cached)
    wire = [[part.wire for part in message.parts] for message in messages]
    if cached and not has_marks(prompt):
        asked = [blocks for message, blocks in zip(messages, wire, strict=True) if message.role == "user"]
        for blocks in asked[-_CACHED_MESSAGES:]:
            mark_end(blocks)
    request["messages"] = [
        {"role": message.role, "content": blocks} for message, blocks in zip(messages, wire, strict=True)
    ]
    if prompt.tools:
        request["tools"] = marked_tools([*map(_tool, prompt.tools)], prompt, cached=cached)
    request |= _parameters(prompt.parameters, sampling=sampling, has_tools=bool(prompt.tools))
    request |= later_parameters(prompt.parameters, max_tokens) | whole_request(prompt.marks)
    return _encode(request | {"stream": True})


RENDERERS: Mapping[str, Renderer] = {
    MESSAGES: partial(_render, sampling=True, cached=False),
    MESSAGES_CACHED: partial(_render, sampling=True, cached=True),
    MESSAGES_2026_UNSAMPLED: partial(_render, sampling=False, cached=False),
    MESSAGES_2026_CACHED_UNSAMPLED: partial(_render, sampling=False, cached=True),
    MESSAGES_2026: partial(_render, sampling=True, cached=False),
    MESSAGES_2026_CACHED: partial(_render, sampling=True, cached=True),
}


def version_of(renderer: str, request: bytes) -> Version:
    """The version that a rendered request is sent with."""
    if VERSIONS[renderer] == SAMPLED:
        return SAMPLED
    try:
        sampled = _read_sampling(request) != _NOT_SAMPLED
    except (msgspec.MsgspecError, RecursionError):
        return VERSIONS[renderer]  # no request of ours: the vendor says what is wrong with it
    return SAMPLED if sampled else VERSIONS[renderer]


def _max_tokens(prompt: Prompt) -> int:
    if prompt.parameters.max_output_tokens is not None:
        return prompt.parameters.max_output_tokens
    found = (tokens for pattern, tokens in _OUTPUT_TOKENS if pattern.match(prompt.model))
    return next(found, _OTHER_OUTPUT_TOKENS)


def _tool(schema: ToolSchema) -> dict[str, Any]:
    described = {"description": schema.description} if schema.description else {}
    strict = {} if schema.strict is None else {"strict": schema.strict}
    return {"name": schema.name, **described, "input_schema": schema.parameters, **strict}


def _parameters(parameters: Parameters, *, sampling: bool, has_tools: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {}
    choice = _choice(parameters) if has_tools else None  # without tools the vendor refuses it
    if choice is not None:
        rendered["tool_choice"] = choice
    stop = [sequence for sequence in parameters.stop if sequence.strip()]
    if stop:
        rendered["stop_sequences"] = stop
    if parameters.temperature is not None and sampling:
        rendered["temperature"] = number(parameters.temperature)
    return rendered


def _choice(parameters: Parameters) -> dict[str, Any] | None:
    chosen = parameters.tool_choice
    plain = {"type": chosen} if chosen in _CHOICES else {"type": "tool", "name": chosen}
    return with_parallel(None if chosen is None else plain, parameters)


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(messages: Iterable[PromptMessage]) -> Iterator[_Message]:
    """The messages one by one, without what the protocol cannot express, and without messages that are empty then."""
    for message in messages:
        if message.role == "system":
            text = _system_text(message)
            parts = _text(f"<system-message>\n{text}\n</system-message>") if text.strip() else []
        else:
            say = _by_assistant if message.role == "assistant" else _by_user
            parts = [part for block in message.content for part in say(block)]
            if message.marks:
                parts = [*_marked_parts(message, say)]
        if parts:
            yield _Message("assistant" if message.role == "assistant" else "user", parts)


def _marked_parts(message: PromptMessage, say: Callable[[Block], list[_Part]]) -> Iterator[_Part]:
    """The blocks of a message with the client's breakpoints. The vendor takes none at thinking."""
    for place, block in enumerate(message.content):
        control = control_at(message.marks, place)
        for part in say(block):
            yield part if part.kind == "thought" else replace(part, wire=clients(part.wire, control))


def _merged(messages: Iterable[_Message]) -> list[_Message]:
    merged = []
    for role, neighbours in groupby(messages, key=lambda message: message.role):
        parts = [part for message in neighbours for part in message.parts]
        if role == "user":
            parts.sort(key=lambda part: part.kind != "result")
        else:
            while parts and parts[-1].kind == "thought":
                parts.pop()
        if parts:
            merged.append(_Message(role, parts))
    if merged and merged[-1].role == "assistant":
        _strip_end(merged[-1].parts)
    return merged


def _strip_end(parts: list[_Part]) -> None:
    last = parts[-1]
    if last.kind == "text" and isinstance(last.wire, dict):
        parts[-1:] = _text(last.wire["text"].rstrip())


def _system_text(message: PromptMessage) -> str:
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


# --- blocks -----------------------------------------------------------------------------------------------------------


def _by_user(block: Block) -> list[_Part]:
    match block:
        case TextBlock(text=text):
            return _text(text)
        case ImageBlock():
            return [_Part(_image(block))]
        case ToolResultBlock():
            return [_Part(_result(block), "result")]
        case OtherBlock(type=kind, raw=raw) if kind in PASSED_ON:
            return [_Part(msgspec.Raw(raw))]
        case _:
            return []


def _by_assistant(block: Block) -> list[_Part]:
    match block:
        case TextBlock(text=text):
            return _cited(block) or _text(text)
        case ToolUseBlock():
            return [_Part(_call(block))]
        case ThinkingBlock():
            return _thought(block)
        case OtherBlock(type="redacted_thinking", raw=raw):
            return [_Part(msgspec.Raw(raw), "thought")]
        case OtherBlock(type=kind, raw=raw) if _OWN.fullmatch(kind):
            return [_Part(msgspec.Raw(raw))]
        case _:
            return []


def _cited(block: TextBlock) -> list[_Part]:
    """A text with the vendor's citations, if they are still those of this text."""
    if not isinstance(block.vendor, msgspec.Raw) or not block.text.strip():
        return []
    try:
        own = _read_cited(block.vendor)
    except (msgspec.MsgspecError, RecursionError):
        return []  # another vendor's form
    return [_Part(block.vendor)] if own.text == block.text and own.citations else []


def _text(text: str) -> list[_Part]:
    return [_Part({"type": "text", "text": text}, "text")] if text.strip() else []


def _image(block: ImageBlock) -> dict[str, Any]:
    source = block.source
    if isinstance(source, Base64Source):
        given = {"type": "base64", "media_type": source.media_type, "data": source.data}
    else:
        given = {"type": "url", "url": source.url}
    return {"type": "image", "source": given}


def _thought(block: ThinkingBlock) -> list[_Part]:
    if not isinstance(block.vendor, msgspec.Raw):
        return []
    try:
        signed = bool(_read_thought(block.vendor).signature)
    except (msgspec.MsgspecError, RecursionError):
        return []
    return [_Part(block.vendor, "thought")] if signed else []


def _call(block: ToolUseBlock) -> Wire:
    if isinstance(block.vendor, msgspec.Raw):
        try:
            if _read_call(block.vendor).id == block.id:
                return block.vendor
        except (msgspec.MsgspecError, RecursionError):
            pass  # another vendor's form
    return {"type": "tool_use", "id": _id(block.id), "name": block.name, "input": _input(block)}


def _input(block: ToolUseBlock) -> msgspec.Raw | dict[str, Any]:
    try:
        _read_object(block.input_text or "")
    except (msgspec.MsgspecError, RecursionError):
        return block.input or {}
    return msgspec.Raw((block.input_text or "").encode())


def _id(call: str) -> str:
    return _FOREIGN_SIGN.sub("_", call)


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content: str | list[Wire]
    content = block.content if isinstance(block.content, str) else _result_blocks(block.content)
    if not content and block.is_error:
        content = _EMPTY_FAILURE  # the API refuses a failure without a word
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(block.tool_use_id)}
    if content:
        result["content"] = content
    return {**result, "is_error": True} if block.is_error else result


def _result_blocks(content: Content) -> list[Wire]:
    return [part.wire for block in content for part in _by_user(block)]
