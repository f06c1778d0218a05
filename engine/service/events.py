"""The record itself: events of a session, or of a tenant's whole log, in pages and as they are committed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from uuid import UUID

from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from ..log.store import Store
from ..sessions.envelope import Caller
from ..sessions.lineage import stretches
from ..sessions.views import Event, event_view
from ..settings import Settings
from ..streams.follow import Follower
from .log_pages import LogPage, told_bytes
from .paging import EACH_LIMIT, After, Bounds, Page, check_limit, fill, number_after, write_cursor
from .sessions import must_exist

Found = tuple[list[RecordedEvent], bool]


class Events:
    """Reads and follows events."""

    def __init__(self, store: Store, follower: Follower, settings: Settings) -> None:
        self._store = store
        self._follower = follower
        self._settings = settings

    async def page(
        self,
        caller: Caller,
        session: UUID,
        after: After,
        limit: int,
        types: Sequence[str],
        wait_s: float = 0,
        *,
        damaged: bool = False,
    ) -> Page[Event]:
        """``wait_s``: where there is nothing yet, it waits so long for something. ``damaged``: damaged events, too."""
        start, bounds = number_after(after) or 0, self._bounds(limit)

        async def look() -> Found:
            return await self._store.read(
                lambda connection: _of_session(connection, caller.tenant, session, types, start, bounds)
            )

        found, more = await (self._follower.first(caller.tenant, session, look, wait_s) if wait_s else look())
        views = [event_view(event, damaged=damaged) for event in found]
        return Page(views, write_cursor((found[-1].version,)) if more else None)

    async def log_page(
        self, caller: Caller, after: After, limit: int, types: Sequence[str], wait_s: float, *, descending: bool
    ) -> Page[Event]:
        """As ``page``, of the whole log. What is of other types is looked through in bounded steps: a page may be short
        or empty, and have a next one.
        """
        look = LogPage(
            self._store,
            caller.tenant,
            tuple(types),
            self._bounds(limit),
            self._settings.max_scanned_events,
            number_after(after),
            descending=descending,
        )
        if not wait_s:
            found, more = await look.read()
        else:
            found, more = await self._follower.first(caller.tenant, None, look.first, wait_s)
        return Page([event_view(event) for event in found], None if more is None else write_cursor((more,)))

    async def follow(
        self, caller: Caller, session: UUID | None, after: int | None, types: Sequence[str]
    ) -> AsyncGenerator[list[Event], None]:
        """Batches of events as they are committed; an empty one says that all there is was given."""
        wanted = frozenset(types)
        async with aclosing(self._follower.events(caller.tenant, session, after)) as batches:
            async for batch in batches:
                views = [event_view(event) for event in batch if not wanted or event.type in wanted]
                if views or not batch:
                    yield views

    async def recorded(self, caller: Caller, session: UUID) -> AsyncGenerator[RecordedEvent, None]:
        """All events of a session as the log has them, for those who read their meaning."""
        after, more = 0, True
        while more:
            read = partial(
                _of_session,
                tenant=caller.tenant,
                session=session,
                types=(),
                start=after,
                bounds=self._bounds(EACH_LIMIT),
            )
            page, more = await self._store.read(read)
            for event in page:
                yield event
                after = event.version

    def _bounds(self, limit: int) -> Bounds:
        check_limit(limit)
        return Bounds(limit, self._settings.max_page_bytes)


def _of_session(
    connection: Connection, tenant: str, session: UUID, types: Sequence[str], start: int, bounds: Bounds
) -> Found:
    along = stretches(connection, tenant, must_exist(connection, tenant, session), start)
    events = reads.each_event_along(connection, tenant, along, types, limit=bounds.limit + 1)
    return fill(events, told_bytes, bounds)
