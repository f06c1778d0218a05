"""The forms of Anthropic's Messages: the table of fields, and the shapes of a body, its messages and its tools.

What is refused here is refused for what it says: a block, a tool or a setting that ran at Anthropic, of which nothing
could be put on record. Versions and betas stand in headers, and any is taken: they add fields, and those are looked at.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..schemas.parameters import Count, Model
from .fields import HONOURED, REFUSED, Field, Table

KEEP_THINKING: tuple[Any, ...] = (
    {"edits": []},
    {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
)
"""Edits of the context that change nothing: all that a client sends is sent on."""

FIELDS: Table = {
    "billing_policy": REFUSED,
    "cache_control": HONOURED,
    "compaction": REFUSED,
    "container": REFUSED,
    "context_management": Field("refused", KEEP_THINKING),
    "diagnostics": REFUSED,
    "fallback_credit_token": REFUSED,
    "fallbacks": Field("refused", ([],)),
    "inference_geo": REFUSED,
    "max_tokens": HONOURED,
    "mcp_servers": Field("refused", ([],)),
    "messages": HONOURED,
    "metadata": HONOURED,
    "model": HONOURED,
    "output_config": HONOURED,
    "service_tier": Field("refused", ("auto",)),
    "speed": Field("refused", ("standard",)),
    "stop_sequences": HONOURED,
    "stream": HONOURED,
    "system": HONOURED,
    "temperature": HONOURED,
    "thinking": HONOURED,
    "thread": REFUSED,
    "tool_choice": HONOURED,
    "tools": HONOURED,
    "top_k": HONOURED,
    "top_p": HONOURED,
    "user_profile_id": REFUSED,
    "workspace_id": REFUSED,
}
"""What becomes of each field of the protocol. A cache mark is a hint: Claude is told of it, no other model is."""

COUNTED: Table = {
    name: FIELDS[name]
    for name in (
        *("billing_policy", "cache_control", "compaction", "context_management", "mcp_servers", "messages", "model"),
        *("output_config", "speed", "system", "thinking", "tool_choice", "tools", "user_profile_id", "workspace_id"),
    )
}
"""The fields of a request for a count."""

RAN_THERE = "runs at Anthropic; tools that the client runs have a name, a description and an input_schema"

Raw = msgspec.Raw | UnsetType
Content = str | tuple[msgspec.Raw, ...]


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``user_id``: whom the client speaks for."""

    user_id: str | None = None


class Thinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Count | None = None
    display: Literal["summarized"] | None = None


class JsonFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountIn(msgspec.Struct, frozen=True):
    """The body of a request for a count, without the fields that are refused. Messages and tools are read singly."""

    model: Model
    messages: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1)]
    system: Content | None = None
    tools: tuple[msgspec.Raw, ...] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: Raw = UNSET


class MessagesIn(CountIn, frozen=True, kw_only=True):
    """The body of a request for an answer."""

    max_tokens: Count
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message. One of the system's says something in the midst of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content


class CacheControl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cache mark. ``scope`` is what Claude Code sends beside the protocol."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: Literal["global", "organization"] | None = None


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A block that can have a cache mark."""

    type: str
    cache_control: Raw = UNSET


class TextPart(Block, frozen=True):
    """A text of the model's. Claude is given its citations back."""

    text: str
    citations: tuple[msgspec.Raw, ...] | None = None


class PlainPart(Block, frozen=True):
    """A text of anybody else's: it has no citations, since no renderer would say them."""

    text: str
    citations: tuple[()] | None = None


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an image is; a file at Anthropic is not taken."""

    type: Literal["base64", "url"]
    media_type: str = ""
    data: str = ""
    url: str = ""


class ImagePart(Block, frozen=True):
    source: Source
    transformations: dict[str, None] | None = None


class DirectCaller(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["direct"]


class CallPart(Block, frozen=True):
    id: str
    name: str
    input: dict[str, Any]
    caller: DirectCaller | None = None
    toolset_name: None = None


class ResultPart(Block, frozen=True):
    tool_use_id: str
    content: Content | None = None
    is_error: bool | None = None
    toolset_name: None = None


class ThinkingPart(Block, frozen=True):
    thinking: str
    signature: str


class RedactedPart(Block, frozen=True):
    data: str


PARTS: dict[str, dict[str, type[Block]]] = {
    "user": {"text": PlainPart, "image": ImagePart, "tool_result": ResultPart},
    "assistant": {
        "text": TextPart,
        "tool_use": CallPart,
        "thinking": ThinkingPart,
        "redacted_thinking": RedactedPart,
    },
    "system": {"text": PlainPart},
    "result": {"text": PlainPart, "image": ImagePart},
}
"""The blocks that there can be in what somebody says, and in a tool's result."""


class ClientTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool that the client runs. ``eager_input_streaming`` says how its input comes in pieces, and not what is said:
    any is taken.
    """

    name: str
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    cache_control: Raw = UNSET
    eager_input_streaming: bool | None = None
    strict: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: tuple[Literal["direct"], ...] | None = None
    input_examples: tuple[()] | None = None


class Typed(msgspec.Struct, frozen=True):
    """What a block or a tool is, whatever else stands in it."""

    type: str | None = None
