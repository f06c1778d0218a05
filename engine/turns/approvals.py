"""Approval of tool calls: a person's decision is recorded, with its reason and its actor, before the tool runs."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..context.plan import RequestPlan, restore_plan
from ..errors import TurnNotFound, VersionConflict
from ..events.turn_types import TurnResumed
from ..events.types import Draft
from ..log.base import Append, Connection, Exactly, Exists, NewEvent, Place, Reference, RequestKey, Scratch
from ..log.sql.idempotency import find_request
from ..sessions import queries
from ..sessions.calls import CallIds
from ..sessions.envelope import Caller, seal
from ..sessions.history import state_at, turn_call_ids
from ..sessions.state import SessionState
from ..sessions.turn_commands import Decision
from ..sessions.turn_decisions import cancel_paused, decide_call
from ..sessions.turn_state import TurnState
from ..streams.backlog import turn_events
from ..streams.transcript import Transcript
from .observer import report_end
from .supervisor import Supervisor
from .turn import RunningTurn

MAX_TRIES = 5
"""Most attempts to record a decision while other writers move the session on."""


class PausedTurn(msgspec.Struct, frozen=True):
    """A paused turn as it is recorded, the events of a decision on it, and all that is needed to resume it."""

    drafts: list[Draft]
    session: SessionState
    turn: TurnState
    transcript: Transcript
    request_plan: RequestPlan


class Approvals:
    """Records decisions, and resumes the turns that waited for them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._runtime = supervisor.runtime

    async def decide(
        self, caller: Caller, turn_id: UUID, decision: Decision, *, idempotency: RequestKey | None = None
    ) -> None:
        """Record a decision. With the last decision that the turn waits for, it is resumed.

        Raises TurnNotFound, or NoDecisionAwaited if the turn does not wait for this decision.
        """
        for tries_left in reversed(range(MAX_TRIES)):
            reading = partial(
                self._look, tenant=caller.tenant, turn_id=turn_id, decision=decision, idempotency=idempotency
            )
            paused = await self._runtime.store.read(reading)
            if paused is None:
                return
            try:
                await self._record(caller, paused, idempotency)
            except VersionConflict:
                if not tries_left:
                    raise
            else:
                return

    async def cancel(self, caller: Caller, turn: TurnState) -> None:
        """Cancel a turn that waits for a decision. A turn that was resumed meanwhile, or has ended, stays as it is."""
        ids = await self._runtime.store.read(partial(turn_call_ids, tenant=caller.tenant, turn=turn, damaged=True))

        def events(place: Place, state: Any) -> list[NewEvent]:
            drafts = cancel_paused(state.open_turn, turn.id, caller.actor, place.position, ids)
            return seal(drafts, caller, self._runtime.clock)

        ended = await self._runtime.store.append(Append(caller.tenant, turn.session, Exists(), events))
        report_end(self._runtime.observer, turn, ended.events)

    def _look(
        self, connection: Connection, *, tenant: str, turn_id: UUID, decision: Decision, idempotency: RequestKey | None
    ) -> PausedTurn | None:
        """The paused turn; None if this very request has been answered before."""
        if find_request(connection, tenant, idempotency) is not None:
            return None
        state = queries.turn_state(connection, tenant, turn_id)
        if state is None:
            raise TurnNotFound("there is no such turn", turn_id=str(turn_id))
        drafts = decide_call(state, _by_ordinal(decision, turn_call_ids(connection, tenant, state)))
        session = state_at(connection, tenant, state.session)
        transcript = Transcript(turn_id)
        for event in turn_events(connection, tenant, state):
            transcript.add(event)
        request_plan = restore_plan(
            connection, tenant=tenant, turn=state, state=session, providers=self._runtime.providers
        )
        return PausedTurn(drafts, session, state, transcript, request_plan)

    async def _record(self, caller: Caller, paused: PausedTurn, idempotency: RequestKey | None) -> None:
        turn = paused.turn
        sealed = seal(paused.drafts, caller, self._runtime.clock)
        resumed = isinstance(paused.drafts[-1].facts, TurnResumed)
        scratch: tuple[Scratch, ...] = ()
        if resumed:
            scratch = (self._supervisor.run_of(caller.tenant, turn.session, turn.id),)
        with self._supervisor.admitted():
            answer = await self._runtime.store.append(
                Append(
                    tenant=caller.tenant,
                    session=turn.session,
                    expected=Exactly(paused.session.version),
                    events=lambda _, __: sealed,
                    request=idempotency,
                    reference=Reference("turn", turn.id, 0),
                    scratch=scratch,
                )
            )
            if resumed and answer.replayed is None:
                resumed_turn = RunningTurn(
                    self._runtime, caller, turn.id, paused.request_plan, answer.events, transcript=paused.transcript
                )
                self._supervisor.start(resumed_turn)


def _by_ordinal(decision: Decision, ids: CallIds) -> Decision:
    """The decision on a call as facts name it; callers name it by the vendor's id. One of no open call is on none."""
    found = next((ordinal for ordinal, call_id in ids.items() if call_id == decision.call), "")
    return msgspec.structs.replace(decision, call=found)
