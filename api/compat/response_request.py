"""Requests of OpenAI's Responses, and what the engine is asked with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec

from ...engine import ClientRequest, ToolSchema, TurnOptions
from ..http.errors import Problem, invalid
from .fields import not_here, read_part
from .named import check_metadata, no_conversation
from .response_forms import INCLUDABLE, NEUTRAL, CountIn, FunctionTool, NamedChoice, NamedConversation, ResponseIn
from .response_ids import read_id
from .response_input import Given, Messages, read_items
from .response_item_forms import Typed
from .response_told import Told

_TOOL = re.compile(r"client_tools\[(?P<number>\d+)\](?P<rest>.*)", re.DOTALL)


class Asked(NamedTuple):
    """A request as the engine takes it, the client's names of its fields, and what is given back of it."""

    request: ClientRequest
    names: Callable[[str], str]
    told: Told


def client_request(body: CountIn, references: Messages) -> Asked:
    """What the engine is asked. ``references``: recorded messages that items name. Raises Problem."""
    previous, conversation = place_of(body)
    if body.input is None or body.input == ():
        raise invalid("input", "is required", "missing_field")
    given = read_items(body.input, "input", references)
    tools = [_tool(raw, f"tools[{number}]") for number, raw in enumerate(body.tools or ())]
    schemas = tuple(_schema(tool) for tool in tools)
    told = _told(body, tools)
    asked = ClientRequest(
        given.messages,
        _options(body, schemas),
        protocol="responses",
        system=body.instructions or None,
        previous=previous,
        conversation=conversation,
    )
    if isinstance(body, ResponseIn):
        asked = _of_whole(asked, body, told)
    return Asked(asked, lambda field: _theirs(field, body, given), told)


def _of_whole(asked: ClientRequest, body: ResponseIn, told: Told) -> ClientRequest:
    """What a request for an answer says besides. Raises Problem."""
    if body.background and body.store is False:
        raise invalid("background", "goes with store: its answer is read by its id")
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "goes with stream")
    check_include(body.include or ())
    check_metadata(body.metadata)
    return msgspec.structs.replace(
        asked,
        end_user=body.safety_identifier or body.user or None,
        metadata=cast("dict[str, object] | None", body.metadata),
        apart=body.store is False,
        stored=body.store is not False,
        trims=body.truncation == "auto",
        told=told.encoded(),
    )


def check_include(names: Sequence[str], field: str = "include") -> None:
    """Raises Problem for what cannot be told besides."""
    for number, name in enumerate(names):
        if name == "message.output_text.logprobs":
            raise not_here(f"{field}[{number}]")
        if name not in INCLUDABLE:
            raise invalid(f"{field}[{number}]", f"must be one of {', '.join(sorted(INCLUDABLE))}")


def place_of(body: CountIn) -> tuple[UUID | None, UUID | None]:
    """The turn after whose answer a request goes on, or the session. Raises Problem."""
    if body.previous_response_id is not None and body.conversation is not None:
        raise invalid("previous_response_id", "goes without conversation", "mutually_exclusive_parameters")
    previous = conversation = None
    if body.previous_response_id is not None:
        previous = read_id("resp", body.previous_response_id)
        if previous is None:
            detail = "previous_response_id: there is no such answer to go on from"
            raise Problem(404, "previous_response_not_found", detail, field="previous_response_id")
    if body.conversation is not None:
        conversation = read_id("conv", name_of(body.conversation))
        if conversation is None:
            raise no_conversation(name_of(body.conversation), "conversation")
    return previous, conversation


def name_of(conversation: str | NamedConversation) -> str:
    """The name of the conversation that a request goes on in."""
    return conversation if isinstance(conversation, str) else conversation.id


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(raw: msgspec.Raw, path: str) -> FunctionTool:
    """A tool that the client runs. Raises Problem for one that runs elsewhere."""
    kind = read_part(raw, Typed, path).type
    if kind is not None and kind != "function":
        detail = f"{path}.type: a tool {kind[:100]!r} is not supported here: it would run at a vendor's"
        raise Problem(400, "parameter_not_supported", detail, field=f"{path}.type")
    tool: FunctionTool = read_part(raw, FunctionTool, path)
    return tool


def _schema(tool: FunctionTool) -> ToolSchema:
    return ToolSchema(tool.name, tool.description or "", tool.parameters or {"type": "object", "properties": {}})


def _tool_choice(choice: str | dict[str, Any] | None, tools: Sequence[ToolSchema]) -> str | None:
    if choice is None or (isinstance(choice, str) and choice in {"auto", "none"} and not tools):
        return None
    if isinstance(choice, str):
        words = {"auto": "auto", "none": "none", "required": "any"}
        if choice not in words:
            raise invalid("tool_choice", "must be auto, none, required, or {type: function, name}")
        return words[choice]
    name: str = read_part(msgspec.Raw(msgspec.json.encode(choice)), NamedChoice, "tool_choice").name
    if name not in {tool.name for tool in tools}:
        raise invalid("tool_choice.name", "is none of the tools")
    return name


# --- options ----------------------------------------------------------------------------------------------------------


def _options(body: CountIn, tools: tuple[ToolSchema, ...]) -> TurnOptions:
    options: dict[str, Any] = {
        "model": body.model,
        "client_tools": tools,
        "tool_choice": _tool_choice(body.tool_choice, tools),
    }
    for name in ("max_output_tokens", "temperature", "top_p"):
        options[name] = getattr(body, name, None)
    for name, neutral in NEUTRAL.items():
        value = getattr(body, name, None)
        if value is not None and value not in neutral:
            options[name] = value
    if body.reasoning is not None and body.reasoning.effort is not None:
        options["reasoning"] = {"effort": body.reasoning.effort}
    if body.text is not None and body.text.format is not None and body.text.format != {"type": "text"}:
        options["response_format"] = body.text.format
    return cast("TurnOptions", options)


def _told(body: CountIn, tools: Sequence[FunctionTool]) -> Told:
    """What is given back of a request."""
    given: dict[str, Any] = {
        name: value
        for name in Told.__struct_fields__
        if name not in {"tools", "text", "reasoning", "conversation"}
        and (value := getattr(body, name, None)) is not None
    }
    if body.conversation is not None:
        given["conversation"] = name_of(body.conversation)
    if body.text is not None:
        verbosity = {} if body.text.verbosity is None else {"verbosity": body.text.verbosity}
        given["text"] = {"format": _format_told(body.text.format)} | verbosity
    if body.reasoning is not None:
        summary = body.reasoning.summary or body.reasoning.generate_summary
        given["reasoning"] = {"effort": body.reasoning.effort, "summary": summary}
    echoed = tuple(
        {"type": "function"} | {name: getattr(tool, name) for name in ("name", "description", "parameters", "strict")}
        for tool in tools
    )
    return Told(**given, tools=echoed)


def _format_told(asked: dict[str, Any] | None) -> dict[str, Any]:
    """The form of an answer as it is given back: that of a schema has every key."""
    if asked is None:
        return {"type": "text"}
    return {"description": None, "strict": False} | asked if asked.get("type") == "json_schema" else asked


# --- names ------------------------------------------------------------------------------------------------------------


def _theirs(field: str, body: CountIn, given: Given) -> str:
    """The client's name of one of the engine's fields."""
    if match := _TOOL.fullmatch(field):
        return f"tools[{match['number']}]{match['rest']}"
    if field == "response_format" or field.startswith("response_format."):
        return field.replace("response_format", "text.format", 1)
    if field == "user_id" and not getattr(body, "safety_identifier", None):
        return "user"
    return _THEIRS.get(field) or given.theirs(field)


_THEIRS = {
    "budget_tokens": "input",
    "client_tools": "tools",
    "content": "input",
    "message.role": "input",
    "messages": "input",
    "previous": "previous_response_id",
    "system": "instructions",
    "user_id": "safety_identifier",
}
