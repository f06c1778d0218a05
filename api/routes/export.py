"""Taking a session out: as a bundle that proves itself, or as messages for other tools."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Literal
from uuid import UUID

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery
from litestar.response import Stream

from ..http.body import Http
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
    session_id: FromPath[UUID],
    format: FromQuery[Literal["bundle", "openai", "otel"]] = "bundle",  # noqa: A002 - the parameter's public name
) -> Stream:
    """A session as a bundle that the offline verifier accepts, or as messages for other tools."""
    caller = caller_of(request)
    if format != "bundle":
        await chat.session(session_id, caller=caller)
        lines = chat.export_messages(session_id, format, caller=caller)
        return Stream(lines, media_type=JSON_LINES, headers=_attached(f"{session_id}.{format}.jsonl"))
    file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - it is closed when it was sent
    try:
        await chat.export(file, session_id, caller=caller)
    except BaseException:
        file.close()
        raise
    return Stream(_sent(file), media_type=ZIP, headers=_attached(f"{session_id}.zip") | WHERE_THE_KEY_IS)


async def _sent(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


ROUTES = [export_session]
