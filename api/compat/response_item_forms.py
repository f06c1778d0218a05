"""The shapes of items in OpenAI's Responses and Conversations, as clients send them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Status = Literal["in_progress", "completed", "incomplete"] | None
Content = str | tuple[msgspec.Raw, ...]


class Typed(msgspec.Struct, frozen=True):
    """As much of an item or a part as says what it is. A message may be without a type, and so may a reference."""

    type: str | None = None
    role: str | None = None
    id: str | None = None


class _Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all. A mark for the vendor's cache is a hint, and taken."""

    type: str | None = None


class TextPart(_Form, frozen=True, kw_only=True):
    """A text of a user, a system or a developer."""

    text: str
    prompt_cache_breakpoint: Any = None


class ImagePart(_Form, frozen=True, kw_only=True):
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: Any = None


class OutputTextPart(_Form, frozen=True, kw_only=True):
    """A text of an assistant; ``parsed`` is OpenAI's library's reading of it."""

    text: str
    annotations: tuple[Any, ...] | None = None
    logprobs: Any = None
    parsed: Any = None


class RefusalPart(_Form, frozen=True, kw_only=True):
    refusal: str


Part = TextPart | ImagePart | OutputTextPart | RefusalPart


class MessageItem(_Form, frozen=True, kw_only=True):
    """A message. ``id`` and ``status`` are those that it was given here, and say nothing new."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: Status = None
    phase: str | None = None


class CallItem(_Form, frozen=True, kw_only=True):
    """A call of a function; ``parsed_arguments`` is OpenAI's library's reading of them."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status = None
    caller: Any = None
    namespace: None = None
    parsed_arguments: Any = None


class ResultItem(_Form, frozen=True, kw_only=True):
    call_id: str
    output: Content
    id: str | None = None
    status: Status = None
    caller: Any = None
    name: str | None = None


class _Read(_Form, frozen=True, kw_only=True):
    """A part of what a reasoning item lets be read."""

    text: str


class ReasoningItem(_Form, frozen=True, kw_only=True):
    summary: tuple[_Read, ...] = ()
    content: tuple[_Read, ...] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: Status = None


class ReferenceItem(_Form, frozen=True, kw_only=True):
    """An item that is on record here, by its id."""

    id: str


class CompactionItem(_Form, frozen=True, kw_only=True):
    """What stands for a conversation that was summarised here."""

    encrypted_content: str
    id: str | None = None
    created_by: str | None = None


Item = MessageItem | CallItem | ResultItem | ReasoningItem | ReferenceItem | CompactionItem

ITEMS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": ResultItem,
    "reasoning": ReasoningItem,
    "item_reference": ReferenceItem,
    "compaction": CompactionItem,
}
"""Items by their type."""

SAID_PARTS: dict[str, type[Part]] = {"input_text": TextPart, "input_image": ImagePart}
ANSWER_PARTS: dict[str, type[Part]] = {"output_text": OutputTextPart, "refusal": RefusalPart}
"""Parts by their type: of what is said to a model, and of what it has said."""
