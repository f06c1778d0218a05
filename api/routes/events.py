"""The record itself: a session's events, the whole log's, and following both."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from litestar import get
from litestar.params import FromPath, FromQuery

from ...engine import EVENT_TYPES, Event, Page
from ..http import sse
from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.errors import invalid
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
)

NOBODY = Page[Event]([])
"""For a client that has left."""


@get("/api/sessions/{session_id:uuid}/events")
async def list_events(
    request: Http,
    chat: Chat,
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
    wanted = _types(types)
    reading = chat.events(
        session_id,
        after=page_start(after, cursor),
        limit=limit,
        types=wanted,
        wait_s=wait,
        caller=caller_of(request),
    )
    page = await unless_left(request, reading) or NOBODY if wait else await reading
    return EventList(page.items, page.next)


@get("/api/sessions/{session_id:uuid}/events/stream")
async def stream_events(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    after: After = None,
    types: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
) -> sse.EventStream[Event]:
    """Follow a session's events as they are committed: from the newest, or after a version; `types`: only these."""
    caller, start, wanted = caller_of(request), read_after(last_event_id, after), _types(types)
    await chat.session(session_id, caller=caller)
    chat.serving.admit_reader()
    batches = chat.follow(session_id, after=start, types=wanted, caller=caller)
    return sse.events(batches, request_id_of(request), by_position=False)


@get("/api/events")
async def list_log(
    request: Http,
    chat: Chat,
    after: After = None,
    types: FromQuery[str | None] = None,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    limit: Limit = 100,
    cursor: Cursor = None,
    wait: WaitSeconds = 0,
) -> EventList:
    """List the whole log of the tenant, after a position in the order asked for; `types`: only these, comma-separated.
    A page of rare types may be short or empty and have a `next_cursor`: one looks through so many events at most. With
    `wait` the answer comes as soon as there is an event.
    """
    caller, wanted = caller_of(request, "audit"), _types(types)
    if wait and order == "desc":
        raise invalid("wait", "goes with order=asc: what is new comes last there")
    reading = chat.log_events(
        after=page_start(after, cursor),
        limit=limit,
        types=wanted,
        descending=order == "desc",
        wait_s=wait,
        caller=caller,
    )
    page = await unless_left(request, reading) or NOBODY if wait else await reading
    return EventList(page.items, page.next)


@get("/api/events/stream")
async def stream_log(
    request: Http,
    chat: Chat,
    after: After = None,
    types: FromQuery[str | None] = None,
    last_event_id: LastEventId = None,
) -> sse.EventStream[Event]:
    """Follow the tenant's whole log as it is committed: from the newest, or after a position; `types`: only these."""
    caller, start = caller_of(request, "audit"), read_after(last_event_id, after)
    batches = chat.follow(None, after=start, types=_types(types), caller=caller)
    chat.serving.admit_reader()
    return sse.events(batches, request_id_of(request), by_position=True)


def _types(names: str | None) -> list[str]:
    """The event types that are named; none: all. Raises Problem, which says what there is."""
    if not names:
        return []
    wanted = sorted({name.strip() for name in names.split(",")})
    if not EVENT_TYPES.keys() >= set(wanted):
        raise not_one_of("types", tuple(EVENT_TYPES))
    return wanted


ROUTES = [list_events, stream_events, list_log, stream_log]
