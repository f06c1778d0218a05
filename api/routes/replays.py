"""Replays: recorded turns done again, followed as they are, cancelled, reported."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from ...engine import Caller, Engine, NumberedResult, Replay, ReplayOptions, ReplayQuery, ReplayWhere, report_policy
from ..http import sse
from ..http.body import Http
from ..http.pieces import InPieces
from ..schemas.answers import ReplayList, ReplayPage
from ..schemas.bodies import AcceptIn, LiveToolsIn, NothingIn, ReplayIn
from ..schemas.parameters import (
    After,
    Chat,
    Cursor,
    IdempotencyKey,
    LastEventId,
    Limit,
    caller_of,
    read_after,
    request_id_of,
    request_key,
)

NOTHING = NothingIn()
RUNNING = "running"
HTML = "text/html; charset=utf-8"
PAGE = ResponseSpec(bytes, media_type="text/html", description="The report, one page", generate_examples=False)
FIRST_NUMBER = 2
"""Of results; the start is numbered 1, and the end follows the last result."""


class End(msgspec.Struct, frozen=True):
    """The end of a replay, as it is told to who follows it."""

    number: int
    replay: Replay


@post(
    "/api/replays",
    status_code=202,
    responses={202: ResponseSpec(Replay, description="The replay as it is; it goes on", generate_examples=False)},
)
async def start_replay(
    request: Http, chat: Chat, data: JSONBody[ReplayIn], idempotency_key: IdempotencyKey = None
) -> Response[Replay]:
    """Do recorded turns again, on the record or on another model.

    Models, tools and turns are checked first. The replay goes on by itself, also after a restart of the server.
    """
    replay = await chat.start_replay(
        _query(data),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
        **_options(data),
    )
    return Response(replay, status_code=202, headers={"location": f"/api/replays/{replay.id}"})


@get("/api/replays")
async def list_replays(request: Http, chat: Chat, limit: Limit = 100, cursor: Cursor = None) -> ReplayList:
    """List replays, the newest first."""
    page = await chat.replays(limit=limit, after=cursor, caller=caller_of(request))
    return ReplayList(page.items, page.next)


@get("/api/replays/{replay_id:uuid}")
async def get_replay(
    request: Http, chat: Chat, replay_id: FromPath[UUID], limit: Limit = 100, cursor: Cursor = None
) -> ReplayPage:
    """A replay as it is now, and a page of its results.

    What differs is read from the two answers as they are now: of erased ones only the place is left.
    """
    caller = caller_of(request)
    replay = await chat.replay_state(replay_id, caller=caller)
    page = await chat.replay_results(replay_id, limit=limit, after=cursor, caller=caller)
    results = [each.result for each in page.items]
    return ReplayPage(**msgspec.structs.asdict(replay), results=results, next_cursor=page.next)


@get("/api/replays/{replay_id:uuid}/stream")
async def stream_replay(
    request: Http,
    chat: Chat,
    replay_id: FromPath[UUID],
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response[None] | sse.EventStream[NumberedResult | End]:
    """Follow the results of a replay as they come, from the first or after a number, up to its end."""
    caller, start = caller_of(request), read_after(last_event_id, after) or 0
    replay = await chat.replay_state(replay_id, caller=caller)
    if replay.status != RUNNING and start >= _end_of(replay):
        return Response(None, status_code=204)
    chat.serving.admit_reader()
    request_id = request_id_of(request)
    return sse.EventStream(
        _followed(chat, caller, replay_id, start), _encoded, lambda problem: sse.error_bytes(problem, request_id)
    )


@get("/api/replays/{replay_id:uuid}/report", responses={200: PAGE})
async def report_replay(request: Http, chat: Chat, replay_id: FromPath[UUID]) -> InPieces:
    """The report of a replay: one HTML page that needs no script."""
    caller = caller_of(request)
    await chat.replay_state(replay_id, caller=caller)
    headers = {"content-security-policy": report_policy(), "x-content-type-options": "nosniff"}
    return InPieces(_report(chat, caller, replay_id), HTML, headers | {"referrer-policy": "no-referrer"})


@post("/api/replays/{replay_id:uuid}/cancel", status_code=200)
async def cancel_replay(
    request: Http,
    chat: Chat,
    replay_id: FromPath[UUID],
    data: JSONBody[NothingIn] = NOTHING,
    idempotency_key: IdempotencyKey = None,
) -> Replay:
    """Cancel a replay, and the turns that it has under way. One that has ended stays as it is."""
    del data
    key = await request_key(request, idempotency_key)
    return await chat.cancel_replay(replay_id, request=key, caller=caller_of(request))


@post("/api/replays/{replay_id:uuid}/accept", status_code=200)
async def accept_results(
    request: Http,
    chat: Chat,
    replay_id: FromPath[UUID],
    data: JSONBody[AcceptIn],
    idempotency_key: IdempotencyKey = None,
) -> Replay:
    """Make the new answers to some turns the reference of the replay's suite."""
    key = await request_key(request, idempotency_key)
    return await chat.accept_results(replay_id, data.results, request=key, caller=caller_of(request))


def _query(data: ReplayIn) -> ReplayQuery:
    where = None if data.where is None else ReplayWhere(**msgspec.structs.asdict(data.where))
    return ReplayQuery(data.sessions, data.turns, data.suite, where)


def _options(data: ReplayIn) -> ReplayOptions:
    tools: Any = {"live": data.tools.live} if isinstance(data.tools, LiveToolsIn) else data.tools
    return {
        "mode": data.mode,
        "model": data.model,
        "repeat": data.repeat,
        "tools": tools,
        "jobs": data.jobs,
        "max_turns": data.max_turns,
        "max_cost_micros": data.max_cost_micros,
    }


def _end_of(replay: Replay) -> int:
    counts = replay.counts
    return FIRST_NUMBER + counts.same + counts.different + counts.skipped + counts.failed


async def _followed(
    chat: Engine, caller: Caller, replay_id: UUID, start: int
) -> AsyncGenerator[list[NumberedResult | End], None]:
    async with aclosing(chat.follow_replay(replay_id, after=start, caller=caller)) as batches:
        async for batch in batches:
            yield list(batch)
    replay = await chat.replay_state(replay_id, caller=caller)
    if replay.status != RUNNING:  # or the server ends
        yield [End(_end_of(replay), replay)]


def _encoded(item: NumberedResult | End) -> bytes:
    kind, told = ("replay.compared", item.result) if isinstance(item, NumberedResult) else _told(item)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (item.number, kind.encode(), msgspec.json.encode(told))


def _told(end: End) -> tuple[str, Any]:
    return f"replay.{end.replay.status}", end.replay


@asynccontextmanager
async def _report(chat: Engine, caller: Caller, replay_id: UUID) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with aclosing(chat.replay_report(replay_id, caller=caller)) as pieces:
        yield (piece.encode() async for piece in pieces)


ROUTES = [start_replay, list_replays, get_replay, stream_replay, report_replay, cancel_replay, accept_results]
