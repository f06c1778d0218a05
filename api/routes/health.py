"""Whether the server lives, and whether it can take work."""

from __future__ import annotations

from litestar import Response, get

from engine import Conversation


@get("/healthz", media_type="application/json")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@get("/readyz", media_type="application/json")
async def readyz(conversation: Conversation) -> Response[dict[str, str]]:
    """The engine can write, and takes turns; 503 otherwise, also while it shuts down."""
    ready = await conversation.ready()
    return Response({"status": "ready" if ready else "not ready"}, status_code=200 if ready else 503)


ROUTES = [healthz, readyz]
