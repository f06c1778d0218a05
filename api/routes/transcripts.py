"""The transcript of a session: what was said and done in it, for people."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Literal
from uuid import UUID

from litestar import get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery

from ...engine import transcript_policy
from ..http.body import Http
from ..http.pieces import PIECE_BYTES, InPieces
from ..http.room import Room
from ..schemas.parameters import At, Chat, Version, caller_of

HTML, MARKDOWN = "text/html; charset=utf-8", "text/markdown; charset=utf-8"
READABLE = ResponseSpec(bytes, media_type="text/html", description="One page, or Markdown", generate_examples=False)


@get("/api/sessions/{session_id:uuid}/transcript", responses={200: READABLE})
async def read_transcript(
    request: Http,
    chat: Chat,
    exports: NamedDependency[Room],
    session_id: FromPath[UUID],
    format: FromQuery[Literal["html", "md"]] = "html",  # noqa: A002 - the parameter's public name
    version: Version = None,
    at: At = None,
) -> InPieces:
    """Read a session as people read it: who said what and when, which model answered, how each turn ended.

    It tells what was erased, by whom and why, and at the end the signed checkpoint that proves it and how to check
    that. `html` is one page that prints well and is sent under a policy without scripts; `md` is Markdown. Words are
    shown as text, whatever they hold. With `version` or `at` it ends there, without the words erased since. A browser
    can open it with a ticket. The scope is `chat` or `audit`.
    """
    caller = caller_of(request, "chat", "audit")
    found = chat.transcript(session_id, format, version=version, at=at, caller=caller)
    headers = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
    if format == "html":
        headers["content-security-policy"] = transcript_policy()
    return InPieces(_pieces(exports, found), HTML if format == "html" else MARKDOWN, headers)


@asynccontextmanager
async def _pieces(exports: Room, found: AsyncGenerator[str, None]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """The pieces of a transcript. What refuses it is raised before the first is sent."""
    with exports.one():
        async with aclosing(found):
            first = await anext(found)
            yield _encoded(first, found)


async def _encoded(first: str, rest: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """What is ready goes out together: a write for each entry would cost more than the entry."""
    parts = [first.encode()]
    size = len(parts[0])
    async for piece in rest:
        parts.append(piece.encode())
        size += len(parts[-1])
        if size >= PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


ROUTES = [read_transcript]
