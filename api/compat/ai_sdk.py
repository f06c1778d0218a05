"""The Vercel AI SDK's UI messages as drop-in routes: ``useChat`` works unmodified, and what is said is on record.

A client that leaves cancels nothing: it comes back to the stream, or stops it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from msgspec.structs import replace

from ...engine import ClientAnswer, Engine, EngineError, Frame
from ..http import sse
from ..http.body import Http, read_json
from ..http.errors import Problem, field_problem, problem_of
from ..schemas.parameters import Chat, caller_of
from . import ai_sdk_chats as chats
from . import common
from .ai_sdk_forms import FIELDS, ChatIn, StopIn, message_id
from .ai_sdk_request import Asked, chat_request
from .ai_sdk_stream import HEADERS, Parts, up_to_a_pause

_encode = msgspec.json.Encoder().encode


@post("/v1/ai-sdk/chat", status_code=200)
async def stream_ui_message(request: Http, chat: Chat) -> Response[None] | sse.EventStream[Frame]:
    """Answer a chat of the Vercel AI SDK as a stream of the parts of a UI message.

    The history is recognised where it is on record, and goes on there; one that is edited, or answered again, is a
    fork. The chat's `id` is the client's own name of the conversation. `tools` names tools that run here; what a
    person must approve ends the stream, and the approvals in the next request let the same turn go on.
    """
    body = await common.read(request, ChatIn, FIELDS)
    asked = await common.built(request, chat_request, body)
    if asked.decided:
        return await _decided(request, chat, asked)
    assert asked.request is not None, "a request brings decisions, or asks for a turn"
    caller = caller_of(request)
    before = await chats.newest(chat, body.id, caller)
    wanted, goes = chats.in_chat(asked.request, before, asked.answers), None
    if asked.last_answer is not None:
        earlier = await chats.named(chat, body.id, asked.last_turn, caller) if asked.last_turn else before
        goes = chats.goes_on(earlier or before, asked.last_answer)
        wanted = replace(wanted, told=_encode(goes))
    running = await common.start(request, chat, wanted, asked.names, background=True)
    name = message_id(running.turn.hex) if goes is None else goes.message_id
    return _streamed(chat.frames(running.turn, caller=caller), Parts(name), running.headers)


async def _decided(request: Http, chat: Engine, asked: Asked) -> sse.EventStream[Frame]:
    """Decide what a turn waits for, and stream what follows."""
    caller = caller_of(request)
    try:
        chat.serving.admit_reader()
        answer, after = await chats.decide(chat, asked.decided, caller)
    except EngineError as error:
        raise problem_of(error) from None
    headers = _place(answer) | common.limit_headers(request, chat, caller)
    parts = Parts(asked.last_answer or "", after=after)
    return _streamed(chat.frames(answer.turn.id, caller=caller), parts, headers)


@get("/v1/ai-sdk/chat/{chat_id:str}/stream")
async def resume_ui_stream(
    request: Http, chat: Chat, chat_id: FromPath[str]
) -> Response[None] | sse.EventStream[Frame]:
    """Stream the message that is being given in a chat, from its beginning on: the newest, where two are. 204 where
    none is, and also where the chat is not known.
    """
    caller = caller_of(request)
    answer = await chats.current(chat, chat_id, caller)
    if answer is None or answer.turn.status not in chats.OPEN:
        return Response(None, status_code=204, headers=_place(answer))
    chat.serving.admit_reader()
    goes = chats.goes_of(answer)
    batches = chats.whole(chat, answer.turn.id, goes.turns, caller)
    return _streamed(batches, Parts(goes.message_id), _place(answer))


@post("/v1/ai-sdk/chat/{chat_id:str}/stop", status_code=200)
async def stop_ui_message(request: Http, chat: Chat, chat_id: FromPath[str]) -> Response[dict[str, Any]]:
    """Stop the message that is being given in a chat. What was given so far stays on record.

    `activeStreamId` names a turn of the chat: that one is stopped, and no other. Without it, the newest that is being
    given is. Where nothing is being given, or the chat or the turn is not known, `stopped` is false: it is what was
    wanted.
    """
    caller = caller_of(request)
    only = _stop_of(await request.body()).active_stream_id
    found = chats.current(chat, chat_id, caller) if only is None else chats.named(chat, chat_id, only, caller)
    answer = await found
    if answer is None or answer.turn.status not in chats.OPEN:
        return Response({"success": True, "stopped": False}, headers=_place(answer))
    turn = await chat.cancel(answer.turn.id, caller=caller)
    return Response({"success": True, "stopped": turn.status == "cancelled"}, headers=_place(answer))


def _stop_of(raw: bytes) -> StopIn:
    if not raw:
        return StopIn()
    try:
        body: StopIn = read_json(raw, StopIn)
    except msgspec.ValidationError as error:
        raise field_problem(str(error), "") from None
    except msgspec.MsgspecError as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}", field="body") from None
    return body


def _place(answer: ClientAnswer | None) -> dict[str, str]:
    """The headers that say where a chat is on record, if it is."""
    if answer is None:
        return {}
    return {common.SESSION: str(answer.turn.session_id), common.TURN: str(answer.turn.id)}


def _streamed(
    batches: AsyncGenerator[list[Frame], None], parts: Parts, headers: dict[str, str]
) -> sse.EventStream[Frame]:
    """A turn as a stream, at once: what becomes of it is told in parts, an error too."""
    return common.followed(up_to_a_pause(batches), HEADERS | headers, parts.encode, parts.failed)


ROUTES = [stream_ui_message, resume_ui_stream, stop_ui_message]
