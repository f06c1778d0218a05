"""The HTTP application on an open engine: routes, the error table, and the gate in front."""

from __future__ import annotations

import inspect
from typing import Any

from litestar import Litestar, Request, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from api import docs, errors
from api.auth import Keys
from api.gate import Gate
from api.routes import events, guide, health, sessions, turns
from engine import Conversation

NATIVE_ROUTES = [*health.ROUTES, *sessions.ROUTES, *turns.ROUTES, *events.ROUTES]


def create_app(conversation: Conversation, keys: Keys) -> Gate:
    """The ASGI application. Draining and closing the engine is its owner's to do."""
    settings = conversation.settings
    origins = tuple(origin.strip() for origin in settings.cors_origins.split(",") if origin.strip())
    app = Litestar(
        [
            Router("/", route_handlers=NATIVE_ROUTES, before_request=refuse_unknown_parameters),
            Router("/", route_handlers=guide.ROUTES, exception_handlers={Exception: guide.handle}),
        ],
        dependencies={"conversation": Provide(lambda: conversation, sync_to_thread=False)},
        exception_handlers={Exception: errors.handle},
        openapi_config=docs.config(),
        cors_config=CORSConfig(allow_origins=list(origins)) if origins else None,
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
    )
    return Gate(app, keys, origins, settings.max_header_bytes)


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A misspelt parameter is not a default: native routes refuse those they do not know, with their name."""
    known = inspect.signature(request.route_handler.fn).parameters  # type: ignore[attr-defined]
    for name in request.query_params:
        if name not in known:
            raise errors.Problem(400, "unknown_parameter", f"{name}: there is no such parameter", field=name)
