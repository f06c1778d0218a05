"""The forms of OpenAI's Chat Completions: the table of fields, and the shapes of a body, its messages and its tools."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..schemas.parameters import Count, Model
from .fields import HONOURED, KEPT, REFUSED, Field, Table

FIELDS: Table = {
    "audio": REFUSED,
    "frequency_penalty": HONOURED,
    "function_call": REFUSED,
    "functions": REFUSED,
    "logit_bias": HONOURED,
    "logprobs": Field("refused", (False,)),
    "max_completion_tokens": HONOURED,
    "max_tokens": HONOURED,
    "messages": HONOURED,
    "metadata": HONOURED,
    "modalities": Field("refused", (["text"],)),
    "model": HONOURED,
    "moderation": REFUSED,
    "n": Field("refused", (1,)),
    "parallel_tool_calls": HONOURED,
    "prediction": REFUSED,
    "presence_penalty": HONOURED,
    "prompt_cache_key": KEPT,
    "prompt_cache_options": KEPT,
    "prompt_cache_retention": KEPT,
    "reasoning_effort": HONOURED,
    "response_format": HONOURED,
    "safety_identifier": HONOURED,
    "seed": HONOURED,
    "service_tier": Field("refused", ("auto", "default")),
    "stop": HONOURED,
    "store": HONOURED,
    "stream": HONOURED,
    "stream_options": HONOURED,
    "temperature": HONOURED,
    "tool_choice": HONOURED,
    "tools": HONOURED,
    "top_logprobs": Field("refused", (0,)),
    "top_p": HONOURED,
    "user": HONOURED,
    "verbosity": Field("refused", ("medium",)),
    "web_search_options": REFUSED,
}
"""What becomes of each field of the protocol. Those that are kept are hints to a vendor's cache."""

PARAMETERS = {
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "presence_penalty": "presence_penalty",
    "reasoning_effort": "reasoning",
    "response_format": "response_format",
    "seed": "seed",
    "top_p": "top_p",
}
"""Fields that are options of a turn, by the engine's name of the option."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
}
"""Values that ask for nothing else than their absence. Many clients send them, also to models of vendors that have no
such parameter.
"""

Content = str | tuple[msgspec.Raw, ...] | None


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``include_obfuscation`` only pads chunks; there is nothing to be switched off."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatIn(msgspec.Struct, frozen=True):
    """The body, but for the fields that are refused. Messages, and tools, are read apart."""

    model: Model
    messages: msgspec.Raw
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    parallel_tool_calls: bool | None = None
    tools: tuple[msgspec.Raw, ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None

    @property
    def include_usage(self) -> bool:
        """True if the stream ends with a chunk that tells of the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of what stands inside of a body."""


class TextPart(_Form, frozen=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(_Form, frozen=True):
    url: str
    detail: str | None = None


class ImagePart(_Form, frozen=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class RefusalPart(_Form, frozen=True, tag_field="type", tag="refusal"):
    refusal: str


class CalledFunction(_Form, frozen=True):
    """``parsed_arguments``: OpenAI's library's reading of them."""

    name: str
    arguments: str
    parsed_arguments: Any = None


class ToolCall(_Form, frozen=True):
    """``index``: clients that join chunks send it on."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class _Said(_Form, frozen=True, tag_field="role"):
    """A message. ``name``: the engine has no names of participants; a tool's result may repeat that of its call."""

    name: str | None = None


class SystemSaid(_Said, frozen=True, kw_only=True, tag="system"):
    content: Content


class DeveloperSaid(_Said, frozen=True, kw_only=True, tag="developer"):
    content: Content


class UserSaid(_Said, frozen=True, kw_only=True, tag="user"):
    content: Content


class AssistantSaid(_Said, frozen=True, tag="assistant"):
    """Clients send answers back as they were given them, with their own readings of them: ``parsed`` is OpenAI's
    library's, the fields of reasoning and ``provider_specific_fields`` are those of other servers and of LiteLLM. What
    a model thought is on record.
    """

    content: Content = None
    tool_calls: tuple[ToolCall, ...] | None = None
    refusal: str | None = None
    audio: None = None
    function_call: None = None
    annotations: Any = None
    parsed: Any = None
    provider_specific_fields: Any = None
    reasoning: Any = None
    reasoning_content: Any = None


class ToolSaid(_Said, frozen=True, kw_only=True, tag="tool"):
    tool_call_id: str
    content: Content


Said = SystemSaid | DeveloperSaid | UserSaid | AssistantSaid | ToolSaid


class FunctionSchema(_Form, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(_Form, frozen=True):
    function: FunctionSchema
    type: Literal["function"]


class ToolName(_Form, frozen=True):
    name: str


class NamedChoice(_Form, frozen=True):
    function: ToolName
    type: Literal["function"]


PARTS = {"user": TextPart | ImagePart, "assistant": TextPart | RefusalPart}
"""What a content may be made of, by role."""
