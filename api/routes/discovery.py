"""What there is: models and tools."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from litestar import get
from litestar.params import FromQuery

from ..http.body import Http
from ..schemas.answers import ModelList, ToolList
from ..schemas.parameters import Chat, Cursor, Limit, caller_of, page_start, write_cursor

T = TypeVar("T")


@get("/api/models")
async def list_models(request: Http, conversation: Chat, limit: Limit = 100, cursor: Cursor = None) -> ModelList:
    """List the models that are known to be served: sizes, capabilities, and what they cost today. A provider may serve
    others.
    """
    caller_of(request)
    return ModelList(*_page(conversation.models(), limit, cursor))


@get("/api/tools")
async def list_tools(
    request: Http,
    conversation: Chat,
    session_id: FromQuery[UUID | None] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> ToolList:
    """List the registered tools; with `session_id` those that the session may use."""
    return ToolList(*_page(await conversation.tools(caller_of(request), session=session_id), limit, cursor))


def _page(items: list[T], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """A page of what is all in memory, and where the next begins."""
    start = page_start(None, cursor) or 0
    end = start + limit
    return items[start:end], write_cursor((end,)) if end < len(items) else None


ROUTES = [list_models, list_tools]
