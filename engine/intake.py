"""Taking messages in: checked, counted, ready to be decided on. What takes long is counted in a thread."""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec

from engine import inputs, tokens
from engine.decisions import NewMessage
from engine.settings import Settings


class MessageIn(msgspec.Struct, frozen=True):
    """A message as callers give it: text, or blocks as JSON. ``id``: its event id, for imports that may be
    repeated.
    """

    content: str | tuple[msgspec.Raw, ...]
    role: str = "user"
    id: UUID | None = None


async def new_message(message: MessageIn, settings: Settings) -> NewMessage:
    """A message as decisions take it. Raises Invalid or TooLarge, which name the field."""
    role = inputs.check_role(message.role)
    content = inputs.check_content(message.content, settings)
    small = isinstance(message.content, str) and len(message.content) <= tokens.SLICE_CHARS
    count = tokens.count_content(content) if small else await asyncio.to_thread(tokens.count_content, content)
    return NewMessage(role, content, count, tokens.COUNTER, message.id)


async def count_text(text: str) -> int:
    """Base tokens of a text; a long one is counted in a thread, so that nobody waits for it."""
    if len(text) <= tokens.SLICE_CHARS:
        return tokens.count_text(text)
    return await asyncio.to_thread(tokens.count_text, text)
