"""The registry of tools: by name, and the schemas that models are told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ..errors import Invalid, ToolError
from ..events.blocks import ToolSchema
from .base import NAME, Tool


class Tools:
    """All registered tools, in the order of registration. The registry does not own them."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._by_name: dict[str, Tool] = {}
        self._schemas: dict[str, ToolSchema] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Raises ToolError for a name that is taken or ill-formed, and for a schema that cannot be sent."""
        if not NAME.fullmatch(tool.name):
            raise ToolError(f"{tool.name[:80]!r} is not a valid name of a tool: 1 to 64 characters of A-Z a-z 0-9 _ -")
        if tool.name in self._by_name:
            raise ToolError(f"there are two tools named {tool.name}")
        self._schemas[tool.name] = _schema(tool)
        self._by_name[tool.name] = tool

    def get(self, name: str) -> Tool | None:
        return self._by_name.get(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def allowed(self, names: Collection[str] | None, allow_list: Collection[str] | None) -> tuple[str, ...]:
        """The requested names that are allowed, in the order of registration.

        ``names`` None: all that are allowed; ``allow_list`` None: every tool is. An allow-list may name tools that are
        not registered now. Raises Invalid for a requested name that is not available; ``available`` lists those that
        are.
        """
        free = [name for name in self._by_name if allow_list is None or name in allow_list]
        if names is None:
            return tuple(free)
        for name in names:
            if name not in free:
                raise Invalid("tools", f"no tool is named {name!r} here", code="unknown_tool", available=free)
        return tuple(name for name in free if name in names)

    def schemas(self, names: Collection[str]) -> tuple[ToolSchema, ...]:
        """The schemas of these tools for a provider, in the order of registration; an unknown name has none."""
        return tuple(schema for name, schema in self._schemas.items() if name in names)


def write_schemas(schemas: Sequence[ToolSchema]) -> bytes:
    """The bytes of schemas for storage. ``read_schemas`` gives equal ones back, and a renderer makes the same bytes of
    them: the order of keys is kept, because a model reads it and a request is derived from it. So the keys are not
    sorted.
    """
    return msgspec.json.encode(schemas)


def read_schemas(data: bytes) -> tuple[ToolSchema, ...]:
    """Schemas from their bytes. Raises msgspec.MsgspecError for anything else."""
    return msgspec.json.decode(data, type=tuple[ToolSchema, ...])


def _schema(tool: Tool) -> ToolSchema:
    """The schema of a tool, passed through JSON so that the stored one is exactly the same."""
    schema = ToolSchema(tool.name, tool.description, tool.parameters)
    try:
        return msgspec.json.decode(msgspec.json.encode(schema), type=ToolSchema)
    except (TypeError, ValueError, RecursionError):
        raise ToolError(f"the schema of the tool {tool.name} has no JSON form") from None
