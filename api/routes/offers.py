"""What there is: models and tools."""

from __future__ import annotations

from uuid import UUID

from litestar import get
from litestar.params import FromQuery

from api.body import Http
from api.schemas import Chat, ModelList, ToolList, caller_of


@get("/api/models")
async def list_models(request: Http, conversation: Chat) -> ModelList:
    """List the models that are known to be served: sizes, capabilities, and what they cost today. A provider may serve
    others.
    """
    caller_of(request)
    return ModelList(conversation.models(), None)


@get("/api/tools")
async def list_tools(request: Http, conversation: Chat, session_id: FromQuery[UUID | None] = None) -> ToolList:
    """List the registered tools; with `session_id` those that the session may use."""
    return ToolList(await conversation.tools(caller_of(request), session=session_id), None)


ROUTES = [list_models, list_tools]
