"""Sessions of Anthropic's Managed Agents as drop-in routes. Such a session and Manent's own are one: any session of the
tenant can be read and gone on with from here.

What needs an agent, an environment, a vault or a file that is kept elsewhere is refused: there are none here.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from ...engine import Caller, Engine, Session, SessionNotFound
from ..http.body import Http
from ..http.strict import BRACKETED
from ..observability.log_lines import event
from ..schemas.parameters import Chat, IdempotencyKey, caller_of, request_key
from . import common
from .fields import check_fields, not_here, read_part
from .managed_forms import (
    AGENT_UPDATED,
    CREATED,
    KEY,
    UPDATED,
    Agent,
    Kept,
    SessionIn,
    SessionPatchIn,
    kept_of,
    read_agent,
    read_tools,
    session_name,
    session_told,
    told_metadata,
)
from .managed_reading import Wanted, read_query, read_session, refused, status_of, told_page
from .messages import Beta
from .named import OURS, check_metadata

log = logging.getLogger("manent.server")

DELETED = "deleted by the client"
STATUSES = frozenset({"rescheduling", "running", "idle", "terminated"})
NOT_HERE = frozenset({"agent_id", "agent_version", "deployment_id", "memory_store_id"})
MAX_LOOKED_AT = 1000
"""So many sessions are looked at for one page, whatever is asked for; the next page goes on there."""

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="The most items on a page.")]

_THEIRS = {"model": "agent.model", "system": "agent.system", "allowed_tools": "agent.tools", "tools": "agent.tools"}


@post("/v1/sessions", status_code=200)
async def create_managed_session(
    request: Http,
    chat: Chat,
    idempotency_key: IdempotencyKey = None,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001 - betas add fields, and those are looked at
) -> Response[dict[str, Any]]:
    """Begin a session. `agent` is the name of a model, or `{model, system, tools}`; a tool is one that the client runs
    (`custom`), or the name of one that is registered here. `environment_id` is kept, and means nothing.
    """
    caller = caller_of(request)
    body = await common.read(request, SessionIn, CREATED)
    agent = await common.built(request, lambda given: read_agent(given.agent), body)
    metadata = body.metadata or {}
    check_metadata(metadata)
    await _check_agent(chat, agent, caller)
    kept = Kept(body.environment_id, agent.name, agent.tools)
    created = chat.create_session(
        model=agent.model,
        system=agent.system,
        title=body.title,
        metadata={**metadata, KEY: msgspec.to_builtins(kept)},
        allowed_tools=list(agent.registered),
        request=await request_key(request, idempotency_key),
        caller=caller,
    )
    return await _told(chat, await refused(created, names=_names), caller)


@get("/v1/sessions", opt={BRACKETED: ("created_at", "statuses", *NOT_HERE)})
async def list_managed_sessions(
    request: Http,
    chat: Chat,
    limit: Limit = 20,
    order: FromQuery[Literal["asc", "desc"]] = "desc",
    page: FromQuery[str | None] = None,
    include_archived: FromQuery[bool] = False,  # noqa: FBT002 - of the address
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, Any]]:
    """List sessions, the newest first. `statuses` and `created_at[gt]` and its like choose among them."""
    caller = caller_of(request)
    wanted = read_query(request, {"statuses": STATUSES}, NOT_HERE)
    if order == "asc":
        raise not_here("order", ', but for "desc"')
    found: list[dict[str, Any]] = []
    looked, start = 0, page
    while len(found) < limit and looked < MAX_LOOKED_AT:
        status: Literal["active"] | None = None if include_archived else "active"
        listing = chat.sessions(
            order="created", branches="all", status=status, after=start, limit=limit - len(found), caller=caller
        )
        read = await refused(listing, names=lambda field: "page" if field in {"after", "cursor"} else field)
        for session in read.items:
            found += await _wanted(chat, session, wanted, caller)
        looked, start = looked + len(read.items), read.next
        if start is None:
            break
    return Response(told_page(found, start))


async def _wanted(chat: Engine, session: Session, wanted: Wanted, caller: Caller) -> list[dict[str, Any]]:
    """A session as it is told, if it is asked for, and was not deleted."""
    try:
        session = await chat.client_session(session.id, caller=caller)
    except SessionNotFound:
        return []
    status = await status_of(chat, session, caller)
    return [session_told(session, status)] if wanted.has(status, session.created_at) else []


@get("/v1/sessions/{session_id:str}")
async def get_managed_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, Any]]:
    """Show a session."""
    caller = caller_of(request)
    return await _told(chat, await read_session(chat, caller, session_id), caller)


@post("/v1/sessions/{session_id:str}", status_code=200)
async def update_managed_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    idempotency_key: IdempotencyKey = None,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, Any]]:
    """Change the title, the metadata by key (null removes one), or the agent's tools, of a session that is idle."""
    caller = caller_of(request)
    body = await common.read(request, SessionPatchIn, UPDATED)
    session = await read_session(chat, caller, session_id)
    changes = await _changes(chat, session, body, caller)
    if not changes:
        return await _told(chat, session, caller)
    kept = await request_key(request, idempotency_key)
    changed = chat.update_session(session.id, **changes, expected=session.version, request=kept, caller=caller)
    return await _told(chat, await refused(changed, session_id, _names), caller)


async def _changes(chat: Engine, session: Session, body: SessionPatchIn, caller: Caller) -> dict[str, Any]:
    """What an update changes of a session. Raises Problem."""
    changes: dict[str, Any] = {} if body.title is msgspec.UNSET else {"title": body.title}
    metadata, before = dict(session.metadata or {}), kept_of(session)
    if body.agent is not None:
        check_fields(_judged(body.agent), AGENT_UPDATED, where="agent.")
        if "tools" in body.agent:
            raws = read_part(body.agent["tools"], tuple[msgspec.Raw, ...], "agent.tools")
            tools, registered = read_tools(raws)
            await _check_agent(chat, Agent(session.model, None, None, tools, registered), caller)
            metadata[KEY] = msgspec.to_builtins(Kept(before.environment_id, before.name, tools))
            changes["allowed_tools"] = list(registered)
    if body.metadata:
        told = told_metadata(session) | body.metadata
        check_metadata({key: value for key, value in told.items() if value is not None})
        _check_removed(body.metadata)
        metadata |= body.metadata
        metadata = {key: value for key, value in metadata.items() if value is not None}
    return changes if metadata == (session.metadata or {}) else changes | {"metadata": metadata}


def _check_removed(metadata: dict[str, str | None]) -> None:
    """Raises Problem for a key that a client cannot remove."""
    check_metadata({key: "" for key, value in metadata.items() if value is None and key.startswith(OURS)})


def _judged(given: dict[str, msgspec.Raw]) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in given.items()}


@post("/v1/sessions/{session_id:str}/archive", status_code=200)
async def archive_managed_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, Any]]:
    """Archive a session: nothing more is said there. One that is archived stays as it is."""
    caller = caller_of(request)
    session = await read_session(chat, caller, session_id)
    if session.status != "archived":
        session = await refused(chat.update_session(session.id, status="archived", caller=caller), session_id)
    return await _told(chat, session, caller)


@delete("/v1/sessions/{session_id:str}", status_code=200)
async def delete_managed_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, str]]:
    """Delete a session, which needs a key with the scope `erase`: all that was said there is erased, and it is served
    no longer. While a turn is open, or where there is a legal hold, it is refused.
    """
    caller = caller_of(request, "erase")
    session = (await read_session(chat, caller, session_id)).id
    await refused(chat.erase(session, DELETED, caller=caller), session_id)
    await refused(chat.delete_conversation(session, caller=caller), session_id)
    principal = {"tenant": caller.tenant, "principal": caller.actor, "request_id": caller.correlation}
    event(log, logging.INFO, "session deleted", session_id=str(session), **principal)
    told = {"id": session_name(session.hex), "type": "session_deleted"}
    return Response(told, headers={common.SESSION: str(session)})


# --- what they need ---------------------------------------------------------------------------------------------------


async def _told(chat: Engine, session: Session, caller: Caller) -> Response[dict[str, Any]]:
    """A session, and where it is on record."""
    told = session_told(session, await status_of(chat, session, caller))
    return Response(told, headers={common.SESSION: str(session.id)})


async def _check_agent(chat: Engine, agent: Agent, caller: Caller) -> None:
    """Raises Problem for an agent that no turn could be asked with."""
    schemas = Kept(tools=agent.tools).schemas()
    check = chat.check_turn("?", model=agent.model, tools=agent.registered, client_tools=schemas, caller=caller)
    await refused(check, names=_names)


def _names(field: str) -> str:
    """The client's name of a field of the engine's."""
    head = field.partition(".")[0].partition("[")[0]
    if head == "client_tools":
        return "agent.tools" + field.removeprefix("client_tools").replace(".parameters", ".input_schema")
    return _THEIRS.get(head, field)


ROUTES = [
    create_managed_session,
    list_managed_sessions,
    get_managed_session,
    update_managed_session,
    archive_managed_session,
    delete_managed_session,
]
