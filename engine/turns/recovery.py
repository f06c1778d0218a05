"""Recovery: ends the turns that a dead process left open, and keeps what their journals hold as a partial message.

Recovery runs at the start, under the database's lock, so that every run found then is an orphan. A turn that is paused
for a person has no run, and stays paused.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from ..clock import Clock
from ..errors import EngineError
from ..log.base import Append, Exists, NewEvent, Place
from ..log.journal import journal_rows
from ..log.leases import CloseRun, Run, open_runs
from ..log.store import Store
from ..sessions.envelope import Caller, seal
from ..sessions.history import turn_call_ids
from ..sessions.queries import turn_state
from ..sessions.turn_commands import AttemptResult, TurnEnd, TurnPlace, TurnStop
from ..sessions.turn_decisions import end_turn
from ..sessions.turn_state import TurnState
from .answer import Answer
from .observer import Observer, report_end

log = logging.getLogger("manent.turns")

SYSTEM = "system"
ORPHANS_AT_ONCE = 64
"""Most journals that are in memory at once."""


async def recover(store: Store, clock: Clock, observer: Observer) -> int:
    """End the turns that a dead process left open, many with one commit; returns their number."""
    orphans = await store.read(open_runs)
    room = asyncio.Semaphore(ORPHANS_AT_ONCE)

    async def end(run: Run) -> None:
        async with room:
            try:
                await _end_orphan(store, clock, run, observer)
            except EngineError as error:
                log.warning("turn %s could not be ended: %s", run.turn, error.detail)

    await asyncio.gather(*(end(run) for run in orphans))
    return len(orphans)


async def _end_orphan(store: Store, clock: Clock, run: Run, observer: Observer) -> None:
    rows = await store.read(partial(journal_rows, tenant=run.tenant, turn=run.turn))
    answer: Answer | None = None
    frame = 0
    for row in rows:
        answer = answer or Answer(row.message)
        answer.apply(row)
        frame = row.frame
    found: list[TurnState] = []
    stop = TurnStop("cancelled", run.cancelled_by) if run.cancelled_by else TurnStop("server_lost", SYSTEM)
    result = AttemptResult(stop.kind, message=answer.received() if answer else None, stop=stop)
    end = TurnEnd.with_attempt(result)

    before = await store.read(partial(turn_state, tenant=run.tenant, turn=run.turn))
    assert before is not None, "a run has a turn"
    ids = await store.read(partial(turn_call_ids, tenant=run.tenant, turn=before, damaged=True))

    def decide(place: Place, session: Any) -> list[NewEvent]:
        turn: TurnState = session.open_turn
        found.append(turn)
        at = TurnPlace(max(frame, turn.frame), place.position, session.call_count, ids)
        drafts = end_turn(turn, at, end)
        return seal(drafts, Caller(run.tenant, SYSTEM), clock)

    close = CloseRun(run.tenant, run.turn, owner=None)
    ended = await store.append(Append(run.tenant, run.session, Exists(), decide, scratch=(close,)))
    report_end(observer, found[-1], ended.events)
