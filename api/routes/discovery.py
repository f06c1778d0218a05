"""Routes for models, tools, and the caller's own identity."""

from __future__ import annotations

from uuid import UUID

from litestar import get
from litestar.params import FromQuery

from ...engine import Page
from ..http.body import Http
from ..schemas.answers import Me, ModelList, ToolList
from ..schemas.parameters import Chat, Cursor, Limit, caller_of, identity_of


@get("/api/models")
async def list_models(request: Http, chat: Chat, limit: Limit = 100, cursor: Cursor = None) -> ModelList:
    """List the models that are known to be served: sizes, capabilities, and what they cost today. A provider may serve
    others.
    """
    caller_of(request)
    page = Page.of(chat.models(), limit=limit, after=cursor, most_bytes=chat.settings.max_page_bytes)
    return ModelList(page.items, page.next)


@get("/api/tools")
async def list_tools(
    request: Http,
    chat: Chat,
    session_id: FromQuery[UUID | None] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ToolList:
    """List the registered tools; with `session_id` those that the session may use."""
    tools = await chat.tools(session=session_id, caller=caller_of(request))
    page = Page.of(tools, limit=limit, after=cursor, most_bytes=chat.settings.max_page_bytes)
    return ToolList(page.items, page.next)


@get("/api/me")
async def who_am_i(request: Http) -> Me:
    """Read who the key belongs to, and what it may do: no scope is needed."""
    identity = identity_of(request)
    return Me(identity.actor, identity.tenant, sorted(identity.scopes))


ROUTES = [list_models, list_tools, who_am_i]
