"""The events of Anthropic's streams: their forms, and a decoder for them.

An event of a known type must have its form. Events of unknown types are ignored, as the vendor asks of clients.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..wire.sse import SseEvent
from ..wire.surrogates import Halves, read_with_halves

NOTHING = msgspec.Raw()


class TextDelta(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class SignatureDelta(msgspec.Struct, tag_field="type", tag="signature_delta", gc=False):
    signature: str


class InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class CitationsDelta(msgspec.Struct, tag_field="type", tag="citations_delta", gc=False):
    citation: msgspec.Raw


BlockPiece = TextDelta | ThinkingDelta | SignatureDelta | InputDelta | CitationsDelta


class _TaggedEvent(msgspec.Struct, tag_field="type"):
    pass


class MessageHead(msgspec.Struct):
    id: Any = None
    usage: msgspec.Raw = NOTHING


class MessageStart(_TaggedEvent, tag="message_start"):
    message: MessageHead


class ContentBlockStart(_TaggedEvent, tag="content_block_start"):
    index: int
    content_block: msgspec.Raw


class ContentBlockDelta(_TaggedEvent, tag="content_block_delta"):
    index: int
    delta: BlockPiece


class ContentBlockStop(_TaggedEvent, tag="content_block_stop"):
    index: int


class End(msgspec.Struct):
    stop_reason: str | None = None
    stop_sequence: Any = None


class MessageDelta(_TaggedEvent, tag="message_delta"):
    delta: End
    usage: msgspec.Raw = NOTHING


class MessageStop(_TaggedEvent, tag="message_stop"):
    pass


class Ping(_TaggedEvent, tag="ping"):
    pass


class Error(_TaggedEvent, tag="error"):
    pass


StreamEvent = (
    MessageStart | ContentBlockStart | ContentBlockDelta | ContentBlockStop | MessageDelta | MessageStop | Ping | Error
)


class BlockHead(msgspec.Struct):
    """The beginning of a block of an unknown type, whose other fields depend on that type."""

    type: str


class TextHead(BlockHead):
    text: str | None = None
    citations: list[msgspec.Raw] | None = None


class ThinkingHead(BlockHead):
    thinking: str | None = None
    signature: str | None = None


class CallHead(BlockHead):
    id: str
    name: str
    input: dict[str, Any] | None = None


_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
        "message",  # the name of an event that has neither a type nor a name
    }
)
_PIECES = frozenset({"text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"})
_BLOCKS: dict[str, type[BlockHead]] = {"text": TextHead, "thinking": ThinkingHead, "tool_use": CallHead}

_RAW = ("content_block", "usage", "citation")

_decoder: msgspec.json.Decoder[StreamEvent] = msgspec.json.Decoder(StreamEvent)


def read_event(event: SseEvent) -> StreamEvent | None:
    """An event from its JSON; None for an event or a piece of an unknown type. Raises ValueError for one that does not
    have the form of its type.
    """
    if event.event == "error":
        return Error()  # whatever its data is
    try:
        return _decoder.decode(event.data)
    except (msgspec.DecodeError, RecursionError):
        pass  # unknown, of another form, or with half a character: read again, slowly
    try:
        read = {"type": event.event} | msgspec.convert(read_with_halves(event.data), dict[str, Any])
        if read["type"] == "message" and "error" in read:
            return Error()  # the form that gateways send
        return None if _is_unknown(read) else msgspec.convert(_with_raw(read), StreamEvent)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError from None


def read_block(raw: bytes) -> tuple[BlockHead, bytes]:
    """The beginning of a block, and its JSON: as it came, unless that holds half a character. Raises ValueError."""
    try:
        try:
            msgspec.json.decode(raw)
        except msgspec.DecodeError:
            raw = _repaired(read_with_halves(raw.decode()))
        kind = msgspec.json.decode(raw, type=BlockHead).type
        return msgspec.json.decode(raw, type=_BLOCKS.get(kind, BlockHead)), raw
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise ValueError from None


def whole(text: str) -> str:
    """A text that comes in one piece, without half characters."""
    halves = Halves()
    return halves.feed(text) + halves.close()


def _is_unknown(read: dict[str, Any]) -> bool:
    kind, delta, known = read["type"], read.get("delta"), _EVENTS
    if kind == "content_block_delta" and isinstance(delta, dict):
        kind, known = delta.get("type"), _PIECES
    return isinstance(kind, str) and kind not in known


def _with_raw(read: dict[str, Any]) -> dict[str, Any]:
    """Encode again what the typed form keeps as bytes."""
    read = read | {name: msgspec.Raw(_repaired(read[name])) for name in _RAW if name in read}
    inner = {name: _with_raw(read[name]) for name in ("message", "delta") if isinstance(read.get(name), dict)}
    return read | inner


def _repaired(value: Any) -> bytes:
    """JSON without half characters. Raises MsgspecError for what has no JSON, as a number that is none."""
    raw = whole(json.dumps(value, ensure_ascii=False)).encode()
    msgspec.json.decode(raw)
    return raw
