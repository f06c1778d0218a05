"""The guide's routes: Plumego's three endpoints and envelopes, on the same engine and the same record.

``GET /api/ai/stream`` frames carry ids (``TURN:FRAME``), the first of them before any text, so that a browser's
EventSource that comes back resumes its turn and never starts - and pays for - a second one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from functools import partial
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromQuery, JSONBody

from ...engine import SHUTTING_DOWN, Caller, Engine, Frame, RequestKey, Started, Turn, check_content
from ..http import sse
from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.errors import ID_FORM, Problem, invalid
from ..http.middleware import HEAD_ONLY
from ..schemas.answers import ChatOut, ChatReply, CompleteOut, Reply
from ..schemas.bodies import ChatIn, CompleteIn
from ..schemas.parameters import (
    MAX_NUMBER,
    Chat,
    IdempotencyKey,
    LastEventId,
    Model,
    caller_of,
    request_id_of,
    request_key,
    start_once,
)

END_FRAMES = frozenset({"turn.failed", "turn.cancelled", "turn.interrupted"})
DONE = "[DONE]"

_CURSOR = re.compile(rf"(?P<turn>{ID_FORM}):(?P<frame>[0-9]{{1,16}})(?:\.(?P<pieces>[1-9][0-9]{{0,15}}))?")

_LINE_ENDS = r"\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029"
"""Those at which some client or other ends a line."""
_MARKER = re.compile(rf'[^\S{_LINE_ENDS}]*(?:\[(?=DONE\])|\{{(?=\s*"))')
"""As far as the first character of an end marker or of an object: there it is cut."""
_MARKER_ON_LINE = re.compile(f"[{_LINE_ENDS}]{_MARKER.pattern}")


class Cursor(msgspec.Struct, frozen=True):
    """The place that a client has read to: of a turn, all frames up to ``frame``, and of the next one so many
    ``pieces``.
    """

    turn: UUID
    frame: int
    pieces: int = 0


@post("/api/ai/complete", status_code=200)
async def complete(
    request: Http, chat: Chat, data: JSONBody[CompleteIn], idempotency_key: IdempotencyKey = None
) -> Response[CompleteOut]:
    """One question, one answer; recorded in a session of its own."""
    asked = ChatIn(data.message, None, data.model)
    turn = await _run(request, chat, asked, idempotency_key)
    return Response(CompleteOut(Reply(turn.text), request_id_of(request)), headers=_session_header(turn.session_id))


@post("/api/ai/chat", status_code=200)
async def chat(
    request: Http, chat: Chat, data: JSONBody[ChatIn], idempotency_key: IdempotencyKey = None
) -> Response[ChatOut]:
    """A conversation: send `session_id` back to resume it."""
    turn = await _run(request, chat, data, idempotency_key)
    reply = ChatReply(turn.session_id, turn.text, turn.usage)
    return Response(ChatOut(reply, request_id_of(request)), headers=_session_header(turn.session_id))


@get("/api/ai/stream")
async def stream(
    request: Http,
    chat: Chat,
    q: FromQuery[str | None] = None,
    session_id: FromQuery[UUID | None] = None,
    model: FromQuery[Model | None] = None,
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = None,
) -> Response[None] | sse.EventStream[Frame]:
    """Text deltas as `data:`, and `data: [DONE]` at the end."""
    caller = caller_of(request)
    if HEAD_ONLY in request.scope["state"]:  # whoever asks for nothing but headers does not start a turn
        return sse.EventStream(_nothing(), _no_frame, _failed)
    chat.serving.admit_reader()
    if last_event_id:
        cursor = read_cursor(last_event_id)
        if await chat.serving.read_to_end(cursor.turn, cursor.frame, caller=caller):
            return Response(None, status_code=204)
        session = (await chat.turn(cursor.turn, caller=caller)).session_id
    else:
        key = await request_key(request, idempotency_key)
        started = await _start(chat, caller, ChatIn(q or "", session_id, model), key, "q")
        cursor, session = Cursor(started.turn, 0), started.session
    batches = chat.frames(cursor.turn, after=cursor.frame, caller=caller)
    return sse.EventStream(batches, _encoder(cursor), _failed, _session_header(session))


async def _run(request: Http, chat: Engine, asked: ChatIn, idempotency_key: str | None) -> Turn:
    caller, key = caller_of(request), await request_key(request, idempotency_key)
    chat.serving.admit_reader()
    started = await start_once(request, chat, key, partial(_start, chat, caller, asked, key, "message"))
    turn = await unless_left(request, chat.ended(started.turn, caller=caller))
    turn = turn or await chat.turn(started.turn, caller=caller)
    if turn.status != "completed":
        code, detail = f"turn_{turn.status}", f"the turn was {turn.status}"
        if turn.error is not None:
            code, detail = turn.error.code, turn.error.detail or turn.error.code
        raise Problem(502, code, detail, _session_header(turn.session_id), turn_id=str(turn.id))
    return turn


async def _start(chat: Engine, caller: Caller, asked: ChatIn, key: RequestKey | None, field: str) -> Started:
    """A turn on a session, which is begun if need be. Refused input begins nothing."""
    check_content(asked.message, chat.settings)
    if not asked.message:
        raise invalid(field, "must hold something", "empty_message")
    session = asked.session_id
    if session is None:
        if key is None or not await chat.serving.remembers(key, caller=caller):
            await chat.serving.check_turn(asked.message, model=asked.model, caller=caller)
        session = (await chat.create_session(model=asked.model, request=_for_session(key), caller=caller)).id
    return await chat.start_turn(session, asked.message, model=asked.model, request=key, caller=caller)


def _for_session(key: RequestKey | None) -> RequestKey | None:
    """The session that a keyed request begins is remembered beside its turn."""
    return msgspec.structs.replace(key, route=f"{key.route} session") if key is not None else None


def _session_header(session: UUID) -> dict[str, str]:
    return {"x-session-id": str(session)}


# --- the stream -------------------------------------------------------------------------------------------------------


def read_cursor(raw: str) -> Cursor:
    """``TURN:FRAME`` or, in the midst of a delta that was split, ``TURN:FRAME.PIECES``. Raises Problem."""
    match = _CURSOR.fullmatch(raw)
    frame, pieces = (int(match["frame"]), int(match["pieces"] or 0)) if match else (-1, 0)
    if match is None or not (bool(pieces) <= frame <= MAX_NUMBER and pieces <= MAX_NUMBER):
        raise invalid("Last-Event-ID", "is not an id of this stream's")
    return Cursor(UUID(match["turn"]), frame - bool(pieces), pieces)


async def _nothing() -> AsyncGenerator[list[Frame], None]:
    return
    yield


def _no_frame(_: Frame) -> bytes:
    return b""


def _failed(problem: Problem) -> bytes:
    return _error(problem.detail)


def _encoder(start: Cursor) -> sse.Encode[Frame]:
    """Frames as the guide's lines, after what the client has read."""

    def encode(frame: Frame) -> bytes:
        pieces = _pieces(frame, start.turn)
        return b"".join(pieces[start.pieces :] if frame.number == start.frame + 1 else pieces)

    return encode


def _pieces(frame: Frame, turn: UUID) -> list[bytes]:
    """The events of one frame, each with the id under which the stream is taken up again after it."""
    if frame is SHUTTING_DOWN:
        return [sse.STOPPING]
    if frame.number == 0:
        return [_error(sse.unrecorded_problem(frame).detail)]
    if frame.type == "delta":
        return _delta(frame, turn)
    if frame.type == "turn.started":
        return [_event(turn, str(frame.number), b"")]  # an id alone: nothing to show yet, but what to come back to
    if frame.type == "turn.completed":
        return [_event(turn, str(frame.number), sse.data_lines(DONE))]
    if frame.type in END_FRAMES:
        error = msgspec.json.decode(frame.data).get("error") or {}
        return [_event(turn, str(frame.number), _error_line(error.get("detail") or frame.type))]
    return []


def _delta(frame: Frame, turn: UUID) -> list[bytes]:
    delta = msgspec.json.decode(frame.data)
    if delta["type"] != "text":
        return []
    parts = split_markers(delta["text"])
    places = [f"{frame.number}.{number}" for number in range(1, len(parts))] + [str(frame.number)]
    return [_event(turn, place, sse.data_lines(part)) for place, part in zip(places, parts, strict=True)]


def split_markers(text: str) -> list[str]:
    """A text in as few parts as it takes for no line of any to read as the stream's own end, or as an error."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parts, start = [], 0
    while match := _MARKER.match(text, start) or _MARKER_ON_LINE.search(text, start):
        parts.append(text[start : match.end()])
        start = match.end()
    return [*parts, text[start:]]


def _event(turn: UUID, place: str, lines: bytes) -> bytes:
    return b"id: %b:%b\n%b\n" % (str(turn).encode(), place.encode(), lines)


def _error(detail: str) -> bytes:
    return _error_line(detail) + b"\n"


def _error_line(detail: str) -> bytes:
    return b"data: %b\n" % msgspec.json.encode({"error": detail})


ROUTES = [complete, chat, stream]
