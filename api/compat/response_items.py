"""Items of OpenAI's Responses and Conversations as recorded messages hold them: one message is one or more items.

Neighbouring texts of an assistant's message are one message item with a part each; a call, a thought and a result are
an item each. An id is made of the message's own and, but for its first message item, of the number of a block
(``response_ids``), so it is the same in a stream, in an answer and ever after. A vendor's form of a thought goes out
under ``encrypted_content`` (``sealed``), and comes back from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ...engine import (
    Base64Source,
    Block,
    Content,
    ImageBlock,
    Message,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from .chat_answers import arguments
from .response_ids import ItemId, item_id
from .sealed import sealed

RESULT, CALL, THOUGHT, SAID = "fco", "fc", "rs", "msg"
"""Prefixes of ids of items."""

THOUGHTS = frozenset({"reasoning", "redacted_thinking"})
"""Types of blocks that nobody can read, and that go back to their vendor as they came."""


class _Part(msgspec.Struct, frozen=True):
    """A vendor's form of a part of a message."""

    type: str = ""
    annotations: tuple[Any, ...] | None = None
    content: tuple[_Part, ...] | None = None


_NOTHING = _Part()
_read_part = msgspec.json.Decoder(_Part).decode


class Placed(NamedTuple):
    """An item of a message, and the numbers of the blocks that it tells of."""

    item: dict[str, Any]
    blocks: range


def items_of(message: Message, *, encrypted: bool = True) -> list[Placed]:
    """The items of a recorded message. ``encrypted``: with the vendors' forms of thoughts."""
    blocks = message.blocks()
    if message.role == "assistant":
        items = list(answer_items(message.id, blocks, encrypted=encrypted))
        return cut_items(items, blocks) if _is_cut(message, items) else items
    status = "completed" if message.complete else "incomplete"
    results = [
        Placed(result_item(message.id, number, block), range(number, number + 1))
        for number, block in enumerate(blocks)
        if isinstance(block, ToolResultBlock)
    ]
    said = [part for block in blocks if (part := said_part(block)) is not None]
    if not said and results:
        return results
    role = "developer" if message.developer is True else message.role
    item = {"id": item_id(SAID, message.id), "type": "message", "status": status, "role": role, "content": said}
    return [*results, Placed(item, range(len(blocks)))]


def result_item(message: UUID, number: int, block: ToolResultBlock) -> dict[str, Any]:
    """A tool's result."""
    content = block.content
    parts = content if isinstance(content, str) else [part for each in content if (part := said_part(each)) is not None]
    return {
        "id": item_id(RESULT, message, number),
        "type": "function_call_output",
        "status": "completed",
        "call_id": block.tool_use_id,
        "output": parts,
    }


def said_part(block: Block) -> dict[str, Any] | None:
    """A part of what was said to the model; None for a block that the protocol has no part for."""
    match block:
        case TextBlock(text=text):
            return {"type": "input_text", "text": text}
        case ImageBlock(source=source):
            return {"type": "input_image", "image_url": _url(source), "detail": "auto", "file_id": None}
    return None


def _url(source: Base64Source | UrlSource) -> str:
    return source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"


# --- answers ----------------------------------------------------------------------------------------------------------


def answer_items(message: UUID, blocks: Sequence[Block], *, encrypted: bool) -> Iterator[Placed]:
    """The items of an assistant's message that is whole. ``encrypted``: with the vendors' forms of thoughts."""
    said, status = False, "completed"
    for place in runs(blocks):
        first = blocks[place.start]
        item: dict[str, Any] | None = None
        if isinstance(first, TextBlock):
            content = answer_parts(blocks[place.start : place.stop])
            item = message_item(said_id(message, place.start, first=not said), status, content)
            said = True
        elif isinstance(first, ToolUseBlock):
            item = call_item(message, place.start, first.id, first.name, status, arguments(first))
        elif isinstance(first, ThinkingBlock):
            form = bytes(first.vendor) if isinstance(first.vendor, msgspec.Raw) else None
            item = thought_item(message, place.start, first.text, form if encrypted else None)
        elif isinstance(first, OtherBlock) and first.type in THOUGHTS:
            item = hidden_item(message, place.start, first.raw, encrypted=encrypted)
        if item is not None:
            yield Placed(item, place)


def _is_cut(message: Message, items: Sequence[Placed]) -> bool:
    """True if an answer ended before its model was done: its turn did, or the model's tokens, or a filter came in. One
    that refuses in words of its own is whole.
    """
    if not message.complete or message.stop_reason == "max_tokens":
        return True
    said = (part["type"] for item, _ in items if item["type"] == "message" for part in item["content"])
    return message.stop_reason in {"refusal", "content_filter"} and "refusal" not in said


def cut_items(items: Sequence[Placed], blocks: Sequence[Block]) -> list[Placed]:
    """The items of an answer that was cut: the last of them is not whole, and so is a call that cannot be made. What
    another item follows had ended before.
    """
    return [
        Placed(item | {"status": "incomplete"}, place)
        if "status" in item and (number == len(items) - 1 or _is_unfinished(blocks[place.start]))
        else Placed(item, place)
        for number, (item, place) in enumerate(items)
    ]


def _is_unfinished(block: Block) -> bool:
    return isinstance(block, ToolUseBlock) and block.input is None


def runs(blocks: Sequence[Block]) -> Iterator[range]:
    """The blocks of each item: neighbouring texts are of one, any other is of its own."""
    start = 0
    for number, block in enumerate(blocks):
        last = number + 1 == len(blocks)
        if last or not (isinstance(block, TextBlock) and isinstance(blocks[number + 1], TextBlock)):
            yield range(start, number + 1)
            start = number + 1


def said_id(message: UUID, block: int, *, first: bool) -> str:
    """The id of a message item: the first of a message has the message's."""
    return item_id(SAID, message, None if first else block)


def message_item(name: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """A message item of an assistant."""
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def call_item(
    message: UUID, block: int, call: str | None, name: str | None, status: str, given: str = ""
) -> dict[str, Any]:
    """A call of a function, with its arguments as the model wrote them."""
    return {
        "id": item_id(CALL, message, block),
        "type": "function_call",
        "status": status,
        "arguments": given,
        "call_id": call,
        "name": name,
    }


def thought_item(message: UUID, block: int, text: str | None, form: bytes | None = None) -> dict[str, Any]:
    """A reasoning item: what may be read of it, None where there is nothing yet, and its vendor's form."""
    item: dict[str, Any] = {
        "id": item_id(THOUGHT, message, block),
        "type": "reasoning",
        "summary": [] if text is None else [{"type": "summary_text", "text": text}],
    }
    return item if form is None else item | {"encrypted_content": sealed("thought", form)}


def hidden_item(message: UUID, block: int, raw: bytes, *, encrypted: bool) -> dict[str, Any]:
    """A reasoning item of which nothing can be read."""
    item = thought_item(message, block, None)
    return item | {"encrypted_content": sealed("block", raw)} if encrypted else item


def answer_parts(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """The parts of a message item: neighbouring texts, with what their vendor says of them."""
    texts = [block for block in blocks if isinstance(block, TextBlock)]
    forms = [_form(block) for block in texts]
    whole = next((form.content for form in forms if form.content), ())
    told = whole if len(whole) == len(texts) else forms
    return [answer_part(block.text, form) for block, form in zip(texts, told, strict=True)]


def answer_part(text: str, form: _Part = _NOTHING) -> dict[str, Any]:
    if form.type == "refusal":
        return {"type": "refusal", "refusal": text}
    annotations = [_flat(each) for each in form.annotations or ()]
    return {"type": "output_text", "annotations": annotations, "logprobs": [], "text": text}


def _flat(annotation: Any) -> Any:
    """An annotation in this protocol's form: Chat Completions have what is in it one level deeper."""
    inner = annotation.get(annotation.get("type")) if isinstance(annotation, dict) else None
    return {"type": annotation["type"]} | inner if isinstance(inner, dict) else annotation


def _form(block: TextBlock) -> _Part:
    """A vendor's form of a text, as far as this protocol has words for it."""
    if not isinstance(block.vendor, msgspec.Raw):
        return _NOTHING
    try:
        return _read_part(block.vendor)
    except (msgspec.MsgspecError, RecursionError):
        return _NOTHING


# --- by id ------------------------------------------------------------------------------------------------------------


def blocks_named(message: Message, name: ItemId) -> Content | None:
    """The blocks of the item of this id in its message; None: there is none."""
    for item, place in items_of(message):
        if item["id"] == item_id(*name):
            blocks = message.blocks()[place.start : place.stop]
            return tuple(block for block in blocks if _is_of(block, name.prefix))
    return None


def _is_of(block: Block, prefix: str) -> bool:
    return isinstance(block, ToolResultBlock) == (prefix == RESULT)
