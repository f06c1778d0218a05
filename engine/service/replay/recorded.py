"""The replay *recorded*: turns done again by today's code, with the log as the model and the tools.

It proves our code. What is sent must be what was sent, to the byte; every answer on record is used, and none is
missing; the frames that follow are those that were shown. A window is chosen by the policy and with the figures of the
attempt, its request is made by the attempt's renderer: they are on record, and are kept for ever. With ``current``
today's policy and renderers are used instead, and the result says where they would have sent something else.

Everything runs in a log in memory. The record is only read, without a network, and may lie on a read-only medium.
Turns are done one by one: a turn that was the same leaves its session there for the next one; after any other the
history is laid out anew, as it is on record, so that one difference does not become many.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal
from uuid import UUID

import msgspec

from ...clock import Clock
from ...context.window import POLICY
from ...errors import EngineError, Erased, RecordDamaged, StoreNewer, TurnAlreadyOpen, UnknownRenderer
from ...events.upcasts import meaning_of
from ...log.base import Connection
from ...log.scratch_store import ScratchStore, scratch_store
from ...log.store import Store
from ...providers.registry import Providers
from ...sessions import queries
from ...sessions.lineage import list_turns
from ...sessions.projector import Catalog
from ...sessions.turn_state import TurnState
from ...settings import Settings
from .recorded_differences import (
    answer_difference,
    count_difference,
    failure_in_words,
    first_other_request,
    frame_difference,
    request_difference,
)
from .recorded_model import Rendering
from .recorded_run import Rerun, frames_of_record, rendering_of, run_turn
from .recorded_session import ScratchSession, further_history, history_then
from .recorded_turn import CannotReplay, RecordedTurn, closed_turn, read_recorded_turn
from .results import FirstDifference, Layers, Result, Verdict

log = logging.getLogger("manent.replay")

RendererChoice = Literal["recorded", "current"]

TURNS_AT_ONCE = 16
"""Turns that are read at once: a read hands work to another thread, which takes as long as a good part of a turn."""
TURNS_A_LOG = 2000
"""Turns after which a new log is begun in memory, so that it does not grow with the record."""

LEFT_OUT = (CannotReplay, Erased, RecordDamaged, StoreNewer, UnknownRenderer, TurnAlreadyOpen)
"""Why a turn is skipped: it is the record that cannot be had, and no code of ours that has changed."""

SAME = Layers(request=True, frames=True, stop_reason=True, tool_calls=True, structure=True, text=True)


async def recorded_results(
    store: Store,
    providers: Providers,
    clock: Clock,
    *,
    tenant: str,
    sessions: Sequence[UUID] = (),
    turns: Sequence[UUID] = (),
    renderer: RendererChoice = "recorded",
) -> AsyncGenerator[Result, None]:
    """Do the turns of some sessions again, or only some turns, in that order; a result for each.

    A turn that cannot be done again is *skipped*, with the reason: its words are erased or damaged, or it runs still.
    Raises, before anything is done, TurnNotFound and TurnAlreadyOpen for one of ``turns`` that is not there or has not
    ended.
    """
    await store.read(partial(_check, tenant=tenant, turns=turns))
    replay = _Replay(store, providers, clock, tenant, renderer)
    try:
        async for some in _turns(store, tenant, sessions, turns):
            for looked in await store.read(partial(replay.look, turns=some)):
                yield looked if isinstance(looked, Result) else await replay.result(looked)
    finally:
        replay.close()


def _check(connection: Connection, tenant: str, turns: Sequence[UUID]) -> None:
    for turn in turns:
        closed_turn(connection, tenant, turn)


async def _turns(
    store: Store, tenant: str, sessions: Sequence[UUID], turns: Sequence[UUID]
) -> AsyncIterator[Sequence[UUID]]:
    """The turns to be done again, some at once."""
    for start in range(0, len(turns), TURNS_AT_ONCE):
        yield turns[start : start + TURNS_AT_ONCE]
    for session in sessions:
        after, more = 0, True
        while more:
            page = await store.read(partial(_page, tenant=tenant, session=session, after=after))
            yield [turn.id for turn in page]
            more = len(page) == TURNS_AT_ONCE
            after = page[-1].version if page else 0


def _page(connection: Connection, tenant: str, session: UUID, after: int) -> list[TurnState]:
    """The next turns of a session's history."""
    state = queries.session_state(connection, tenant, session)
    return [] if state is None else list_turns(connection, tenant, state, after=after, limit=TURNS_AT_ONCE)


class _Replay:
    """Does turns again, one by one, in a log in memory."""

    def __init__(
        self, source: Store, providers: Providers, clock: Clock, tenant: str, renderer: RendererChoice
    ) -> None:
        self._source = source
        self._providers = providers
        self._clock = clock
        self._tenant = tenant
        self._current = renderer == "current"
        self._log = ExitStack()
        self._scratch = self._new_log()
        self._session: ScratchSession | None = None
        self._done = 0

    def close(self) -> None:
        """Let the log in memory go."""
        self._log.close()

    def look(self, connection: Connection, turns: Sequence[UUID]) -> list[_Turn | Result]:
        """Read what is on record of some turns; the result of one that is skipped."""
        return [self._look(connection, turn) for turn in turns]

    async def result(self, turn: _Turn) -> Result:
        """Do a turn again: on what is there of its session, and if it is not the same then, on its own history."""
        if self._done >= TURNS_A_LOG:
            self._log.close()
            self._scratch, self._session, self._done = self._new_log(), None, 0
        self._done += 1
        there, self._session = self._session, None
        if there is not None and there.recorded == turn.record.state.session and there.reaches(turn.record):
            result = await self._tried(turn, there)
            if result.same:
                return result
        return await self._tried(turn, None)

    def _new_log(self) -> ScratchStore:
        return self._log.enter_context(scratch_store(Catalog(), self._clock, Settings(), meaning_of))

    def _look(self, connection: Connection, turn: UUID) -> _Turn | Result:
        state = queries.turn_state(connection, self._tenant, turn)
        assert state is not None, "it was listed, or checked"
        try:
            record = read_recorded_turn(connection, self._tenant, turn)
            policy = POLICY if self._current else None
            return _Turn(record, rendering_of(record, self._providers, policy, current=self._current))
        except LEFT_OUT as error:
            return _skipped(state, error.detail)

    async def _tried(self, turn: _Turn, there: ScratchSession | None) -> Result:
        """Do a turn again on what is ``there``, or (None) on its own history."""
        record = turn.record
        try:
            session = there or ScratchSession(self._scratch, self._clock.new_id(), self._tenant, record.state.session)
            if there is None:
                await session.begin(record, await self._source.read(partial(history_then, record=record)))
            elif there.lacks(record):
                read = partial(further_history, record=record, there=frozenset(there.places))
                await session.go_on(record, await self._source.read(read))
            rerun = await run_turn(self._scratch, session, record, turn.rendering, self._clock)
        except LEFT_OUT as error:
            return _skipped(record.state, error.detail)
        except Exception as error:  # whatever today's code raises is what is looked for
            if not isinstance(error, EngineError):
                log.exception("turn %s could not be done again", record.state.id)
            return _failed(record, error)
        result = await self._compared(record, rerun)
        if result.same:
            session.take(record, rerun.messages)
            self._session = session
        return result

    async def _compared(self, record: RecordedTurn, rerun: Rerun) -> Result:
        found: tuple[FirstDifference, str | None] | None = None
        other = first_other_request(record, rerun)
        if other is not None:
            found = await self._source.read(
                partial(request_difference, providers=self._providers, record=record, rerun=rerun, number=other)
            )
        found = found or answer_difference(record, rerun)
        counted = count_difference(record, rerun) if found is None else None
        shown = frame_difference(record, frames_of_record(record.events), rerun)
        if counted is not None:
            found = counted, "the tokens of a window are counted otherwise"
        if found is None and shown is not None:
            found = shown, "other frames are shown"
        same_request, same_frames = found is None or found[0].layer == "frames", shown is None
        layers = msgspec.structs.replace(SAME if same_frames else Layers(frames=False), request=same_request)
        return _result(record.state, found, layers)


class _Turn(msgspec.Struct, frozen=True):
    """A turn that is to be done again, and how its requests are made."""

    record: RecordedTurn
    rendering: Rendering


def _result(state: TurnState, found: tuple[FirstDifference, str | None] | None, layers: Layers) -> Result:
    difference, reason = found or (None, None)
    verdict: Verdict = "same" if found is None else "different"
    return Result(state.session, state.id, None, None, verdict, difference, layers, reason)


def _skipped(state: TurnState, reason: str) -> Result:
    return Result(state.session, state.id, None, None, "skipped", reason=reason)


def _failed(record: RecordedTurn, error: Exception) -> Result:
    """What keeps a turn from being started or ended again is a difference, too: then it was not kept from it."""
    place = FirstDifference("request", "attempts[0]", record.attempts[0].facts.request, None)
    state = record.state
    return Result(state.session, state.id, None, None, "failed", place, Layers(request=False), failure_in_words(error))
