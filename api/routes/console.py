"""For the console in a browser: who one is, trading a key for a cookie, and tickets.

The console itself is files (``api/http/files.py``), and a client of the public API like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta

from ...engine import rfc3339
from ..http.auth import Identity
from ..http.body import Http
from ..http.errors import Problem
from ..http.passes import PASS_S, Failures, Passes, cookie_name
from ..schemas.bodies import Body

SECOND_US = 1_000_000


class Me(msgspec.Struct, frozen=True):
    actor: str
    tenant: str
    scopes: Sequence[str]


class KeyIn(Body, frozen=True):
    """``key``: an API key."""

    key: Annotated[str, Meta(min_length=1, max_length=512)]


class TokenOut(msgspec.Struct, frozen=True):
    """``token`` goes as ``x-manent-console`` with each request, beside the cookie."""

    token: str


class PathIn(Body, frozen=True):
    """``path``: what the ticket is for, without a query."""

    path: Annotated[str, Meta(pattern=r"^/api/[^?#\x00-\x20]{1,2000}$")]


class TicketOut(msgspec.Struct, frozen=True):
    ticket: str
    expires_at: str


@get("/api/me")
async def who_am_i(request: Http) -> Me:
    """Read who one is: the actor that stands in events, the tenant, and the scopes of the key."""
    identity = _identity(request)
    return Me(identity.actor, identity.tenant, sorted(identity.scopes))


@post("/api/console/session", status_code=200)
async def open_console(
    request: Http, data: JSONBody[KeyIn], passes: NamedDependency[Passes], failures: NamedDependency[Failures]
) -> Response[TokenOut]:
    """Trade an API key for a cookie and a token, which count only together, for twelve hours at most."""
    address = request.client.host if request.client else ""
    failures.check(address)
    try:
        issued = passes.open(data.key)
    except Problem as problem:
        if problem.status == 401:
            failures.add(address)
        raise
    return Response(TokenOut(issued.token), headers={"set-cookie": _cookie(request, issued.cookie, PASS_S)})


@delete("/api/console/session", status_code=204)
async def close_console(request: Http, passes: NamedDependency[Passes]) -> Response[None]:
    """Give the cookie back: it and its token are void from now on."""
    passes.end(request.headers)
    return Response(None, headers={"set-cookie": _cookie(request, "", 0)})


@post("/api/tickets", status_code=201)
async def issue_ticket(request: Http, data: JSONBody[PathIn], passes: NamedDependency[Passes]) -> TicketOut:
    """Get a ticket for a path: `?ticket=` opens it, with GET, for a minute. For what a browser opens by itself."""
    issued = passes.ticket(_identity(request), data.path)
    return TicketOut(issued.ticket, rfc3339(issued.expires_at_s * SECOND_US))


def _identity(request: Http) -> Identity:
    identity: Identity = request.scope["state"]["identity"]
    return identity


def _cookie(request: Http, value: str, seconds: int) -> str:
    """A page that came over TLS gets a cookie that stays there. Before a proxy only the page's origin tells."""
    origin: str = request.headers.get("origin", "")
    secure = "; Secure" if request.scope["scheme"] == "https" or origin.startswith("https://") else ""
    name = cookie_name(request.headers)
    return f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"


ROUTES = [who_am_i, open_console, close_console, issue_ticket]
