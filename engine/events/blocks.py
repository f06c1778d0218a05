"""The content blocks that messages are made of (the common form of API.md).

Blocks of a type that we know are typed; any other is kept as the bytes it came in (DESIGN section 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import Invalid


class _Block(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="type", gc=False):
    """A piece of a message. ``vendor``, where a block has it, is the provider's own form of it, byte for byte."""


class TextBlock(_Block, frozen=True, tag="text"):
    """A text. ``vendor`` has what the text alone does not say: citations, annotations, or that it is a refusal."""

    text: str
    vendor: msgspec.Raw | UnsetType = UNSET


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


ToolContent = str | tuple[TextBlock | ImageBlock, ...]


class ToolResultBlock(_Block, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: ToolContent = ""
    is_error: bool = False


class ThinkingBlock(_Block, frozen=True, tag="thinking"):
    text: str
    vendor: msgspec.Raw | UnsetType = UNSET


class OtherBlock(msgspec.Struct, frozen=True):
    """A block of a type we do not know: kept, and given back as it came."""

    type: str
    raw: bytes


class ToolSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function the model may call: ``parameters`` is a JSON Schema object. ``strict``: if the vendor is to see to it
    that calls keep to the schema; None leaves that to the vendor, and is not written.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None = None


class ToolOutcome(msgspec.Struct, frozen=True):
    """The outcome of a tool call. ``code`` is ``completed`` or names what went wrong; ``output_bytes`` is the size of
    the tool's output before any cut. Both figures are None where the call never reached the tool runner.
    """

    code: str
    content: ToolContent
    is_error: bool = False
    duration_ms: int | None = None
    output_bytes: int | None = None


KnownBlock = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock
Block = KnownBlock | OtherBlock
Content = tuple[Block, ...]

MAX_NAME_CHARS = 128

_known = msgspec.json.Decoder(KnownBlock)

_encoder = msgspec.json.Encoder()

KNOWN_TYPES = ("text", "image", "tool_use", "tool_result", "thinking")
RESULT_TYPES = ("text", "image")
"""What a tool's result may be made of."""


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


def read_block(raw: msgspec.Raw | bytes, field: str = "content") -> Block:
    """One block from its JSON.

    Raises Invalid, which names the field, if it is not an object with a type, or not of its type's shape.
    """
    try:
        kind = _typed.decode(raw).type
        if kind in KNOWN_TYPES:
            known: KnownBlock = _known.decode(raw)
            return known
        bytes(raw).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(field, str(error)) from None
    except RecursionError:
        raise Invalid(field, "is nested too deeply") from None
    if not 0 < len(kind) <= MAX_NAME_CHARS:
        raise Invalid(f"{field}.type", f"must be 1 to {MAX_NAME_CHARS} characters")
    return OtherBlock(type=kind, raw=bytes(raw))


def read_blocks(raws: Iterable[msgspec.Raw | bytes]) -> Content:
    """Stored blocks. Nearly all are of known types, which is seen by reading them as such: half the time."""
    stored = tuple(raws)
    try:
        return tuple(map(_known.decode, stored))
    except (msgspec.MsgspecError, RecursionError):
        return tuple(map(read_block, stored))


def raw_block(block: Block) -> msgspec.Raw:
    """A block as JSON; one of an unknown type byte for byte."""
    return msgspec.Raw(block.raw if isinstance(block, OtherBlock) else _encoder.encode(block))


def raw_blocks(content: Content) -> tuple[msgspec.Raw, ...]:
    return tuple([raw_block(block) for block in content])


def text_of(content: Content) -> str:
    """The text blocks, joined: what a person reads."""
    return "".join(block.text for block in content if isinstance(block, TextBlock))


def is_one_text(content: Content) -> TypeGuard[tuple[TextBlock]]:
    """True for one text block, as most messages are."""
    return len(content) == 1 and type(content[0]) is TextBlock


def calls_of(content: Content) -> tuple[str, ...]:
    """Ids of the tool calls in a message, in order."""
    if is_one_text(content):
        return ()
    return tuple([block.id for block in content if isinstance(block, ToolUseBlock)])


def results_of(content: Content) -> tuple[str, ...]:
    """Ids of the calls that a message answers, in order."""
    if is_one_text(content):
        return ()
    return tuple([block.tool_use_id for block in content if isinstance(block, ToolResultBlock)])


def text_content(text: str) -> Content:
    return (TextBlock(text=text),)


def without_calls_and_thinking(content: Sequence[Block]) -> Content:
    """The part of an incomplete message that is sent on: its text; open calls and unsigned thinking would be refused
    upstream.
    """
    return tuple(block for block in content if isinstance(block, TextBlock) and block.text)


IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
