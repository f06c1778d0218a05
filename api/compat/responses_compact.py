"""Compaction in OpenAI's Responses: a turn that summarises a conversation, and an item that stands for it afterwards.

The turn runs in a session of its own. What a client is given is a signed reference to the summary on record, so it
leads nowhere for another tenant, or once the summary is erased.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, post

from ...engine import ClientRequest, MessageIn
from ..http.body import Http
from ..http.errors import invalid, problem_of_code
from ..schemas.parameters import Chat
from . import common
from .fields import HONOURED, KEPT, REFUSED, Field, Table
from .response_forms import CountIn
from .response_ids import item_id, response_id
from .response_request import Asked
from .response_told import usage_told
from .responses import read_asked

FIELDS: Table = {
    "image": REFUSED,
    "input": HONOURED,
    "instructions": HONOURED,
    "model": HONOURED,
    "previous_response_id": HONOURED,
    "prompt_cache_key": KEPT,
    "prompt_cache_options": KEPT,
    "prompt_cache_retention": KEPT,
    "service_tier": Field("refused", ("auto", "default")),
}

SUMMARISE = (
    "Summarise the conversation so far, so that it can be continued from the summary alone. Keep what was asked and "
    "why, what was decided, names, figures, code and results that are still needed, and what is left to do. Write the "
    "summary and nothing else."
)


@post("/v1/responses/compact", status_code=200)
async def compact_response(request: Http, chat: Chat) -> Response[dict[str, Any]]:
    """Summarise a conversation. The answer holds one item that stands for it in the input of later requests.

    The summary is a turn on record; once its words are erased, the item is refused.
    """
    body = await common.read(request, CountIn, FIELDS)
    if body.input is None and body.previous_response_id is None:
        raise invalid("input", "is required", "missing_field")
    if not body.input:
        body = msgspec.structs.replace(body, input=SUMMARISE)
        asked = await read_asked(request, chat, body)
        news = asked.request.messages
    else:
        asked = await read_asked(request, chat, body)
        news = (*asked.request.messages, MessageIn(SUMMARISE))
    running = await common.start(request, chat, _summary(asked, news), asked.names)
    turn = await common.ended(request, chat, running)
    if turn.message is None or not turn.text.strip():
        raise problem_of_code("provider_malformed", "the model has given no summary")
    content = chat.sign_message(turn.message.id, caller=running.caller)
    item = {"id": item_id("cmp", turn.message.id), "type": "compaction", "encrypted_content": content}
    told = {
        "id": response_id(turn.id),
        "object": "response.compaction",
        "created_at": common.seconds_of(turn.started_at),
        "output": [item],
        "usage": usage_told(turn.usage),
    }
    return Response(told, headers=running.headers)


def _summary(asked: Asked, news: tuple[MessageIn, ...]) -> ClientRequest:
    """The turn that summarises: apart from the conversation, and deleted as any other answer."""
    return msgspec.structs.replace(
        asked.request, messages=news, apart=True, stored=True, summary=True, told=asked.told.encoded(), metadata=None
    )


ROUTES = [compact_response]
