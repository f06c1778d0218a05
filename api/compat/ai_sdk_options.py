"""The options of a request of the Vercel AI SDK's: the SDK's settings by its own names, and tools.

A tool that is a name is registered here, and runs here; one that is an object with a schema is the client's to run.
assistant-ui sends its tools as an object of such, by their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from ...engine import ToolSchema, TurnOptions
from ..http.errors import invalid
from . import ai_sdk_forms as forms
from .fields import read_part

Tools = tuple[msgspec.Raw, ...] | dict[str, msgspec.Raw] | None

PARAMETERS = {
    "frequency_penalty": "frequencyPenalty",
    "max_output_tokens": "maxOutputTokens",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
    "temperature": "temperature",
    "top_k": "topK",
    "top_p": "topP",
}
"""Options that are fields of a body, with the body's names."""

_THEIRS = {
    **PARAMETERS,
    "client_tools": "tools",
    "content": "messages",
    "message.role": "messages",
    "reasoning.effort": "reasoning",
    "stop": "stopSequences",
    "tool_choice": "toolChoice",
}
_CLIENT_TOOL = re.compile(r"client_tools\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)
_NOTHING = {"type": "object", "properties": {}}


def client_tools(tools: Tools) -> list[tuple[str, ToolSchema]]:
    """The tools that the client runs, each with its place in the body. Raises Problem."""
    found: list[tuple[str, ToolSchema]] = []
    for where, raw, name in _tools(tools):
        if _is_text(raw):
            continue
        tool: forms.ClientTool = read_part(raw, forms.ClientTool, where)
        if tool.input_schema is not None and tool.parameters is not None:
            raise invalid(f"{where}.parameters", "goes without inputSchema")
        named = name or tool.name
        if not named:
            raise invalid(f"{where}.name", "is required", "missing_field")
        found.append(
            (where, ToolSchema(named, tool.description or "", tool.input_schema or tool.parameters or _NOTHING))
        )
    return found


def _tools(tools: Tools) -> list[tuple[str, msgspec.Raw, str | None]]:
    """Each tool with its place in the body, and its name where that stands before it."""
    if isinstance(tools, Mapping):
        return [(f"tools.{name}", raw, name) for name, raw in tools.items()]
    return [(f"tools[{number}]", raw, None) for number, raw in enumerate(tools or ())]


def _is_text(raw: msgspec.Raw) -> bool:
    return bytes(raw)[:1] == b'"'


def options_of(body: forms.ChatIn, clients: Sequence[ToolSchema]) -> TurnOptions:
    """The options of the turn. Raises Problem."""
    given = {option: getattr(body, option) for option in PARAMETERS}
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    names = [read_part(raw, str, where) for where, raw, _ in _tools(body.tools) if _is_text(raw)]
    if isinstance(body.tools, Mapping) and names:
        raise invalid("tools", "must be a list where it names tools")
    options |= {"model": body.model, "stop": body.stop_sequences or (), "client_tools": clients, "tools": names}
    if body.reasoning not in {None, "provider-default"}:
        options["reasoning"] = {"effort": body.reasoning}
    options["tool_choice"] = _tool_choice(body.tool_choice, {*names, *(tool.name for tool in clients)})
    return cast("TurnOptions", options)


def _tool_choice(choice: str | dict[str, Any] | None, tools: set[str]) -> str | None:
    if choice is None or (isinstance(choice, str) and choice in {"auto", "none"} and not tools):
        return None
    if isinstance(choice, str):
        words = {"auto": "auto", "none": "none", "required": "any"}
        if choice not in words:
            raise invalid("toolChoice", "must be auto, none, required, or {type: tool, toolName}")
        return words[choice]
    name: str = read_part(msgspec.Raw(msgspec.json.encode(choice)), forms.NamedChoice, "toolChoice").tool_name
    if name not in tools:
        raise invalid("toolChoice.toolName", "is none of the tools")
    return name


def theirs(field: str, tools: Tools) -> str:
    """The client's name of one of the engine's fields, but for those of messages."""
    if match := _CLIENT_TOOL.fullmatch(field):
        places = [where for where, raw, _ in _tools(tools) if not _is_text(raw)]
        number = int(match["number"])
        where = places[number] if number < len(places) else "tools"
        return where + match["rest"].replace(".parameters", ".inputSchema")
    if field.startswith("stop["):
        return field.replace("stop[", "stopSequences[")
    return _THEIRS.get(field, field)
