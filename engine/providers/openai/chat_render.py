"""Prompts as OpenAI Chat Completions requests: pure, and kept for ever, since recorded requests are derived again.

``openai-chat/1`` is for OpenAI, ``openai-chat-compat/1`` for servers of the same protocol that know its older
``max_tokens`` only. The form of a prompt in this protocol:

* Neighbours of one role become one message: texts of one message are joined as they are, of two with a blank line
  between. Text alone is sent as a string, text with other parts as parts. Objects keep the order of their keys.
* A tool result is a message of its own, and an error is marked in its text. The protocol has no images there: each
  leaves ``[image]`` behind, and follows in a user message after the last result.
* A call's arguments go back as the model wrote them, or as compact JSON where only their parse is known.
* A refusal goes back to OpenAI as a refusal, where the assistant gave it in this protocol; else it is a text.
* Thinking is left out: the protocol has no place for it. A block of an unknown type is passed on, as it came, if a user
  says it and its type is one of ``PASSED_ON``; any other is left out, and so is an image that a user does not show.
* A message that has nothing left is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ...events.blocks import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
)
from ..base import Parameters, Prompt, Renderer
from .parameters_render import chat_parameters, number

CHAT = "openai-chat/1"
CHAT_COMPAT = "openai-chat-compat/1"

PASSED_ON = frozenset({"image_url", "input_audio", "file"})
"""Types of user parts in the protocol that the common form has no word for."""

CHOICES = {"auto": "auto", "any": "required", "none": "none"}
VENDORS_LIMIT = "max_completion_tokens"
BETWEEN_MESSAGES = "\n\n"
ERROR_MARK = "Error: "
_IMAGE_MARK = "[image]"


class _Refusal(msgspec.Struct):
    """OpenAI's form of a refusal."""

    type: Literal["refusal"]
    refusal: str


_encode = msgspec.json.Encoder().encode
_read_refusal = msgspec.json.Decoder(_Refusal).decode

Part = str | dict[str, Any] | msgspec.Raw


class _Message(msgspec.Struct, frozen=True):
    """A message that is being rendered: no two texts are neighbours in ``parts``; ``answers`` is the call of a tool
    message.
    """

    role: str
    parts: Sequence[Part]
    calls: Sequence[dict[str, Any]] = ()
    answers: str | None = None


def render_chat(prompt: Prompt) -> bytes:
    """``openai-chat/1``."""
    return _render(prompt, VENDORS_LIMIT)


def render_chat_compat(prompt: Prompt) -> bytes:
    """``openai-chat-compat/1``."""
    return _render(prompt, "max_tokens")


RENDERERS: Mapping[str, Renderer] = {CHAT: render_chat, CHAT_COMPAT: render_chat_compat}


def _render(prompt: Prompt, limit_name: str) -> bytes:
    is_vendors = limit_name == VENDORS_LIMIT
    messages = _merged(_messages(prompt, is_vendors=is_vendors))
    request: dict[str, Any] = {"model": prompt.model, "messages": [*map(_wire, messages)]}
    if prompt.tools:
        request["tools"] = [*map(_tool, prompt.tools)]
    request |= _parameters(prompt.parameters, limit_name, has_tools=bool(prompt.tools))
    request |= chat_parameters(prompt.parameters, is_vendors=is_vendors, has_tools=bool(prompt.tools))
    request |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encode(request)


def _tool(schema: ToolSchema) -> dict[str, Any]:
    function = {"name": schema.name, "description": schema.description, "parameters": schema.parameters}
    strict = {} if schema.strict is None else {"strict": schema.strict}
    return {"type": "function", "function": {**function, **strict}}


def _parameters(parameters: Parameters, limit_name: str, *, has_tools: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {}
    choice = parameters.tool_choice
    if choice is not None and has_tools:  # without tools the vendor refuses it
        rendered["tool_choice"] = CHOICES.get(choice) or {"type": "function", "function": {"name": choice}}
    if parameters.max_output_tokens is not None:
        rendered[limit_name] = parameters.max_output_tokens
    if parameters.temperature is not None:
        rendered["temperature"] = number(parameters.temperature)
    if parameters.stop:
        rendered["stop"] = parameters.stop
    return rendered


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(prompt: Prompt, *, is_vendors: bool) -> Iterator[_Message]:
    """The messages one by one, without what the protocol cannot express, and without messages that are empty then."""
    if prompt.system:
        yield _Message("system", [prompt.system])
    images: list[Part] = []  # of tool results; they wait for the last result, which must follow its call
    for message in prompt.messages:
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                yield _Message("tool", [_result_text(block)], answers=block.tool_use_id)
                images += _result_images(block)
        parts = _parts(message.role, message.content, is_vendors=is_vendors)
        calls = _calls(message.content)
        if message.role == "tool" or not (parts or calls):
            continue
        if images:
            yield _Message("user", images)
            images = []
        yield _Message(message.role, parts, calls)
    if images:
        yield _Message("user", images)


def _merged(messages: Iterable[_Message]) -> list[_Message]:
    merged: list[_Message] = []
    for message in messages:
        if merged and message.role == merged[-1].role != "tool":
            last = merged.pop()
            parts = joined([*last.parts, *message.parts], BETWEEN_MESSAGES)
            merged.append(_Message(last.role, parts, [*last.calls, *message.calls]))
        else:
            merged.append(message)
    return merged


def _wire(message: _Message) -> dict[str, Any]:
    if message.answers is not None:
        return {"role": "tool", "tool_call_id": message.answers, "content": message.parts[0]}
    content: object = [{"type": "text", "text": part} if isinstance(part, str) else part for part in message.parts]
    if all(isinstance(part, str) for part in message.parts):
        content = message.parts[0] if message.parts else None
    wire = {"role": message.role, "content": content}
    return {**wire, "tool_calls": message.calls} if message.calls else wire


# --- blocks -----------------------------------------------------------------------------------------------------------


def _parts(role: str, content: Content, *, is_vendors: bool) -> list[Part]:
    return joined(filter(None, (_part(role, block, is_vendors=is_vendors) for block in content)), "")


def _part(role: str, block: Block, *, is_vendors: bool) -> Part | None:
    if isinstance(block, TextBlock):
        return (_refusal(block) if is_vendors and role == "assistant" else None) or block.text
    if role != "user":
        return None
    if isinstance(block, ImageBlock):
        return _image(block)
    return msgspec.Raw(block.raw) if isinstance(block, OtherBlock) and block.type in PASSED_ON else None


def _refusal(block: TextBlock) -> msgspec.Raw | None:
    """The vendor's form of a refusal, if the text is one and still the same."""
    if not isinstance(block.vendor, msgspec.Raw):
        return None
    try:
        own = _read_refusal(block.vendor)
    except (msgspec.MsgspecError, RecursionError):
        return None  # another form
    return block.vendor if own.refusal == block.text else None


def joined(parts: Iterable[Part], between: str) -> list[Part]:
    """The parts, with neighbouring texts joined to one."""
    result: list[Part] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, str) and isinstance(last, str):
            result[-1] = f"{last}{between}{part}"
        else:
            result.append(part)
    return result


def _image(block: ImageBlock) -> Part:
    return {"type": "image_url", "image_url": {"url": image_url(block)}}


def image_url(block: ImageBlock) -> str:
    source = block.source
    return f"data:{source.media_type};base64,{source.data}" if isinstance(source, Base64Source) else source.url


def _calls(content: Content) -> list[dict[str, Any]]:
    return [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments_text(block)}}
        for block in content
        if isinstance(block, ToolUseBlock)
    ]


def arguments_text(block: ToolUseBlock) -> str:
    return block.input_text or _encode(block.input or {}).decode()


def _result_text(block: ToolResultBlock) -> str:
    if isinstance(block.content, str):
        text = block.content
    else:
        text = "".join(inner.text if isinstance(inner, TextBlock) else _IMAGE_MARK for inner in block.content)
    return f"{ERROR_MARK}{text}" if block.is_error else text


def _result_images(block: ToolResultBlock) -> list[Part]:
    if isinstance(block.content, str):
        return []
    return [_image(inner) for inner in block.content if isinstance(inner, ImageBlock)]
