"""Pages of the whole log, in either direction, of all events or of some types.

The log has no index by type: it is looked through, no further for one page than a setting allows.
"""

from __future__ import annotations

from functools import partial

from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from ..log.store import Store
from .paging import MAX_PLACE, Bounds, fill

EVENT_BYTES = 700
"""What an event is told in besides its actor, its facts and its words."""

Found = tuple[list[RecordedEvent], int | None]
"""Events, and the position after which there may be more; None: there are none."""


class LogPage:
    """A page that is read after a position (None: from the log's beginning, or its end where it is ``descending``)."""

    def __init__(
        self,
        store: Store,
        tenant: str,
        types: tuple[str, ...],
        bounds: Bounds,
        most: int,
        after: int | None,
        *,
        descending: bool,
    ) -> None:
        self._store = store
        self._types = types
        self._bounds = bounds
        self._most = most
        self._after = after
        look = _backwards if descending else _forwards
        self._look = partial(look, tenant=tenant, types=types, bounds=bounds, most=most)

    async def read(self) -> Found:
        """The page."""
        found: Found = await self._store.read(partial(self._look, after=self._after))
        return found

    async def first(self) -> Found:
        """The first page that is not empty, or the empty one at the log's end."""
        while True:
            found, more = await self.read()
            if found or more is None:
                return found, more
            self._after = more


def _forwards(
    connection: Connection, *, tenant: str, types: tuple[str, ...], bounds: Bounds, most: int, after: int | None
) -> Found:
    start = after or 0
    size = reads.log_size(connection, tenant)
    up_to = start + most if types else MAX_PLACE
    events = reads.each_log_event(connection, tenant, types, after=start, up_to=up_to, limit=bounds.limit + 1)
    found, more = fill(events, told_bytes, bounds)
    if more:
        return found, found[-1].position
    return found, up_to if up_to < size else None


def _backwards(
    connection: Connection, *, tenant: str, types: tuple[str, ...], bounds: Bounds, most: int, after: int | None
) -> Found:
    up_to = reads.log_size(connection, tenant) if after is None else after - 1
    start = max(0, up_to - most) if types else 0
    events = reads.each_log_event(
        connection, tenant, types, after=start, up_to=up_to, limit=bounds.limit + 1, descending=True
    )
    found, more = fill(events, told_bytes, bounds)
    if more:
        return found, found[-1].position
    return found, start + 1 if start else None


def told_bytes(event: RecordedEvent) -> int:
    """About how many bytes an event is told in."""
    told = event.body or (event.erasure and event.erasure.body) or b""
    return EVENT_BYTES + len(event.actor) + len(event.facts) + len(told)
