"""The events of sessions of Anthropic's Managed Agents as drop-in routes: sending, listing and following them.

A turn that was begun here goes on whoever leaves. It is stopped by an interrupt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from ...engine import Caller, Engine, Event, Session
from ..http import sse
from ..http.body import Http
from ..http.dialects import ANTHROPIC
from ..http.errors import Problem
from ..http.strict import BRACKETED
from ..schemas.parameters import Chat, IdempotencyKey, LastEventId, caller_of, read_after
from . import common
from .managed_events import TYPES, Told
from .managed_forms import SENT, session_of
from .managed_input import read_input
from .managed_reading import (
    Place,
    events_from,
    page_of,
    read_place,
    read_query,
    read_session,
    told_after,
    told_before,
    told_page,
    write_place,
)
from .managed_sending import sent
from .messages import Beta

DELTAS = frozenset({"agent.message", "agent.thinking"})

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="The most items on a page.")]


class EventsIn(msgspec.Struct, frozen=True):
    """The body of what is sent. Events are read singly."""

    events: tuple[msgspec.Raw, ...]


@get("/v1/sessions/{session_id:str}/events", opt={BRACKETED: ("created_at", "types")})
async def list_managed_events(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    limit: Limit = 100,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    page: FromQuery[str | None] = None,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001 - betas add fields, and those are looked at
) -> Response[dict[str, Any]]:
    """List a session's events in their order, or back. `types` and `created_at[gt]` and its like choose among them."""
    caller = caller_of(request)
    wanted, start = read_query(request, {"types": TYPES}, frozenset()), read_place(page, order)
    session = await read_session(chat, caller, session_id)
    if order == "desc":
        items = told_before(chat, session, start or Place(session.version + 1, 0), caller)
    else:
        items = _from(chat, session, start or Place(0, 0), caller)
    found, last = await page_of(items, wanted, limit, chat.settings.max_page_bytes)
    return Response(told_page(found, write_place(last, order)), headers={common.SESSION: str(session.id)})


async def _from(
    chat: Engine, session: Session, start: Place, caller: Caller
) -> AsyncGenerator[tuple[Place, Told], None]:
    """A session's events after a place."""
    async with aclosing(told_after(chat, session, max(0, start.version - 1), caller)) as read:
        async for at, each in read:
            if at > start:
                yield at, each


@get("/v1/sessions/{session_id:str}/events/stream", opt={BRACKETED: ("event_deltas",)})
async def stream_managed_events(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    last_event_id: LastEventId = None,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> sse.EventStream[Event]:
    """Follow a session's events as they are committed: from the newest, or with `Last-Event-ID` after that event, at
    any age. `event_deltas` is taken; an answer is told when it is whole.
    """
    caller, start = caller_of(request), read_after(last_event_id, None)
    read_query(request, {"event_deltas": DELTAS}, frozenset())
    session = await read_session(chat, caller, session_id)
    chat.serving.admit_reader()
    after = session.version if start is None else start
    events = await events_from(chat, session, after, caller)

    def encode(event: Event) -> bytes:
        return _frames(event.version, events.told(event))

    def failed(problem: Problem) -> bytes:
        return b"event: error\ndata: %b\n\n" % common.error_body(request, ANTHROPIC, problem)

    batches = chat.follow(session.id, after=after, caller=caller)
    return sse.EventStream(batches, encode, failed, {common.SESSION: str(session.id)}, farewell=sse.STOPPING)


def _frames(version: int, told: Sequence[Told]) -> bytes:
    """Events as frames. The last has the id: who comes back with it has read them all."""
    frames = [b"event: %b\ndata: %b\n\n" % (each["type"].encode(), msgspec.json.encode(each)) for each in told]
    if frames:
        frames[-1] = b"id: %d\n%b" % (version, frames[-1])
    return b"".join(frames)


@post("/v1/sessions/{session_id:str}/events", status_code=200)
async def send_managed_events(
    request: Http,
    chat: Chat,
    session_id: FromPath[str],
    idempotency_key: IdempotencyKey = None,  # noqa: ARG001 - it is read where the turn begins
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001
) -> Response[dict[str, Any]]:
    """Send a session events, and show them as they are on record: a message, or the results of the client's tools,
    begin a turn; confirmations let one go on; an interrupt stops it. While a turn runs, nothing else is taken (409).
    """
    caller = caller_of(request)
    session_of(session_id)
    body = await common.read(request, EventsIn, SENT)
    most = chat.settings.max_conversation_items
    given = await common.built(request, lambda sent: read_input(sent.events, most), body)
    session = await read_session(chat, caller, session_id)
    told, headers = await sent(request, chat, session, given)
    return Response({"data": told}, headers=headers)


ROUTES = [list_managed_events, stream_managed_events, send_managed_events]
