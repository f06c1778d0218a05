"""The guide's routes: Plumego's three endpoints and envelopes, on the same engine and the same record.

``GET /api/ai/stream`` frames carry ids (``TURN:FRAME``), so a browser's EventSource that comes back resumes its turn and never starts - and pays
for - a second one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromQuery, JSONBody
from litestar.response import Stream

from api import sse
from api.errors import Problem, problem_of
from api.schemas import ChatIn, CompleteIn, caller_of, request_id_of, request_key
from engine import Ask, Conversation, Frame, MessageIn, Turn, text_of

Http = Request[Any, Any, State]

CATEGORIES = {400: "validation", 401: "auth", 403: "auth", 404: "not_found", 429: "rate_limit", 503: "unavailable"}
END_FRAMES = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"})


@post("/api/ai/complete", status_code=200)
async def complete(request: Http, conversation: Conversation, data: JSONBody[CompleteIn]) -> Response[Any]:
    """One question, one answer; recorded in a session of its own."""
    turn = await _run(request, conversation, data.message, data.model, None)
    return _envelope(request, {"reply": _reply(turn)}, turn)


@post("/api/ai/chat", status_code=200)
async def chat(request: Http, conversation: Conversation, data: JSONBody[ChatIn]) -> Response[Any]:
    """A conversation: send ``session_id`` back to resume it."""
    turn = await _run(request, conversation, data.message, data.model, data.session_id)
    reply = {"session_id": turn.session_id, "reply": _reply(turn), "usage": turn.usage}
    return _envelope(request, reply, turn)


@get("/api/ai/stream")
async def stream(
    request: Http,
    conversation: Conversation,
    q: FromQuery[str | None] = None,
    session_id: FromQuery[UUID | None] = None,
    model: FromQuery[str | None] = None,
) -> Response[None] | Stream:
    """Text deltas as ``data:``, and ``data: [DONE]`` at the end."""
    caller = caller_of(request)
    cursor = _cursor(request.headers.get("last-event-id"))
    if cursor is not None:
        turn, after, half = cursor
        if await conversation.read_to_end(turn, after, caller):
            return Response(None, status_code=204)
        session = (await conversation.turn(turn, caller)).session_id
    else:
        turn, session = await _start(request, conversation, q or "", model, session_id)
        after, half = 0, False
    batches = conversation.frames(turn, caller, after=after)
    return sse.stream(_text(batches, turn, skip_half=half), {"x-session-id": str(session)})


async def _run(
    request: Http, conversation: Conversation, message: str, model: str | None, session_id: UUID | None
) -> Turn:
    turn, _ = await _start(request, conversation, message, model, session_id)
    ended = await conversation.ended(turn, caller_of(request))
    if ended.status != "completed":
        failure = ended.error
        code, detail = (failure.code, failure.detail) if failure else (f"turn_{ended.status}", "the turn did not end")
        raise Problem(502, code, detail or code, {"x-session-id": str(ended.session_id)})
    return ended


async def _start(
    request: Http, conversation: Conversation, text: str, model: str | None, session_id: UUID | None
) -> tuple[UUID, UUID]:
    """A turn on a session, which is begun if need be; the turn's id and the session's. Refused input begins nothing."""
    caller, key = caller_of(request), await request_key(request)
    message = await conversation.new_message(MessageIn(text))
    if not message.tokens:
        raise Problem(400, "empty_message", "a message must hold something", field="message")
    if session_id is None:
        session = await conversation.create_session(caller, request=_for_session(key), model=model)
        session_id = session.id
    started = await conversation.start_turn(session_id, Ask(message=message, model=model), caller, request=key)
    return started.turn, started.session


def _for_session(key: Any) -> Any:
    """The session that a keyed request begins is remembered beside its turn."""
    return msgspec.structs.replace(key, route=f"{key.route} session") if key is not None else None


def _reply(turn: Turn) -> str:
    return text_of(turn.message.blocks()) if turn.message is not None else ""


def _envelope(request: Http, data: dict[str, Any], turn: Turn) -> Response[Any]:
    body = {"data": data, "request_id": request_id_of(request)}
    return Response(body, headers={"x-session-id": str(turn.session_id)})


def _cursor(raw: str | None) -> tuple[UUID, int, bool] | None:
    """``TURN:FRAME`` or, after the first half of a delta that was split, ``TURN:FRAME.1``: turn, frame read, half read."""
    if not raw:
        return None
    try:
        turn, _, place = raw.partition(":")
        frame, _, half = place.partition(".")
        return UUID(turn), int(frame) - (1 if half else 0), bool(half)
    except ValueError:
        raise Problem(
            400, "invalid_value", "Last-Event-ID: is not one of this stream's", field="Last-Event-ID"
        ) from None


async def _text(
    batches: AsyncGenerator[list[Frame], None], turn: UUID, *, skip_half: bool
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(batches) as ready:
            async for batch in ready:
                if not batch:
                    yield sse.KEEP_ALIVE
                    continue
                pieces = []
                for frame in batch:
                    pieces += _pieces(frame, turn, skip_half=skip_half)
                    skip_half = skip_half and frame.type != "delta"
                if pieces:
                    yield b"".join(pieces)
    except Exception as error:  # noqa: BLE001 - the headers are gone: what went wrong can only be said in the stream
        yield _error_line(problem_of(error).detail)


def _pieces(frame: Frame, turn: UUID, *, skip_half: bool) -> list[bytes]:
    """The lines of one frame, each with the id under which the stream is taken up again after it."""
    if frame.type == "delta":
        return _delta(frame, turn, skip_half=skip_half)
    if frame.type == "turn.completed":
        return [_piece(turn, str(frame.number), b"data: [DONE]\n")]
    if frame.type in END_FRAMES or frame.number == 0:
        error = msgspec.json.decode(frame.data).get("error") or {}
        place = b"id: %b:%d\n" % (str(turn).encode(), frame.number) if frame.number else b""
        return [place + _error_line(error.get("detail") or frame.type)]
    return []


def _delta(frame: Frame, turn: UUID, *, skip_half: bool) -> list[bytes]:
    delta = msgspec.json.decode(frame.data)
    if delta["type"] != "text":
        return []
    text = delta["text"]
    cut = len(text) - len(text.lstrip()) + 1
    halves = [text[:cut], text[cut:]] if _reads_as_marker(text) else [text]
    places = [f"{frame.number}.1", str(frame.number)][-len(halves) :]
    pieces = [_piece(turn, place, sse.data_lines(half)) for place, half in zip(places, halves, strict=True)]
    return pieces[1:] if skip_half else pieces


def _reads_as_marker(text: str) -> bool:
    stripped = text.strip()
    return stripped == "[DONE]" or stripped.replace(" ", "").startswith('{"error"')


def _piece(turn: UUID, place: str, lines: bytes) -> bytes:
    return b"id: %b:%b\n%b\n" % (str(turn).encode(), place.encode(), lines)


def _error_line(detail: str) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"error": detail})


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The guide's error envelope."""
    problem = problem_of(error)
    body = {
        "error": {
            "code": problem.code,
            "message": problem.detail,
            "category": CATEGORIES.get(problem.status, "client" if problem.status < 500 else "server"),
            "type": "about:blank",
            "details": problem.extra,
        },
        "request_id": request_id_of(request),
    }
    return Response(body, status_code=problem.status, headers=problem.headers)


ROUTES = [complete, chat, stream]
