"""OpenAI's Conversations as drop-in routes. A conversation and its session are one: any session of the tenant can be
read and gone on from here by its id.

A deleted conversation is served no longer. Its items are, and stay on record.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath

from ...engine import Caller, Engine, EngineError, MessageIn, Session, SessionNotFound, TextBlock, TurnAlreadyOpen
from ..http.body import Http
from ..http.errors import Problem, problem_of
from ..observability.log_lines import event
from ..schemas.parameters import Chat, IdempotencyKey, caller_of, request_key
from . import common
from .conversation_forms import (
    CREATED,
    UPDATED,
    ConversationDeleted,
    ConversationIn,
    ConversationTold,
    MetadataIn,
    conversation_told,
)
from .fields import renamed
from .named import check_metadata, conversation_locked, needing_results, no_conversation, of_client
from .response_ids import read_id
from .response_input import Given, copied_at, read_items, theirs_of
from .response_references import read_references

log = logging.getLogger("manent.server")

T = TypeVar("T")

FIELD = "conversation_id"

NOTHING_GIVEN = Given((), ())


@post("/v1/conversations", status_code=200)
async def create_conversation(
    request: Http, chat: Chat, idempotency_key: IdempotencyKey = None
) -> Response[ConversationTold]:
    """Begin a conversation, with items if any are given, and metadata. It is a session like any other."""
    caller = caller_of(request)
    body = await common.read(request, ConversationIn, CREATED)
    check_metadata(body.metadata)
    given = await read_given(request, chat, caller, body.items) if body.items else NOTHING_GIVEN
    kept = await request_key(request, idempotency_key)
    session = await refused(
        chat.create_conversation(given.messages, metadata=dict(body.metadata or {}), request=kept, caller=caller),
        given=given,
    )
    return told(session)


@get("/v1/conversations/{conversation_id:str}")
async def get_conversation(request: Http, chat: Chat, conversation_id: FromPath[str]) -> Response[ConversationTold]:
    """Show a conversation."""
    return told(await read_conversation(chat, caller_of(request), conversation_id))


@post("/v1/conversations/{conversation_id:str}", status_code=200)
async def update_conversation(
    request: Http, chat: Chat, conversation_id: FromPath[str], idempotency_key: IdempotencyKey = None
) -> Response[ConversationTold]:
    """Set the metadata of a conversation, in place of what it has."""
    caller, session = caller_of(request), session_of(conversation_id)
    body = await common.read(request, MetadataIn, UPDATED)
    check_metadata(body.metadata)
    kept = await request_key(request, idempotency_key)
    ours = of_client((await read_conversation(chat, caller, conversation_id)).metadata, ours=True)
    metadata = dict(body.metadata or {}) | ours
    changed = chat.describe_conversation(session, metadata, request=kept, caller=caller)
    return told(await refused(changed, conversation_id))


@delete("/v1/conversations/{conversation_id:str}", status_code=200)
async def delete_conversation(request: Http, chat: Chat, conversation_id: FromPath[str]) -> ConversationDeleted:
    """Delete a conversation, which needs a key with the scope `erase`: it is served no longer.

    Its items are, and stay on record: they are erased one by one, or natively. A response that runs goes on to its end.
    """
    caller, session = caller_of(request, "erase"), session_of(conversation_id)
    await refused(chat.delete_conversation(session, caller=caller), conversation_id)
    principal = {"tenant": caller.tenant, "principal": caller.actor, "request_id": caller.correlation}
    event(log, logging.INFO, "conversation deleted", session_id=str(session), **principal)
    return ConversationDeleted(conversation_id)


# --- what the routes of items need, too -------------------------------------------------------------------------------


async def read_given(request: Http, chat: Engine, caller: Caller, items: Sequence[msgspec.Raw]) -> Given:
    """The messages of the items of a body. Raises Problem."""
    most = chat.settings.max_conversation_items
    if len(items) > most:
        detail = f"items: {len(items)}, and max_conversation_items allows {most} at once"
        raise Problem(400, "array_above_max_length", detail, field="items", limit="max_conversation_items")
    references = await read_references(chat, caller, items, "items")
    return await common.built(request, lambda raws: apart(read_items(raws, "items", references)), items)


def apart(given: Given) -> Given:
    """The same items in as many messages as can be: what an erasure takes is a message. Results are one each, and so
    are texts; a call, and a thought, stay with the answer that they are of.
    """
    messages: list[MessageIn] = []
    paths: list[tuple[str, tuple[str, ...]]] = []
    for message, (path, places) in zip(given.messages, given.paths, strict=True):
        assert not isinstance(message.content, str), "items are read as blocks"
        blocks = message.content
        starts = [0, *[number for number in range(1, len(blocks)) if _begins(message.role, blocks, places, number)]]
        for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True):
            copied_from = copied_at(given.copied, places[start:end])
            changes = {"content": blocks[start:end], "copied_from": copied_from}
            messages.append(msgspec.structs.replace(message, **changes))
            paths.append((_item(places[start]) if start else path, places[start:end]))
    return Given(tuple(messages), tuple(paths), given.copied)


def _begins(role: str, blocks: Sequence[object], places: Sequence[str], number: int) -> bool:
    """True if a block begins a message of its own."""
    if _item(places[number]) == _item(places[number - 1]):
        return False
    return role == "tool" or (isinstance(blocks[number], TextBlock) and isinstance(blocks[number - 1], TextBlock))


def _item(place: str) -> str:
    """The path of the item in which something stands."""
    return place[: place.index("]") + 1]


async def read_conversation(chat: Engine, caller: Caller, name: str) -> Session:
    """A conversation that is not deleted. Raises Problem."""
    return await refused(chat.client_session(session_of(name), caller=caller), name)


def session_of(name: str) -> UUID:
    """The session that is a conversation. Raises Problem."""
    session = read_id("conv", name)
    if session is None:
        raise no_conversation(name, FIELD)
    return session


async def refused(work: Awaitable[T], name: str = "", given: Given = NOTHING_GIVEN) -> T:
    """The result of a work on the conversation of this name. Raises Problem, with the client's names of fields."""
    try:
        return await work
    except SessionNotFound:
        raise no_conversation(name, FIELD) from None
    except TurnAlreadyOpen:
        raise conversation_locked(FIELD) from None
    except EngineError as error:
        raise needing_results(renamed(problem_of(error), _names(given)), "items") from None


def told(session: Session) -> Response[ConversationTold]:
    """A conversation, and where it is on record."""
    return Response(conversation_told(session), headers={common.SESSION: str(session.id)})


def _names(given: Given) -> Callable[[str], str]:
    theirs = theirs_of(given, {"messages": "items"})
    return lambda field: "items" if field == "content" or field.startswith("content[") else theirs(field)


ROUTES = [create_conversation, get_conversation, update_conversation, delete_conversation]
