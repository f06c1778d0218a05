"""Messages in other tools' shapes: OpenAI's chat messages, and the message parts of OpenTelemetry's GenAI conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). Pure.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import msgspec

from ..events.blocks import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    calls_of,
    results_of,
    without_calls_and_thinking,
)
from ..sessions.views import Message


async def whole_units(messages: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
    """The messages of units that are whole: nothing in them is erased, and every call has its result (but for those of
    the last unit, which may still come).
    """
    unit: list[Message] = []
    async for message in messages:
        if message.role != "tool":
            for each in unit if _is_whole(unit) else ():
                yield each
            unit = []
        unit.append(message)
    if not any(message.erased for message in unit):
        for each in unit:
            yield each


def content_of(message: Message) -> Content:
    """The content of a message that is passed on; of an incomplete one, its text."""
    blocks = message.blocks()
    return blocks if message.complete else without_calls_and_thinking(blocks)


def openai_messages(message: Message) -> Iterator[dict[str, Any]]:
    """A message as OpenAI's chat completions take it; one for each result, where it holds results of tools."""
    content = content_of(message)
    if message.role == "tool":
        for block in content:
            if isinstance(block, ToolResultBlock):
                yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": _result(block)}
        return
    calls = [_openai_call(block) for block in content if isinstance(block, ToolUseBlock)]
    parts = [part for block in content if (part := _openai_part(block)) is not None]
    plain = all(part["type"] == "text" for part in parts)
    said: str | list[dict[str, Any]] | None = "".join(part["text"] for part in parts) if plain else parts
    if calls:
        yield {"role": message.role, "content": said or None, "tool_calls": calls}
    elif said:
        yield {"role": message.role, "content": said}


def otel_message(message: Message) -> Iterator[dict[str, Any]]:
    """A message as a chat message of OpenTelemetry; none where nothing is left of it."""
    parts = [_otel_part(block) for block in content_of(message)]
    if parts:
        yield {"role": message.role, "parts": parts}


def _is_whole(unit: list[Message]) -> bool:
    if any(message.erased for message in unit):
        return False
    answered = {result for message in unit for result in results_of(message.blocks())}
    return all(call in answered for message in unit if message.complete for call in calls_of(message.blocks()))


def _openai_part(block: Block) -> dict[str, Any] | None:
    match block:
        case TextBlock(text=text):
            return {"type": "text", "text": text}
        case ImageBlock(source=Base64Source(media_type=media_type, data=data)):
            return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}
        case ImageBlock(source=UrlSource(url=url)):
            return {"type": "image_url", "image_url": {"url": url}}
    return None


def _openai_call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": _arguments(block)}
    return {"id": block.id, "type": "function", "function": function}


def _otel_part(block: Block) -> dict[str, Any]:
    match block:
        case TextBlock(text=text):
            return {"type": "text", "content": text}
        case ThinkingBlock(text=text):
            return {"type": "reasoning", "content": text}
        case ToolUseBlock():
            arguments = block.input if block.input is not None else _arguments(block)
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": arguments}
        case ToolResultBlock():
            return {"type": "tool_call_response", "id": block.tool_use_id, "response": _result(block)}
        case ImageBlock(source=Base64Source(media_type=media_type, data=data)):
            return {"type": "blob", "modality": "image", "mime_type": media_type, "content": data}
        case ImageBlock(source=UrlSource(url=url)):
            return {"type": "uri", "modality": "image", "uri": url}
    assert isinstance(block, OtherBlock)
    other: dict[str, Any] = msgspec.json.decode(block.raw)
    return other


def _arguments(block: ToolUseBlock) -> str:
    if block.input_text is not None:
        return block.input_text
    return msgspec.json.encode(block.input or {}).decode()


def _result(block: ToolResultBlock) -> str:
    """A tool's answer as text; what of it is no text is told by its type."""
    if isinstance(block.content, str):
        return block.content
    return "\n".join(part.text if isinstance(part, TextBlock) else f"[{_type(part)}]" for part in block.content)


def _type(block: Block) -> str:
    return block.type if isinstance(block, OtherBlock) else str(block.__struct_config__.tag)
