"""The tools there are, by name, and the form in which a model is told of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ..errors import Invalid, ToolError
from ..events.blocks import ToolSchema
from .base import NAME, Tool


class Tools:
    """All registered tools, in the order in which they came. It does not own them."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._by_name: dict[str, Tool] = {}
        self._schemas: dict[str, ToolSchema] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Raises ToolError for a name that is taken or ill-formed, and for a schema that cannot be sent."""
        if not NAME.fullmatch(tool.name):
            raise ToolError(f"{tool.name[:80]!r} is no name for a tool: 1 to 64 characters of A-Z a-z 0-9 _ -")
        if tool.name in self._by_name:
            raise ToolError(f"there are two tools named {tool.name}")
        self._schemas[tool.name] = _schema(tool)
        self._by_name[tool.name] = tool

    def get(self, name: str) -> Tool | None:
        return self._by_name.get(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def allowed(self, names: Collection[str] | None, allow_list: Collection[str] | None) -> tuple[str, ...]:
        """The names that are asked for and allowed, in the order of registration.

        ``names`` None: all that are allowed; ``allow_list`` None: every tool is. An allow-list may name tools that are
        not here now. Raises Invalid for a name asked for that is not to be had; ``available`` lists what is.
        """
        free = [name for name in self._by_name if allow_list is None or name in allow_list]
        if names is None:
            return tuple(free)
        for name in names:
            if name not in free:
                raise Invalid("tools", f"no tool is named {name!r} here", code="unknown_tool", available=free)
        return tuple(name for name in free if name in names)

    def schemas(self, names: Collection[str]) -> tuple[ToolSchema, ...]:
        """What a provider is sent of these tools, in the order of registration; an unknown name has none."""
        return tuple(schema for name, schema in self._schemas.items() if name in names)


def write_schemas(schemas: Sequence[ToolSchema]) -> bytes:
    """Schemas as they are kept. ``read_schemas`` gives equal ones back, and a renderer makes the same bytes of them:
    the order of keys is kept, for a model reads it and a request is derived from it. Hence no sorted keys.
    """
    return msgspec.json.encode(schemas)


def read_schemas(data: bytes) -> tuple[ToolSchema, ...]:
    """Raises msgspec.MsgspecError if these are none."""
    return msgspec.json.decode(data, type=tuple[ToolSchema, ...])


def _schema(tool: Tool) -> ToolSchema:
    """Through JSON, so that what is kept and read again is the same to the letter."""
    schema = ToolSchema(tool.name, tool.description, tool.parameters)
    try:
        return msgspec.json.decode(msgspec.json.encode(schema), type=ToolSchema)
    except (TypeError, ValueError, RecursionError):
        raise ToolError(f"the schema of the tool {tool.name} has no JSON form") from None
