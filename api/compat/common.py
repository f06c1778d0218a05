"""The common half of the drop-in routes: a request in a vendor's protocol becomes a turn on a recorded session, and the
turn becomes an answer, whole or streamed (DESIGN section 11).

A protocol's own file reads its body into a ``ClientRequest`` (``read``), starts the turn (``start``), and then waits
for its end (``ended``) or streams it (``streamed``). It says how an answer looks; all else is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat
from typing import TypeVar
from uuid import UUID

import msgspec

from ...engine import (
    SHUTTING_DOWN,
    Caller,
    ClientRequest,
    Engine,
    EngineError,
    Failure,
    Frame,
    KeyLimit,
    RequestKey,
    Retry,
    Turn,
    Usage,
)
from ..http import sse
from ..http.body import LARGE_BYTES, Http
from ..http.dialects import ANTHROPIC, Dialect, dialect_of
from ..http.disconnect import unless_left
from ..http.errors import Problem, check_id, problem_of, problem_of_code
from ..http.middleware import LEFT
from ..schemas.parameters import caller_of, is_repeated, request_id_of, request_key
from .fields import Table, read_body, renamed

B = TypeVar("B")
T = TypeVar("T")

SESSION, TURN = "x-manent-session", "x-manent-turn"
"""Headers of answers, which say where they are on record. A request names the session to go on in with the first."""

ENDS = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"})
_BEFORE_AN_ANSWER = frozenset({"turn.started", "attempt.failed", SHUTTING_DOWN.type})
_NO_ANSWER = ENDS - {"turn.completed"}

Through = Callable[[AsyncGenerator[list[Frame], None]], AsyncGenerator[list[Frame], None]]
"""A protocol's own way with the frames of a turn, before they are encoded. It closes what it reads from."""

Names = Callable[[str], str]
"""The client's name of a field, by the engine's."""


class TurnError(msgspec.Struct, frozen=True):
    """The reason why a turn has failed."""

    code: str
    detail: str | None = None
    retryable: bool = False
    retry_after_s: int | msgspec.UnsetType = msgspec.UNSET


class TurnTold(msgspec.Struct, frozen=True):
    """A turn as its first and last frames tell of it; times are RFC 3339 text."""

    id: UUID
    session_id: UUID
    status: str
    model: str
    started_at: str
    stop_reason: str | None
    vendor_stop_reason: str | None
    usage: Usage
    error: TurnError | None = None
    stop_sequence: str | None = None

    @property
    def created(self) -> int:
        """When it started, in seconds since 1970."""
        return seconds_of(self.started_at)


class Running(msgspec.Struct, frozen=True):
    """A turn that was started for a client. ``headers`` are those of its answer."""

    turn: UUID
    session: UUID
    caller: Caller
    headers: dict[str, str]


_told = msgspec.json.Decoder(TurnTold)


def turn_told(frame: Frame) -> TurnTold:
    """The turn in a ``turn.started`` frame, or in that of its end."""
    return _told.decode(frame.data)


def seconds_of(time: str) -> int:
    """A time of RFC 3339 in seconds since 1970."""
    return int(datetime.fromisoformat(time).timestamp())


# --- the request ------------------------------------------------------------------------------------------------------


async def read(request: Http, kind: type[T], table: Table, extras: Collection[str] = ()) -> T:
    """The body of a request. Raises Problem: see ``read_body``."""
    raw = await request.body()
    if len(raw) < LARGE_BYTES:
        return read_body(raw, kind, table, extras)
    return await asyncio.to_thread(read_body, raw, kind, table, extras)


async def built(request: Http, build: Callable[[B], T], body: B) -> T:
    """The result of a function of a request's body; of a large one in a thread, so that nobody waits for it."""
    if len(await request.body()) < LARGE_BYTES:
        return build(body)
    return await asyncio.to_thread(build, body)


async def start(
    request: Http, chat: Engine, asked: ClientRequest, names: Names, *, background: bool = False
) -> Running:
    """Start the turn that a client asks for; an automatic retry is given the one that its first try has started.
    ``background``: it goes on without a reader. An `Idempotency-Key` gives the first turn again, for ever.

    Raises Problem, with the client's name of the field, and the limits of the key beside it.
    """
    caller = caller_of(request)
    route, body = f"{request.method} {request.scope['path_template']}", await request.body()
    repeated = is_repeated(request)
    said, retry = RequestKey(caller.actor, route, "", body), Retry(route, body, repeated)
    asked = msgspec.structs.replace(asked, session=_named_session(request))
    key = await request_key(request, request.headers.get("idempotency-key"))
    try:
        chat.serving.admit_reader()
        grace_s = 0 if background else chat.settings.disconnect_grace_s
        answer = partial(chat.answer_client, asked, retry=retry, grace_s=grace_s, idempotency=key, caller=caller)
        if key is not None:
            started = await answer()
        else:
            started = await chat.serving.start_once(said, answer, repeated=repeated, caller=caller)
    except EngineError as error:
        problem = renamed(_of_header(problem_of(error), asked), names)
        problem.headers |= limit_headers(request, chat, caller)
        raise problem from None
    place = {SESSION: str(started.session), TURN: str(started.turn)}
    return Running(started.turn, started.session, caller, place | limit_headers(request, chat, caller))


def _of_header(problem: Problem, asked: ClientRequest) -> Problem:
    """The problem with the name of the header, where it is of the session that this names."""
    if asked.session is not None and problem.code == "session_not_found":
        problem.extra = {**problem.extra, "field": "X-Manent-Session"}
    return problem


def _named_session(request: Http) -> UUID | None:
    """The session that a request names to go on in. Raises Problem."""
    given = request.headers.get(SESSION)
    if not given:
        return None
    check_id("X-Manent-Session", given)
    return UUID(given)


# --- the answer -------------------------------------------------------------------------------------------------------


async def ended(request: Http, chat: Engine, running: Running) -> Turn:
    """The turn, once it has been completed. Who leaves before was its reader until then.

    Raises Problem for one that has given no whole answer: what came of it is on record.
    """
    turn = await unless_left(request, chat.ended(running.turn, caller=running.caller))
    if turn is None:
        raise has_left()
    if turn.status != "completed":
        raise failure(turn.status, turn.error, running.headers)
    return turn


async def streamed(
    request: Http,
    chat: Engine,
    running: Running,
    encode: sse.Encode[Frame],
    failed: Callable[[Problem], bytes],
    *,
    through: Through | None = None,
    silence: bytes = sse.KEEP_ALIVE,
) -> sse.EventStream[Frame]:
    """The turn as a stream, from its first frame on. It begins when there is something to show, or has been silence
    for a while: a turn that fails before is answered with its error, and a status, as the vendors do.

    ``encode`` gives the bytes of each frame of the record, ``failed`` those of an error in the stream; ``through``:
    what the frames pass before, ``silence``: what breaks silence. Raises Problem.
    """
    batches = chat.frames(running.turn, caller=running.caller)
    if through is not None:
        batches = through(batches)
    try:
        first = await unless_left(request, _begun(batches, running.headers))
    except BaseException:
        await batches.aclose()
        raise
    if first is None:
        raise has_left()  # which has closed what it read from
    return followed(batches, running.headers, encode, failed, silence=silence, before=first)


def followed(
    batches: AsyncGenerator[list[Frame], None],
    headers: dict[str, str],
    encode: sse.Encode[Frame],
    failed: Callable[[Problem], bytes],
    *,
    silence: bytes = sse.KEEP_ALIVE,
    before: list[Frame] | None = None,
) -> sse.EventStream[Frame]:
    """A turn's frames as a stream, with those ``before`` first. The others as of ``streamed``."""
    whole = _encoder(encode, failed)
    stream = sse.EventStream(batches, whole, failed, headers, silences=repeat(silence), before=before or ())
    no_longer = Problem(401, "unauthorized", "the API key of this request is no longer valid")
    stream.revoked = partial(failed, no_longer)
    return stream


def failed_in_stream(told: TurnTold) -> Problem:
    """The problem of a turn that ended without a whole answer, after some of it was shown."""
    return failure(told.status, told.error, {})


def failure(status: str, error: TurnError | Failure | None, headers: Mapping[str, str]) -> Problem:
    """The problem of a turn that has given no whole answer. A client repeats it where that may help, after the delay
    that the provider asked for.
    """
    delay_s: int | msgspec.UnsetType = msgspec.UNSET
    if error is None:
        code, detail, retryable = f"turn_{status}", f"the turn was {status}", status == "interrupted"
        problem = Problem(503 if retryable else 409, code, detail)
    else:
        problem, retryable = problem_of_code(error.code, error.detail or error.code), error.retryable
        delay_s = error.retry_after_s
    problem.headers |= headers
    if not retryable:
        problem.headers["x-should-retry"] = "false"
    elif delay_s is not msgspec.UNSET:
        problem.headers["retry-after"] = str(delay_s)
    return problem


async def _begun(batches: AsyncGenerator[list[Frame], None], headers: Mapping[str, str]) -> list[Frame]:
    """The first frames of a turn: see ``_first``. Raises Problem for one that has ended and shown nothing."""
    try:
        first = await _first(batches)
    except Problem as problem:
        problem.headers |= headers
        raise
    if first and first[-1].type in _NO_ANSWER and not any(map(_shows, first)):
        told = turn_told(first[-1])
        raise failure(told.status, told.error, headers)
    return first


async def _first(batches: AsyncGenerator[list[Frame], None]) -> list[Frame]:
    """The frames up to the first that shows something, or to silence. Raises Problem for one that is no part of the
    record.
    """
    found: list[Frame] = []
    async for batch in batches:
        found += batch
        unrecorded = next((frame for frame in batch if frame.number == 0 and frame is not SHUTTING_DOWN), None)
        if unrecorded is not None:
            raise sse.unrecorded_problem(unrecorded)
        if not batch or any(frame.type not in _BEFORE_AN_ANSWER for frame in batch):
            break
    return found


def _shows(frame: Frame) -> bool:
    return frame.type == "block.started"


def _encoder(encode: sse.Encode[Frame], failed: Callable[[Problem], bytes]) -> sse.Encode[Frame]:
    """Encode also those frames that are no part of the record."""

    def whole(frame: Frame) -> bytes:
        if frame.number:
            return encode(frame)
        return sse.STOPPING if frame is SHUTTING_DOWN else failed(sse.unrecorded_problem(frame))

    return whole


def has_left() -> Problem:
    """Nobody is sent it."""
    return Problem(LEFT, "client_left", "the client has left")


# --- limits -----------------------------------------------------------------------------------------------------------


def limit_headers(request: Http, chat: Engine, caller: Caller) -> dict[str, str]:
    """Manent's own limits on the caller's key, in the headers of the protocol. A vendor's are never passed on."""
    dialect = dialect_of(request.scope["path"], request.headers)
    headers: dict[str, str] = {}
    for limit in chat.serving.key_limits(caller=caller):
        headers |= _limit_headers(limit, dialect)
    return headers


def _limit_headers(limit: KeyLimit, dialect: Dialect | None) -> dict[str, str]:
    what = "tokens" if limit.counts_tokens else "requests"
    if dialect is ANTHROPIC:
        full_at = datetime.now(UTC) + timedelta(seconds=limit.full_in_s)
        return {
            f"anthropic-ratelimit-{what}-limit": str(limit.per_min),
            f"anthropic-ratelimit-{what}-remaining": str(limit.left),
            f"anthropic-ratelimit-{what}-reset": full_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
    return {
        f"x-ratelimit-limit-{what}": str(limit.per_min),
        f"x-ratelimit-remaining-{what}": str(limit.left),
        f"x-ratelimit-reset-{what}": f"{limit.full_in_s:.3f}".rstrip("0").rstrip(".") + "s",
    }


def error_body(request: Http, dialect: Dialect, problem: Problem) -> bytes:
    """The JSON of an error as a stream tells it."""
    extra = problem.extra
    return dialect.refusal(problem.status, problem.code, problem.detail, extra, request_id_of(request)).body
