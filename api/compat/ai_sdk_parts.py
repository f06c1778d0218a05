"""The parts of the Vercel AI SDK's UI messages, and the blocks that they become.

Files: an image is an image's block; a text, as a data URL, is its text. A result that is not only text has the SDK's
own form of that (``content``), so that it comes back as it was given.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import UNSET

from ...engine import Base64Source, Block, ImageBlock, TextBlock, ToolResultBlock, ToolUseBlock, UrlSource
from ..http.errors import Problem, invalid
from . import ai_sdk_forms as forms
from .fields import decoder_of, not_here, read_part

Form = forms.TextPart | forms.FilePart | forms.ToolPart | forms.StepStart
Part = tuple[int, Form]
"""A part that counts, and its number in its message."""

TEXTS = frozenset({"application/json", "application/xml", "application/yaml"})
"""Types of files that are text, beside ``text/…``."""

_IN_ROLE = {
    "system": ("text",),
    "user": ("text", "file"),
    "assistant": ("text", "tool-…", forms.DYNAMIC, forms.STEP),
}
"""The parts that a message may have, beside those that are ignored."""

_FORMS: dict[str, Any] = {
    "text": forms.TextPart,
    "file": forms.FilePart,
    forms.STEP: forms.StepStart,
    forms.DYNAMIC: forms.ToolPart,
    "tool-…": forms.ToolPart,
}

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),(?P<data>.*)", re.DOTALL)
_encode = msgspec.json.Encoder().encode

Content = str | tuple[TextBlock | ImageBlock, ...]


def read_parts_of(said: forms.Said, where: str) -> list[Part]:
    """The parts of a message that count. Raises Problem, which names a type that there is not."""
    found: list[Part] = []
    for number, raw in enumerate(said.parts):
        place = f"{where}.parts[{number}]"
        kind: str = read_part(raw, forms.Typed, place).type
        if kind in forms.IGNORED or kind.startswith(forms.DATA):
            continue
        known = "tool-…" if kind.startswith(forms.TOOL) else kind
        if known not in _IN_ROLE[said.role]:
            raise _unknown(kind, said.role, place)
        part: Form = read_part(raw, _FORMS[known], place)
        if isinstance(part, forms.ToolPart) and not part.name:
            field = f"{place}.toolName" if part.type == forms.DYNAMIC else f"{place}.type"
            raise invalid(field, "must name a tool", "missing_field")
        found.append((number, part))
    return found


def _unknown(kind: str, role: str, place: str) -> Problem:
    there = (*_IN_ROLE[role], *sorted(forms.IGNORED), "data-…")
    detail = f"{place}.type: a part {kind[:100]!r} of the {role}'s is not supported here; there are {', '.join(there)}"
    return Problem(400, "unknown_part", detail, field=f"{place}.type", available=list(there))


def assistants_step(step: Sequence[Part], where: str) -> tuple[list[Block], list[int]]:
    """The model's answer in a step, and the part that each block of it is. A call that the client saw only the
    beginning of was not made.
    """
    blocks: list[Block] = []
    places: list[int] = []
    for place, part in step:
        if isinstance(part, forms.TextPart) and part.text:
            blocks.append(TextBlock(part.text))
        elif isinstance(part, forms.ToolPart) and part.state != "input-streaming":
            blocks.append(_call(part, f"{where}.parts[{place}]"))
        else:
            continue
        places.append(place)
    return blocks, places


def _call(part: forms.ToolPart, where: str) -> ToolUseBlock:
    """A call. Its input is an object, or the text that the model wrote in its stead."""
    given = part.raw_input if part.input is UNSET or part.input is None else part.input
    if given is UNSET:
        if part.state != "output-error":
            raise invalid(f"{where}.input", "is required", "missing_field")
        given = {}
    if isinstance(given, dict):
        return ToolUseBlock(part.tool_call_id, part.name, given)
    return ToolUseBlock(
        part.tool_call_id, part.name, None, given if isinstance(given, str) else _encode(given).decode()
    )


# --- files ------------------------------------------------------------------------------------------------------------


def file_block(part: forms.FilePart, where: str) -> Block:
    """A file as a block. Raises Problem for one that is neither an image nor a text."""
    match = _DATA_URL.fullmatch(part.url) if part.url[:5].lower() == "data:" else None
    if match is None and part.url[:5].lower() == "data:":
        raise invalid(f"{where}.url", "must be an http or https URL, or data:TYPE;base64,DATA")
    kind = part.media_type.lower()
    if "/" not in kind or kind.endswith("/*"):
        kind = match["type"].lower() if match is not None and match["type"] else kind
    if kind.partition("/")[0] == "image":
        return ImageBlock(UrlSource(part.url) if match is None else _image(kind, match, where))
    if kind.partition("/")[0] != "text" and kind.partition(";")[0] not in TEXTS:
        detail = f", a file of type {part.media_type[:100]!r}: there are images and texts"
        raise not_here(f"{where}.mediaType", detail)
    if match is None:
        raise not_here(f"{where}.url", ", the address of a text: send it as data:TYPE;base64,DATA")
    return TextBlock(_text_of(match, where))


def _image(kind: str, match: re.Match[str], where: str) -> Base64Source:
    if not _is_base64(match):
        raise invalid(f"{where}.url", "must be data:TYPE;base64,DATA")
    return Base64Source(kind, match["data"])


def _is_base64(match: re.Match[str]) -> bool:
    return match["parameters"].lower().endswith(";base64")


def _text_of(match: re.Match[str], where: str) -> str:
    try:
        data = match["data"]
        raw = base64.b64decode(data, validate=True) if _is_base64(match) else unquote_to_bytes(data)
        return raw.decode()
    except (binascii.Error, ValueError):
        raise invalid(f"{where}.url", "must hold a text in UTF-8") from None


# --- results ----------------------------------------------------------------------------------------------------------


def output_content(output: Any) -> Content:
    """The content of a result from what a client's tool gave: a text is itself, any other value is its JSON."""
    if isinstance(output, str):
        return output
    if output is UNSET:
        return ""
    if isinstance(output, dict) and output.get("type") == "content":
        try:
            given: forms.Output = decoder_of(forms.Output).decode(_encode(output))
        except msgspec.ValidationError:
            return _encode(output).decode()
        return tuple(_output_block(each) for each in given.value)
    return _encode(output).decode()


def _output_block(part: forms.OutputText | forms.OutputFile) -> TextBlock | ImageBlock:
    if isinstance(part, forms.OutputText):
        return TextBlock(part.text)
    data = part.data
    return ImageBlock(UrlSource(data.url) if data.type == "url" else Base64Source(part.media_type, data.data))


def told_output(result: ToolResultBlock) -> object:
    """A result as a client is told it: a text as such, with images in the SDK's form of that."""
    content = result.content
    if isinstance(content, str):
        return content
    images = [block for block in content if isinstance(block, ImageBlock)]
    if not images:
        return text_of_result(result)
    return {"type": "content", "value": [_told(block) for block in content]}


def text_of_result(result: ToolResultBlock) -> str:
    """The text of a result."""
    content = result.content
    if isinstance(content, str):
        return content
    return "".join(block.text for block in content if isinstance(block, TextBlock))


def _told(block: TextBlock | ImageBlock) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    source = block.source
    if isinstance(source, Base64Source):
        return {"type": "file", "mediaType": source.media_type, "data": {"type": "data", "data": source.data}}
    return {"type": "file", "mediaType": "image", "data": {"type": "url", "url": source.url}}
