"""Messages of a stored completion, in the form in which OpenAI's Chat Completions give them back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...engine import AskedMessage, Base64Source, Block, ImageBlock, TextBlock, ToolResultBlock, UrlSource, text_of
from ..http.errors import invalid
from .chat_answers import answer

Place = tuple[int, int]
"""A message among those of a completion, and a part of it: one message on record may be several of the protocol's."""

_PLACE = re.compile(r"(?P<completion>.+)-(?P<place>0|[1-9][0-9]{0,8})(?:\.(?P<part>[1-9][0-9]{0,8}))?", re.DOTALL)


def messages_told(completion: str, asked: AskedMessage) -> list[tuple[Place, dict[str, Any]]]:
    """A message that a model was sent, as one of the protocol's, or as several: each result of a tool is its own."""
    results = [block for block in asked.content if isinstance(block, ToolResultBlock)]
    rest = tuple(block for block in asked.content if not isinstance(block, ToolResultBlock))
    said = [_result(each) for each in results]
    if rest or not results:
        said.append(_said(asked, rest))
    return [
        ((asked.place, part), {"id": _name(completion, asked.place, part), "name": None, "content_parts": None} | each)
        for part, each in enumerate(said)
    ]


def place_of(completion: str, name: str) -> Place:
    """The place of a message by its name. Raises Problem."""
    match = _PLACE.fullmatch(name)
    if match is None or match["completion"] != completion:
        raise invalid("after", "is no id of a message of this completion")
    return int(match["place"]), int(match["part"] or 0)


def _name(completion: str, place: int, part: int) -> str:
    return f"{completion}-{place}" + (f".{part}" if part else "")


def _said(asked: AskedMessage, blocks: tuple[Block, ...]) -> dict[str, Any]:
    if asked.erased:
        return {"role": asked.role, "content": None}
    if asked.role == "assistant":
        return answer(blocks)
    parts = [part for part in map(_part, blocks) if part is not None]
    is_one = len(parts) == 1 and parts[0]["type"] == "text"
    return {"role": asked.role, "content": text_of(blocks) or None, "content_parts": None if is_one else parts}


def _part(block: Block) -> dict[str, Any] | None:
    match block:
        case TextBlock(text):
            return {"type": "text", "text": text}
        case ImageBlock(Base64Source(media_type, data)):
            return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}
        case ImageBlock(UrlSource(url)):
            return {"type": "image_url", "image_url": {"url": url}}
    return None


def _result(block: ToolResultBlock) -> dict[str, Any]:
    content: str | Sequence[Block] = block.content
    text = content if isinstance(content, str) else text_of(tuple(content))
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}
