"""Taking a record out: bundles that prove themselves, and messages for other tools.

A bundle is written in one snapshot, into a file that the caller gives; nothing is kept here. What is erased later stays
in it: exports are out of an erasure's reach.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import IO, Literal
from uuid import UUID

import msgspec

from ..audit.bundle.write import write_bundle
from ..errors import CheckpointNotFound
from ..log.base import Connection
from ..log.sql.checkpoints import newest_checkpoint, newest_origin
from ..log.sql.reads import last_erasure
from ..sessions.envelope import LOCAL, Caller
from ..sessions.views import Message
from .engine import Conversation
from .formats import openai_messages, otel_message, whole_units

PAGE = 500

Tool = Literal["openai", "otel"]
"""For whom messages are written: OpenAI's chat format, or OpenTelemetry's GenAI message parts."""

_encode = msgspec.json.Encoder().encode


async def export_bundle(
    conversation: Conversation, to: IO[bytes], session: UUID | None = None, caller: Caller = LOCAL
) -> int:
    """Write the bundle of a session, or (None) of the whole log, as far as it is signed for; how many events it holds.

    A checkpoint is made first if none covers it. Raises SessionNotFound, or CheckpointNotFound where none covers it and
    none can be made here: beside a running server, which makes one within its ``checkpoint_every_s``.
    """
    can_sign = conversation.store.writable and conversation.store.frozen is None
    if session is None:
        position = 0
        await conversation.record.checkpoint(caller, new=can_sign)
    else:
        now = await conversation.session(session, caller)
        position = (await conversation.record.inclusion(session, now.version, caller)).position
    write = partial(_write, tenant=caller.tenant, session=session, position=position, to=to)
    try:
        return await conversation.store.read(write)
    except CheckpointNotFound:
        if not can_sign:
            raise
    await conversation.record.checkpoint(caller, new=True)  # something was erased in the meantime
    return await conversation.store.read(write)


async def export_messages(
    conversation: Conversation, session: UUID, tool: Tool, caller: Caller = LOCAL
) -> AsyncGenerator[bytes, None]:
    """A session's messages for another tool, as one line of JSON, in pieces. Units in which words are erased or calls
    have no result are left out: other tools have no word for them.
    """
    now = await conversation.session(session, caller)
    begin, end = _frame(tool, str(session), now.system)
    yield begin
    before = b"" if begin.endswith(b"[") else b","
    async for message in whole_units(_messages(conversation, session, caller)):
        for each in openai_messages(message) if tool == "openai" else otel_message(message):
            yield before + _encode(each)
            before = b","
    yield end + b"\n"


def _frame(tool: Tool, session: str, system: str | None) -> tuple[bytes, bytes]:
    """What stands before and after the messages."""
    if tool == "openai":
        first = b"" if system is None else _encode({"role": "system", "content": system})
        return b'{"messages":[' + first, b"]}"
    head = {
        "gen_ai.conversation.id": session,
        "gen_ai.system_instructions": [] if system is None else [{"type": "text", "content": system}],
    }
    return _encode(head)[:-1] + b',"gen_ai.input.messages":[', b"]}"


async def _messages(conversation: Conversation, session: UUID, caller: Caller) -> AsyncGenerator[Message, None]:
    after, more = 0, True
    while more:
        page, more = await conversation.messages(session, caller, after=after, limit=PAGE)
        for message in page:
            yield message
            after = message.version


def _write(connection: Connection, *, tenant: str, session: UUID | None, position: int, to: IO[bytes]) -> int:
    # What is erased by now must be told of in the bundle, or its verifier would miss the words.
    position = max(position, last_erasure(connection, tenant, session))
    origin = newest_origin(connection, tenant)
    signed = newest_checkpoint(connection, tenant, origin, at_least=position) if origin else None
    if signed is None:
        raise CheckpointNotFound("no checkpoint covers this")
    return write_bundle(connection, tenant, session, signed, to)
