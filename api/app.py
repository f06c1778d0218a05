"""The HTTP application on an open engine: routes, the error table, and the gate in front."""

from __future__ import annotations

from functools import cache
from typing import Any

from litestar import Litestar, Request, Router
from litestar.di import Provide
from litestar.params import QueryParameter

from ..engine import Conversation
from . import openapi
from .compat import plumego
from .http import errors
from .http.body import Http
from .http.cors import Cors
from .http.errors import Problem, invalid
from .http.key_ring import KeyRing
from .http.middleware import Gate
from .observability.reporter import Reporter
from .routes import discovery, erasure, events, evidence, export, health, sessions, turns

NATIVE_ROUTES = [
    *health.ROUTES,
    *sessions.ROUTES,
    *turns.ROUTES,
    *events.ROUTES,
    *discovery.ROUTES,
    *evidence.ROUTES,
    *erasure.ROUTES,
    *export.ROUTES,
]


def create_app(conversation: Conversation, keys: KeyRing, cors: Cors, reporter: Reporter) -> Gate:
    """The ASGI application. Draining and closing the engine is its owner's to do."""
    settings = conversation.settings
    app = Litestar(
        [Router("/", route_handlers=NATIVE_ROUTES, before_request=check_parameters), *plumego.ROUTES],
        dependencies={
            "conversation": Provide(lambda: conversation, sync_to_thread=False),
            "reporter": Provide(lambda: reporter, sync_to_thread=False),
        },
        exception_handlers={Exception: errors.handle},
        logging_config=None,
        openapi_config=openapi.config(),
        plugins=[openapi.RawSchema()],
        request_class=Http,
        request_max_body_size=settings.max_body_bytes,
    )
    limits = {"max_header_bytes": settings.max_header_bytes, "max_bodies_bytes": settings.max_bodies_bytes}
    return Gate(app, keys, cors, reporter, **limits)


NO_VALUES = frozenset({"", "null"})
"""Litestar would read these as if the parameter were not there, and begin a list anew."""


async def check_parameters(request: Request[Any, Any, Any]) -> None:
    """A misspelt parameter is not a default: native routes refuse those they do not know, and any that comes twice."""
    known = _parameters(request.route_handler)
    for name in request.query_params:
        if name not in known:
            raise Problem(400, "unknown_parameter", f"{name}: there is no such parameter", field=name)
        values = request.query_params.getall(name)
        if len(values) > 1:
            raise invalid(name, "is given twice")
        if values[0].lower() in NO_VALUES:
            raise invalid(name, "has no value")


@cache
def _parameters(handler: Any) -> frozenset[str]:
    """The names of a handler's query parameters."""
    fields = handler.parsed_fn_signature.parameters.items()
    found = ((name, field.kwarg_definition) for name, field in fields)
    return frozenset(each.name or name for name, each in found if isinstance(each, QueryParameter))
