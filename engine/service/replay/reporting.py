"""The report of a replay that is on record, read for it: the results with both turns, and what each was sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from uuid import UUID

from ...context.explain import explain
from ...errors import EngineError
from ...log.base import Connection
from ...log.sql.checkpoints import newest_origin
from ...log.store import Store
from ...providers.registry import Providers
from ...sessions import queries
from ...sessions.envelope import Caller
from .noise import together
from .reading import ReplayReader
from .report import ReportHeader, ReportItem, report
from .results import Result
from .told import floor_of, result_of, turn_or_none

MAX_REQUESTS = 200
"""The requests of so many turns that are not the same stand in the report."""


class Reporter:
    """Reads reports."""

    def __init__(self, store: Store, providers: Providers, reader: ReplayReader) -> None:
        self._store = store
        self._providers = providers
        self._reader = reader

    async def report(self, caller: Caller, replay: UUID) -> AsyncGenerator[str, None]:
        """The page, in pieces. Raises ReplayNotFound before the first."""
        view = await self._reader.read(caller, replay)
        compared = await self._reader.compared(caller, replay)
        results = [result_of(facts) for facts in compared] or self._reader.unrecorded(caller, replay)
        items = []
        shown = 0
        for result in results:
            shown += not result.same
            read = partial(self._item, tenant=caller.tenant, result=result, requests=shown <= MAX_REQUESTS)
            items.append(await self._store.read(read))
        floors = [floor for facts in compared if (floor := floor_of(facts)) is not None]
        header = ReportHeader(
            mode=view.mode,
            model=view.model,
            replay_id=view.id,
            status=view.status,
            started_at=view.started_at,
            ended_at=view.ended_at,
            log=await self._store.read(partial(newest_origin, tenant=caller.tenant)),
            noise=together(floors) if floors else None,
        )
        for piece in report(header, items):
            yield piece

    def _item(self, connection: Connection, *, tenant: str, result: Result, requests: bool) -> ReportItem:
        sent: list[str | None] = [None, None]
        if requests and not result.same:
            sent = [self._request(connection, tenant, each) for each in (result.turn_id, result.new_turn_id)]
        return ReportItem(
            result=result,
            recorded=turn_or_none(connection, tenant, result.turn_id),
            now=turn_or_none(connection, tenant, result.new_turn_id),
            recorded_request=sent[0],
            now_request=sent[1],
            title=queries.words_of_session(connection, tenant, result.session_id).title,
        )

    def _request(self, connection: Connection, tenant: str, turn: UUID | None) -> str | None:
        """The first request of a turn; None where it cannot be derived any more."""
        if turn is None:
            return None
        try:
            found = explain(connection, tenant=tenant, turn_id=turn, attempt=1, providers=self._providers)
        except EngineError:
            return None
        return found.request_bytes.decode(errors="replace")
