"""Answers of Anthropic's Messages: a turn as a message, and what its blocks, its end and its usage are called.

What Claude signed goes out as it came. Another vendor's reasoning goes out as a thought whose signature holds that
vendor's form (``sealed``), so that it comes back whole; a block that a client of this protocol could
not give back stays on record, and is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from ...engine import Block, OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock, Turn, Usage
from .messages_request import REASONING
from .sealed import sealed

STOPS = frozenset(
    {
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    }
)
"""Why an answer ends, in the protocol; any other reason is told as ``end_turn``, and stands on record."""
_OTHER_STOPS = {"content_filter": "refusal"}


class _Thought(msgspec.Struct):
    """Anthropic's form of a thought."""

    type: str
    signature: str


class _Cited(msgspec.Struct):
    """Anthropic's form of a text with citations."""

    type: str
    citations: list[msgspec.Raw]


_read_thought = msgspec.json.Decoder(_Thought).decode
_read_cited = msgspec.json.Decoder(_Cited).decode


def message_id(message_hex: str) -> str:
    """The name of a message in this protocol."""
    return f"msg_{message_hex}"


def stop_reason(told: str | None, vendors: str | None) -> str:
    """Why an answer ended, in the protocol's words: the vendor's own where it is one of them."""
    if vendors == "model_context_window_exceeded":
        return vendors
    reason = _OTHER_STOPS.get(told or "", told or "")
    return reason if reason in STOPS else "end_turn"


def stop_sequence(reason: str, sequences: Sequence[str], told: str | None) -> str | None:
    """The sequence at which an answer stopped: the one that the vendor has ``told``, or the only one that was asked
    for; None where it is not known which of several it was.
    """
    if reason != "stop_sequence":
        return None
    if told in sequences:
        return told
    return sequences[0] if len(sequences) == 1 else None


def usage_told(usage: Usage) -> dict[str, Any]:
    """The usage of a turn. Input is what no cache class counts; a figure that was not reported is 0, or null where the
    protocol lets it be.
    """
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    thought = usage.reasoning_tokens
    return {
        "input_tokens": max(0, (usage.input_tokens or 0) - cached),
        "output_tokens": usage.output_tokens or 0,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens_details": None if thought is None else {"thinking_tokens": thought},
        "server_tool_use": None,
    }


def whole_usage(usage: Usage) -> dict[str, Any]:
    """The usage of a whole message, which has a few fields more."""
    return usage_told(usage) | {"cache_creation": None, "inference_geo": None, "service_tier": None}


def message_told(turn: Turn, model: str, stops: Sequence[str]) -> dict[str, Any]:
    """A completed turn as a message. ``model``: its name in the request; ``stops``: the request's stop sequences."""
    assert turn.message is not None, "it was completed"
    reason = stop_reason(turn.stop_reason, turn.vendor_stop_reason)
    shown = [block_told(block) for block in turn.message.blocks()]
    return {
        "id": message_id(turn.message.id.hex),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [block for block in shown if block is not None],
        "stop_reason": reason,
        "stop_sequence": stop_sequence(reason, stops, None if turn.stop_sequence is UNSET else turn.stop_sequence),
        "stop_details": None,
        "container": None,
        "context_management": None,
        "usage": whole_usage(turn.usage),
    }


def block_told(block: Block) -> msgspec.Raw | dict[str, Any] | None:
    """A block of an answer; None for one that is not shown."""
    match block:
        case TextBlock(text=text):
            return {"type": "text", "text": text, "citations": citations(_form(block)) or None}
        case ToolUseBlock():
            return call_told(block.id, block.name, block.input or {})
        case ThinkingBlock(text=text):
            form = _form(block)
            own = form is not None and _own_signature(form) is not None
            if own and form is not None:
                return msgspec.Raw(form)
            return {"type": "thinking", "thinking": text, "signature": signature(form)}
        case OtherBlock():
            return other_told(block.raw)
    return None


def _form(block: TextBlock | ThinkingBlock) -> bytes | None:
    return bytes(block.vendor) if isinstance(block.vendor, msgspec.Raw) else None


def call_told(call: str | None, name: str | None, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": name, "input": given, "caller": {"type": "direct"}}


def other_told(raw: bytes) -> msgspec.Raw | dict[str, Any] | None:
    kind = msgspec.json.decode(raw)["type"]
    if kind == REASONING:
        return {"type": "thinking", "thinking": "", "signature": sealed("block", raw)}
    return msgspec.Raw(raw) if kind == "redacted_thinking" else None


def signature(form: bytes | None) -> str:
    """The signature of a thought: Anthropic's own; another vendor's form; empty where there is none."""
    if form is None:
        return ""
    own = _own_signature(form)
    return sealed("thought", form) if own is None else own


def _own_signature(form: bytes) -> str | None:
    try:
        thought = _read_thought(form)
    except msgspec.MsgspecError:
        return None
    return thought.signature if thought.type == "thinking" else None


def citations(form: bytes | None) -> list[msgspec.Raw]:
    """The citations of a text, as Anthropic gave them."""
    if form is None:
        return []
    try:
        cited = _read_cited(form)
    except msgspec.MsgspecError:
        return []
    return cited.citations if cited.type == "text" else []
