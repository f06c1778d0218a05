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
from ..log.sql.exported import history, whole_log
from ..log.store import Store
from ..sessions.decisions import existing
from ..sessions.envelope import Caller
from ..sessions.lineage import stretches
from ..sessions.queries import session_state
from ..sessions.views import Message
from .evidence import Evidence
from .formats import openai_messages, otel_message, whole_units
from .messages import Messages
from .paging import EACH_LIMIT, After, Page, each_item
from .sessions import Sessions

MessageFormat = Literal["openai", "otel"]
"""For whom messages are written: OpenAI's chat format, or OpenTelemetry's GenAI message parts."""

_encode = msgspec.json.Encoder().encode


class Exports:
    """Writes sessions, or a whole log, for others."""

    def __init__(self, store: Store, sessions: Sessions, messages: Messages, evidence: Evidence) -> None:
        self._store = store
        self._sessions = sessions
        self._messages = messages
        self._evidence = evidence

    async def bundle(self, caller: Caller, to: IO[bytes], session: UUID | None) -> int:
        """How many events the bundle holds. A checkpoint is made first if none covers them all."""
        can_sign = self._store.writable and self._store.frozen is None
        if session is None:
            position = 0
            await self._evidence.checkpoint(new=can_sign, caller=caller)
        else:
            now = await self._sessions.read(caller, session)
            position = (await self._evidence.inclusion(session, now.version, caller=caller)).position
        write = partial(_write, tenant=caller.tenant, session=session, position=position, to=to)
        try:
            return await self._store.read(write)
        except CheckpointNotFound:
            if not can_sign:
                raise
        await self._evidence.checkpoint(new=True, caller=caller)  # something was erased in the meantime
        return await self._store.read(write)

    async def messages(self, caller: Caller, session: UUID, form: MessageFormat) -> AsyncGenerator[bytes, None]:
        begin, end = _frame(form, str(session), await self._sessions.system(caller, session))
        yield begin
        before = b"" if begin.endswith(b"[") else b","
        async for message in whole_units(self._all(caller, session)):
            for each in openai_messages(message) if form == "openai" else otel_message(message):
                yield before + _encode(each)
                before = b","
        yield end + b"\n"

    def _all(self, caller: Caller, session: UUID) -> AsyncGenerator[Message, None]:
        async def turn_page(after: After) -> Page[Message]:
            return await self._messages.page(caller, session, after, EACH_LIMIT, descending=False)

        return each_item(turn_page, None)


def _frame(form: MessageFormat, session: str, system: str | None) -> tuple[bytes, bytes]:
    """The bytes before and after the messages."""
    if form == "openai":
        first = b"" if system is None else _encode({"role": "system", "content": system})
        return b'{"messages":[' + first, b"]}"
    head = {
        "gen_ai.conversation.id": session,
        "gen_ai.system_instructions": [] if system is None else [{"type": "text", "content": system}],
    }
    return _encode(head)[:-1] + b',"gen_ai.input.messages":[', b"]}"


def _write(connection: Connection, *, tenant: str, session: UUID | None, position: int, to: IO[bytes]) -> int:
    if session is None:
        exported = whole_log(connection, tenant)
    else:
        state = existing(session_state(connection, tenant, session))
        exported = history(connection, tenant, stretches(connection, tenant, state))
    # What is erased by now must be told of in the bundle, or its verifier would miss the words.
    position = max(position, exported.last_erasure)
    origin = newest_origin(connection, tenant)
    signed = newest_checkpoint(connection, tenant, origin, at_least=position) if origin else None
    if signed is None:
        raise CheckpointNotFound("no checkpoint covers this")
    return write_bundle(connection, exported, signed, to)
