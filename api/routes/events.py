"""The record itself: a session's events, the whole log's, and following both."""

from __future__ import annotations

from uuid import UUID

from litestar import get
from litestar.params import FromPath, FromQuery

from ...engine import EVENT_TYPES, Event
from ..http import sse
from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.strict import not_one_of
from ..schemas.answers import EventList
from ..schemas.parameters import (
    After,
    Chat,
    Cursor,
    LastEventId,
    Limit,
    WaitSeconds,
    caller_of,
    page_start,
    read_after,
    request_id_of,
    write_cursor,
)

NOBODY: tuple[list[Event], bool] = ([], False)
"""For a client that has left."""


@get("/api/sessions/{session_id:uuid}/events")
async def list_events(
    request: Http,
    conversation: Chat,
    session_id: FromPath[UUID],
    after: After = None,
    types: FromQuery[str | None] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    wait: WaitSeconds = 0,
) -> EventList:
    """List a session's events after a version; `types`: only these, comma-separated. With `wait` the answer comes as
    soon as there is one.
    """
    wanted = _types(types) if types else []
    listing = conversation.events(
        session_id, caller_of(request), after=page_start(after, cursor) or 0, limit=limit, types=wanted, wait_s=wait
    )
    events, more = await unless_left(request, listing) or NOBODY if wait else await listing
    return EventList(events, write_cursor((events[-1].version,)) if more else None)


@get("/api/sessions/{session_id:uuid}/events/stream")
async def stream_events(
    request: Http,
    conversation: Chat,
    session_id: FromPath[UUID],
    after: After = None,
    last_event_id: LastEventId = None,
) -> sse.EventStream[Event]:
    """Follow a session's events as they are committed: from the newest, or after a version."""
    caller, start = caller_of(request), read_after(last_event_id, after)
    await conversation.session(session_id, caller)
    conversation.admit_reader()
    batches = conversation.follow(session_id, caller, after=start)
    return sse.events(batches, request_id_of(request), by_position=False)


@get("/api/events")
async def list_log(
    request: Http,
    conversation: Chat,
    after: After = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    wait: WaitSeconds = 0,
) -> EventList:
    """List the whole log of the tenant, after a position. With `wait` the answer comes as soon as there is an event."""
    caller = caller_of(request, "audit")
    listing = conversation.log_events(caller, after=page_start(after, cursor) or 0, limit=limit, wait_s=wait)
    events, more = await unless_left(request, listing) or NOBODY if wait else await listing
    return EventList(events, write_cursor((events[-1].position,)) if more else None)


@get("/api/events/stream")
async def stream_log(
    request: Http,
    conversation: Chat,
    after: After = None,
    last_event_id: LastEventId = None,
) -> sse.EventStream[Event]:
    """Follow the whole log of the tenant as it is committed: from the newest, or after a position."""
    caller, start = caller_of(request, "audit"), read_after(last_event_id, after)
    conversation.admit_reader()
    return sse.events(conversation.follow(None, caller, after=start), request_id_of(request), by_position=True)


def _types(names: str) -> list[str]:
    """The event types that are named. Raises Problem, which says what there is."""
    wanted = sorted({name.strip() for name in names.split(",")})
    if not EVENT_TYPES.keys() >= set(wanted):
        raise not_one_of("types", tuple(EVENT_TYPES))
    return wanted


ROUTES = [list_events, stream_events, list_log, stream_log]
