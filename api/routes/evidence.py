"""Evidence about the log: checkpoints, proofs, verifier keys, and tiles for transparency tools (C2SP tlog-tiles).

The prefix of the tiled log is ``/api/log``. It serves hashes only; entries, which would be words, are not there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from ...engine import Consistency, Inclusion
from ..http.auth import Scope
from ..http.body import Http
from ..http.errors import Problem, invalid
from ..schemas.bodies import Body, NothingIn
from ..schemas.parameters import MAX_NUMBER, Chat, caller_of, identity_of

PLAIN = "text/plain"
FULL_TILE = 256
NOTHING = NothingIn()
READERS: tuple[Scope, ...] = ("chat", "audit")
"""Whose keys reach to the evidence: it has no words."""
NEVER_CHANGES = {"cache-control": "private, max-age=31536000, immutable"}

_TILE = re.compile(r"/(?P<level>0|[1-9]\d?)/(?P<number>(?:x\d{3}/){0,6}\d{3})(?:\.p/(?P<width>[1-9]\d{0,2}))?")

Format = Annotated[Literal["json", "c2sp"], QueryParameter(description="`c2sp`: as text in C2SP's form.")]
OldSize = Annotated[int | None, QueryParameter(name="from", ge=0, le=MAX_NUMBER, description="The size before.")]
NewSize = Annotated[
    int | None, QueryParameter(ge=0, le=MAX_NUMBER, description="The size after; by default the newest checkpoint's.")
]


class CosignedIn(Body, frozen=True):
    """``note``: one of our checkpoints with the witness's signature; ``key``: the witness's verifier key."""

    note: str
    key: str


@get("/api/sessions/{session_id:uuid}/events/{version:int}/proof")
async def prove_event(
    request: Http,
    chat: Chat,
    session_id: FromPath[UUID],
    version: FromPath[int],
    format: Format = "json",  # noqa: A002 - a parameter's name
) -> Inclusion | Response[str]:
    """Prove that an event is on record, against a checkpoint that covers it. `format=c2sp`: as a C2SP tlog-proof.

    `salt` and `body_base64` are what the leaf's commitment is over: null where the words are erased, and for a key
    without the scope `chat`.
    """
    caller = caller_of(request, *READERS)
    await chat.session(session_id, caller=caller)
    proof = await chat.evidence.inclusion(session_id, version, caller=caller)
    if "chat" not in identity_of(request).scopes:
        proof = msgspec.structs.replace(proof, salt=None, body_base64=None)
    return proof if format == "json" else Response(proof.text(), media_type=PLAIN)


@get("/api/log/checkpoint", media_type=PLAIN)
async def newest_checkpoint(request: Http, chat: Chat) -> Response[str]:
    """Read the newest signed checkpoint of the log: a C2SP tlog-checkpoint."""
    note = await chat.evidence.checkpoint(caller=caller_of(request, *READERS))
    return Response(note, media_type=PLAIN, headers={"cache-control": "no-cache"})


@post("/api/log/checkpoint", media_type=PLAIN, status_code=200)
async def make_checkpoint(
    request: Http,
    chat: Chat,
    data: JSONBody[NothingIn] = NOTHING,  # noqa: ARG001 - a field in it is refused
) -> Response[str]:
    """Sign a checkpoint of the log as it is now."""
    note = await chat.evidence.checkpoint(new=True, caller=caller_of(request, "operate"))
    return Response(note, media_type=PLAIN)


@post("/api/log/cosignatures", status_code=204)
async def add_cosignature(request: Http, chat: Chat, data: JSONBody[CosignedIn]) -> None:
    """Keep a witness's signature of one of our checkpoints; it is served below it from then on."""
    await chat.evidence.cosign(data.note, data.key, caller=caller_of(request, "operate"))


@get("/api/log/key", media_type=PLAIN)
async def verifier_keys(request: Http, chat: Chat) -> Response[str]:
    """Read the verifier keys of the log, a line each: the one in use first, then those in use before."""
    keys = await chat.evidence.keys(caller=caller_of(request, *READERS))
    return Response("".join(f"{key}\n" for key in keys), media_type=PLAIN)


@get("/api/log/consistency")
async def prove_consistency(
    request: Http,
    chat: Chat,
    from_: OldSize = None,
    to: NewSize = None,
    format: Format = "json",  # noqa: A002 - a parameter's name
) -> Consistency | Response[str]:
    """Prove that the log only grew between two sizes; `to` is by default the newest checkpoint's."""
    if from_ is None:
        raise invalid("from", "is required", "missing_parameter")
    proof = await chat.evidence.consistency(from_, to, caller=caller_of(request, *READERS))
    return proof if format == "json" else Response(proof.text(), media_type=PLAIN)


@get("/api/log/tile/{tile:path}", media_type="application/octet-stream")
async def read_tile(request: Http, chat: Chat, tile: FromPath[str]) -> Response[bytes]:
    """Read a tile of the tree: `<level>/<number>`, or `<level>/<number>.p/<width>` for the first hashes of one."""
    match = _TILE.fullmatch(tile)
    if match is None:
        raise Problem(404, "not_found", "there is no such tile")
    number = int(re.sub(r"[x/]", "", match["number"]))
    width = int(match["width"] or FULL_TILE)
    if width > FULL_TILE - bool(match["width"]) or number > MAX_NUMBER:
        raise Problem(404, "not_found", "there is no such tile")
    data = await chat.evidence.tile(int(match["level"]), number, width, caller=caller_of(request, *READERS))
    return Response(data, media_type="application/octet-stream", headers=NEVER_CHANGES)


ROUTES = [
    prove_event,
    newest_checkpoint,
    make_checkpoint,
    add_cosignature,
    verifier_keys,
    prove_consistency,
    read_tile,
]
