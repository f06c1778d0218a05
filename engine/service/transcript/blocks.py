"""The blocks of a message as passages: texts as they are, calls and results with their ids, images by their digest."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Iterable, Iterator

import msgspec

from ...events.blocks import (
    Base64Source,
    Block,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    read_blocks,
)
from .base import Passage

MAX_PRETTY_CHARS = 1_000_000
"""JSON that is longer is shown as it is, and not indented."""


def calls_in(raws: Iterable[msgspec.Raw]) -> list[str]:
    """The names of the tools that a message calls, in order."""
    return [block.name for block in read_blocks(raws) if isinstance(block, ToolUseBlock)]


def passages_of(raws: Iterable[msgspec.Raw]) -> Iterator[Passage]:
    """The words of a message, block by block."""
    for block in read_blocks(raws):
        yield from _passages(block)


def _passages(block: Block) -> Iterator[Passage]:
    match block:
        case TextBlock(text=text):
            yield Passage("", text)
        case ThinkingBlock(text=text):
            yield Passage("Thinking", text)
        case ToolUseBlock():
            given = block.input_text if block.input is None else msgspec.json.encode(block.input).decode()
            yield Passage("Calls a tool", f"{block.name} ({block.id})")
            yield Passage("With the input", _pretty(given or "{}"), code=True)
        case ToolResultBlock():
            yield Passage("Error of the call" if block.is_error else "Result of the call", block.tool_use_id)
            yield from _result(block)
        case ImageBlock():
            yield Passage("Image", _image(block))
        case OtherBlock():
            yield Passage("A block of another type", block.raw.decode(errors="replace"), code=True)


def _result(block: ToolResultBlock) -> Iterator[Passage]:
    if isinstance(block.content, str):
        yield Passage("", _pretty(block.content), code=True)
        return
    for each in block.content:
        yield from _passages(each)


def _image(block: ImageBlock) -> str:
    """An image is not shown, for a page that loads nothing; its digest ties it to the one in the bundle."""
    source = block.source
    if not isinstance(source, Base64Source):
        return f"at the address {source.url}, which is not part of the record"
    try:
        data = b64decode(source.data, validate=True)
    except binascii.Error:
        return f"{source.media_type}, not in base64"
    return f"{source.media_type}, {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def _pretty(text: str) -> str:
    """A text that may be JSON, indented if it is."""
    if len(text) > MAX_PRETTY_CHARS or text[:1] not in {"{", "["}:
        return text
    try:
        msgspec.json.decode(text)
        return msgspec.json.format(text, indent=2)
    except (RecursionError, UnicodeError, msgspec.MsgspecError):
        return text
