"""Routes for health, readiness and metrics."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from ..http.body import Http
from ..observability.meters import CONTENT_TYPE
from ..observability.reporter import Reporter
from ..schemas.parameters import Chat, caller_of


@get("/healthz", media_type="application/json")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


class Readiness(msgspec.Struct):
    """``damaged``: rows that this process has read whose words are not those that were recorded. Answers that would
    hold them fail, all others do not.
    """

    status: Literal["ready", "not ready"]
    damaged: int


NOT_READY = ResponseSpec(Readiness, description="Not now", generate_examples=False)


@get("/readyz", media_type="application/json", responses={503: NOT_READY})
async def readyz(chat: Chat) -> Response[Readiness]:
    """The engine can write, and takes turns; 503 otherwise, also while it shuts down."""
    ready = await chat.serving.ready()
    state = Readiness("ready" if ready else "not ready", chat.serving.damaged)
    return Response(state, status_code=200 if ready else 503)


@get("/metrics", media_type="text/plain")
async def metrics(request: Http, chat: Chat, reporter: NamedDependency[Reporter]) -> Response[str]:
    """Read the server's figures, of all tenants, in Prometheus's text format. A key needs the scope `operate`."""
    caller_of(request, "operate")
    return Response(await reporter.metrics(chat), media_type=CONTENT_TYPE)


ROUTES = [healthz, readyz, metrics]
