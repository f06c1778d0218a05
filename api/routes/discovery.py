"""What there is: models and tools."""

from __future__ import annotations

from uuid import UUID

from litestar import get
from litestar.params import FromQuery

from ...engine import Page
from ..http.body import Http
from ..schemas.answers import ModelList, ToolList
from ..schemas.parameters import Chat, Cursor, Limit, caller_of


@get("/api/models")
async def list_models(request: Http, chat: Chat, limit: Limit = 100, cursor: Cursor = None) -> ModelList:
    """List the models that are known to be served: sizes, capabilities, and what they cost today. A provider may serve
    others.
    """
    caller_of(request)
    page = Page.of(chat.models(), limit=limit, after=cursor)
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
    page = Page.of(tools, limit=limit, after=cursor)
    return ToolList(page.items, page.next)


ROUTES = [list_models, list_tools]
