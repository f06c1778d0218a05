"""Prompts as OpenAI Responses requests: pure, and kept for ever, since recorded requests are derived again.

The form of a prompt in this protocol, under ``openai-responses/1``:

* Nothing is stored at the vendor's (``store: false``): each request holds all. The system prompt is ``instructions``;
  all else are items, in the order of the blocks.
* Neighbouring messages of one role become one: texts of one message are joined as they are, of two with a blank line
  between. Text alone is sent as a string, text with other parts as parts. Objects keep the order of their keys.
* A call's arguments go back as the model wrote them, or as compact JSON where only their parse is known. Its result is
  an item too, with its images, and an error is marked in its text.
* A message with annotations, a refusal or a phase goes back as the vendor's item, byte for byte, if its texts are
  still the same.
* A reasoning item goes back byte for byte where it was said. It is left out if the vendor could not use it: without its
  encrypted or open content, with nothing after it in its message, or if the model is known not to reason - such a model
  refuses the wish for encrypted content as well. Other vendors' thinking is left out.
* A block of an unknown type is passed on, as it came, if a user says it and its type is one of ``PASSED_ON``; any other
  is left out, and so is an image that a user does not show, and a message that has nothing left.
* The protocol has no stop sequences, and not every parameter. A prompt with some is refused, not sent without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ...events.blocks import (
    Block,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
)
from ..base import Parameters, Prompt, PromptMessage, Renderer
from ..parameters import not_supported
from .chat_render import BETWEEN_MESSAGES, CHOICES, ERROR_MARK, Part, arguments_text, image_url, joined
from .parameters_render import number, responses_parameters

RESPONSES = "openai-responses/1"

PASSED_ON = frozenset({"input_image", "input_file", "input_audio"})
"""Types of user parts in the protocol that the common form has no word for, or not all of them."""

_WITHOUT_REASONING = re.compile(r"(?:[^/]*/|ft:)*(?:gpt-3|gpt-4|chatgpt-|gpt-5[0-9.]*-chat)")

_encode = msgspec.json.Encoder().encode


class _Speech(msgspec.Struct, frozen=True):
    """A message that is being rendered: no two texts are neighbours in ``parts``."""

    role: str
    parts: Sequence[Part]


class _Reasoning(msgspec.Struct):
    """The fields that show if an item is reasoning, and if the vendor can use it again."""

    type: str
    encrypted_content: str | None = None
    content: list[Any] | None = None


class _OwnPart(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _OwnMessage(msgspec.Struct):
    """The vendor's form of a message."""

    type: Literal["message"]
    role: Literal["assistant"]
    content: list[_OwnPart]


_Item = _Speech | dict[str, Any] | msgspec.Raw

_read_message = msgspec.json.Decoder(_OwnMessage).decode
_read_reasoning = msgspec.json.Decoder(_Reasoning).decode


def render_responses(prompt: Prompt) -> bytes:
    """``openai-responses/1``. Raises Invalid, which names the parameter, for one that the protocol does not have."""
    if prompt.parameters.stop:
        raise not_supported("stop", "OpenAI's Responses API has no stop sequences")
    reasons = _WITHOUT_REASONING.match(prompt.model) is None
    request: dict[str, Any] = {"model": prompt.model}
    if prompt.system:
        request["instructions"] = prompt.system
    request["input"] = [*map(_wire, _merged(_items(prompt.messages, reasons=reasons)))]
    if prompt.tools:
        request["tools"] = [*map(_tool, prompt.tools)]
    request |= _parameters(prompt.parameters, has_tools=bool(prompt.tools))
    request |= responses_parameters(prompt.parameters, has_tools=bool(prompt.tools))
    request["store"] = False
    if reasons:
        request["include"] = ["reasoning.encrypted_content"]
    request["stream"] = True
    return _encode(request)


RENDERERS: Mapping[str, Renderer] = {RESPONSES: render_responses}


def _tool(schema: ToolSchema) -> dict[str, Any]:
    """A tool; not strict unless it is said, as in Chat Completions: strict would limit what a schema may say."""
    function = {"name": schema.name, "description": schema.description, "parameters": schema.parameters}
    return {"type": "function", **function, "strict": bool(schema.strict)}


def _parameters(parameters: Parameters, *, has_tools: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {}
    choice = parameters.tool_choice
    if choice is not None and has_tools:  # without tools the vendor refuses it
        rendered["tool_choice"] = CHOICES.get(choice) or {"type": "function", "name": choice}
    if parameters.max_output_tokens is not None:
        rendered["max_output_tokens"] = parameters.max_output_tokens
    if parameters.temperature is not None:
        rendered["temperature"] = number(parameters.temperature)
    return rendered


# --- items ------------------------------------------------------------------------------------------------------------


def _items(messages: Sequence[PromptMessage], *, reasons: bool) -> Iterator[_Item]:
    """The items one by one: the results of a message before its other parts, since they answer the message before."""
    for message in messages:
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                yield {"type": "function_call_output", "call_id": block.tool_use_id, "output": _output(block)}
        if message.role == "assistant":
            yield from _answer(message.content, reasons=reasons)
        elif message.role != "tool":
            yield from _said(message.role, (_part(message.role, block) for block in message.content))


def _answer(content: Sequence[Block], *, reasons: bool) -> Iterator[_Item]:
    last = max((place for place, block in enumerate(content) if _is_spoken(block)), default=-1)
    texts: list[Part] = []
    told = 0  # blocks that the vendor's own items have said
    for place, block in enumerate(content):
        item: dict[str, Any] | msgspec.Raw | None = None
        if place < told:
            continue
        if isinstance(block, TextBlock):
            item, count = _own_message(content[place:])
            told = place + count
            if item is None:
                texts.append(block.text)
        elif isinstance(block, ToolUseBlock):
            item = {
                "type": "function_call",
                "call_id": block.id,
                "name": block.name,
                "arguments": arguments_text(block),
            }
        elif reasons and place < last:
            item = _reasoning(block)
        if item is not None:
            yield from _said("assistant", texts)
            texts = []
            yield item
    yield from _said("assistant", texts)


def _own_message(content: Sequence[Block]) -> tuple[msgspec.Raw | None, int]:
    """The vendor's own item for the texts that begin a content, and how many they are; None if there is none, or if
    they are not its texts any more.
    """
    first = content[0]
    if not (isinstance(first, TextBlock) and isinstance(first.vendor, msgspec.Raw)):
        return None, 0
    try:
        own = _read_message(first.vendor)
    except (msgspec.MsgspecError, RecursionError):
        return None, 0  # another vendor's form
    texts = [text for part in own.content if (text := part.text or part.refusal)]
    said = [block.text for block in content[: len(texts)] if isinstance(block, TextBlock)]
    return (first.vendor, len(texts)) if texts and said == texts else (None, 0)


def _is_spoken(block: Block) -> bool:
    return isinstance(block, ToolUseBlock) or (isinstance(block, TextBlock) and bool(block.text))


def _reasoning(block: Block) -> msgspec.Raw | None:
    """The vendor's own item, if the block has one that the vendor can use again."""
    if isinstance(block, ThinkingBlock) and block.vendor is not msgspec.UNSET:
        raw = msgspec.Raw(bytes(block.vendor))
    elif isinstance(block, OtherBlock):
        raw = msgspec.Raw(block.raw)
    else:
        return None
    try:
        item = _read_reasoning(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return raw if item.type == "reasoning" and (item.encrypted_content or item.content) else None


def _said(role: str, parts: Iterable[Part | None]) -> Iterator[_Speech]:
    together = joined(filter(None, parts), "")
    if together:
        yield _Speech(role, together)


def _merged(items: Iterator[_Item]) -> list[_Item]:
    merged: list[_Item] = []
    for item in items:
        last = merged[-1] if merged else None
        if isinstance(item, _Speech) and isinstance(last, _Speech) and item.role == last.role:
            merged[-1] = _Speech(item.role, joined([*last.parts, *item.parts], BETWEEN_MESSAGES))
        else:
            merged.append(item)
    return merged


def _wire(item: _Item) -> dict[str, Any] | msgspec.Raw:
    if not isinstance(item, _Speech):
        return item
    content: object = [*map(_typed, item.parts)]
    if all(isinstance(part, str) for part in item.parts):
        content = item.parts[0]
    return {"type": "message", "role": item.role, "content": content}


# --- blocks -----------------------------------------------------------------------------------------------------------


def _part(role: str, block: Block) -> Part | None:
    if isinstance(block, TextBlock):
        return block.text
    if role != "user":
        return None
    if isinstance(block, ImageBlock):
        return _image(block)
    return msgspec.Raw(block.raw) if isinstance(block, OtherBlock) and block.type in PASSED_ON else None


def _image(block: ImageBlock) -> Part:
    return {"type": "input_image", "image_url": image_url(block), "detail": "auto"}


def _typed(part: Part) -> dict[str, Any] | msgspec.Raw:
    return {"type": "input_text", "text": part} if isinstance(part, str) else part


def _output(block: ToolResultBlock) -> str | list[dict[str, Any] | msgspec.Raw]:
    mark = ERROR_MARK if block.is_error else ""
    if isinstance(block.content, str):
        return mark + block.content
    said = [each.text if isinstance(each, TextBlock) else _image(each) for each in block.content]
    parts = joined(filter(None, [mark, *said]), "")
    if all(isinstance(part, str) for part in parts):
        return "".join(map(str, parts))
    return [*map(_typed, parts)]
