"""Replays read: as they are, their results page by page, and as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from functools import partial
from uuid import UUID

import msgspec

from ...events.replay_types import ReplayCompared, ReplayStarted, ReplayWords
from ...events.upcasts import facts_of, words_left
from ...log.base import Connection, RecordedEvent
from ...log.codec import MAX_SAFE_INTEGER
from ...log.sql import reads
from ...log.store import Store
from ...sessions.envelope import Caller
from ...sessions.replay_decisions import ReplayNotFound
from ...sessions.replay_state import ReplayState
from ...sessions.replays import list_replays, replay_state, suite_state
from ...settings import Settings
from ..paging import After, Bounds, Page, check_limit, fill, number_after, write_cursor
from .results import Result
from .run import Live
from .told import read_result
from .views import NumberedResult, Replay, replay_view

RESULTS_AT_ONCE = 100
POLL_S = 1.0
"""The time between two looks at a replay: it may run in another process."""


class ReplayReader:
    """Reads replays. ``live``: those of this process whose results are not on record, by their ids."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._closing = False
        self.live: dict[UUID, Live] = {}

    def close(self) -> None:
        """End what follows a replay: a shutdown must not wait for it."""
        self._closing = True

    async def read(self, caller: Caller, replay: UUID) -> Replay:
        """A replay as it is now. Raises ReplayNotFound."""
        view = await self._store.read(partial(_read, tenant=caller.tenant, replay=replay))
        return self._told(view)

    async def page(self, caller: Caller, limit: int, after: After) -> Page[Replay]:
        """The replays, the newest first."""
        check_limit(limit)
        before = number_after(after) or MAX_SAFE_INTEGER

        def look(connection: Connection) -> list[tuple[int, Replay]]:
            states = list_replays(connection, caller.tenant, before, limit + 1)
            return [(state.first, _view(connection, caller.tenant, state)) for state in states]

        found = await self._store.read(look)
        items = [self._told(view) for _, view in found[:limit]]
        return Page(items, write_cursor((found[limit - 1][0],)) if len(found) > limit else None)

    async def results(self, caller: Caller, replay: UUID, limit: int, after: After) -> Page[NumberedResult]:
        """The results after a number, in the order in which they came. Raises ReplayNotFound."""
        check_limit(limit)
        start = number_after(after) or 0
        live = self._unrecorded(caller, replay)
        if live is not None:
            left = [each for each in live.results if each.number > start]
            found, more = left[:limit], len(left) > limit
        else:
            bounds = Bounds(limit, self._settings.max_page_bytes)
            read = partial(_results, tenant=caller.tenant, replay=replay, after=start, bounds=bounds)
            found, more = await self._store.read(read)
        return Page(found, write_cursor((found[-1].number,)) if more else None)

    async def follow(self, caller: Caller, replay: UUID, after: int = 0) -> AsyncGenerator[list[NumberedResult], None]:
        """Batches of results after a number, as they come, up to the replay's end. An empty one says that all there is
        was given. Raises ReplayNotFound.
        """
        with self._store.bells.listen(caller.tenant, replay) as bell:
            while not self._closing:
                bell.clear()
                ended = (await self.read(caller, replay)).status != "running"
                page = await self.results(caller, replay, RESULTS_AT_ONCE, after)
                yield page.items
                if page.items:
                    after = page.items[-1].number
                elif ended:
                    return
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_S):
                            await bell.wait()

    async def compared(self, caller: Caller, replay: UUID) -> list[ReplayCompared]:
        """The facts of all results on record. Raises ReplayNotFound."""

        def look(connection: Connection) -> list[ReplayCompared]:
            state_of(connection, caller.tenant, replay)
            return compared_on_record(connection, caller.tenant, replay)

        return await self._store.read(look)

    def unrecorded(self, caller: Caller, replay: UUID) -> list[Result]:
        """The results of a replay that are in memory only."""
        live = self._unrecorded(caller, replay)
        return [] if live is None else [each.result for each in live.results]

    def _unrecorded(self, caller: Caller, replay: UUID) -> Live | None:
        live = self.live.get(replay)
        return live if live is not None and live.run.caller.tenant == caller.tenant else None

    def _told(self, view: Replay) -> Replay:
        """With what is not on record."""
        live = self.live.get(view.id)
        return view if live is None or view.status != "running" else msgspec.structs.replace(view, counts=live.counts())


def state_of(connection: Connection, tenant: str, replay: UUID) -> ReplayState:
    """The state of a replay. Raises ReplayNotFound."""
    state = replay_state(connection, tenant, replay)
    if state is None:
        raise ReplayNotFound("there is no such replay", replay_id=str(replay))
    return state


def started_of(
    connection: Connection, tenant: str, state: ReplayState
) -> tuple[RecordedEvent, ReplayStarted, str | None]:
    """A replay's first event, what it says, and the full name of the model that is asked."""
    event = reads.event_at_position(connection, tenant, state.first)
    assert event is not None, "a replay has begun"
    facts, words = facts_of(event), words_left(event)
    assert isinstance(facts, ReplayStarted)
    named = words.model if isinstance(words, ReplayWords) else None
    return event, facts, named or facts.model


def compared_on_record(connection: Connection, tenant: str, replay: UUID) -> list[ReplayCompared]:
    """The facts of a replay's results."""
    return [facts for _, facts in _compared(connection, tenant, replay, 0, MAX_SAFE_INTEGER)]


def _compared(
    connection: Connection, tenant: str, replay: UUID, after: int, limit: int
) -> Generator[tuple[int, ReplayCompared], None, None]:
    events = reads.session_events_of_types(
        connection, tenant, replay, (ReplayCompared.event_type,), after=after, limit=limit
    )
    for event in events:
        facts = facts_of(event)
        assert isinstance(facts, ReplayCompared)
        yield event.version, facts


def _results(
    connection: Connection, *, tenant: str, replay: UUID, after: int, bounds: Bounds
) -> tuple[list[NumberedResult], bool]:
    state_of(connection, tenant, replay)

    def each() -> Generator[NumberedResult, None, None]:
        for number, facts in _compared(connection, tenant, replay, after, bounds.limit + 1):
            yield NumberedResult(number, read_result(connection, tenant, facts))

    return fill(each(), _told_bytes, bounds)


def _told_bytes(result: NumberedResult) -> int:
    return len(msgspec.json.encode(result))


def _read(connection: Connection, *, tenant: str, replay: UUID) -> Replay:
    return _view(connection, tenant, state_of(connection, tenant, replay))


def _view(connection: Connection, tenant: str, state: ReplayState) -> Replay:
    suite = None if state.suite is None else suite_state(connection, tenant, state.suite)
    name = None if suite is None else suite.name
    return replay_view(state, started_of(connection, tenant, state)[2], name)
