"""The forms of Anthropic's Managed Agents, as far as they are served here: the tables of fields, the shapes of bodies,
and sessions as they are told.

An agent is not kept apart from its session: what a request says of it is the session's model, its system prompt and its
tools. What of it the engine has no field for stands in the session's metadata, under one key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ...engine import Session, ToolSchema, Usage
from ..http.errors import Problem, invalid
from ..schemas.parameters import Model
from .fields import HONOURED, KEPT, REFUSED, Field, Table, read_part
from .named import OURS, of_client
from .response_ids import read_id

CREATED: Table = {
    "agent": HONOURED,
    "budget": REFUSED,
    "environment_id": KEPT,
    "initial_events": Field("refused", ([],)),
    "metadata": HONOURED,
    "resources": Field("refused", ([],)),
    "title": HONOURED,
    "vault_ids": Field("refused", ([],)),
}
UPDATED: Table = {
    "agent": HONOURED,
    "budget": REFUSED,
    "metadata": HONOURED,
    "title": HONOURED,
    "vault_ids": Field("refused", ([],)),
}
SENT: Table = {"events": HONOURED}
"""What becomes of each field of a body."""

AGENT: Table = {"model": HONOURED, "name": KEPT, "system": HONOURED, "tools": HONOURED}
AGENT_UPDATED: Table = {"mcp_servers": Field("refused", ([],)), "tools": HONOURED}
MODEL: Table = {"effort": REFUSED, "id": HONOURED, "inference_geo": REFUSED, "speed": Field("refused", ("standard",))}
TOOL: Table = {"description": HONOURED, "input_schema": HONOURED, "name": HONOURED, "type": HONOURED}
"""What becomes of each field of an agent, of its model, and of a tool that the client runs."""

KEY = f"{OURS}agent"
"""The key in a session's metadata; a client is not told it, and cannot set it."""

PREFIX, EVENT = "sesn", "sevt"


class AgentIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An agent. Tools are read singly."""

    model: msgspec.Raw
    name: str | None = None
    system: str | None = None
    tools: tuple[msgspec.Raw, ...] = ()


class SessionIn(msgspec.Struct, frozen=True):
    """The body of a session that begins, but for the fields that are refused."""

    agent: msgspec.Raw
    environment_id: str | None = None
    metadata: dict[str, str] | None = None
    title: str | None = None


class SessionPatchIn(msgspec.Struct, frozen=True):
    """The body of an update. A key of the metadata that is null is removed."""

    agent: dict[str, msgspec.Raw] | None = None
    metadata: dict[str, str | None] | None = None
    title: str | UnsetType | None = UNSET


class CustomTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A tool that the client runs."""

    name: str
    description: str
    input_schema: dict[str, Any]
    type: str = "custom"


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in the metadata. ``tools``: those that the client runs."""

    environment_id: str | None = None
    name: str | None = None
    tools: tuple[CustomTool, ...] = ()

    def schemas(self) -> list[ToolSchema]:
        """The client's tools, as a turn is asked with them."""
        return [ToolSchema(tool.name, tool.description, tool.input_schema) for tool in self.tools]


class Agent(msgspec.Struct, frozen=True):
    """An agent as it was read. ``registered``: the names of tools that run here."""

    model: str
    system: str | None
    name: str | None
    tools: tuple[CustomTool, ...]
    registered: tuple[str, ...]


class _Typed(msgspec.Struct, frozen=True):
    type: str | None = None


def read_agent(raw: msgspec.Raw) -> Agent:
    """An agent from a body: the name of a model, or what it is. Raises Problem, also for one that is kept elsewhere."""
    if _is_text(raw):
        return Agent(_model(raw, "agent"), None, None, (), ())
    _check_own(read_part(raw, dict[str, msgspec.Raw], "agent"))
    given: AgentIn = read_part(raw, AgentIn, "agent")
    model = given.model if _is_text(given.model) else _model_of(given.model)
    tools, registered = read_tools(given.tools)
    return Agent(_model(model, "agent.model"), given.system, given.name, tools, registered)


def _is_text(raw: msgspec.Raw) -> bool:
    return bytes(raw).lstrip()[:1] == b'"'


def _check_own(given: Mapping[str, msgspec.Raw]) -> None:
    """Raises Problem for an agent that is named by its id, or that needs what there is not."""
    if "id" in given:
        detail = "agent.id: there are no agents here; give {model, system, tools}, or the name of a model"
        raise Problem(404, "resource_not_found", detail, field="agent.id")
    for name in given:
        if name not in AGENT:
            raise Problem(400, "unknown_parameter", f"agent.{name}: there is no such parameter", field=f"agent.{name}")


def _model_of(raw: msgspec.Raw) -> msgspec.Raw:
    """The name in a model's configuration. Raises Problem for what cannot be honoured of it."""
    given: dict[str, Any] = read_part(raw, dict[str, Any], "agent.model")
    for name, value in given.items():
        field = MODEL.get(name)
        if field is None:
            raise invalid(f"agent.model.{name}", "there is no such parameter", "unknown_parameter")
        if field.use == "refused" and value is not None and value not in field.only:
            raise invalid(f"agent.model.{name}", "is not supported here", "parameter_not_supported")
    if "id" not in given:
        raise invalid("agent.model.id", "is required", "missing_field")
    return msgspec.Raw(msgspec.json.encode(given["id"]))


def _model(raw: msgspec.Raw, where: str) -> str:
    name: str = read_part(raw, Model, where)
    return name


def read_tools(raws: tuple[msgspec.Raw, ...]) -> tuple[tuple[CustomTool, ...], tuple[str, ...]]:
    """The tools of an agent: those that the client runs, and the names of those that run here. Raises Problem."""
    custom: list[CustomTool] = []
    registered: list[str] = []
    for number, raw in enumerate(raws):
        where = f"agent.tools[{number}]"
        if _is_text(raw):
            registered.append(read_part(raw, str, where))
            continue
        kind = read_part(raw, _Typed, where).type
        if kind == "custom":
            custom.append(read_part(raw, CustomTool, where))
        else:
            detail = "runs at Anthropic; tools are custom, or the names of those that are registered here"
            raise invalid(f"{where}.type", detail, "parameter_not_supported")
    return tuple(custom), tuple(registered)


# --- sessions ---------------------------------------------------------------------------------------------------------


def session_name(session_hex: str) -> str:
    """The name of a session."""
    return f"{PREFIX}_{session_hex}"


def session_of(name: str) -> Any:
    """The session of this name. Raises Problem."""
    found = read_id(PREFIX, name)
    if found is None:
        raise no_session(name)
    return found


def no_session(name: str) -> Problem:
    """The refusal of a session that there is not."""
    return Problem(404, "session_not_found", f"session_id: there is no session {name[:100]!r}", field="session_id")


def kept_of(session: Session) -> Kept:
    """What a session's metadata keep of its agent; one that was begun otherwise has nothing."""
    given = (session.metadata or {}).get(KEY)
    try:
        return msgspec.convert(given, Kept) if isinstance(given, dict) else Kept()
    except msgspec.ValidationError:  # somebody has set it by another door
        return Kept()


def told_metadata(session: Session) -> dict[str, str]:
    """A session's metadata as a client of this protocol gives them: each value is a text."""
    return {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in of_client(session.metadata).items()
    }


def session_told(session: Session, status: str) -> dict[str, Any]:
    """A session, in the protocol's shape."""
    archived = session.status == "archived"
    return {
        "id": session_name(session.id.hex),
        "type": "session",
        "agent": _agent_told(session),
        "archived_at": session.updated_at if archived else None,
        "budget": None,
        "created_at": session.created_at,
        "deployment_id": None,
        "environment_id": kept_of(session).environment_id or "",
        "metadata": told_metadata(session),
        "outcome_evaluations": [],
        "resources": [],
        "stats": {"active_seconds": None, "duration_seconds": None},
        "status": status,
        "title": session.title,
        "updated_at": session.updated_at,
        "usage": _usage(session.usage),
        "vault_ids": [],
    }


def _agent_told(session: Session) -> dict[str, Any]:
    kept = kept_of(session)
    return {
        "id": f"agent_{session.id.hex}",
        "type": "agent",
        "version": 1,
        "name": kept.name or session.model,
        "description": None,
        "execution_identity": {"type": "service_account"},
        "mcp_servers": [],
        "model": {"id": session.model},
        "multiagent": None,
        "skills": [],
        "system": session.system,
        "tools": [msgspec.to_builtins(tool) | {"type": "custom"} for tool in kept.tools],
        "registered_tools": session.allowed_tools,  # beside the protocol: it has no word for them
    }


def _usage(usage: Usage) -> dict[str, Any]:
    """The usage of a session: what was read from the cache, and written to it, is told apart from the input."""
    return {
        "input_tokens": fresh_input(usage),
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
    }


def fresh_input(usage: Usage) -> int | None:
    """The input tokens without those of the cache."""
    if usage.input_tokens is None:
        return None
    return usage.input_tokens - (usage.cache_read_tokens or 0) - (usage.cache_write_tokens or 0)
