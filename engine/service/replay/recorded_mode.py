"""The replay *recorded* as a mode: its results are told, and not put on record, for the log itself has answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from ...clock import Clock
from ...log.base import Connection
from ...log.sql import reads
from ...log.store import Store
from ...providers.registry import Providers
from ...sessions import queries
from ...sessions.turn_state import TurnState
from .recorded import recorded_results
from .results import Result
from .run import Outcome, Run
from .told import IN_WORDS


class Recorded:
    """See the module."""

    def __init__(self, store: Store, providers: Providers, clock: Clock) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock

    async def outcomes(self, run: Run) -> AsyncGenerator[Outcome, None]:
        tenant = run.caller.tenant
        turns = await self._store.read(partial(_turns_at, tenant=tenant, positions=run.facts.turns))
        for turn in turns:
            if turn.end_version is None:
                reason = IN_WORDS["recorded_open"]
                yield Outcome(result=Result(turn.session, turn.id, None, None, "skipped", reason=reason))
        closed = [turn.id for turn in turns if turn.end_version is not None]
        found = recorded_results(self._store, self._providers, self._clock, tenant=tenant, turns=closed)
        async with aclosing(found) as results:
            async for result in results:
                yield Outcome(result=result)


def _turns_at(connection: Connection, *, tenant: str, positions: Sequence[int]) -> list[TurnState]:
    events = [reads.event_at_position(connection, tenant, position) for position in positions]
    states = [queries.turn_state(connection, tenant, event.id) for event in events if event is not None]
    return [state for state in states if state is not None]
