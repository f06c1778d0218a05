"""The content blocks that messages are made of (the common form of API.md).

Blocks of a type that we know are typed; any other is kept as the bytes it came in (DESIGN section 1).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class _Block(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", gc=False):
    """A piece of a message. ``vendor``, where a block has it, is the provider's own form of it, byte for byte."""


class TextBlock(_Block, frozen=True, tag="text"):
    text: str


class Base64Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="base64", tag_field="type"):
    media_type: str
    data: str


class UrlSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="url", tag_field="type"):
    url: str


class ImageBlock(_Block, frozen=True, tag="image"):
    source: Base64Source | UrlSource


class ToolUseBlock(_Block, frozen=True, tag="tool_use"):
    """A call. ``input`` is the parse of ``input_text`` or None; ``input_text`` is what the model wrote, as
    received.
    """

    id: str
    name: str
    input: dict[str, Any] | None = msgspec.field(default=None)
    input_text: str | None = None
    vendor: msgspec.Raw | UnsetType = UNSET


class ToolResultBlock(_Block, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: str | tuple[TextBlock | ImageBlock, ...] = ""
    is_error: bool = False


class ThinkingBlock(_Block, frozen=True, tag="thinking"):
    text: str
    vendor: msgspec.Raw | UnsetType = UNSET


class OtherBlock(msgspec.Struct, frozen=True):
    """A block of a type we do not know: kept, and given back as it came."""

    type: str
    raw: bytes


KnownBlock = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock
Block = KnownBlock | OtherBlock
Content = tuple[Block, ...]
