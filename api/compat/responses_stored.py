"""Stored answers of OpenAI's Responses: reading them at any age, also as a stream, cancelling and deleting them, and
what they were asked with.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from ...engine import Caller, ClientAnswer, Engine, Frame, TurnAlreadyOpen, TurnNotFound
from ..http import sse
from ..http.body import Http
from ..http.dialects import OPENAI
from ..http.errors import Problem, invalid
from ..schemas.parameters import MAX_NUMBER, Chat, caller_of
from . import common
from .response_events import NOT_YET, Events, beyond
from .response_ids import read_id, response_id
from .response_items import items_of
from .response_request import check_include
from .response_told import Told, answered, read_told
from .responses import frames_of

PAGE, MOST = 20, 100
"""Items of a page: where the client does not say, and the most."""

Truth = Literal["true", "false"]
Include = Annotated[list[str] | None, QueryParameter(description="What is to be told besides.")]
BracketInclude = Annotated[list[str] | None, QueryParameter(name="include[]", description="The same as `include`.")]
StartingAfter = Annotated[
    int | None,
    QueryParameter(ge=0, le=MAX_NUMBER, description="With `stream`: what follows the event of this `sequence_number`."),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST, description="The most items on a page.")]
After = Annotated[str | None, QueryParameter(description="The id of the item after which the page begins.")]


class _Found(NamedTuple):
    """A stored answer, who asks for it, and the headers that say where it is."""

    answer: ClientAnswer
    caller: Caller
    headers: dict[str, str]


@get("/v1/responses/{response:str}")
async def get_response(
    request: Http,
    chat: Chat,
    response: FromPath[str],
    *,
    stream: FromQuery[Truth | None] = None,
    starting_after: StartingAfter = None,
    include: Include = None,
    bracket_include: BracketInclude = None,
    include_obfuscation: FromQuery[Truth | None] = None,  # noqa: ARG001 - it pads events, and there is nothing to be switched off
) -> Response[dict[str, Any]] | sse.EventStream[Frame]:
    """Show an answer; with `stream=true` as the events that it had, or has, from the first on or after a number."""
    names = _included(include, bracket_include)
    found = await _found(request, chat, response)
    if stream != "true":
        if starting_after is not None:
            raise invalid("starting_after", "goes with stream")
        return Response(answered(found.answer, include=names), headers=found.headers)
    chat.serving.admit_reader()
    turn, told = found.answer.turn, read_told(found.answer.told)
    told = msgspec.structs.replace(told, include=(*told.include, *names))
    running = common.Running(turn.id, turn.session_id, found.caller, found.headers)
    after = NOT_YET if starting_after is None else starting_after
    if starting_after is not None and turn.status != "running":
        await _check_number(chat, running, told, after)
    events = Events(told, partial(common.error_body, request, OPENAI), after=after)
    return common.followed(frames_of(chat, running), running.headers, events.encode, events.failed)


async def _check_number(chat: Engine, running: common.Running, told: Told, after: int) -> None:
    """Raises Problem for a number that no event of an ended answer has."""
    events = Events(told, lambda _: b"", after=NOT_YET, silent=True)
    async for batch in frames_of(chat, running):
        for frame in batch:
            events.encode(frame)
    if after >= events.count:
        raise beyond(events.count)


@delete("/v1/responses/{response:str}", status_code=200)
async def delete_response(request: Http, chat: Chat, response: FromPath[str]) -> dict[str, Any]:
    """Delete an answer: it is served no longer, and the words of its turn are erased. Needs the scope `erase`."""
    caller = caller_of(request, "erase")
    turn = _turn_of(response)
    try:
        await chat.delete_client_answer(turn, "responses", caller=caller)
    except TurnNotFound:
        raise _no_response(response) from None
    except TurnAlreadyOpen as error:
        raise Problem(409, error.code, "response_id: it is running; cancel it first", field="response_id") from None
    return {"id": response_id(turn), "object": "response", "deleted": True}


@post("/v1/responses/{response:str}/cancel", status_code=200)
async def cancel_response(request: Http, chat: Chat, response: FromPath[str]) -> Response[dict[str, Any]]:
    """Cancel an answer that is made in the background; one that has ended stays as it is."""
    found = await _found(request, chat, response)
    if not read_told(found.answer.told).background:
        detail = "this response is not made in the background: it is cancelled when its client leaves"
        raise Problem(400, "response_not_in_background", detail, found.headers, field="response_id")
    if found.answer.turn.status == "running":
        await chat.cancel(found.answer.turn.id, caller=found.caller)
        found = await _found(request, chat, response)
    return Response(answered(found.answer), headers=found.headers)


@get("/v1/responses/{response:str}/input_items")
async def list_input_items(
    request: Http,
    chat: Chat,
    response: FromPath[str],
    limit: Limit = PAGE,
    order: FromQuery[Literal["asc", "desc"]] = "desc",
    after: After = None,
    include: Include = None,
    bracket_include: BracketInclude = None,
) -> dict[str, Any]:
    """List the items that an answer was asked with: those that came with its request, the newest first."""
    _included(include, bracket_include)
    found = await _found(request, chat, response)
    items = [placed.item for message in found.answer.inputs for placed in items_of(message)]
    return page_of(items if order == "asc" else items[::-1], after, limit)


def page_of(items: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """A page of a list of items. Raises Problem."""
    ids = [item["id"] for item in items]
    if after is not None and after not in ids:
        raise invalid("after", "is no item of the list")
    start = 0 if after is None else ids.index(after) + 1
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }


def _included(*lists: list[str] | None) -> tuple[str, ...]:
    """What is asked to be told besides. Raises Problem."""
    names = tuple(name for each in lists for name in each or ())
    check_include(names)
    return names


async def _found(request: Http, chat: Engine, name: str) -> _Found:
    """A stored answer by its name. Raises Problem."""
    caller, turn = caller_of(request), _turn_of(name)
    try:
        answer = await chat.client_answer(turn, "responses", caller=caller)
    except TurnNotFound:
        raise _no_response(name) from None
    return _Found(answer, caller, {common.SESSION: str(answer.turn.session_id), common.TURN: str(turn)})


def _turn_of(name: str) -> UUID:
    turn = read_id("resp", name)
    if turn is None:
        raise _no_response(name)
    return turn


def _no_response(name: str) -> Problem:
    return Problem(404, "response_not_found", f"there is no response {name[:100]!r}", field="response_id")


ROUTES = [get_response, delete_response, cancel_response, list_input_items]
