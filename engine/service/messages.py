"""Messages of a session: appending them without running a model, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from ..clock import Clock
from ..log.base import Append, Connection, NewEvent, Place, RecordedEvent, Reference, RequestKey
from ..log.sql import reads
from ..log.store import Store
from ..sessions.decisions import check_messages, message_draft
from ..sessions.envelope import Caller, seal
from ..sessions.marks import with_pins
from ..sessions.messages import message_page
from ..sessions.views import Message, message_view
from ..settings import Settings
from . import inputs
from .inputs import MessageIn
from .paging import After, Page, check_limit, number_after, write_cursor
from .sessions import append_to_session, expected_of


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
        news = await inputs.new_messages(messages, self._settings)
        sealed = seal([message_draft(message) for message in news], caller, self._clock)

        def decide(_: Place, state: Any) -> list[NewEvent]:
            check_messages(state, news, self._clock.now_us())
            return sealed

        answer = await append_to_session(
            self._store,
            Append(
                caller.tenant,
                session,
                expected_of(expected),
                decide,
                known=sealed if messages[0].id else (),
                request=self._store.keyed(caller.tenant, request),
                reference=Reference("messages", session, 0),
            ),
        )
        if answer.replayed is None:
            return [message_view(event) for event in answer.events]
        events = answer.events or await self._again(caller, answer.replayed, len(news))
        return [message_view(event) for event in events]

    async def page(self, caller: Caller, session: UUID, after: After, limit: int, *, descending: bool) -> Page[Message]:
        check_limit(limit)
        start = number_after(after)
        reading = partial(message_page, tenant=caller.tenant, session=session, after=start, limit=limit)
        most_bytes = self._settings.max_page_bytes

        def look(connection: Connection) -> tuple[list[Message], bool]:
            found, more = reading(connection, most_bytes=most_bytes, descending=descending)
            return with_pins(connection, caller.tenant, session, found), more

        found, more = await self._store.read(look)
        return Page(found, write_cursor((found[-1].version,)) if more else None)

    async def _again(self, caller: Caller, first: Reference, count: int) -> Sequence[RecordedEvent]:
        """The events of a request that came before: its last event is at ``first.version``."""
        return await self._store.read(
            lambda connection: reads.session_events(
                connection, caller.tenant, first.id, after=first.version - count, up_to=first.version
            )
        )
