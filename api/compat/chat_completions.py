"""OpenAI's Chat Completions as a drop-in route: its clients work unmodified, and what is said is on record."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import Response, post
from msgspec.structs import replace

from ...engine import Frame
from ..http import sse
from ..http.body import Http
from ..http.dialects import OPENAI
from ..schemas.parameters import Chat, request_id_of
from . import chat_stored, common
from .chat_answers import Chunks, completion
from .chat_forms import FIELDS, ChatIn
from .chat_request import client_request
from .chat_stored import told_of
from .named import check_metadata


@post("/v1/chat/completions", status_code=200)
async def create_chat_completion(request: Http, chat: Chat) -> Response[dict[str, Any]] | sse.EventStream[Frame]:
    """Answer a conversation as OpenAI's Chat Completions do, whole or, with `"stream": true`, in chunks.

    The history is recognised where it is on record, and goes on there; an edited one is a fork. `x-manent-session` and
    `x-manent-turn` say where the answer is; in a request, `X-Manent-Session` names the session to go on in. With
    `"store": true` the answer is served by its id; without it, it is on record all the same.
    """
    body = await common.read(request, ChatIn, FIELDS)
    check_metadata(body.metadata)
    asked, names = await common.built(request, client_request, body)
    if body.store:
        asked = replace(asked, stored=True, told=told_of(body, request_id_of(request)))
    running = await common.start(request, chat, asked, names)
    if not body.stream:
        turn = await common.ended(request, chat, running)
        return Response(completion(turn), headers=running.headers)
    chunks = Chunks(partial(common.error_body, request, OPENAI), include_usage=body.include_usage)
    return await common.streamed(request, chat, running, chunks.encode, chunks.failed)


ROUTES = [create_chat_completion, *chat_stored.ROUTES]
