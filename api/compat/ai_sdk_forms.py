"""The forms of the Vercel AI SDK's UI messages: the table of fields, and the shapes of a body, its messages, their
parts, and its tools. An approval has a name that says which call of which turn it is for.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta

from ..schemas.parameters import Count, Model
from .fields import HONOURED, KEPT, Field, Table

FIELDS: Table = {
    "callSettings": Field("refused", ({},)),
    "config": Field("refused", ({},)),
    "frequencyPenalty": HONOURED,
    "id": HONOURED,
    "maxOutputTokens": HONOURED,
    "messageId": HONOURED,
    "messages": HONOURED,
    "metadata": KEPT,
    "model": HONOURED,
    "presencePenalty": HONOURED,
    "reasoning": HONOURED,
    "seed": HONOURED,
    "stopSequences": HONOURED,
    "system": HONOURED,
    "temperature": HONOURED,
    "toolChoice": HONOURED,
    "tools": HONOURED,
    "topK": HONOURED,
    "topP": HONOURED,
    "trigger": HONOURED,
}
"""What becomes of each field of a body: the SDK's own, those that applications add by the SDK's names of its settings,
and those that assistant-ui sends beside them (``callSettings``, ``config``, ``metadata``).
"""

IGNORED = frozenset({"custom", "reasoning", "reasoning-file", "source-url", "source-document"})
"""Parts that are no part of what the model is asked, nor are an application's ``data-…``. What a model thought, and
what it cited, is on record. A ``custom`` part is a vendor's own, without words.
"""

MAX_ID_CHARS = 256

Name = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""A client's own id of a chat or of a message: any text in one line."""

Effort = Literal["provider-default", "none", "minimal", "low", "medium", "high", "xhigh"]
Trigger = Literal["submit-message", "regenerate-message"]

_APPROVAL = re.compile(r"approval_(?P<turn>[0-9a-f]{32})_(?P<call>.+)", re.DOTALL)


class ChatIn(msgspec.Struct, frozen=True, rename="camel"):
    """The body, but for the fields that are refused. Messages and tools are read apart."""

    id: Name
    messages: msgspec.Raw
    trigger: Trigger = "submit-message"
    message_id: Name | None = None
    model: Model | None = None
    system: str | None = None
    tools: tuple[msgspec.Raw, ...] | dict[str, msgspec.Raw] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop_sequences: tuple[str, ...] | None = None
    reasoning: Effort | None = None


class StopIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a stop, as the SDK's documentation has it. ``active_stream_id``: a turn, which alone is stopped; the
    assistant's message as far as the client has it is on record already.
    """

    active_stream_id: str | None = None
    assistant_message: Any = None


class _Form(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The base of what stands inside of a body."""


class Said(_Form, frozen=True):
    """A UI message. ``metadata`` is the application's own, or what was told with an answer."""

    id: Name
    role: Literal["system", "user", "assistant"]
    parts: tuple[msgspec.Raw, ...]
    metadata: Any = None
    created_at: Any = None


class Typed(msgspec.Struct, frozen=True):
    """The type of a part."""

    type: str


class TextPart(_Form, frozen=True):
    type: str
    text: str
    state: Any = None
    citations: Any = None
    provider_metadata: Any = None


class FilePart(_Form, frozen=True):
    """``filename`` is not told to a model. A reference to a file that lies with a vendor cannot be followed here."""

    type: str
    media_type: str
    url: str
    filename: str | None = None
    provider_reference: None = None
    provider_metadata: Any = None


class Approval(_Form, frozen=True):
    """``approved`` None: it is still asked for."""

    id: str
    approved: bool | None = None
    reason: str | None = None
    descriptor: Any = None
    request_reason: Any = None
    is_automatic: Any = None
    signature: Any = None
    input_schema_input: Any = None


class ToolPart(_Form, frozen=True):
    """A call with what has become of it. ``tool_name``: of a ``dynamic-tool``; the type of any other names its tool."""

    type: str
    tool_call_id: str
    state: Literal[
        "input-streaming",
        "input-available",
        "approval-requested",
        "approval-responded",
        "output-available",
        "output-error",
        "output-denied",
    ]
    tool_name: str | None = None
    input: Any = UNSET
    raw_input: Any = UNSET
    input_encoding: Any = None
    output: Any = UNSET
    error_text: str | None = None
    approval: Approval | None = None
    dynamic: Any = None
    preliminary: Any = None
    provider_executed: Any = None
    title: Any = None
    tool_metadata: Any = None
    call_provider_metadata: Any = None
    result_provider_metadata: Any = None

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.tool_name or "" if self.type == DYNAMIC else self.type.removeprefix(TOOL)


class StepStart(_Form, frozen=True):
    """The beginning of another answer of the model within a message."""

    type: str


DYNAMIC, TOOL, DATA, STEP = "dynamic-tool", "tool-", "data-", "step-start"


class ClientTool(_Form, frozen=True):
    """A tool that the client runs. ``parameters``: another word for the schema of its input."""

    name: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None


class NamedChoice(_Form, frozen=True):
    type: Literal["tool"]
    tool_name: str


class FileData(_Form, frozen=True):
    """A file in a result: its ``data`` in base64, or its ``url``."""

    type: Literal["data", "url"]
    data: str = ""
    url: str = ""


class OutputText(_Form, frozen=True, tag_field="type", tag="text"):
    text: str


class OutputFile(_Form, frozen=True, tag_field="type", tag="file"):
    media_type: str
    data: FileData


class Output(_Form, frozen=True):
    """A result that is not only text, as the SDK's tools give it to a model."""

    type: Literal["content"]
    value: tuple[OutputText | OutputFile, ...]


def message_id(turn_hex: str) -> str:
    """The name of the message that a turn makes."""
    return f"msg_{turn_hex}"


def approval_id(turn_hex: str, call: str) -> str:
    """The name of an approval that a turn waits for."""
    return f"approval_{turn_hex}_{call}"


def approval_of(name: str) -> tuple[UUID, str] | None:
    """The turn and the call of an approval; None: it was not asked for here."""
    match = _APPROVAL.fullmatch(name)
    return None if match is None else (UUID(match["turn"]), match["call"])
