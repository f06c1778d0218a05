"""Turns: running the model, reading along, cancelling."""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromQuery, JSONBody
from litestar.response import Stream

from api import sse
from api.errors import Problem
from api.schemas import (
    OneMessage,
    TurnIn,
    Wait,
    caller_of,
    check_after,
    if_match,
    last_event_id,
    read_cursor,
    request_id_of,
    request_key,
    wait_of,
    write_cursor,
)
from engine import Ask, Caller, Conversation, Limits, MessageIn, Page, Turn

Http = Request[Any, Any, State]


@post("/api/sessions/{session_id:uuid}/turns", status_code=200)
async def start_turn(
    request: Http, conversation: Conversation, session_id: UUID, data: JSONBody[TurnIn] | None
) -> Response[Turn] | Stream:
    """Run the model: as a stream of frames, or waiting for the ended turn, or answering at once with ``Prefer: respond-async``."""
    body, caller = data or TurnIn(), caller_of(request)
    ask = await _ask(conversation, body)
    started = await conversation.start_turn(
        session_id, ask, caller, expected=if_match(request), request=await request_key(request)
    )
    if _wants_stream(request, body):
        after = last_event_id(request, None) or 0
        batches = conversation.frames(started.turn, caller, after=after)
        return sse.stream(sse.frames(batches, request_id_of(request)), {"location": _location(started.turn)})
    return await _answer(conversation, caller, started.turn, wait_of(request))


@get("/api/sessions/{session_id:uuid}/turns")
async def list_turns(
    request: Http,
    conversation: Conversation,
    session_id: UUID,
    after: FromQuery[int | None] = None,
    limit: FromQuery[int] = 100,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    cursor: FromQuery[str | None] = None,
) -> Page:
    """A session's turns in the order they started."""
    if cursor:
        after = read_cursor(cursor, tuple[int])[0]
    turns, more = await conversation.turns(
        session_id, caller_of(request), after=check_after(after), limit=limit, descending=order == "desc"
    )
    return Page(tuple(turns), write_cursor((more,)) if more is not None else None)


@get("/api/turns/{turn_id:uuid}")
async def get_turn(request: Http, conversation: Conversation, turn_id: UUID) -> Turn:
    """A turn as it is now."""
    return await conversation.turn(turn_id, caller_of(request))


@get("/api/turns/{turn_id:uuid}/stream")
async def stream_turn(
    request: Http, conversation: Conversation, turn_id: UUID, after: FromQuery[int | None] = None
) -> Response[None] | Stream:
    """A turn's frames: live while it runs, from the log when it has ended, at any age; 204 where nothing is left to read."""
    caller = caller_of(request)
    cursor = last_event_id(request, check_after(after)) or 0
    if await conversation.read_to_end(turn_id, cursor, caller):
        return Response(None, status_code=204)
    return sse.stream(sse.frames(conversation.frames(turn_id, caller, after=cursor), request_id_of(request)))


@post("/api/turns/{turn_id:uuid}/cancel", status_code=200)
async def cancel_turn(request: Http, conversation: Conversation, turn_id: UUID) -> Turn:
    """Cancel a turn; one that has ended stays as it is."""
    return await conversation.cancel(turn_id, caller_of(request))


async def _ask(conversation: Conversation, body: TurnIn) -> Ask:
    message = body.message
    if body.content is not None:
        if message is not None:
            raise Problem(400, "invalid_value", "message: goes without content", field="message")
        message = OneMessage(body.content)
    return Ask(
        message=await conversation.new_message(MessageIn(message.content, message.role)) if message else None,
        model=body.model,
        limits=Limits(body.budget_tokens, body.max_output_tokens),
        temperature=body.temperature,
        stop=(body.stop,) if isinstance(body.stop, str) else body.stop,
        continues=body.continues,
        on_disconnect=body.on_disconnect,
    )


def _wants_stream(request: Http, body: TurnIn) -> bool:
    """The body wins over ``Accept``."""
    return body.stream if body.stream is not None else "text/event-stream" in request.headers.get("accept", "")


async def _answer(conversation: Conversation, caller: Caller, turn_id: UUID, wait: Wait) -> Response[Turn]:
    """The ended turn, or after the time that the caller waits, the turn as it is."""
    headers = {"location": _location(turn_id)}
    if wait.asked:
        headers["preference-applied"] = f"wait={wait.seconds}" if wait.seconds else "respond-async"
    try:
        async with asyncio.timeout(wait.seconds):
            return Response(await conversation.ended(turn_id, caller), status_code=200, headers=headers)
    except TimeoutError:
        return Response(await conversation.turn(turn_id, caller), status_code=202, headers=headers)


def _location(turn_id: UUID) -> str:
    return f"/api/turns/{turn_id}"


ROUTES = [start_turn, list_turns, get_turn, stream_turn, cancel_turn]
