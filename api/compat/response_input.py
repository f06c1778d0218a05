"""The input of OpenAI's Responses and Conversations: items as the messages that the engine takes.

Neighbouring items of an assistant are one message, as they were one answer, and neighbouring results of tools are one,
too. An item that the client names instead of sending it stands for what is on record (``references``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from ...engine import (
    Base64Source,
    Block,
    ImageBlock,
    Message,
    MessageIn,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from ..http.errors import Problem, invalid
from .fields import not_here, read_part
from .response_ids import ItemId, read_item_id
from .response_item_forms import (
    ANSWER_PARTS,
    ITEMS,
    SAID_PARTS,
    CallItem,
    CompactionItem,
    ImagePart,
    Item,
    MessageItem,
    OutputTextPart,
    Part,
    ReasoningItem,
    ReferenceItem,
    RefusalPart,
    ResultItem,
    TextPart,
    Typed,
)
from .response_items import THOUGHTS, blocks_named
from .sealed import SEALED, unsealed

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*);base64,(?P<data>.*)", re.DOTALL)
_MESSAGE = re.compile(r"messages\[(?P<number>\d+)\](?:\.content\[(?P<block>\d+)\])?(?P<rest>.*)", re.DOTALL)

_INNER = re.compile(r"\.content\[(?P<part>\d+)\]")
"""A part of a result, as the engine names it."""

COMPACTED = "What was said so far, summarised:\n\n"
"""Before a summary, where it stands for a conversation."""

Messages = Mapping[UUID | str, Message]
"""Recorded messages for the items that a client names: by their ids, and by signed references."""


NOTHING_COPIED: Mapping[str, int] = {}


class Given(NamedTuple):
    """What a client's items say: messages, and where each came from: of each of its blocks, the path of its item, and
    of the message, that of its first item. ``copied``: by the path of a block that the client has named instead of
    sending it, the position of its message.
    """

    messages: tuple[MessageIn, ...]
    paths: tuple[tuple[str, tuple[str, ...]], ...]
    copied: Mapping[str, int] = NOTHING_COPIED

    def theirs(self, field: str) -> str:
        """The client's name of a field of the engine's that stands in a message; any other as it is."""
        match = _MESSAGE.fullmatch(field)
        if match is None or int(match["number"]) >= len(self.paths):
            return field
        path, blocks = self.paths[int(match["number"])]
        rest = match["rest"]
        if match["block"] is not None and int(match["block"]) < len(blocks):
            path = blocks[int(match["block"])]
            if inner := _INNER.match(rest):
                return f"{path}.output[{inner['part']}]"
            is_own = ".source" in rest or path.endswith(".content")
            rest = _RESTS.get(rest, "" if is_own else rest)
        elif blocks == (path,) and rest == ".content":
            return path
        return path + rest


_RESTS = {".id": ".call_id", ".tool_use_id": ".call_id"}


class _Turned(NamedTuple):
    """An item as blocks of a message with a role; of each of them, its path."""

    role: str
    blocks: tuple[Block, ...]
    path: str
    paths: tuple[str, ...]
    developer: bool = False


def named_items(raws: str | Sequence[msgspec.Raw] | None, where: str = "input") -> list[ItemId]:
    """The items that a client names instead of sending them. Raises Problem for one that there cannot be."""
    if raws is None or isinstance(raws, str):
        return []
    found = []
    for number, raw in enumerate(raws):
        path = f"{where}[{number}]"
        if _kind(raw, path) == "item_reference":
            name = read_item_id(read_part(raw, ReferenceItem, path).id)
            if name is None:
                raise no_item(f"{path}.id")
            found.append(name)
    return found


def compactions(raws: str | Sequence[msgspec.Raw] | None, where: str = "input") -> dict[str, str]:
    """The references to summaries among a client's items, and the path of each."""
    if raws is None or isinstance(raws, str):
        return {}
    places = [(raw, f"{where}[{number}]") for number, raw in enumerate(raws)]
    return {
        read_part(raw, CompactionItem, path).encrypted_content: f"{path}.encrypted_content"
        for raw, path in places
        if _kind(raw, path) == "compaction"
    }


def read_items(raws: str | Sequence[msgspec.Raw], where: str = "input", references: Messages | None = None) -> Given:
    """The messages of a text or of items. Raises Problem, which names the item."""
    if isinstance(raws, str):
        return Given((MessageIn(raws, "user"),), ((where, (where,)),))
    turned: list[_Turned] = []
    copied: dict[str, int] = {}
    for number, raw in enumerate(raws):
        path = f"{where}[{number}]"
        read = _item(raw, path)
        item = _turned(read, raw, path, references or {})
        if isinstance(read, ReferenceItem | CompactionItem):
            copied |= dict.fromkeys(item.paths, _source_of(read, references or {}).position)
        last = turned[-1] if turned else None
        if last is not None and item.role == last.role and item.role in {"assistant", "tool"}:
            turned[-1] = _Turned(last.role, last.blocks + item.blocks, last.path, last.paths + item.paths)
        else:
            turned.append(item)
    return Given(
        tuple(
            MessageIn(item.blocks, item.role, copied_from=copied_at(copied, item.paths), developer=item.developer)
            for item in turned
        ),
        tuple((item.path, item.paths) for item in turned),
        copied,
    )


def copied_at(copied: Mapping[str, int], paths: Sequence[str]) -> tuple[int, ...]:
    """The positions of the messages whose words stand at these paths."""
    return tuple(sorted({copied[path] for path in paths if path in copied}))


def no_item(path: str) -> Problem:
    """The refusal of an item that there is not."""
    return Problem(404, "item_not_found", f"{path}: there is no such item", field=path)


# --- items ------------------------------------------------------------------------------------------------------------


def _kind(raw: msgspec.Raw, path: str) -> str:
    """The type of an item: a message may come without, and so may a reference."""
    typed: Typed = read_part(raw, Typed, path)
    if typed.type is not None:
        return typed.type
    if typed.role is None and typed.id is not None:
        return "item_reference"
    return "message"


def _item(raw: msgspec.Raw, path: str) -> Item:
    kind = _kind(raw, path)
    if kind not in ITEMS:
        detail = f"{path}.type: an item {kind[:100]!r} is not supported here; there are {', '.join(ITEMS)}"
        raise Problem(400, "parameter_not_supported", detail, field=f"{path}.type", available=list(ITEMS))
    item: Item = read_part(raw, ITEMS[kind], path)
    return item


def _turned(item: Item, raw: msgspec.Raw, path: str, references: Messages) -> _Turned:
    match item:
        case MessageItem(role="assistant"):
            return _answer(item, path)
        case MessageItem():
            return _said(item, path)
        case CallItem():
            return _Turned("assistant", (_call(item),), path, (path,))
        case ResultItem():
            block = ToolResultBlock(item.call_id, _output(item, path))
            return _Turned("tool", (block,), path, (path,))
        case ReasoningItem():
            blocks = _thought(item, raw, path)
            return _Turned("assistant", blocks, path, (path,) * len(blocks))
        case ReferenceItem():
            return _named(item, path, references)
        case CompactionItem():
            summary = TextBlock(COMPACTED + references[item.encrypted_content].text)
            return _Turned("system", (summary,), path, (f"{path}.encrypted_content",))


def _source_of(item: ReferenceItem | CompactionItem, references: Messages) -> Message:
    """The message for which an item stands that was found."""
    if isinstance(item, CompactionItem):
        return references[item.encrypted_content]
    name = read_item_id(item.id)
    assert name is not None, "it was found"
    return references[name.message]


def _named(item: ReferenceItem, path: str, references: Messages) -> _Turned:
    name = read_item_id(item.id)
    message = None if name is None else references.get(name.message)
    blocks = None if name is None or message is None or message.erased else blocks_named(message, name)
    if message is None or blocks is None:
        raise no_item(f"{path}.id")
    return _Turned(message.role, blocks, path, (f"{path}.id",) * len(blocks), message.developer is True)


def _said(item: MessageItem, path: str) -> _Turned:
    """What a user, a system or a developer said."""
    role, developer = "user" if item.role == "user" else "system", item.role == "developer"
    place = f"{path}.content"
    if isinstance(item.content, str):
        return _Turned(role, (TextBlock(item.content),), path, (place,), developer)
    paths = tuple(f"{place}[{number}]" for number in range(len(item.content)))
    parts = [_part(raw, SAID_PARTS, where) for raw, where in zip(item.content, paths, strict=True)]
    if role == "system" and any(isinstance(part, ImagePart) for part in parts):
        raise invalid(place, "must be text: an image is a user's")
    blocks = tuple(_block(part, where) for part, where in zip(parts, paths, strict=True))
    return _Turned(role, blocks, path, paths, developer)


def _answer(item: MessageItem, path: str) -> _Turned:
    """What an assistant said; with its phase, the vendor's own form of it."""
    place = f"{path}.content"
    if isinstance(item.content, str):
        blocks: tuple[TextBlock, ...] = (TextBlock(item.content),)
        paths: tuple[str, ...] = (place,)
    else:
        paths = tuple(f"{place}[{number}]" for number in range(len(item.content)))
        known = ANSWER_PARTS | {"input_text": TextPart}
        blocks = tuple(
            TextBlock(_text(_part(raw, known, where))) for raw, where in zip(item.content, paths, strict=True)
        )
    kept = [(block, where) for block, where in zip(blocks, paths, strict=True) if block.text]
    if item.phase is not None and kept:
        content = [{"type": "output_text", "text": block.text, "annotations": []} for block, _ in kept]
        form = {"type": "message", "role": "assistant", "content": content, "phase": item.phase}
        first, where = kept[0]
        kept[0] = (TextBlock(first.text, msgspec.Raw(msgspec.json.encode(form))), where)
    return _Turned("assistant", tuple(block for block, _ in kept), path, tuple(where for _, where in kept))


def _text(part: Part) -> str:
    match part:
        case TextPart(text=text) | OutputTextPart(text=text) | RefusalPart(refusal=text):
            return text
    return ""


def _part(raw: msgspec.Raw, known: Mapping[str, type[Part]], path: str) -> Part:
    """A part in its form. Raises Problem, which names a type that there is not."""
    kind = read_part(raw, Typed, path).type
    if kind is None:
        raise invalid(f"{path}.type", "is required", "missing_field")
    if kind not in known:
        detail = f"{path}.type: a part {kind[:100]!r} is not supported here; there are {', '.join(known)}"
        raise Problem(400, "parameter_not_supported", detail, field=f"{path}.type", available=list(known))
    part: Part = read_part(raw, known[kind], path)
    return part


def _block(part: Part, path: str) -> TextBlock | ImageBlock:
    if not isinstance(part, ImagePart):
        return TextBlock(_text(part))
    if part.detail not in {None, "auto"}:
        raise not_here(f"{path}.detail", ', but for "auto"')
    if part.file_id is not None:
        raise not_here(f"{path}.file_id", ": there are no files; an image is sent in image_url")
    if part.image_url is None:
        raise invalid(f"{path}.image_url", "is required", "missing_field")
    return ImageBlock(_source(part.image_url, f"{path}.image_url"))


def _source(url: str, path: str) -> Base64Source | UrlSource:
    if not url.startswith("data:"):
        return UrlSource(url)
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise invalid(path, "must be an http or https URL, or data:TYPE;base64,DATA")
    return Base64Source(match["type"], match["data"])


def _call(item: CallItem) -> ToolUseBlock:
    try:
        value = msgspec.json.decode(item.arguments) if item.arguments.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        value = None
    return ToolUseBlock(item.call_id, item.name, value if isinstance(value, dict) else None, item.arguments)


def _output(item: ResultItem, path: str) -> str | tuple[TextBlock | ImageBlock, ...]:
    if isinstance(item.output, str):
        return item.output
    places = [(raw, f"{path}.output[{number}]") for number, raw in enumerate(item.output)]
    return tuple(_block(_part(raw, SAID_PARTS, where), where) for raw, where in places)


# --- thoughts ---------------------------------------------------------------------------------------------------------


def _thought(item: ReasoningItem, raw: msgspec.Raw, path: str) -> tuple[Block, ...]:
    """A thought with its vendor's form: from under the seal that it was given here, else the item itself."""
    text = "\n\n".join(part.text for part in item.summary or item.content or () if part.text)
    content, where = item.encrypted_content, f"{path}.encrypted_content"
    if content is None:
        return (ThinkingBlock(text),) if text else ()
    match = SEALED.fullmatch(content)
    if match is None:
        return (ThinkingBlock(text, raw) if text else OtherBlock("reasoning", bytes(raw)),)
    form = unsealed(match["raw"], where, "a content")
    if match["kind"] == "thought":
        return (ThinkingBlock(text, form),)
    kind = read_part(form, Typed, where).type
    if kind not in THOUGHTS:
        raise invalid(where, "is not a content that was given here")
    return (OtherBlock(str(kind), bytes(form)),)


def theirs_of(given: Given, names: Mapping[str, str]) -> Callable[[str], str]:
    """The client's names of the engine's fields: of those in messages, and of these ``names``."""
    return lambda field: names[field] if field in names else given.theirs(field)
