"""The replay *forced*: each turn asked again on the recorded history, by itself, so that each is valid and all can be
asked side by side.

For a turn its session is forked at the version before its start, which shares the message that it answered, and the new
turn is sent exactly the messages that the recorded one's first attempt was sent. A fork and its turn are one append: so
a fork that names the replay and the turn is the whole record of what was asked, and after a restart its ended turn is
the answer. With ``repeat`` the recorded model is asked first, so often; of a turn's forks the first are those.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from uuid import UUID

import msgspec

from ...errors import Erased, RecordDamaged, Refused
from ...events.session_types import SessionForked
from ...events.turn_types import AttemptStarted
from ...events.upcasts import facts_of
from ...log.base import Connection
from ...log.codec import MAX_SAFE_INTEGER
from ...log.sql import reads
from ...log.sql.session_index import Stretch
from ...sessions.decisions import ReplayOrigin
from ...sessions.queries import turns_between
from ...sessions.replays import forks_of_replay
from ...sessions.turn_state import TurnState
from ...sessions.turn_views import Turn
from ...tools.from_record import Recordings
from ...turns.again import Again
from ...turns.start import Ask
from .asking import Asker
from .pool import in_parallel
from .record import TurnRecord, read_turn_record
from .run import Outcome, Run
from .told import Asked, compared, not_asked, skipped


class Before(msgspec.Struct):
    """What an earlier run has asked of one turn: the turns that have ended, in order, and how many were cut off."""

    ended: list[TurnState] = []
    lost: int = 0


class Forced:
    """See the module."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def outcomes(self, run: Run) -> AsyncGenerator[Outcome, None]:
        before: dict[UUID, Before] = {}
        if run.resumed:
            before = await self._asker.store.read(partial(asked_before, tenant=run.caller.tenant, replay=run.id))
        works = [partial(self._one, run, position, before) for position in run.left]
        async for outcome in in_parallel(works, run.facts.jobs):
            yield outcome

    async def _one(self, run: Run, position: int, before: dict[UUID, Before]) -> AsyncGenerator[Outcome, None]:
        record = await self._asker.store.read(partial(read_turn_record, tenant=run.caller.tenant, position=position))
        if record.skip is not None:
            yield Outcome(skipped(record, record.skip))
            return
        known = before.get(record.state.id, Before())
        turns: list[Turn] = []
        try:
            for number in range(run.facts.repeat + 1):
                model = record.model if number < run.facts.repeat else run.model or record.model
                turns.append(await self._answer(run, record, model, known, number))
        except (Refused, Erased, RecordDamaged) as error:
            yield Outcome(not_asked(record, error), micros=micros_of(turns))
            return
        anew = await self._asker.store.read(
            partial(window_anew, tenant=run.caller.tenant, turn=turns[-1].id, positions=record.positions)
        )
        asked = Asked(turns[-1], window_anew=anew, repeated=known.lost > 0)
        yield Outcome(compared(record, asked, turns[:-1]), micros=micros_of(turns))

    async def _answer(self, run: Run, record: TurnRecord, model: str, known: Before, number: int) -> Turn:
        """The answer that is on record from before, or one that is asked for now."""
        if number < len(known.ended):
            return await self._asker.read(run.caller, known.ended[number].id)
        ask = Ask(
            model=model,
            limits=record.limits,
            continues=record.continues,
            from_version=record.state.version - 1,
            again=Again(
                record.parameters,
                record.offer(self._asker.registered),
                self._asker.tools(run.facts, Recordings(record.results, record.decisions)),
                ReplayOrigin(run.id, record.state.id),
                record.positions,
            ),
        )
        return await self._asker.ask(run, record.state.session, ask)


def asked_before(connection: Connection, *, tenant: str, replay: UUID) -> dict[UUID, Before]:
    """What a replay has asked so far, by the turns that it does again."""
    found: dict[UUID, Before] = {}
    for session, version in forks_of_replay(connection, tenant, replay):
        first = reads.event_at_version(connection, tenant, session, version + 1)
        facts = None if first is None else facts_of(first)
        stretch = Stretch(session, version, MAX_SAFE_INTEGER, 0, MAX_SAFE_INTEGER)
        turns = turns_between(connection, tenant, stretch, 1)
        if not isinstance(facts, SessionForked) or facts.of_turn is None or not turns:
            continue
        before = found.setdefault(facts.of_turn, Before([]))
        if turns[0].status == "interrupted" or turns[0].end_version is None:
            before.lost += 1
        else:
            before.ended.append(turns[0])
    return found


def window_anew(connection: Connection, *, tenant: str, turn: UUID, positions: tuple[int, ...]) -> bool:
    """True if a turn was sent other messages than these."""
    event = reads.event_by_id(connection, tenant, turn)
    assert event is not None, "a turn has a start"
    found = reads.session_events_of_types(
        connection, tenant, event.session, (AttemptStarted.event_type,), after=event.version, limit=1
    )
    facts = facts_of(found[0]) if found else None
    return isinstance(facts, AttemptStarted) and facts.positions != positions


def micros_of(turns: list[Turn]) -> int:
    """What turns have cost, whatever the currency."""
    return sum(cost.micros for turn in turns for cost in turn.costs)
