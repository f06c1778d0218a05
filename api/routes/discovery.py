"""Routes for models, tools, and the caller's own identity."""

from __future__ import annotations

from uuid import UUID

from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody

from ...engine import Model, Page, TokenCount, UnknownModel
from ..http.body import Http
from ..http.errors import Problem
from ..schemas.answers import Me, ModelList, ToolList
from ..schemas.bodies import TokensIn
from ..schemas.parameters import Chat, Cursor, Limit, caller_of, identity_of


@get("/api/models")
async def list_models(request: Http, chat: Chat, limit: Limit = 100, cursor: Cursor = None) -> ModelList:
    """List the models that are known to be served: sizes, capabilities, and what they cost today. A provider may serve
    others.
    """
    caller_of(request)
    page = Page.of(chat.models(), limit=limit, after=cursor, most_bytes=chat.settings.max_page_bytes)
    return ModelList(page.items, page.next)


@get("/api/models/{provider:str}/{name:path}")
async def get_model(request: Http, chat: Chat, provider: FromPath[str], name: FromPath[str]) -> Model:
    """Show one model that is served, also one that is not listed.

    A vendor's name may hold slashes.
    """
    caller_of(request)
    try:
        return chat.model(f"{provider}/{name.removeprefix('/')}")
    except UnknownModel as error:
        raise Problem(404, error.code, error.detail, None, **error.extra) from None


@post("/api/tokens", status_code=200)
async def count_tokens(request: Http, chat: Chat, data: JSONBody[TokensIn]) -> TokenCount:
    """Count the tokens of a text or of blocks for a model.

    The vendor counts where it can (`exact`), else the figure is an estimate by `counter`. A vendor that fails is not
    stood in for.
    """
    return await chat.count_tokens(data.model, data.content, caller=caller_of(request))


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


ROUTES = [list_models, get_model, count_tokens, list_tools, who_am_i]
