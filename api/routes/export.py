"""Taking a session out: as a bundle that proves itself, or as messages for other tools."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import IO, Literal
from uuid import UUID

from litestar import get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery

from ...engine import Caller, Engine
from ..http.body import Http
from ..http.pieces import InPieces
from ..http.room import Room
from ..schemas.parameters import Chat, caller_of

ZIP, JSON_LINES = "application/zip", "application/jsonl"
IN_MEMORY_BYTES = 8 << 20
"""A larger bundle waits in a file without a name, which the system frees with its last byte."""

CHUNK_BYTES = 1 << 16

WHERE_THE_KEY_IS = {"link": '</api/log/key>; rel="describedby"; title="pass it: verify_bundle.py BUNDLE.zip --key KEY"'}
"""A bundle brings keys of its own, as a forged one does; a verifier must be given the log's, got another way."""

BUNDLE = ResponseSpec(
    bytes, media_type=ZIP, description="A bundle; JSON lines for `openai` and `otel`", generate_examples=False
)


@get("/api/sessions/{session_id:uuid}/export", responses={200: BUNDLE})
async def export_session(
    request: Http,
    chat: Chat,
    exports: NamedDependency[Room],
    session_id: FromPath[UUID],
    format: FromQuery[Literal["bundle", "openai", "otel"]] = "bundle",  # noqa: A002 - the parameter's public name
) -> InPieces:
    """A session as a bundle that the offline verifier accepts, or as messages for other tools."""
    caller = caller_of(request)
    if format == "bundle":
        pieces = _bundle(exports, chat, session_id, caller)
        return InPieces(pieces, ZIP, _attached(f"{session_id}.zip") | WHERE_THE_KEY_IS)
    pieces = _messages(exports, chat, session_id, format, caller)
    return InPieces(pieces, JSON_LINES, _attached(f"{session_id}.{format}.jsonl"))


@asynccontextmanager
async def _bundle(
    exports: Room, chat: Engine, session: UUID, caller: Caller
) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """The pieces of a bundle, which is whole before the first of them is sent."""
    with exports.one(), tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        await chat.export(file, session, caller=caller)
        file.seek(0)
        async with aclosing(_chunks(file)) as chunks:
            yield chunks


@asynccontextmanager
async def _messages(
    exports: Room, chat: Engine, session: UUID, tool: Literal["openai", "otel"], caller: Caller
) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """A session's messages, read as they are sent."""
    with exports.one():
        await chat.session(session, caller=caller)
        async with aclosing(chat.export_messages(session, tool, caller=caller)) as pieces:
            yield pieces


async def _chunks(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


ROUTES = [export_session]
