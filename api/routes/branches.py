"""Branches of conversations: forking a session, and the family that its forks make."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.params import FromPath, JSONBody

from ...engine import Session
from ..http.body import Http
from ..schemas.bodies import ForkIn
from ..schemas.parameters import Chat, IdempotencyKey, IfMatch, caller_of, expected_version, request_key
from .sessions import created

ALL_DEFAULTS = ForkIn()


@post("/api/sessions/{session_id:uuid}/fork", status_code=201)
async def fork_session(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[ForkIn] = ALL_DEFAULTS,
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Session]:
    """Fork a session: the new one shares its history up to a version and goes on by itself. Nothing is copied."""
    session = await chat.fork(
        session_id,
        **msgspec.structs.asdict(data),
        expected=expected_version(if_match),
        request=await request_key(request, idempotency_key),
        caller=caller_of(request),
    )
    return created(session)


ROUTES = [fork_session]
