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

from ...engine import (
    SHUTTING_DOWN,
    Caller,
    Engine,
    Frame,
    RequestKey,
    Started,
    Turn,
    TurnOptions,
    check_content,
    errors,
)
from ..http import sse
from ..http.body import Http
from ..http.disconnect import unless_left
from ..http.errors import ID_FORM, Problem, check_id, invalid, problem_of_code
from ..http.middleware import HEAD_ONLY
from ..schemas.answers import ChatOut, ChatReply, CompleteOut, Reply
from ..schemas.bodies import ChatIn, CompleteIn
from ..schemas.parameters import (
    MAX_NUMBER,
    Chat,
    IdempotencyKey,
    LastEventId,
    caller_of,
    request_id_of,
    request_key,
    start_once,
)

SYSTEM = "You are a helpful assistant."
WINDOW_TOKENS = 4096
MAX_TOKENS = 1024
STREAM_MAX_TOKENS = 2048
"""What the guide asks its provider with."""

PROVIDER_ERROR = "AI provider error"
PROVIDERS_CODES = frozenset(
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ProviderError | errors.Overloaded)
)
"""Codes of turns that failed at a provider, or because it could not be asked."""

END_FRAMES = frozenset({"turn.failed", "turn.cancelled", "turn.interrupted"})
DONE = "[DONE]"

_CURSOR = re.compile(rf"(?P<turn>{ID_FORM}):(?P<frame>[0-9]{{1,16}})(?:\.(?P<pieces>[1-9][0-9]{{0,15}}))?")

_LINE_ENDS = r"\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029"
"""Those at which some client or other ends a line."""
_MARKER = re.compile(rf'[^\S{_LINE_ENDS}]*(?:\[(?=DONE\])|\{{(?=\s*"))')
"""As far as the first character of an end marker or of an object: there it is cut."""
_MARKER_ON_LINE = re.compile(f"[{_LINE_ENDS}]{_MARKER.pattern}")


class Asked(msgspec.Struct, frozen=True):
    """A client's call of one of the routes; ``field`` names the part that holds its words."""

    message: str
    session: UUID | None
    model: str | None
    system: str | None
    max_tokens: int = MAX_TOKENS
    field: str = "message"


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
    asked = Asked(data.message, None, data.model or None, data.system or None)
    turn = await _run(request, chat, asked, idempotency_key)
    return Response(CompleteOut(Reply(turn.text), request_id_of(request)), headers=_session_header(turn.session_id))


@post("/api/ai/chat", status_code=200)
async def chat(
    request: Http, chat: Chat, data: JSONBody[ChatIn], idempotency_key: IdempotencyKey = None
) -> Response[ChatOut]:
    """A conversation: send `session_id` back to resume it."""
    asked = Asked(data.message, read_session(data.session_id), data.model or None, data.system or None)
    turn = await _run(request, chat, asked, idempotency_key)
    reply = ChatReply(turn.session_id, turn.text, turn.usage)
    return Response(ChatOut(reply, request_id_of(request)), headers=_session_header(turn.session_id))


@get("/api/ai/stream")
async def stream(
    request: Http,
    chat: Chat,
    q: FromQuery[str | None] = None,
    session_id: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    system: FromQuery[str | None] = None,
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
        asked = Asked(q or "", read_session(session_id), model or None, system or None, STREAM_MAX_TOKENS, "q")
        started = await _start(chat, caller, asked, key)
        cursor, session = Cursor(started.turn, 0), started.session
    batches = chat.frames(cursor.turn, after=cursor.frame, caller=caller)
    return sse.EventStream(batches, _encoder(cursor), _failed, _session_header(session))


def read_session(raw: str | None) -> UUID | None:
    """Read the session's id; None for an empty one. Raises Problem."""
    if not raw:
        return None
    check_id("session_id", raw)
    return UUID(raw)


async def _run(request: Http, chat: Engine, asked: Asked, idempotency_key: str | None) -> Turn:
    caller, key = caller_of(request), await request_key(request, idempotency_key)
    chat.serving.admit_reader()
    started = await start_once(request, chat, key, partial(_start, chat, caller, asked, key))
    turn = await unless_left(request, chat.ended(started.turn, caller=caller))
    turn = turn or await chat.turn(started.turn, caller=caller)
    if turn.status != "completed":
        raise _failure(turn)
    return turn


def _failure(turn: Turn) -> Problem:
    """The problem of a turn without an answer: the guide has one word for whatever goes wrong at a provider."""
    headers, code = _session_header(turn.session_id), f"turn_{turn.status}"
    if turn.error is None:
        status = 409 if turn.status == "cancelled" else 503
        return Problem(status, code, f"the turn was {turn.status}", headers, turn_id=str(turn.id))
    code, reason = turn.error.code, turn.error.detail or turn.error.code
    if turn.error.retryable and turn.error.retry_after_s is not msgspec.UNSET:
        headers["retry-after"] = str(turn.error.retry_after_s)
    if code in PROVIDERS_CODES:
        return Problem(503, code, PROVIDER_ERROR, headers, turn_id=str(turn.id), reason=reason)
    return Problem(problem_of_code(code, reason).status, code, reason, headers, turn_id=str(turn.id))


async def _start(chat: Engine, caller: Caller, asked: Asked, key: RequestKey | None) -> Started:
    """Start a turn on a session, which is begun or changed if need be. A refused turn begins and changes nothing."""
    check_content(asked.message, chat.settings)
    if not asked.message:
        raise invalid(asked.field, "must hold something", "empty_message")
    most = chat.settings.max_budget_tokens
    options: TurnOptions = {
        "model": asked.model,
        "budget_tokens": min(WINDOW_TOKENS, most),
        "max_output_tokens": min(asked.max_tokens, most),
        "request": key,
    }
    is_new = key is None or not await chat.serving.remembers(key, caller=caller)
    prepare = _begin_session if asked.session is None else _go_on
    session = await prepare(chat, caller, asked, options, is_new=is_new)
    return await chat.start_turn(session, asked.message, caller=caller, **options)


async def _begin_session(chat: Engine, caller: Caller, asked: Asked, options: TurnOptions, *, is_new: bool) -> UUID:
    system = asked.system or SYSTEM
    if is_new:
        await chat.serving.check_turn(asked.message, system=system, caller=caller, **options)
    key, budget = _for_session(options["request"]), options["budget_tokens"]
    begun = await chat.create_session(
        model=asked.model, system=system, budget_tokens=budget, request=key, caller=caller
    )
    return begun.id


async def _go_on(chat: Engine, caller: Caller, asked: Asked, options: TurnOptions, *, is_new: bool) -> UUID:
    """Prepare a session that was begun before. What it sets comes before what the guide asks with."""
    assert asked.session is not None
    session = await chat.session(asked.session, caller=caller)
    options["budget_tokens"] = session.budget_tokens or options["budget_tokens"]
    options["max_output_tokens"] = session.max_output_tokens or options["max_output_tokens"]
    if is_new and asked.system is not None and asked.system != session.system:
        await chat.serving.check_turn(asked.message, session.id, caller=caller, **options)
        await chat.update_session(session.id, system=asked.system, caller=caller)
    return session.id


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
