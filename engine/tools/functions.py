"""Typed Python functions as tools: name, description and JSON Schema come from the function itself.

    @tool
    def weather(city: Annotated[str, Meta(description="a town", max_length=80)], days: int = 1) -> str:
        \"\"\"The forecast for a town.\"\"\"

Arguments can be of any type that msgspec reads from JSON: text, numbers, lists, dicts, Literal, enums, unions with
None, Structs, dataclasses, with ``Annotated[…, Meta(…)]`` for descriptions and bounds. They are read strictly: no text
becomes a number, and an unknown argument is refused (so is an unknown field of a Struct that says
``forbid_unknown_fields``). An argument that is not given is not passed: the function's own default holds.

A first parameter of type ToolContext receives the context and is not part of the schema. A function that is not
``async`` runs in a thread. No thread can be killed: one that hangs past its time limit is abandoned and keeps its place
until it returns; when all places are taken, further calls run into their own time limit.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, get_type_hints, overload

import msgspec

from ..errors import Invalid, ToolError
from ..events.blocks import ImageBlock, TextBlock
from .base import ToolContext, ToolOutput

_REFERENCE = "#/$defs/{name}"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_UNCHANGING = (str, int, float, bool, type(None), Enum)


class FunctionTool:
    """A function as a tool."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        approval: bool = False,
        timeout_s: float | None = None,
        max_output_bytes: int | None = None,
    ) -> None:
        """Raises ToolError for a function that no model could call."""
        self.function = function
        self.name = name or str(getattr(function, "__name__", ""))
        _check_kind(function, self.name)
        self.description = description or _first_paragraph(function)
        if not self.description:
            raise ToolError(f"the tool {self.name} has neither a docstring nor a description")
        self._takes_context, self._arguments = _read_signature(function, self.name)
        self.parameters = _schema(self._arguments, self.name)
        self.approval = approval
        self.timeout_s = timeout_s
        self.max_output_bytes = max_output_bytes

    def check(self, given: dict[str, Any]) -> None:
        self._read(given)

    async def run(self, given: dict[str, Any], context: ToolContext) -> ToolOutput:
        first = (context,) if self._takes_context else ()
        work = partial(self.function, *first, **self._read(given))
        if inspect.iscoroutinefunction(self.function):
            return output_of(await work())
        return await context.threads.run(lambda: output_of(work()))

    def _read(self, given: dict[str, Any]) -> dict[str, Any]:
        try:
            values = msgspec.convert(given, self._arguments)
        except msgspec.ValidationError as error:
            raise Invalid("arguments", str(error)) from None
        return {name: getattr(values, name) for name in given}


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...


@overload
def tool(
    function: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    approval: bool = False,
    timeout_s: float | None = None,
    max_output_bytes: int | None = None,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    function: Callable[..., Any] | None = None, /, **options: Any
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """A function as a tool: ``@tool``, or ``@tool(name=…, …)`` with the options of FunctionTool.

    Raises ToolError for a function that no model could call.
    """
    return partial(FunctionTool, **options) if function is None else FunctionTool(function, **options)


def output_of(value: Any) -> ToolOutput:
    """The output made of a function's result: text and blocks as they are, anything else as JSON.

    Raises ToolError for what has no JSON form.
    """
    if isinstance(value, ToolOutput):
        return value
    if isinstance(value, str):
        return ToolOutput(value)
    if isinstance(value, TextBlock | ImageBlock):
        return ToolOutput((value,))
    if value and isinstance(value, tuple) and all(isinstance(block, TextBlock | ImageBlock) for block in value):
        return ToolOutput(value)
    return ToolOutput(_json(value))


def _json(value: Any) -> str:
    try:
        if not isinstance(value, bytes | bytearray | memoryview):  # JSON has no bytes, and a model does not read base64
            return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # half characters: the runner repairs them
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    raise ToolError(f"it returned a value of type {type(value).__name__}, which is neither text nor JSON")


def _check_kind(function: Callable[..., Any], name: str) -> None:
    if not inspect.isroutine(function):
        raise ToolError(f"a tool is made from a function, not from {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolError(f"the tool {name} yields; a tool returns its result")


def _first_paragraph(function: Callable[..., Any]) -> str:
    paragraph = (inspect.getdoc(function) or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split())


def _read_signature(function: Callable[..., Any], name: str) -> tuple[bool, type[msgspec.Struct]]:
    """The signature: True if it takes a context, and its arguments as a struct."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
        types = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise ToolError(f"the tool {name} has a signature that cannot be read: {error}") from None
    takes_context = bool(parameters) and types.get(parameters[0].name) is ToolContext
    fields = [_field(parameter, types, name) for parameter in parameters[takes_context:]]
    return takes_context, msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _field(parameter: inspect.Parameter, types: dict[str, Any], tool_name: str) -> Any:
    which = f"the tool {tool_name}: its parameter {parameter.name}"
    if parameter.kind not in _NAMED:
        raise ToolError(f"{which} has no name of its own; a model gives arguments by name")
    if parameter.name not in types:
        raise ToolError(f"{which} has no type")
    kind = types[parameter.name]
    if kind is ToolContext:
        raise ToolError(f"{which} must come first, as it is the context")
    if parameter.default is parameter.empty:
        return parameter.name, kind
    if isinstance(parameter.default, _UNCHANGING):
        return parameter.name, kind, parameter.default
    # Only the presence of a default counts: an argument that is not given is not passed.
    return parameter.name, kind, msgspec.field(default_factory=lambda: parameter.default)


def _schema(arguments: type[msgspec.Struct], tool_name: str) -> dict[str, Any]:
    """The JSON Schema: an object at the root, as vendors want it, and the types that it refers to under ``$defs``."""
    try:
        (root,), kinds = msgspec.json.schema_components([arguments], ref_template=_REFERENCE)
    except (TypeError, ValueError, NameError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ToolError(f"the tool {tool_name} has a parameter that JSON cannot express: {reason}") from None
    schema = kinds.pop(root["$ref"].removeprefix("#/$defs/"))
    del schema["title"]
    return {**schema, "$defs": kinds} if kinds else schema
