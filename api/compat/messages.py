"""Anthropic's Messages as drop-in routes: its clients work unmodified, and what is said is on record.

Any ``anthropic-version`` and any ``anthropic-beta`` is taken, and ``?beta=true``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from litestar import Response, post
from litestar.params import FromQuery

from ...engine import Engine, EngineError, Frame
from ..http import sse
from ..http.body import Http
from ..http.dialects import ANTHROPIC
from ..http.errors import problem_of
from ..schemas.parameters import Chat, caller_of
from . import common
from .fields import renamed
from .messages_answers import message_told
from .messages_events import PING, Events
from .messages_forms import COUNTED, FIELDS, CountIn, MessagesIn
from .messages_request import client_request
from .vendor_frames import with_forms

Beta = Literal["true", "false"]

ESTIMATE = {"x-manent-estimate": "true"}
"""In the answer to a request for a count: it is an estimate, rather too high than too low."""


@post("/v1/messages", status_code=200)
async def create_message(
    request: Http,
    chat: Chat,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001 - betas add fields, and those are looked at
) -> Response[dict[str, Any]] | sse.EventStream[Frame]:
    """Answer a conversation as Anthropic's Messages do, whole or, with `"stream": true`, in events.

    The history is recognised where it is on record, and goes on there; an edited one is a fork. `x-manent-session` and
    `x-manent-turn` say where the answer is; in a request, `X-Manent-Session` names the session to go on in.
    """
    body = await common.read(request, MessagesIn, FIELDS)
    can = _can(chat, body.model)
    asked, names = await common.built(request, partial(client_request, can=can), body)
    running = await common.start(request, chat, asked, names)
    stops = body.stop_sequences or ()
    if not body.stream:
        turn = await common.ended(request, chat, running)
        return Response(message_told(turn, body.model, stops), headers=running.headers)
    tokens = await chat.input_estimate(running.turn, caller=running.caller)
    events = Events(body.model, stops, tokens, partial(common.error_body, request, ANTHROPIC))
    forms = partial(chat.vendor_forms, running.turn, caller=running.caller)
    return await common.streamed(
        request, chat, running, events.encode, events.failed, silence=PING, through=partial(with_forms, forms=forms)
    )


@post("/v1/messages/count_tokens", status_code=200)
async def count_message_tokens(
    request: Http,
    chat: Chat,
    beta: FromQuery[Beta | None] = None,  # noqa: ARG001 - betas add fields, and those are looked at
) -> Response[dict[str, int]]:
    """Count the input tokens of a request, with its system prompt and its tools.

    As the vendor does where it counts, else by an estimate that is rather too high than too low, and then the answer
    has `x-manent-estimate: true`. Nothing is recorded.
    """
    caller = caller_of(request)
    body = await common.read(request, CountIn, COUNTED)
    can = _can(chat, body.model)
    asked, names = await common.built(request, partial(client_request, can=can), body)
    try:
        count = await chat.count_client_tokens(asked, caller=caller)
    except EngineError as error:
        raise renamed(problem_of(error), names) from None
    return Response({"input_tokens": count.tokens}, headers={} if count.exact else ESTIMATE)


def _can(chat: Engine, model: str) -> Callable[[str], bool]:
    """If a model has a capability, as far as is known. Raises UnknownModel."""
    capabilities = chat.model(model).capabilities
    return lambda capability: capabilities is None or capability in capabilities


ROUTES = [create_message, count_message_tokens]
