"""The forms of OpenAI's Responses: the tables of fields, and the shapes of a body and its tools."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..schemas.parameters import Count, Model
from .fields import HONOURED, KEPT, REFUSED, Field, Table

FIELDS: Table = {
    "access_programs": REFUSED,
    "background": HONOURED,
    "background_options": REFUSED,
    "context_management": Field("refused", ([],)),
    "conversation": HONOURED,
    "frequency_penalty": HONOURED,
    "image": REFUSED,
    "include": HONOURED,
    "input": HONOURED,
    "instructions": HONOURED,
    "max_output_tokens": HONOURED,
    "max_tool_calls": REFUSED,
    "metadata": HONOURED,
    "model": HONOURED,
    "moderation": REFUSED,
    "parallel_tool_calls": HONOURED,
    "presence_penalty": HONOURED,
    "previous_response_id": HONOURED,
    "prompt": REFUSED,
    "prompt_cache_key": KEPT,
    "prompt_cache_options": KEPT,
    "prompt_cache_retention": KEPT,
    "reasoning": HONOURED,
    "safety_identifier": HONOURED,
    "service_tier": Field("refused", ("auto", "default")),
    "store": HONOURED,
    "stream": HONOURED,
    "stream_options": HONOURED,
    "temperature": HONOURED,
    "text": HONOURED,
    "tool_choice": HONOURED,
    "tools": HONOURED,
    "top_logprobs": Field("refused", (0,)),
    "top_p": HONOURED,
    "truncation": HONOURED,
    "user": HONOURED,
}
"""What becomes of each field of the protocol. Those that are kept are hints to a vendor's cache."""

_OF_COUNTS = (
    *("conversation", "input", "instructions", "model", "parallel_tool_calls", "previous_response_id", "reasoning"),
    *("text", "tool_choice", "tools"),
)
COUNTED: Table = {name: FIELDS[name] for name in _OF_COUNTS} | {
    "personality": REFUSED,
    "truncation": Field("refused", ("disabled",)),
}
"""The same of a request for a count of its tokens, which counts all of them."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
}
"""Values that ask for nothing else than their absence."""

ENCRYPTED = "reasoning.encrypted_content"
INCLUDABLE = frozenset(
    {
        ENCRYPTED,
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What may be asked to be told besides. All but the first is of tools that are not here, or is told always."""


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of what stands inside of a body."""


class StreamOptions(_Form, frozen=True):
    """``include_obfuscation`` only pads events; there is nothing to be switched off."""

    include_obfuscation: bool | None = None


class TextOptions(_Form, frozen=True):
    """``verbosity``: a model here has none, so only the usual one is taken."""

    format: dict[str, Any] | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(_Form, frozen=True):
    """What can be read of a model's thoughts is told as it comes, whatever summary is asked for."""

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class NamedConversation(_Form, frozen=True):
    id: str


class CountIn(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request for a count."""

    model: Model
    input: str | tuple[msgspec.Raw, ...] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | NamedConversation | None = None
    tools: tuple[msgspec.Raw, ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None


class ResponseIn(CountIn, frozen=True, kw_only=True):
    """The body, but for the fields that are refused. Items, and tools, are read apart."""

    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: tuple[str, ...] | None = None


class FunctionTool(_Form, frozen=True, kw_only=True):
    """``strict`` is taken: whether arguments keep to the schema is for the model's vendor to see to."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: tuple[Literal["direct"], ...] | None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None


class NamedChoice(_Form, frozen=True):
    type: Literal["function"]
    name: str
