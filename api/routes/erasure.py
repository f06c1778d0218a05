"""Erasing the words of a session."""

from __future__ import annotations

import logging
from uuid import UUID

from litestar import Response, post
from litestar.params import FromPath, FromQuery, JSONBody

from ...engine import Erasure
from ..http.body import Http
from ..observability.log_lines import event
from ..schemas.bodies import EraseIn
from ..schemas.parameters import Chat, IdempotencyKey, IfMatch, caller_of, expected_version, request_key

log = logging.getLogger("manent.server")


@post("/api/sessions/{session_id:uuid}/erase", status_code=200)
async def erase_words(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    data: JSONBody[EraseIn],
    dry_run: FromQuery[bool] = False,  # noqa: FBT002 - a parameter of the address
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Response[Erasure]:
    """Erase the words of these versions, or of all that is the session's own. The envelopes stay, and prove as before.
    Branches that show the words are named, and lose them too; copies are named, and keep them. One branch under legal
    hold, or with an open turn, keeps all. With `dry_run` nothing is done but to say what would be. The words of a
    replay or a suite are erased in the same way, by its id.
    """
    caller = caller_of(request, "erase")
    erasure = await chat.erase(
        session_id,
        data.reason,
        versions=data.versions,
        expected=expected_version(if_match),
        dry_run=dry_run,
        request=await request_key(request, idempotency_key),
        caller=caller,
    )
    told = {"tenant": caller.tenant, "principal": caller.actor, "request_id": caller.correlation}
    if not dry_run:
        event(log, logging.INFO, "erasure", events=len(erasure.versions), purged=erasure.purged, **told)
    return Response(erasure, headers={"etag": f'"{erasure.version}"'})


ROUTES = [erase_words]
