"""Requests of OpenAI's Chat Completions, and what the engine is asked with them.

The system and developer messages at the beginning are the session's system prompt; later ones stay messages at their
place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from ...engine import (
    Base64Source,
    Block,
    ClientRequest,
    ImageBlock,
    MessageIn,
    TextBlock,
    ToolResultBlock,
    ToolSchema,
    ToolUseBlock,
    TurnOptions,
    UrlSource,
)
from ..http.errors import invalid
from .chat_forms import (
    NEUTRAL,
    PARAMETERS,
    PARTS,
    AssistantSaid,
    ChatIn,
    Content,
    DeveloperSaid,
    FunctionTool,
    ImagePart,
    NamedChoice,
    RefusalPart,
    Said,
    SystemSaid,
    TextPart,
    ToolCall,
    ToolSaid,
    UserSaid,
)
from .fields import not_here, read_part, read_parts

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*);base64,(?P<data>.*)", re.DOTALL)
_MESSAGE = re.compile(r"messages\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)
_SOURCE = re.compile(r"\.source\.\w+$")
_TOOL = re.compile(r"client_tools\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)


def client_request(body: ChatIn) -> tuple[ClientRequest, Callable[[str], str]]:
    """What the engine is asked, and the client's names of its fields. Raises Problem."""
    said: tuple[Said, ...] = read_parts(body.messages, Said, "messages")
    _check_names(said)
    leading = next((n for n, each in enumerate(said) if not isinstance(each, SystemSaid | DeveloperSaid)), len(said))
    system = "\n\n".join(_text(each.content, f"messages[{n}].content") for n, each in enumerate(said[:leading]))
    messages = tuple(_message(each, f"messages[{leading + n}]") for n, each in enumerate(said[leading:]))
    _check_said(messages, leading)
    asked = ClientRequest(
        messages,
        _options(body),
        system=system or None,
        end_user=body.safety_identifier or body.user or None,
        metadata=cast("dict[str, object] | None", body.metadata),
    )
    return asked, lambda field: _theirs(field, body, leading)


def _check_said(messages: Sequence[MessageIn], leading: int) -> None:
    """Raises Problem for a message in which nothing is said, but for an assistant's, and unless there is one to answer.
    ``leading``: how many messages come before them.
    """
    for number, each in enumerate(messages, leading):
        if not each.content and each.role != "assistant":
            raise invalid(f"messages[{number}].content", "must hold something", "empty_message")
    if not messages:
        raise invalid("messages", "must hold a message from user or tool")
    if messages[-1].role not in {"user", "tool"}:
        number = leading + len(messages) - 1
        raise invalid(f"messages[{number}].role", "the last message must be from user or tool")


def _check_names(said: Sequence[Said]) -> None:
    """Raises Problem for the name of a participant."""
    for number, each in enumerate(said):
        if each.name is not None and not isinstance(each, ToolSaid):
            raise not_here(f"messages[{number}].name")


def _message(said: Said, where: str) -> MessageIn:
    match said:
        case SystemSaid() | DeveloperSaid():
            return MessageIn(_text(said.content, f"{where}.content"), "system")
        case UserSaid():
            content = said.content if isinstance(said.content, str) else _blocks(said.content, "user", where)
            return MessageIn(content, "user")
        case AssistantSaid():
            text = said.content if not (said.tool_calls or said.refusal) else None
            return MessageIn(text if isinstance(text, str) and text else _answer(said, where), "assistant")
        case ToolSaid():
            result = ToolResultBlock(said.tool_call_id, _text(said.content, f"{where}.content"))
            return MessageIn((result,), "tool")


def _text(content: Content, where: str) -> str:
    """A text, given as such or in parts. Raises Problem."""
    if content is None:
        raise invalid(where, "is required", "missing_field")
    if isinstance(content, str):
        return content
    parts = [read_part(raw, TextPart, f"{where}[{number}]") for number, raw in enumerate(content)]
    return "".join(part.text for part in parts)


def _blocks(content: Content, role: str, where: str) -> tuple[Block, ...]:
    if content is None:
        raise invalid(f"{where}.content", "is required", "missing_field")
    if isinstance(content, str):
        return (TextBlock(content),)
    places = ((f"{where}.content[{number}]", raw) for number, raw in enumerate(content))
    return tuple(_block(read_part(raw, PARTS[role], place), place) for place, raw in places)


def _block(part: TextPart | ImagePart | RefusalPart, where: str) -> Block:
    match part:
        case TextPart(text) | RefusalPart(text):
            return TextBlock(text)
        case ImagePart():
            if part.image_url.detail not in {None, "auto"}:
                raise not_here(f"{where}.image_url.detail")
            return ImageBlock(_source(part.image_url.url, f"{where}.image_url.url"))


def _source(url: str, where: str) -> Base64Source | UrlSource:
    if not url.startswith("data:"):
        return UrlSource(url)
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise invalid(where, "must be an http or https URL, or data:TYPE;base64,DATA")
    return Base64Source(match["type"], match["data"])


def _answer(said: AssistantSaid, where: str) -> tuple[Block, ...]:
    """What an assistant said: its text, then its calls."""
    blocks: list[Block] = [] if said.content is None else list(_blocks(said.content, "assistant", where))
    if said.refusal:
        blocks.append(TextBlock(said.refusal))
    blocks = [block for block in blocks if not isinstance(block, TextBlock) or block.text]
    return (*blocks, *(_call(call) for call in said.tool_calls or ()))


def _call(call: ToolCall) -> ToolUseBlock:
    written = call.function.arguments
    try:
        value = msgspec.json.decode(written) if written.strip() else {}
    except (msgspec.DecodeError, RecursionError):
        value = None
    return ToolUseBlock(call.id, call.function.name, value if isinstance(value, dict) else None, written)


# --- options ----------------------------------------------------------------------------------------------------------


def _options(body: ChatIn) -> TurnOptions:
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "goes with stream")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise invalid("max_tokens", "goes without max_completion_tokens")
    tools = _tools(body.tools or ())
    options: dict[str, Any] = {
        "model": body.model,
        "max_output_tokens": body.max_completion_tokens or body.max_tokens,
        "temperature": body.temperature,
        "stop": () if body.stop is None else body.stop,
        "client_tools": tools,
        "tool_choice": _tool_choice(body.tool_choice, tools),
    }
    return cast("TurnOptions", options | _parameters(body))


def _parameters(body: ChatIn) -> dict[str, Any]:
    """The parameters that say something, as the engine has them."""
    given = {field: getattr(body, field) for field in PARAMETERS}
    said = {field: value for field, value in given.items() if value is not None and value not in NEUTRAL.get(field, ())}
    if body.reasoning_effort is not None:
        said["reasoning_effort"] = {"effort": body.reasoning_effort}
    if body.response_format is not None:
        said["response_format"] = _response_format(body.response_format)
    return {PARAMETERS[field]: value for field, value in said.items()}


def _response_format(form: dict[str, Any]) -> dict[str, Any]:
    """The engine's form: what stands in ``json_schema`` stands beside the type."""
    inner = form.get("json_schema")
    if form.get("type") != "json_schema" or not isinstance(inner, dict) or "type" in inner:
        return form
    return {name: value for name, value in form.items() if name != "json_schema"} | inner


def _tools(raws: Sequence[msgspec.Raw]) -> tuple[ToolSchema, ...]:
    functions = [read_part(raw, FunctionTool, f"tools[{number}]").function for number, raw in enumerate(raws)]
    nothing: dict[str, Any] = {"type": "object", "properties": {}}
    return tuple(
        ToolSchema(each.name, each.description or "", each.parameters or nothing, each.strict) for each in functions
    )


def _tool_choice(choice: str | dict[str, Any] | None, tools: Sequence[ToolSchema]) -> str | None:
    if choice is None or ((choice in {"auto", "none"} if isinstance(choice, str) else False) and not tools):
        return None
    if isinstance(choice, str):
        words = {"auto": "auto", "none": "none", "required": "any"}
        if choice not in words:
            raise invalid("tool_choice", "must be auto, none, required, or {type: function, function: {name}}")
        return words[choice]
    name: str = read_part(msgspec.Raw(msgspec.json.encode(choice)), NamedChoice, "tool_choice").function.name
    if name not in {tool.name for tool in tools}:
        raise invalid("tool_choice.function.name", "is none of the tools")
    return name


# --- names ------------------------------------------------------------------------------------------------------------


def _theirs(field: str, body: ChatIn, leading: int) -> str:
    """The client's name of one of the engine's fields. ``leading``: how many messages are the system prompt."""
    if match := _MESSAGE.fullmatch(field):
        rest = _SOURCE.sub(".image_url.url", match["rest"])
        return f"messages[{int(match['number']) + leading}]{rest}"
    if match := _TOOL.fullmatch(field):
        return f"tools[{match['number']}].function{match['rest']}"
    if field.startswith("response_format."):
        name = field.removeprefix("response_format.")
        return field if name in {"type", "json_schema"} else f"response_format.json_schema.{name}"
    if field == "max_output_tokens" and body.max_completion_tokens is None:
        return "max_tokens"
    if field == "user_id" and not body.safety_identifier:
        return "user"
    return _THEIRS.get(field, field)


_THEIRS = {
    "budget_tokens": "messages",
    "client_tools": "tools",
    "content": "messages",
    "max_output_tokens": "max_completion_tokens",
    "message.role": "messages",
    "reasoning": "reasoning_effort",
    "reasoning.effort": "reasoning_effort",
    "system": "messages[0].content",
    "user_id": "safety_identifier",
}
