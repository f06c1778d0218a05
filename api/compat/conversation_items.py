"""Items of OpenAI's Conversations: listed, added, shown, and deleted.

An item is a part of a recorded message, or all of it. What an erasure takes is a message, so an item is deleted with
its message, and with the thoughts that led to it; where other items stand in the same message, it is refused.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath

from ...engine import Caller, Engine, Message
from ..http.body import Http
from ..http.errors import Problem, invalid
from ..observability.log_lines import event
from ..schemas.parameters import Chat, IdempotencyKey, caller_of, request_key
from . import common
from .conversation_forms import ADDED, ConversationTold, ItemsIn
from .conversations import read_conversation, read_given, refused, session_of, told
from .named import DEFAULT_ITEMS, Limit, Listed, Order, listed, read_page
from .response_forms import ENCRYPTED
from .response_ids import read_item_id
from .response_input import no_item
from .response_items import items_of
from .response_request import check_include
from .responses_stored import After, BracketInclude, Include

log = logging.getLogger("manent.server")

DELETED = "deleted by the client"


class _Found(NamedTuple):
    """An item in its message."""

    item: dict[str, Any]
    message: Message


class _Start(NamedTuple):
    """Where a page begins: after an item, and in its message; None: at the list's beginning."""

    message: Message | None
    item: str | None


@get("/v1/conversations/{conversation_id:str}/items")
async def list_conversation_items(
    request: Http,
    chat: Chat,
    conversation_id: FromPath[str],
    limit: Limit = DEFAULT_ITEMS,
    order: Order = "desc",
    after: After = None,
    include: Include = None,
    bracket_include: BracketInclude = None,
) -> Response[Listed]:
    """List the items of a conversation, the newest first. Also of one that was deleted."""
    caller, session = caller_of(request), session_of(conversation_id)
    encrypted = _encrypted(include, bracket_include)
    await refused(chat.session(session, caller=caller), conversation_id)
    start = None if after is None else await _message(chat, caller, session, after)
    if after is not None and start is None:
        raise _no_start()
    items = _items(chat, caller, session, _Start(start, after), limit, descending=order == "desc", encrypted=encrypted)
    page = await read_page(request, items, limit, chat.settings.max_page_bytes)
    return Response(page, headers={common.SESSION: str(session)})


@post("/v1/conversations/{conversation_id:str}/items", status_code=200)
async def add_conversation_items(
    request: Http,
    chat: Chat,
    conversation_id: FromPath[str],
    include: Include = None,
    bracket_include: BracketInclude = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Listed]:
    """Add items to a conversation, all of them or none, and show them as they are on record."""
    caller, session = caller_of(request), session_of(conversation_id)
    encrypted = _encrypted(include, bracket_include)
    body = await common.read(request, ItemsIn, ADDED)
    if not body.items:
        raise invalid("items", "must hold at least one item")
    given = await read_given(request, chat, caller, body.items)
    kept = await request_key(request, idempotency_key)
    added = await refused(
        chat.add_to_conversation(session, given.messages, request=kept, caller=caller), conversation_id, given
    )
    items = [placed.item for message in added for placed in items_of(message, encrypted=encrypted)]
    return Response(listed(items, has_more=False), headers={common.SESSION: str(session)})


@get("/v1/conversations/{conversation_id:str}/items/{item_id:str}")
async def get_conversation_item(
    request: Http,
    chat: Chat,
    conversation_id: FromPath[str],
    item_id: FromPath[str],
    include: Include = None,
    bracket_include: BracketInclude = None,
) -> Response[dict[str, Any]]:
    """Show an item of a conversation. Also of one that was deleted."""
    caller, encrypted = caller_of(request), _encrypted(include, bracket_include)
    found = await _found(chat, caller, conversation_id, item_id, encrypted=encrypted)
    return Response(found.item, headers={common.SESSION: str(session_of(conversation_id))})


@delete("/v1/conversations/{conversation_id:str}/items/{item_id:str}", status_code=200)
async def delete_conversation_item(
    request: Http, chat: Chat, conversation_id: FromPath[str], item_id: FromPath[str]
) -> Response[ConversationTold]:
    """Delete an item, which needs a key with the scope `erase`: the words of its message are erased, in all branches.

    The thoughts that led to it go with it. Where other items stand in the same message, nothing is done.
    """
    caller = caller_of(request, "erase")
    conversation = await read_conversation(chat, caller, conversation_id)
    found = await _found(chat, caller, conversation_id, item_id, encrypted=False)
    _check_alone(found)
    version = found.message.version
    await refused(chat.erase(conversation.id, DELETED, versions=[version], caller=caller), conversation_id)
    principal = {"tenant": caller.tenant, "principal": caller.actor, "request_id": caller.correlation}
    event(log, logging.INFO, "item deleted", session_id=str(conversation.id), version=version, **principal)
    return told(await read_conversation(chat, caller, conversation_id))


# --- items ------------------------------------------------------------------------------------------------------------


async def _items(
    chat: Engine,
    caller: Caller,
    session: UUID,
    start: _Start,
    limit: int,
    *,
    descending: bool,
    encrypted: bool,
) -> AsyncGenerator[dict[str, Any], None]:
    """The items of a conversation from a place on, read page by page."""
    place: int | str | None = None
    if start.message is not None:
        place = start.message.version + (1 if descending else -1)
    while True:
        page = await chat.messages(session, after=place, limit=limit + 1, descending=descending, caller=caller)
        for message in page.items:
            for item in _following(message, start, descending=descending, encrypted=encrypted):
                yield item
        if page.next is None:
            return
        place = page.next


def _following(message: Message, start: _Start, *, descending: bool, encrypted: bool) -> list[dict[str, Any]]:
    """The items of a message, in their order or back; of that in which a page begins, those that follow. Raises Problem
    where it begins after none of them.
    """
    if message.erased is not None:
        return []
    items = [placed.item for placed in items_of(message, encrypted=encrypted)]
    if descending:
        items.reverse()
    if start.message is None or message.id != start.message.id:
        return items
    ids = [item["id"] for item in items]
    if start.item not in ids:
        raise _no_start()
    return items[ids.index(start.item) + 1 :]


async def _found(chat: Engine, caller: Caller, conversation_id: str, name: str, *, encrypted: bool) -> _Found:
    """An item of a conversation. Raises Problem."""
    session = session_of(conversation_id)
    await refused(chat.session(session, caller=caller), conversation_id)
    message = await _message(chat, caller, session, name)
    if message is not None and message.erased is None:
        for placed in items_of(message, encrypted=encrypted):
            if placed.item["id"] == name:
                return _Found(placed.item, message)
    raise no_item("item_id")


async def _message(chat: Engine, caller: Caller, session: UUID, name: str) -> Message | None:
    """The message of a conversation that an item with this name is of, also if it is erased; None: there is none."""
    parsed = read_item_id(name)
    if parsed is None:
        return None
    recorded = (await chat.client_messages({parsed.message}, caller=caller)).get(parsed.message)
    if recorded is None:
        return None
    page = await chat.messages(session, after=recorded.version - 1, limit=1, caller=caller)
    return next((message for message in page.items if message.id == recorded.id), None)


def _check_alone(found: _Found) -> None:
    """Raises Problem for an item that cannot go without others that stand in the same message."""
    is_thought = found.item["type"] == "reasoning"
    others = [placed.item for placed in items_of(found.message) if placed.item["id"] != found.item["id"]]
    ids = [str(item["id"]) for item in others if is_thought or item["type"] != "reasoning"]
    if ids:
        detail = f"item_id: it is one message with {', '.join(ids)}, and only whole messages can be erased"
        raise Problem(400, "item_not_alone", detail, field="item_id")


def _encrypted(*lists: list[str] | None) -> bool:
    """True if the vendors' forms of thoughts are to be told. Raises Problem for what cannot be told besides."""
    names = [name for each in lists for name in each or ()]
    check_include(names)
    return ENCRYPTED in names


def _no_start() -> Problem:
    return invalid("after", "is no item of this conversation")


ROUTES = [list_conversation_items, add_conversation_items, get_conversation_item, delete_conversation_item]
