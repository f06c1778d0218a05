"""For the console in a browser: trading a key for a cookie and a token, and giving them back.

The console itself is files (``api/http/files.py``), and a client of the public API like any other.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response, delete, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta

from ..http.body import Http
from ..http.errors import Problem
from ..http.passes import PASS_S, Failures, Passes, cookie_name
from ..schemas.bodies import Body

UNAUTHORIZED = 401


class KeyIn(Body, frozen=True):
    """``key``: an API key."""

    key: Annotated[str, Meta(min_length=1, max_length=512)]


class TokenOut(msgspec.Struct, frozen=True):
    """``token`` goes as ``x-manent-console`` with each request, beside the cookie."""

    token: str


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
        if problem.status == UNAUTHORIZED:
            failures.add(address)
        raise
    return Response(TokenOut(issued.token), headers={"set-cookie": _cookie(request, issued.cookie, PASS_S)})


@delete("/api/console/session", status_code=204)
async def close_console(request: Http, passes: NamedDependency[Passes]) -> Response[None]:
    """Give the cookie back: it and its token are void from now on."""
    passes.end(request.headers)
    return Response(None, headers={"set-cookie": _cookie(request, "", 0)})


def _cookie(request: Http, value: str, seconds: int) -> str:
    """A page that came over TLS gets a cookie that stays there. Before a proxy only the page's origin tells."""
    origin: str = request.headers.get("origin", "")
    secure = "; Secure" if request.scope["scheme"] == "https" or origin.startswith("https://") else ""
    name = cookie_name(request.headers)
    return f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"


ROUTES = [open_console, close_console]
