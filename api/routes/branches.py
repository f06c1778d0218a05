"""Branches of conversations: forking a session, and the family that its forks make."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody

from ...engine import Branches, Session
from ..http.body import Http
from ..http.pieces import InPieces, as_json
from ..schemas.bodies import ForkIn
from ..schemas.parameters import At, Chat, IdempotencyKey, IfMatch, caller_of, expected_version, request_key
from .sessions import created

ALL_DEFAULTS = ForkIn()
FAMILY = ResponseSpec(Branches, description="Request fulfilled, document follows", generate_examples=False)


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


@get("/api/sessions/{session_id:uuid}/branches", responses={200: FAMILY})
async def list_branches(request: Http, chat: Chat, session_id: FromPath[UUID], at: At = None) -> InPieces:
    """Show the family of a session as a tree, the oldest first: what shares a history with it, now or as it was at a
    time. A session that was never forked is a family of one.
    """
    return as_json(await chat.branches(session_id, at=at, caller=caller_of(request)), "nodes")


ROUTES = [fork_session, list_branches]
