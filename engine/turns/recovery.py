"""Recovery: ends the turns that a dead process left open, with what their journals hold kept as a partial message.

It runs at the start, under the database's lock, so that every run found then is an orphan. A turn that is paused for a
person has no run, and stays paused.
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
from ..sessions.turn_state import TurnState
from .answer import Answer
from .observer import Observer, report_end
from .outcomes import Ending, Stop, end_of_turn

log = logging.getLogger("manent.turns")

SYSTEM = "system"
ORPHANS_AT_ONCE = 64
"""Of so many the journals are in memory together."""


async def recover(store: Store, clock: Clock, observer: Observer) -> int:
    """End the turns that a dead process left open, many with one commit; returns how many."""
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
    stop = Stop("cancelled", run.cancelled_by) if run.cancelled_by else Stop("server_lost", SYSTEM)

    def decide(place: Place, session: Any) -> list[NewEvent]:
        turn: TurnState = session.open_turn
        found.append(turn)
        ending = Ending(outcome=stop.kind, answer=answer, stop=stop)
        drafts = end_of_turn(turn, ending, max(frame, turn.frame), place.position)
        return seal(drafts, Caller(run.tenant, SYSTEM), clock)

    close = CloseRun(run.tenant, run.turn, owner=None)
    ended = await store.append(Append(run.tenant, run.session, Exists(), decide, scratch=(close,)))
    report_end(observer, found[-1], ended.events)
