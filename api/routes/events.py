"""The record itself: a session's events, the whole log's, and following both."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, get
from litestar.datastructures import State
from litestar.params import FromQuery
from litestar.response import Stream

from api import sse
from api.schemas import caller_of, check_after, last_event_id, read_cursor, request_id_of, write_cursor
from engine import Conversation, Page

Http = Request[Any, Any, State]


@get("/api/sessions/{session_id:uuid}/events")
async def list_events(
    request: Http,
    conversation: Conversation,
    session_id: UUID,
    after: FromQuery[int | None] = None,
    types: FromQuery[str | None] = None,
    limit: FromQuery[int] = 100,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """A session's events after a version; ``types``: only these, comma-separated."""
    if cursor:
        after = read_cursor(cursor, tuple[int])[0]
    wanted = [name.strip() for name in types.split(",") if name.strip()] if types else []
    events, more = await conversation.events(
        session_id, caller_of(request), after=check_after(after) or 0, limit=limit, types=wanted
    )
    return Page(tuple(events), write_cursor((events[-1].version,)) if more else None)


@get("/api/sessions/{session_id:uuid}/events/stream")
async def stream_events(
    request: Http, conversation: Conversation, session_id: UUID, after: FromQuery[int | None] = None
) -> Stream:
    """A session's events as they are committed: from the newest, or after a version."""
    caller = caller_of(request)
    await conversation.session(session_id, caller)
    batches = conversation.follow(session_id, caller, after=last_event_id(request, check_after(after)))
    return sse.stream(sse.events(batches, request_id_of(request), by_position=False))


@get("/api/events")
async def list_log(
    request: Http,
    conversation: Conversation,
    after: FromQuery[int | None] = None,
    limit: FromQuery[int] = 100,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """The whole log of the tenant, after a position."""
    if cursor:
        after = read_cursor(cursor, tuple[int])[0]
    events, more = await conversation.log_events(
        caller_of(request, "audit"), after=check_after(after) or 0, limit=limit
    )
    return Page(tuple(events), write_cursor((events[-1].position,)) if more else None)


@get("/api/events/stream")
async def stream_log(request: Http, conversation: Conversation, after: FromQuery[int | None] = None) -> Stream:
    """The whole log of the tenant as it is committed: from the newest, or after a position."""
    batches = conversation.follow(None, caller_of(request, "audit"), after=last_event_id(request, check_after(after)))
    return sse.stream(sse.events(batches, request_id_of(request), by_position=True))


ROUTES = [list_events, stream_events, list_log, stream_log]
