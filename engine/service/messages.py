"""Messages of a session: appending them without running a model, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import ToolCallNotFound, ToolResultsMissing
from ..events.types import MessageAppended, NewMessage
from ..events.upcasts import facts_of
from ..log import codec
from ..log.base import Append, Appended, Connection, NewEvent, Place, RecordedEvent, Reference, RequestKey
from ..log.sql import reads
from ..log.store import Store
from ..sessions.calls import CallIds
from ..sessions.decisions import append_messages, existing, message_draft
from ..sessions.envelope import Caller, seal
from ..sessions.family import position_then
from ..sessions.history import NOW, Moment, open_call_ids, state_at, version_then
from ..sessions.marks import marks_at, with_pins
from ..sessions.messages import message_page
from ..sessions.siblings import with_siblings
from ..sessions.state import SessionState
from ..sessions.views import Message, message_view
from ..settings import Settings
from . import inputs
from .inputs import MessageIn
from .paging import After, Page, check_limit, number_after, write_cursor
from .sessions import append_to_session, expected_of

MAX_TRIES = 5
"""Most attempts to append results while other writers move the session on."""


class Messages:
    """The messages of all sessions."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def append(
        self,
        caller: Caller,
        session: UUID,
        messages: Sequence[MessageIn],
        expected: int | None,
        request: RequestKey | None,
    ) -> list[Message]:
        return await self.record(
            caller, session, await inputs.new_messages(messages, self._settings), expected, request
        )

    async def record(
        self,
        caller: Caller,
        session: UUID,
        news: Sequence[NewMessage],
        expected: int | None,
        request: RequestKey | None,
        *,
        check: Callable[[Any], SessionState] = existing,
    ) -> list[Message]:
        """Append messages that were checked. ``check``: raises for a session that is not to be appended to."""
        sealed = seal([message_draft(message) for message in news], caller, self._clock)
        work = Append(
            caller.tenant,
            session,
            expected_of(expected),
            (),
            known=sealed if news[0].id else (),
            alike=_alike,
            request=self._store.keyed(caller.tenant, request),
            reference=Reference("messages", session, 0),
        )
        decide = partial(_decide, news=news, sealed=sealed, now_us=self._clock.now_us(), check=check)
        answer = await self._append(work, decide)
        if answer.replayed is None:
            return [message_view(event) for event in answer.events]
        events = answer.events or await self._again(caller, answer.replayed, len(news))
        return [message_view(event) for event in events]

    async def _append(self, work: Append, decide: Callable[..., list[NewEvent]]) -> Appended:
        """Append, with the ids of the open calls as soon as they decide. Those that were read hold for ever; where the
        session has moved on and made other calls, theirs are read too.
        """
        ids: CallIds = {}
        for tried in range(MAX_TRIES):
            try:
                deciding = msgspec.structs.replace(work, events=partial(decide, ids=ids))
                return await append_to_session(self._store, deciding)
            except (ToolCallNotFound, ToolResultsMissing):
                read = await self._store.read(partial(_open_ids, tenant=work.tenant, session=work.session))
                # After the first refusal nothing new may have been read because a twin of this request was faster.
                if (tried and read.keys() <= ids.keys()) or tried == MAX_TRIES - 1:
                    raise
                ids = {**ids, **read}
        raise AssertionError("a loop that returns or raises")

    async def page(
        self,
        caller: Caller,
        session: UUID,
        after: After,
        limit: int,
        *,
        moment: Moment = NOW,
        descending: bool = False,
        damaged: bool = False,
        siblings: bool = False,
    ) -> Page[Message]:
        check_limit(limit)
        start = number_after(after)
        reading = partial(message_page, tenant=caller.tenant, after=start, limit=limit, descending=descending)
        most_bytes = self._settings.max_page_bytes

        def look(connection: Connection) -> tuple[list[Message], bool]:
            version = version_then(connection, caller.tenant, session, moment)
            state = state_at(connection, caller.tenant, session, version)
            found, more = reading(connection, state=state, most_bytes=most_bytes, damaged=damaged)
            found = with_pins(found, marks_at(connection, caller.tenant, state))
            if siblings:
                up_to = position_then(connection, caller.tenant, state, moment)
                found = with_siblings(connection, caller.tenant, state, found, up_to)
            return found, more

        found, more = await self._store.read(look)
        return Page(found, write_cursor((found[-1].version,)) if more else None)

    async def _again(self, caller: Caller, first: Reference, count: int) -> Sequence[RecordedEvent]:
        """The events of a request that came before: its last event is at ``first.version``."""
        return await self._store.read(
            lambda connection: reads.session_events(
                connection, caller.tenant, first.id, after=first.version - count, up_to=first.version
            )
        )


def _decide(
    _: Place,
    state: Any,
    *,
    news: Sequence[NewMessage],
    sealed: Sequence[NewEvent],
    now_us: int,
    check: Callable[[Any], SessionState],
    ids: CallIds,
) -> list[NewEvent]:
    """The events of messages, whose words are encoded already."""
    facts = append_messages(check(state), news, ids, now_us)
    return [_with_calls(event, said) for event, said in zip(sealed, facts, strict=True)]


def _with_calls(event: NewEvent, facts: MessageAppended) -> NewEvent:
    """The event of a message with the ordinals of its calls, which are known inside the transaction only."""
    if not (facts.calls or facts.results):
        return event
    return msgspec.structs.replace(event, facts=codec.canonical(facts), meaning=facts)


def _alike(new: NewEvent, old: RecordedEvent) -> bool:
    """True if two messages differ in nothing but words and the names of their calls, of whatever schema they are."""
    if new.type != old.type:
        return False
    facts = facts_of(old)
    assert isinstance(facts, MessageAppended)
    same: bool = new.meaning == msgspec.structs.replace(facts, calls=(), results=())
    return same


def _open_ids(connection: Connection, *, tenant: str, session: UUID) -> CallIds:
    return open_call_ids(connection, tenant, state_at(connection, tenant, session))
