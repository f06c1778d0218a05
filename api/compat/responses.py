"""OpenAI's Responses as drop-in routes: its clients work unmodified, and what is said is on record."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from litestar import Response, post

from ...engine import Engine, EngineError, Frame
from ..http import sse
from ..http.body import Http
from ..http.dialects import OPENAI
from ..http.errors import Problem, invalid, problem_of
from ..schemas.parameters import Chat, caller_of
from . import common
from .fields import renamed
from .named import conversation_locked, needing_results, no_conversation
from .response_events import Events
from .response_forms import COUNTED, FIELDS, CountIn, ResponseIn
from .response_references import read_references
from .response_request import Asked, client_request, name_of
from .response_told import turn_told
from .vendor_frames import with_forms

KEPT = "x-manent-kept"
"""In an answer that was asked not to be stored, and stays on record: why."""

ESTIMATE = {"x-manent-estimate": "true"}
"""In the answer to a request for a count: it is an estimate, rather too high than too low."""


@post("/v1/responses", status_code=200)
async def create_response(request: Http, chat: Chat) -> Response[dict[str, Any]] | sse.EventStream[Frame]:
    """Answer as OpenAI's Responses do: whole, with `"stream": true` in events, or with `"background": true` at once.

    With `previous_response_id` it goes on from that answer, with `conversation` in that conversation; a history that is
    sent whole is recognised where it is on record. `x-manent-session` and `x-manent-turn` say where the answer is.
    """
    body = await common.read(request, ResponseIn, FIELDS)
    _check_place(request, body)
    asked = await read_asked(request, chat, body)
    background = bool(body.background)
    try:
        running = await common.start(request, chat, asked.request, asked.names, background=background)
    except Problem as problem:
        raise _of_place(problem, body) from None
    if body.store is False:
        kept = await chat.serving.kept(running.session, caller=running.caller)
        running.headers.update({} if kept is None else {KEPT: kept})
    events = Events(asked.told, partial(common.error_body, request, OPENAI))
    if body.stream and background:
        return common.followed(frames_of(chat, running), running.headers, events.encode, events.failed)
    if body.stream:
        through = partial(_through, chat, running)
        return await common.streamed(request, chat, running, events.encode, events.failed, through=through)
    if background:
        turn = await chat.turn(running.turn, caller=running.caller)
        queued = turn.status == "running"
        return Response(turn_told(turn, asked.told, "queued" if queued else None), headers=running.headers)
    turn = await common.ended(request, chat, running)
    chat.serving.read_on(running.turn)
    return Response(turn_told(turn, asked.told), headers=running.headers)


@post("/v1/responses/input_tokens", status_code=200)
async def count_response_tokens(request: Http, chat: Chat) -> Response[dict[str, Any]]:
    """Count the input tokens of a request, with its instructions and its tools, and with what it goes on from.

    As the vendor does where it counts, else by an estimate that is rather too high than too low, and then the answer
    has `x-manent-estimate: true`. Nothing is recorded.
    """
    body = await common.read(request, CountIn, COUNTED)
    asked = await read_asked(request, chat, body)
    try:
        count = await chat.count_client_tokens(asked.request, caller=caller_of(request))
    except EngineError as error:
        raise _of_place(renamed(problem_of(error), asked.names), body) from None
    told = {"object": "response.input_tokens", "input_tokens": count.tokens}
    return Response(told, headers={} if count.exact else ESTIMATE)


async def _through(
    chat: Engine, running: common.Running, batches: AsyncGenerator[list[Frame], None]
) -> AsyncGenerator[list[Frame], None]:
    """Frames with the vendor's forms among them; at their end they were read."""
    whole = with_forms(batches, partial(chat.vendor_forms, running.turn, caller=running.caller))
    async with aclosing(whole):
        async for batch in whole:
            yield batch
    chat.serving.read_on(running.turn)


def frames_of(chat: Engine, running: common.Running) -> AsyncGenerator[list[Frame], None]:
    """A turn's frames from the first one on, with the vendor's forms of blocks among them."""
    forms = partial(chat.vendor_forms, running.turn, caller=running.caller)
    return with_forms(chat.frames(running.turn, caller=running.caller), forms)


async def read_asked(request: Http, chat: Engine, body: CountIn) -> Asked:
    """What the engine is asked. Raises Problem."""
    references = await read_references(chat, caller_of(request), body.input)
    return await common.built(request, partial(client_request, references=references), body)


def _check_place(request: Http, body: CountIn) -> None:
    """Raises Problem where a header names another session than the body's place is in."""
    if not request.headers.get(common.SESSION):
        return
    for field in ("previous_response_id", "conversation"):
        if getattr(body, field) is not None:
            raise invalid(field, "goes without the header X-Manent-Session")


def _of_place(problem: Problem, body: CountIn) -> Problem:
    """The problem in the protocol's words, where it is of the conversation that a client names."""
    problem = needing_results(problem, "input")
    if body.conversation is None:
        return problem
    if problem.code == "turn_already_open":
        return conversation_locked("conversation")
    if problem.code == "session_not_found":
        return no_conversation(name_of(body.conversation), "conversation")
    return problem


ROUTES = [create_response, count_response_tokens]
