"""The HTTP application on an open engine: routes, the error table, and the gate in front."""

from __future__ import annotations

from litestar import Litestar, Router
from litestar.di import Provide

from ..engine import Engine
from . import openapi
from .compat import (
    ai_sdk,
    chat_completions,
    conversation_items,
    conversations,
    managed_messages,
    managed_sessions,
    messages,
    plumego,
    responses,
    responses_compact,
    responses_stored,
    vendor_models,
)
from .http import errors
from .http.body import Http
from .http.cors import Cors
from .http.files import ConsoleFiles
from .http.key_ring import KeyRing
from .http.middleware import Gate
from .http.passes import Failures, Passes
from .http.room import Room
from .http.strict import check_forms, check_parameters
from .http.tickets import Tickets
from .observability.reporter import Reporter
from .routes import (
    branches,
    console,
    discovery,
    erasure,
    events,
    evidence,
    export,
    health,
    replays,
    sessions,
    suites,
    tickets,
    transcripts,
    turns,
)

NATIVE_ROUTES = [
    *health.ROUTES,
    *sessions.ROUTES,
    *branches.ROUTES,
    *turns.ROUTES,
    *events.ROUTES,
    *discovery.ROUTES,
    *tickets.ROUTES,
    *evidence.ROUTES,
    *erasure.ROUTES,
    *export.ROUTES,
    *console.ROUTES,
    *transcripts.ROUTES,
    *replays.ROUTES,
    *suites.ROUTES,
]

VENDOR_ROUTES = [
    *vendor_models.ROUTES,
    *chat_completions.ROUTES,
    *messages.ROUTES,
    *managed_sessions.ROUTES,
    *managed_messages.ROUTES,
    *conversations.ROUTES,
    *conversation_items.ROUTES,
    *responses.ROUTES,
    *responses_compact.ROUTES,
    *responses_stored.ROUTES,
    *ai_sdk.ROUTES,
]
"""The drop-in routes: each speaks a vendor's protocol."""


def create_app(chat: Engine, keys: KeyRing, cors: Cors, reporter: Reporter) -> Gate:
    """The ASGI application. Draining and closing the engine is its owner's to do."""
    settings = chat.settings
    tickets_of_keys = Tickets(keys)
    passes, failures = Passes(keys), Failures()
    exports = Room(settings.max_exports, "max_exports")
    app = Litestar(
        [
            Router("/", route_handlers=NATIVE_ROUTES, before_request=check_parameters),
            Router("/", route_handlers=plumego.ROUTES, before_request=check_forms),
            Router(
                "/",
                route_handlers=VENDOR_ROUTES,
                before_request=check_parameters,
                request_max_body_size=settings.drop_in_max_body_bytes,
            ),
        ],
        dependencies={
            "chat": Provide(lambda: chat, sync_to_thread=False),
            "exports": Provide(lambda: exports, sync_to_thread=False),
            "failures": Provide(lambda: failures, sync_to_thread=False),
            "passes": Provide(lambda: passes, sync_to_thread=False),
            "tickets": Provide(lambda: tickets_of_keys, sync_to_thread=False),
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
    return Gate(ConsoleFiles(app), keys, tickets_of_keys, passes, cors, reporter, **limits)
