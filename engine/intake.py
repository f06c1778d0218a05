"""Taking messages in: checked, counted, ready to be decided on. What takes long is counted in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from engine import inputs, tokens
from engine.decisions import NewMessage
from engine.errors import Invalid, TooLarge
from engine.settings import Settings


class MessageIn(msgspec.Struct, frozen=True):
    """A message as callers give it: text, or blocks as JSON. ``id``: its event id, for imports that may be
    repeated.
    """

    content: str | tuple[msgspec.Raw, ...]
    role: str = "user"
    id: UUID | None = None


async def new_message(message: MessageIn, settings: Settings, prefix: str = "") -> NewMessage:
    """A message as decisions take it. Raises Invalid or TooLarge, which name the field, with ``prefix`` before it."""
    role = inputs.check_role(message.role, f"{prefix}role")
    content = inputs.check_content(message.content, settings, f"{prefix}content")
    small = isinstance(message.content, str) and len(message.content) <= tokens.SLICE_CHARS
    count = tokens.count_content(content) if small else await asyncio.to_thread(tokens.count_content, content)
    return NewMessage(role, content, count, tokens.COUNTER, message.id)


async def new_messages(messages: Sequence[MessageIn], settings: Settings) -> list[NewMessage]:
    """Messages that are appended together. Either each has an id of its own, or none has."""
    most = settings.max_messages
    if not messages:
        raise Invalid("messages", "must hold at least one")
    if len(messages) > most:
        raise TooLarge(f"messages: at most {most} at once", field="messages", limit="max_messages", maximum=most)
    if len(messages) == 1:
        return [await new_message(messages[0], settings)]
    if len({message.id is None for message in messages}) > 1:
        raise Invalid("id", "either every message has one, or none has")
    return [await new_message(message, settings, f"messages[{number}].") for number, message in enumerate(messages)]


async def count_text(text: str) -> int:
    """Base tokens of a text; a long one is counted in a thread, so that nobody waits for it."""
    if len(text) <= tokens.SLICE_CHARS:
        return tokens.count_text(text)
    return await asyncio.to_thread(tokens.count_text, text)
