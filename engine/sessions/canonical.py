"""The canonical form of a conversation as clients send it again, and its keyed hashes, by which a history is recognised
(DESIGN section 11). Pure.

The hash of the first k messages is ``h(k) = HMAC-SHA256(K, h(k-1) || canonical(message k))``, and ``h(0)`` is of whose
the conversation is. What differs without meaning anything is left out of the canonical form: the borders of text
blocks, thinking, empty texts, the vendor's ids of messages, and a vendor's blocks that callers have no word for. System
and developer texts are compared apart.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final

import msgspec

from ..events.blocks import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolContent,
    ToolResultBlock,
    ToolUseBlock,
)
from ..log.codec import MAX_SAFE_INTEGER

PURPOSE: Final = "prefix/1"
"""Names the key, and begins what ``h(0)`` is of: another canonical form would be another purpose."""

Part = list[str]


def origin(key: bytes, tenant: str, principal: str, end_user: str | None) -> bytes:
    """``h(0)``: of a tenant's caller, and of the user that the caller speaks for."""
    return _keyed(key, msgspec.json.encode([PURPOSE, tenant, principal, end_user]))


def following(key: bytes, before: bytes, role: str, content: Content) -> bytes:
    """The hash with one more message, after the hash of those before it."""
    return _keyed(key, before + canonical(role, content))


def hashes(key: bytes, first: bytes, messages: Iterable[tuple[str, Content]]) -> list[bytes]:
    """``h(1)`` to ``h(n)`` of messages, each a role and a content."""
    return [*accumulate(messages, lambda before, each: following(key, before, *each), initial=first)][1:]


def canonical(role: str, content: Content) -> bytes:
    """The canonical form of a message: its role and its parts as a JSON array."""
    parts: list[Part] = []
    for part in _parts(content):
        if parts and part[0] == parts[-1][0] == "text":
            parts[-1][1] += part[1]
        else:
            parts.append(part)
    return msgspec.json.encode([role, parts])


def arguments(value: Any) -> str:
    """A call's arguments in the form of RFC 8785: members in order, one spelling for each number."""
    read: Any = _numbers.decode(msgspec.json.encode(value))
    return msgspec.json.encode(read, order="sorted").decode()


def _parts(content: Content) -> Iterator[Part]:
    """The parts of a message that count. The calls come last: some protocols do not say where they stood in a text."""
    for block in content:
        if not isinstance(block, ToolUseBlock):
            yield from _part(block)
    for block in content:
        if isinstance(block, ToolUseBlock):
            given = block.input_text or "" if block.input is None else arguments(block.input)
            yield ["call", block.id, block.name, given]


def _part(block: Block) -> Iterator[Part]:
    match block:
        case TextBlock(text) if text:
            yield ["text", text]
        case ImageBlock():
            yield ["image", _image(block)]
        case ToolResultBlock():
            yield ["result", block.tool_use_id, *_result(block.content)]
        case TextBlock() | ThinkingBlock() | ToolUseBlock() | OtherBlock():
            return


def _result(content: ToolContent) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    yield "".join(block.text for block in content if isinstance(block, TextBlock))
    yield from (_image(block) for block in content if isinstance(block, ImageBlock))


def _image(block: ImageBlock) -> str:
    """SHA-256 of an image's bytes, or of the address where it lies."""
    source = block.source
    if not isinstance(source, Base64Source):
        return "url:" + hashlib.sha256(source.url.encode()).hexdigest()
    try:
        data = base64.b64decode(source.data)
    except (binascii.Error, ValueError):
        data = source.data.encode()
    return hashlib.sha256(data).hexdigest()


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER else value


_numbers = msgspec.json.Decoder(float_hook=_number)


def _keyed(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, hashlib.sha256)
