"""Routes for health, readiness and metrics."""

from __future__ import annotations

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


NOT_READY = ResponseSpec(dict[str, str], description="Not now", generate_examples=False)


@get("/readyz", media_type="application/json", responses={503: NOT_READY})
async def readyz(chat: Chat) -> Response[dict[str, str]]:
    """The engine can write, and takes turns; 503 otherwise, also while it shuts down."""
    ready = await chat.serving.ready()
    return Response({"status": "ready" if ready else "not ready"}, status_code=200 if ready else 503)


@get("/metrics", media_type="text/plain")
async def metrics(request: Http, chat: Chat, reporter: NamedDependency[Reporter]) -> Response[str]:
    """Read the server's figures, of all tenants, in Prometheus's text format. A key needs the scope `operate`."""
    caller_of(request, "operate")
    return Response(await reporter.metrics(chat), media_type=CONTENT_TYPE)


ROUTES = [healthz, readyz, metrics]
