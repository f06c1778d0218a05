"""What there is: models and tools; and who asks."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from litestar import get
from litestar.params import FromQuery

from ..http.body import Http
from ..schemas.answers import Me, ModelList, ToolList
from ..schemas.parameters import Chat, Cursor, Limit, caller_of, identity_of, page_start, write_cursor

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


@get("/api/me")
async def who_am_i(request: Http) -> Me:
    """Read who the key belongs to, and what it may do: no scope is needed."""
    identity = identity_of(request)
    return Me(identity.actor, identity.tenant, sorted(identity.scopes))


def _page(items: list[T], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """A page of what is all in memory, and where the next begins."""
    start = page_start(None, cursor) or 0
    end = start + limit
    return items[start:end], write_cursor((end,)) if end < len(items) else None


ROUTES = [list_models, list_tools, who_am_i]
