"""Stored Chat Completions: what was answered with ``"store": true`` is served by its id, listed, and deleted.

An answer that is not whole, or of which words are erased, is served no more than one that was not stored.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Callable
from operator import itemgetter
from typing import Any, Literal
from uuid import UUID

import msgspec
from litestar import Response, delete, get
from litestar.params import FromPath, FromQuery

from ...engine import Caller, ClientAnswer, Engine, Protocol, TurnNotFound
from ..http.body import Http
from ..http.errors import Problem, invalid
from ..http.strict import BRACKETED
from ..observability.log_lines import event
from ..schemas.parameters import Chat, caller_of
from .chat_answers import completion, completion_id
from .chat_forms import ChatIn
from .chat_messages import Place, messages_told, place_of
from .common import SESSION, TURN
from .named import DEFAULT_ITEMS, Limit, Listed, Order, read_page, uuid_of

log = logging.getLogger("manent.server")

PROTOCOL: Protocol = "chat_completions"
PREFIX = "chatcmpl-"

_METADATA = re.compile(r"metadata\[(?P<key>.*)\]", re.DOTALL)

_NOTHING_TOLD: dict[str, Any] = dict.fromkeys(
    (
        "request_id",
        "tool_choice",
        "seed",
        "top_p",
        "temperature",
        "presence_penalty",
        "frequency_penalty",
        "input_user",
        "tools",
        "response_format",
    )
) | {"metadata": {}}

Wanted = Callable[[dict[str, Any]], bool]


class ChatCompletionDeleted(msgspec.Struct, frozen=True):
    """A stored completion that was deleted."""

    id: str
    deleted: Literal[True] = True
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"


def told_of(body: ChatIn, request_id: str) -> bytes:
    """What a stored completion says of its request, as JSON."""
    same = {field: getattr(body, field) for field in _NOTHING_TOLD if field in body.__struct_fields__}
    return msgspec.json.encode(
        same | {"request_id": request_id, "input_user": body.user, "metadata": body.metadata or {}}
    )


@get("/v1/chat/completions", opt={BRACKETED: ("metadata",)})
async def list_chat_completions(
    request: Http,
    chat: Chat,
    model: FromQuery[str | None] = None,
    after: FromQuery[str | None] = None,
    limit: Limit = DEFAULT_ITEMS,
    order: Order = "asc",
) -> Listed:
    """List the completions that were stored, in the order in which they were asked for or back.

    `metadata[KEY]=VALUE`, as often as there is need, names what their metadata must hold; `after` the completion after
    which the page begins.
    """
    caller = caller_of(request)
    start = None if after is None else uuid_of(after, PREFIX)
    if after is not None and start is None:
        raise invalid("after", "is no id of a completion")
    wanted = _wanted(request, model)
    answers = _answers(chat, caller, start, wanted, limit + 1, descending=order == "desc")
    return await read_page(request, answers, limit, chat.settings.max_page_bytes)


@get("/v1/chat/completions/{completion_id:str}")
async def get_chat_completion(request: Http, chat: Chat, completion_id: FromPath[str]) -> Response[dict[str, Any]]:
    """Show a completion that was stored, as it was answered, with the metadata and the parameters of its request."""
    answer = await _read(chat, caller_of(request), completion_id)
    return Response(_stored(answer), headers=_place(answer))


@get("/v1/chat/completions/{completion_id:str}/messages")
async def list_chat_completion_messages(
    request: Http,
    chat: Chat,
    completion_id: FromPath[str],
    after: FromQuery[str | None] = None,
    limit: Limit = DEFAULT_ITEMS,
    order: Order = "asc",
) -> Response[Listed]:
    """List the messages that a stored completion was asked with, in their order or back.

    System messages at the beginning are one, as the model was sent them. The content of a message that was erased is
    null.
    """
    caller = caller_of(request)
    answer = await _read(chat, caller, completion_id)
    start = None if after is None else place_of(completion_id, after)
    messages = _messages(chat, caller, answer, start, limit + 1, descending=order == "desc")
    page = await read_page(request, messages, limit, chat.settings.max_page_bytes)
    return Response(page, headers=_place(answer))


@delete("/v1/chat/completions/{completion_id:str}", status_code=200)
async def delete_chat_completion(
    request: Http, chat: Chat, completion_id: FromPath[str]
) -> Response[ChatCompletionDeleted]:
    """Delete a completion that was stored, which needs a key with the scope `erase`.

    It is served no longer, and the words of its own messages are erased, in all branches. A legal hold keeps it.
    """
    caller = caller_of(request, "erase")
    answer = await _read(chat, caller, completion_id)
    try:
        await chat.delete_client_answer(answer.turn.id, PROTOCOL, caller=caller)
    except TurnNotFound:
        raise _not_found() from None
    told = {"tenant": caller.tenant, "principal": caller.actor, "request_id": caller.correlation}
    event(log, logging.INFO, "answer deleted", turn_id=str(answer.turn.id), **told)
    return Response(ChatCompletionDeleted(completion_id), headers=_place(answer))


# --- what is stored ---------------------------------------------------------------------------------------------------


async def _read(chat: Engine, caller: Caller, completion_id: str) -> ClientAnswer:
    """A stored completion that is whole. Raises Problem."""
    turn = uuid_of(completion_id, PREFIX)
    if turn is None:
        raise _not_found()
    try:
        answer = await chat.client_answer(turn, PROTOCOL, caller=caller)
    except TurnNotFound:
        raise _not_found() from None
    if not _is_whole(answer):
        raise _not_found()
    return answer


def _place(answer: ClientAnswer) -> dict[str, str]:
    """The headers that say where an answer is on record."""
    return {SESSION: str(answer.turn.session_id), TURN: str(answer.turn.id)}


def _not_found() -> Problem:
    return Problem(404, "completion_not_found", "there is no such stored completion", field="completion_id")


def _is_whole(answer: ClientAnswer) -> bool:
    return answer.turn.status == "completed" and answer.turn.message is not None and not answer.is_erased


def _stored(answer: ClientAnswer) -> dict[str, Any]:
    told = _NOTHING_TOLD if answer.told is None else msgspec.json.decode(answer.told)
    return completion(answer.turn) | told


# --- lists ------------------------------------------------------------------------------------------------------------


async def _answers(
    chat: Engine, caller: Caller, after: UUID | None, wanted: Wanted, limit: int, *, descending: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """The stored completions that are whole and wanted, read page by page."""
    start: UUID | str | None = after
    while True:
        page = await chat.client_answers(PROTOCOL, after=start, limit=limit, descending=descending, caller=caller)
        for answer in page.items:
            if _is_whole(answer) and wanted(told := _stored(answer)):
                yield told
        if page.next is None:
            return
        start = page.next


async def _messages(
    chat: Engine, caller: Caller, answer: ClientAnswer, start: Place | None, limit: int, *, descending: bool
) -> AsyncGenerator[dict[str, Any], None]:
    """The messages that a completion was asked with, from a place on, read page by page."""
    turn, after = answer.turn.id, None if start is None else _before(start[0], descending=descending)
    while True:
        page = await chat.asked_messages(turn, PROTOCOL, after=after, limit=limit, descending=descending, caller=caller)
        told = [each for message in page.items for each in messages_told(completion_id(turn.hex), message)]
        told.sort(key=itemgetter(0), reverse=descending)
        for place, message in told:
            if start is None or (place < start if descending else place > start):
                yield message
        if page.next is None:
            return
        after = int(page.next)


def _wanted(request: Http, model: str | None) -> Wanted:
    """Which completions a list is asked for. Raises Problem."""
    metadata: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name.partition("[")[0] == "metadata":
            match = _METADATA.fullmatch(name)
            if match is None or match["key"] in metadata:
                raise invalid(name, "is given twice" if match else "must be metadata[KEY]")
            metadata[match["key"]] = value

    def wanted(told: dict[str, Any]) -> bool:
        is_model = model is None or model in {told["model"], told["model"].partition("/")[2]}
        return is_model and metadata.items() <= told["metadata"].items()

    return wanted


def _before(place: int, *, descending: bool) -> int | None:
    """The place after which a page begins that may hold a part of the message at a place."""
    if descending:
        return place + 1
    return place - 1 if place else None


ROUTES = [list_chat_completions, get_chat_completion, list_chat_completion_messages, delete_chat_completion]
