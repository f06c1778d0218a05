"""Requests of Anthropic's Messages, and what the engine is asked with them.

A user's message that mixes results of tools with other blocks becomes two: the results, then the rest. Thinking goes
back to the byte. Another vendor's reasoning, which the protocol has no word for, stands under the signature of a
thought that the client was given for it (``sealed``), and comes back from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec
from msgspec import UNSET

from ...engine import (
    Base64Source,
    Block,
    CacheMarks,
    ClientRequest,
    ImageBlock,
    MessageIn,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    UrlSource,
)
from ..http.errors import Problem, invalid
from . import messages_forms as forms
from .fields import read_part
from .messages_forms import CountIn, MessagesIn, Said
from .messages_options import options_of, theirs
from .sealed import SEALED, unsealed

REASONING = "reasoning"
"""OpenAI's block of reasoning of which there is nothing to read."""

BETWEEN = "\n\n"
"""Between the parts of a system prompt, where they are one text."""

_NULL = msgspec.Raw(b"null")

Mark = tuple[int, int, msgspec.Raw]


class _Placed(msgspec.Struct, frozen=True):
    """A message as the engine takes it, with its cache marks by block; ``client``: the number that it has in the
    request; ``plain``: its content is a text there, and not blocks.
    """

    message: MessageIn
    marks: tuple[tuple[int, msgspec.Raw], ...]
    client: int
    plain: bool


def client_request(body: CountIn, can: Callable[[str], bool]) -> tuple[ClientRequest, Callable[[str], str]]:
    """What the engine is asked, and the client's names of its fields. ``can``: if the model has a capability. Raises
    Problem.
    """
    placed = [each for number, raw in enumerate(body.messages) for each in _messages(raw, number)]
    if isinstance(body, MessagesIn) and placed[-1].message.role == "assistant":
        where = f"messages[{placed[-1].client}].role"
        raise invalid(
            where,
            "the last message must be the user's: an answer cannot be begun for the model",
            "prefill_not_supported",
        )
    system, parts = _system(body.system)
    tools, tool_marks = _tools(body.tools or ())
    marks = CacheMarks(
        whole=UNSET if (whole := _mark(body.cache_control, "cache_control")) is None else whole,
        system=parts,
        tools=tool_marks,
        messages=tuple((number, *mark) for number, each in enumerate(placed) for mark in each.marks),
    )
    metadata = body.metadata if isinstance(body, MessagesIn) else None
    asked = ClientRequest(
        tuple(each.message for each in placed),
        options_of(body, tools, can),
        protocol="messages",
        system=system,
        end_user=None if metadata is None else metadata.user_id or None,
        verbatim=True,
        marks=None if marks == CacheMarks() else marks,
    )
    plain = {each.client for each in placed if each.plain}
    return asked, lambda field: theirs(field, [each.client for each in placed], plain)


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(raw: msgspec.Raw, number: int) -> Iterator[_Placed]:
    """The one or two messages that one of the client's becomes."""
    where = f"messages[{number}]"
    said: Said = read_part(raw, Said, where)
    if not said.content and said.role != "assistant":
        raise invalid(f"{where}.content", "must hold something", "empty_message")
    blocks = _blocks(said.content, said.role, f"{where}.content")
    results = [each for each in blocks if isinstance(each[0], ToolResultBlock)]
    others = [each for each in blocks if not isinstance(each[0], ToolResultBlock)]
    if results:
        yield _placed(results, "tool", number, plain=False)
    if others or not results:
        yield _placed(others, said.role, number, plain=isinstance(said.content, str))


def _placed(blocks: Sequence[tuple[Block, msgspec.Raw | None]], role: str, number: int, *, plain: bool) -> _Placed:
    marks = tuple((place, mark) for place, (_, mark) in enumerate(blocks) if mark is not None)
    return _Placed(MessageIn(tuple(block for block, _ in blocks), role), marks, number, plain)


def _blocks(content: forms.Content, role: str, where: str) -> list[tuple[Block, msgspec.Raw | None]]:
    """Blocks, each with its cache mark."""
    if isinstance(content, str):
        return [(TextBlock(content), None)] if content else []
    return [_block(raw, role, f"{where}[{number}]") for number, raw in enumerate(content)]


def _block(raw: msgspec.Raw, role: str, where: str) -> tuple[Block, msgspec.Raw | None]:
    part = _part(raw, role, where)
    return _common(part, raw, where), _mark(part.cache_control, f"{where}.cache_control")


def _part(raw: msgspec.Raw, role: str, where: str) -> forms.Block:
    """A block in its form. Raises Problem, which names a type that there is not."""
    kind, known = read_part(raw, forms.Typed, where).type, forms.PARTS[role]
    if kind is None:
        raise invalid(f"{where}.type", "is required", "missing_field")
    if kind not in known:
        detail = f"{where}.type: a block {kind[:100]!r} is not supported here; there are {', '.join(known)}"
        raise Problem(400, "unknown_block", detail, field=f"{where}.type", available=list(known))
    part: forms.Block = read_part(raw, known[kind], where)
    return part


def _common(part: forms.Block, raw: msgspec.Raw, where: str) -> Block:
    """A block in the common form."""
    match part:
        case forms.TextPart(text=text, citations=citations):
            return TextBlock(text, _without_mark(raw) if citations else UNSET)
        case forms.PlainPart(text=text):
            return TextBlock(text)
        case forms.ImagePart(source=source):
            return ImageBlock(_source(source, f"{where}.source"))
        case forms.CallPart(id=call, name=name, input=given):
            return ToolUseBlock(call, name, given)
        case forms.ResultPart():
            return ToolResultBlock(part.tool_use_id, _result(part.content, where), is_error=bool(part.is_error))
        case forms.ThinkingPart():
            return _thought(part, raw, where)
        case _:
            return OtherBlock(part.type, bytes(raw))


def _result(content: forms.Content | None, where: str) -> str | tuple[TextBlock | ImageBlock, ...]:
    if content is None or isinstance(content, str):
        return content or ""
    blocks = [_common(_part(raw, "result", f"{where}.content[{n}]"), raw, where) for n, raw in enumerate(content)]
    return tuple(_shown(blocks))


def _shown(blocks: Sequence[Block]) -> Iterator[TextBlock | ImageBlock]:
    yield from (block for block in blocks if isinstance(block, TextBlock | ImageBlock))


def _source(source: forms.Source, where: str) -> Base64Source | UrlSource:
    """Where an image is. Raises Problem for what does not go with its type."""
    wanted = ("url",) if source.type == "url" else ("media_type", "data")
    for name in ("media_type", "data", "url"):
        given = getattr(source, name)
        if name in wanted and not given:
            raise invalid(f"{where}.{name}", "is required", "missing_field")
        if given and name not in wanted:
            raise invalid(f"{where}.{name}", f"does not go with {source.type}")
    return UrlSource(source.url) if source.type == "url" else Base64Source(source.media_type, source.data)


# --- thinking ---------------------------------------------------------------------------------------------------------


def _thought(part: forms.ThinkingPart, raw: msgspec.Raw, where: str) -> Block:
    """A thought with its vendor's form: Anthropic's own as it came, another's from under the signature."""
    if not part.signature:
        return ThinkingBlock(part.thinking)
    match = SEALED.fullmatch(part.signature)
    if match is None:
        return ThinkingBlock(part.thinking, raw)
    form = unsealed(match["raw"], f"{where}.signature", "a signature")
    if match["kind"] == "thought":
        return ThinkingBlock(part.thinking, form)
    if read_part(form, forms.Typed, f"{where}.signature").type != REASONING:
        raise invalid(f"{where}.signature", "is not a signature that was given here")
    return OtherBlock(REASONING, bytes(form))


# --- system, tools, cache marks ---------------------------------------------------------------------------------------


def _system(system: forms.Content | None) -> tuple[str | None, tuple[Mark, ...]]:
    """The system prompt as one text, and its parts, if there are several or one is marked: where each starts and ends,
    and its cache mark or null.
    """
    if system is None or isinstance(system, str):
        return system or None, ()
    found: list[Mark] = []
    texts: list[str] = []
    at = 0
    for block, mark in _blocks(system, "system", "system"):
        text = cast("TextBlock", block).text
        found.append((at, at + len(text), _NULL if mark is None else mark))
        texts.append(text)
        at += len(text) + len(BETWEEN)
    plain = len(found) < 2 and all(mark is _NULL for *_, mark in found)
    return BETWEEN.join(texts) or None, () if plain else tuple(found)


def _tools(raws: Sequence[msgspec.Raw]) -> tuple[tuple[ToolSchema, ...], tuple[tuple[int, msgspec.Raw], ...]]:
    """The tools that the client runs, and their cache marks. Raises Problem for one that runs elsewhere."""
    schemas: list[ToolSchema] = []
    marks: list[tuple[int, msgspec.Raw]] = []
    for number, raw in enumerate(raws):
        where = f"tools[{number}]"
        kind = read_part(raw, forms.Typed, where).type
        if kind not in {None, "custom"}:
            raise Problem(
                400, "parameter_not_supported", f"{where}.type: {kind[:100]!r} {forms.RAN_THERE}", field=f"{where}.type"
            )
        tool: forms.ClientTool = read_part(raw, forms.ClientTool, where)
        schemas.append(ToolSchema(tool.name, tool.description or "", tool.input_schema, tool.strict))
        mark = _mark(tool.cache_control, f"{where}.cache_control")
        if mark is not None:
            marks.append((number, mark))
    return tuple(schemas), tuple(marks)


def _mark(raw: forms.Raw, where: str) -> msgspec.Raw | None:
    """A cache mark, to the byte; None: there is none."""
    if not isinstance(raw, msgspec.Raw) or bytes(raw) == b"null":
        return None
    read_part(raw, forms.CacheControl, where)
    return msgspec.Raw(bytes(raw))


def _without_mark(raw: msgspec.Raw) -> msgspec.Raw:
    """A text with its citations, without its cache mark, which is kept apart."""
    fields: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    fields.pop("cache_control", None)
    return msgspec.Raw(msgspec.json.encode(fields))
