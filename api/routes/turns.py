"""Turns: running the model, reading along, cancelling, and what the model was sent."""

from __future__ import annotations

from functools import partial
from typing import Literal
from uuid import UUID

from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from ...engine import Caller, Engine, Frame, MessageIn, SentPrompt, Turn, TurnOptions
from ..http import sse
from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.errors import invalid
from ..http.pieces import InPieces, in_slices
from ..schemas.answers import TurnList
from ..schemas.bodies import DecisionIn, NothingIn, OneMessage, TurnIn
from ..schemas.parameters import (
    After,
    AttemptNumber,
    Chat,
    Cursor,
    IdempotencyKey,
    IfMatch,
    LastEventId,
    Limit,
    Prefer,
    Wait,
    caller_of,
    expected_version,
    page_start,
    read_after,
    request_id_of,
    request_key,
    start_once,
    wait_of,
)

Status = Literal["running", "requires_action", "completed", "failed", "cancelled", "interrupted"]
RUNNING = "running"
REQUIRED = "required"
"""OpenAI's word for a choice of ``any``."""
ALL_DEFAULTS = TurnIn()
NOTHING = NothingIn()
PROMPT = ResponseSpec(SentPrompt, description="Request fulfilled, document follows", generate_examples=False)


@post(
    "/api/sessions/{session_id:uuid}/turns",
    status_code=200,
    responses={202: ResponseSpec(Turn, description="The turn as it is; it goes on", generate_examples=False)},
)
async def start_turn(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[TurnIn] = ALL_DEFAULTS,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    last_event_id: LastEventId = None,
) -> Response[Turn] | sse.EventStream[Frame]:
    """Run the model.

    With `Accept: text/event-stream` or `"stream": true` (the body wins) the answer is its frames; else it waits for
    the ended turn, as long as `Prefer` says.
    """
    caller, wait = caller_of(request), wait_of(prefer)
    after = read_after(last_event_id, None) or 0
    streaming = _wants_stream(request, data)
    if streaming or wait.seconds:
        chat.serving.admit_reader()
    message, options = _message(data), _options(data)
    options["expected"] = expected_version(if_match)
    options["request"] = await request_key(request, idempotency_key)
    start = partial(chat.start_turn, session_id, message, caller=caller, **options)
    started = await start_once(request, chat, options["request"], start)
    if streaming:
        batches = chat.frames(started.turn, after=after, caller=caller)
        return sse.frames(batches, request_id_of(request), {"location": _location(started.turn)})
    return await _answer(request, chat, caller, started.turn, wait)


@get("/api/sessions/{session_id:uuid}/turns")
async def list_turns(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    after: After = None,
    limit: Limit = 100,
    order: FromQuery[Literal["asc", "desc"]] = "asc",
    cursor: Cursor = None,
) -> TurnList:
    """List a session's turns in the order they started."""
    page = await chat.turns(
        session_id,
        after=page_start(after, cursor),
        limit=limit,
        descending=order == "desc",
        caller=caller_of(request),
    )
    return TurnList(page.items, page.next)


@get("/api/turns")
async def list_all_turns(
    request: Http, chat: Chat, status: FromQuery[Status | None] = None, limit: Limit = 100, cursor: Cursor = None
) -> TurnList:
    """List the turns of all sessions, newest first. `status=requires_action`: those that wait for a person."""
    page = await chat.all_turns(status=status, after=cursor, limit=limit, caller=caller_of(request))
    return TurnList(page.items, page.next)


@get("/api/turns/{turn_id:uuid}")
async def get_turn(request: Http, chat: Chat, turn_id: FromPath[UUID]) -> Turn:
    """A turn as it is now."""
    return await chat.turn(turn_id, caller=caller_of(request))


@get("/api/turns/{turn_id:uuid}/stream")
async def stream_turn(
    request: Http,
    chat: Chat,
    turn_id: FromPath[UUID],
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response[None] | sse.EventStream[Frame]:
    """Stream a turn's frames: live while it runs, from the log when it has ended, however long ago; 204 where
    nothing is left.
    """
    caller, cursor = caller_of(request), read_after(last_event_id, after) or 0
    if await chat.serving.read_to_end(turn_id, cursor, caller=caller):
        return Response(None, status_code=204)
    chat.serving.admit_reader()
    return sse.frames(chat.frames(turn_id, after=cursor, caller=caller), request_id_of(request))


@get("/api/turns/{turn_id:uuid}/prompt", responses={200: PROMPT})
async def get_prompt(request: Http, chat: Chat, turn_id: FromPath[UUID], attempt: AttemptNumber = None) -> InPieces:
    """Read the exact request that the model was sent, derived from the record again, and why each message was in it or
    not. 410 where words that it held are erased.
    """
    return in_slices(await chat.explain(turn_id, attempt=attempt, caller=caller_of(request)))


@post("/api/turns/{turn_id:uuid}/cancel", status_code=200)
async def cancel_turn(
    request: Http,
    chat: Chat,
    turn_id: FromPath[UUID],
    data: JSONBody[NothingIn] = NOTHING,  # noqa: ARG001 - a field in it is refused
    idempotency_key: IdempotencyKey = None,
) -> Turn:
    """Cancel a turn; one that has ended stays as it is."""
    key = await request_key(request, idempotency_key)
    return await chat.cancel(turn_id, request=key, caller=caller_of(request))


@post("/api/turns/{turn_id:uuid}/decisions", status_code=200)
async def decide(
    request: Http,
    chat: Chat,
    turn_id: FromPath[UUID],
    data: JSONBody[DecisionIn],
    idempotency_key: IdempotencyKey = None,
) -> Turn:
    """Approve or refuse a tool call that waits for a person; with the last of them the turn goes on."""
    return await chat.decide(
        turn_id,
        data.tool_use_id,
        approve=data.approve,
        reason=data.reason,
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )


def _message(body: TurnIn) -> MessageIn | None:
    message = body.message
    if body.content is not None:
        if message is not None:
            raise invalid("message", "goes without content")
        message = OneMessage(body.content)
    return None if message is None else MessageIn(message.content, message.role)


def _options(body: TurnIn) -> TurnOptions:
    return {
        "model": body.model,
        "budget_tokens": body.budget_tokens,
        "max_output_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "stop": body.stop,
        **_parameters(body),
        "tools": body.tools,
        "client_tools": [tool.schema(f"client_tools[{number}]") for number, tool in enumerate(body.client_tools)],
        "tool_choice": "any" if body.tool_choice == REQUIRED else body.tool_choice,
        "continues": body.continues,
        "from_version": body.from_version,
        "on_disconnect": body.on_disconnect,
    }


def _parameters(body: TurnIn) -> TurnOptions:
    reasoning = body.reasoning
    return {
        "top_p": body.top_p,
        "top_k": body.top_k,
        "seed": body.seed,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": body.logit_bias,
        "response_format": None if body.response_format is None else body.response_format.option(),
        "reasoning": None
        if reasoning is None
        else {"effort": reasoning.effort, "budget_tokens": reasoning.budget_tokens},
        "parallel_tool_calls": body.parallel_tool_calls,
        "task": body.task,
    }


def _wants_stream(request: Http, body: TurnIn) -> bool:
    """The body wins over ``Accept``."""
    accept: str = request.headers.get("accept", "")
    return body.stream if body.stream is not None else "text/event-stream" in accept.lower()


async def _answer(request: Http, chat: Engine, caller: Caller, turn_id: UUID, wait: Wait) -> Response[Turn]:
    """The ended turn; or, after the time that the caller waits, the turn as it is. Who leaves waits no longer, and was
    a reader of the turn until then.
    """
    headers = {"location": _location(turn_id)}
    if wait.asked:
        headers["preference-applied"] = f"wait={wait.seconds}" if wait.seconds else "respond-async"
    turn = None
    if wait.seconds:
        turn = await unless_left(request, chat.ended(turn_id, wait_s=wait.seconds, caller=caller))
    turn = turn or await chat.turn(turn_id, caller=caller)
    return Response(turn, status_code=202 if turn.status == RUNNING or not wait.seconds else 200, headers=headers)


def _location(turn_id: UUID) -> str:
    return f"/api/turns/{turn_id}"


ROUTES = [start_turn, list_turns, list_all_turns, get_turn, stream_turn, get_prompt, cancel_turn, decide]
