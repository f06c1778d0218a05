"""Whether the server lives, and whether it can take work."""

from __future__ import annotations

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from ..schemas.parameters import Chat


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


ROUTES = [healthz, readyz]
