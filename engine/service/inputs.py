"""Checks of what callers send, before anything is decided: sizes, forms, characters. Every refusal names its
field.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import Any, cast, get_args
from uuid import UUID

import msgspec

from ..errors import Invalid, TooLarge
from ..events.blocks import (
    IMAGE_TYPES,
    Block,
    Content,
    ImageBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    is_one_text,
    raw_block,
    raw_blocks,
    text_content,
)
from ..events.types import NewMessage, Role
from ..log.codec import MAX_SAFE_INTEGER
from ..providers import tokens
from ..settings import Settings
from ..tools.base import NAME
from .callers_blocks import read_callers_block

ROLES = get_args(Role)
MAX_STOPS = 16
MAX_STOP_CHARS = 256

_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CALL = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def check_role(role: str, field: str = "role") -> Role:
    """The role of this name."""
    if role not in ROLES:
        raise Invalid(field, f"must be one of {', '.join(ROLES)}", code="unknown_role")
    return cast("Role", role)


def check_content(
    content: str | Sequence[Block | msgspec.Raw | bytes],
    settings: Settings,
    field: str = "content",
    own: Collection[str] = (),
    *,
    each: bool = False,
) -> Content:
    """The blocks of a message, from text or from blocks; ``own``: types of a vendor's that are taken as they come;
    ``each``: the bound on a message's size is one of each block. Raises Invalid or TooLarge.
    """
    if isinstance(content, str):
        check_text(content, field)
        blocks = text_content(content)
        _check_size(_recorded_bytes(raw_blocks(blocks)), settings, field)
        return blocks
    given = [_as_json(each, f"{field}[{number}]") for number, each in enumerate(content)]
    if len(given) > settings.max_blocks:
        raise TooLarge(
            f"{field}: more than {settings.max_blocks} blocks",
            field=field,
            limit="max_blocks",
            maximum=settings.max_blocks,
        )
    blocks = tuple(read_callers_block(raw, f"{field}[{number}]", own) for number, raw in enumerate(given))
    raws = raw_blocks(blocks)
    if not each:
        _check_size(_recorded_bytes(raws), settings, field)
    for number, (block, raw) in enumerate(zip(blocks, raws, strict=True)):
        where = f"{field}[{number}]"
        if each:
            _check_size(len(bytes(raw)), settings, where)
        if b"\\u0000" in bytes(raw):
            _check_no_nul_in_json(raw, where)
        if isinstance(block, ToolUseBlock):
            check_call(block.id, f"{where}.id")
            check_call(block.name, f"{where}.name")
        elif isinstance(block, ToolResultBlock):
            check_call(block.tool_use_id, f"{where}.tool_use_id")
            _check_result(block, where)
        elif isinstance(block, ImageBlock):
            _check_image(block, where)
    return blocks


HALF_CHARACTER = "holds half of a surrogate pair, which is no character"


def _as_json(block: Block | msgspec.Raw | bytes, field: str) -> msgspec.Raw | bytes:
    try:
        return block if isinstance(block, msgspec.Raw | bytes) else raw_block(block)
    except UnicodeEncodeError:
        raise Invalid(field, HALF_CHARACTER) from None


def check_text(text: str, field: str) -> None:
    """Text that can be kept and given back anywhere: no NUL."""
    if "\0" in text:
        raise Invalid(field, "holds a NUL character", code="nul_character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(field, HALF_CHARACTER) from None


def check_no_nul(value: Any, field: str) -> None:
    """No NUL in any text of a JSON value."""
    if isinstance(value, str):
        check_text(value, field)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, field)
            check_no_nul(item, f"{field}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_no_nul(item, f"{field}[{number}]")


def _check_no_nul_in_json(raw: msgspec.Raw, field: str) -> None:
    try:
        check_no_nul(msgspec.json.decode(raw), field)
    except RecursionError:
        raise Invalid(field, "is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise Invalid(field, str(error)) from None


def check_call(name: str, field: str) -> None:
    """An id or name of a tool call: it becomes a fact, so it may hold no text."""
    if not _CALL.fullmatch(name):
        raise Invalid(field, "must be 1 to 128 characters of A-Z a-z 0-9 _ . : -")


def check_title(title: str | None, settings: Settings) -> None:
    if title is None:
        return
    check_text(title, "title")
    _check_most(len(title), settings.max_title_chars, "title", "max_title_chars", "characters")


def check_system(system: str | None, settings: Settings) -> None:
    if system is not None:
        check_text(system, "system")
        _check_size(len(system.encode()), settings, "system")


def check_metadata(metadata: dict[str, Any] | None, settings: Settings) -> None:
    if metadata is None:
        return
    check_no_nul(metadata, "metadata")
    size = len(msgspec.json.encode(metadata))
    _check_most(size, settings.max_metadata_bytes, "metadata", "max_metadata_bytes", "bytes")


def check_budget(budget: int | None, settings: Settings, field: str) -> None:
    if budget is not None and not 1 <= budget <= settings.max_budget_tokens:
        raise Invalid(field, f"must be from 1 to {settings.max_budget_tokens}", limit="max_budget_tokens")


def check_name(name: str | None, settings: Settings, field: str) -> None:
    """The name of a user or an agent: any text, but some."""
    if name is None:
        return
    check_text(name, field)
    if not name:
        raise Invalid(field, "must not be empty")
    _check_most(len(name), settings.max_name_chars, field, "max_name_chars", "characters")


def check_count(count: int | None, field: str) -> None:
    if count is not None and not 1 <= count < MAX_SAFE_INTEGER:  # RFC 8785 takes no more as exact
        raise Invalid(field, f"must be from 1 to {MAX_SAFE_INTEGER - 1}")


def check_temperature(temperature: float | None) -> None:
    if temperature is not None and not 0 <= temperature <= 2:
        raise Invalid("temperature", "must be from 0 to 2")


def check_stop(stop: Sequence[str]) -> None:
    if len(stop) > MAX_STOPS:
        raise Invalid("stop", f"at most {MAX_STOPS} sequences")
    for number, sequence in enumerate(stop):
        check_text(sequence, f"stop[{number}]")
        if not 1 <= len(sequence) <= MAX_STOP_CHARS:
            raise Invalid(f"stop[{number}]", f"must be 1 to {MAX_STOP_CHARS} characters")


def check_allowed_tools(names: Sequence[str] | None, settings: Settings) -> None:
    """An allow-list: its names become facts."""
    if names is None:
        return
    _check_most(len(names), settings.max_tools, "allowed_tools", "max_tools", "names")
    for number, name in enumerate(names):
        _check_tool_name(name, f"allowed_tools[{number}]")


def check_client_tools(schemas: Sequence[ToolSchema]) -> None:
    """Tools that the caller runs: names, parameters of type object, and if they are strict."""
    for number, schema in enumerate(schemas):
        where = f"client_tools[{number}]"
        _check_tool_name(schema.name, f"{where}.name")
        check_text(schema.description, f"{where}.description")
        check_no_nul(schema.parameters, f"{where}.parameters")
        _check_object_schema(schema.parameters, f"{where}.parameters")
        if schema.strict is not None and not isinstance(schema.strict, bool):
            raise Invalid(f"{where}.strict", "must be true or false")


def _check_object_schema(schema: dict[str, Any], where: str) -> None:
    """The outermost of a JSON Schema; what is deeper is for the vendor to judge."""
    if schema.get("type") != "object":
        raise Invalid(where, 'must be a JSON Schema of type "object"')
    if not isinstance(schema.get("properties", {}), dict):
        raise Invalid(f"{where}.properties", "must be an object")
    required = schema.get("required", [])
    if not (isinstance(required, list) and all(isinstance(name, str) for name in required)):
        raise Invalid(f"{where}.required", "must be an array of names")


def check_reason(reason: str | None, settings: Settings) -> None:
    if reason is not None:
        check_text(reason, "reason")
        _check_most(len(reason), settings.max_reason_chars, "reason", "max_reason_chars", "characters")


def _check_tool_name(name: str, field: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(field, "must be 1 to 64 characters of A-Z a-z 0-9 _ -")


def check_tenant(tenant: str) -> None:
    if not _TENANT.fullmatch(tenant):
        raise Invalid("tenant", "must be 1 to 64 characters of a-z 0-9 . _ - and begin with a letter or digit")


def is_correlation(value: str) -> bool:
    """True if a request id may stand in the log."""
    return _CORRELATION.fullmatch(value) is not None


def _check_result(block: ToolResultBlock, where: str) -> None:
    """Check the images of a result."""
    for number, inner in enumerate(() if isinstance(block.content, str) else block.content):
        if isinstance(inner, ImageBlock):
            _check_image(inner, f"{where}.content[{number}]")


def _check_image(block: ImageBlock, where: str) -> None:
    source = block.source
    if hasattr(source, "url"):
        if not source.url.startswith(("https://", "http://")):
            raise Invalid(f"{where}.source.url", "must be an http or https URL")
    elif source.media_type not in IMAGE_TYPES:
        raise Invalid(f"{where}.source.media_type", f"must be one of {', '.join(IMAGE_TYPES)}")
    elif not source.data or len(source.data) % 4 or not _BASE64.fullmatch(source.data):
        raise Invalid(f"{where}.source.data", "must be base64")


def _recorded_bytes(blocks: tuple[msgspec.Raw, ...]) -> int:
    """The size of content in the form that is recorded. How a caller escaped or indented it does not count."""
    return len(msgspec.json.encode(blocks))


def _check_size(size: int, settings: Settings, field: str) -> None:
    _check_most(size, settings.max_message_bytes, field, "max_message_bytes", "bytes")


def _check_most(size: int, maximum: int, field: str, limit: str, unit: str) -> None:
    if size > maximum:
        detail = f"{field}: {size} {unit}, and {limit} allows {maximum}"
        raise TooLarge(detail, field=field, limit=limit, maximum=maximum)


class MessageIn(msgspec.Struct, frozen=True):
    """A message as callers give it: text, or blocks, typed or as JSON. ``id``: its event id, for imports that may be
    repeated; ``copied_from``: the positions of recorded messages whose words it holds; ``developer``: its client calls
    the system that says it a developer.
    """

    content: str | Sequence[Block | msgspec.Raw | bytes]
    role: str = "user"
    id: UUID | None = None
    copied_from: tuple[int, ...] = ()
    developer: bool = False


async def new_message(
    message: MessageIn, settings: Settings, prefix: str = "", own: Collection[str] = (), *, each: bool = False
) -> NewMessage:
    """A message as decisions take it. ``own``, ``each``: as of ``check_content``. Raises Invalid or TooLarge, which
    name the field, with ``prefix`` before it.
    """
    role = check_role(message.role, f"{prefix}role")
    content = check_content(message.content, settings, f"{prefix}content", own, each=each)
    small = is_one_text(content) and len(content[0].text) <= tokens.SLICE_CHARS
    count = tokens.count_content(content) if small else await asyncio.to_thread(tokens.count_content, content)
    return NewMessage(role, content, count, tokens.COUNTER, message.id, message.copied_from, message.developer)


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
