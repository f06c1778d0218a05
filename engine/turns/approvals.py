"""Deciding on tool calls that need a person's yes: who decided, how and why is on record before anything runs."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..context.plan import Brief, recall
from ..errors import NoDecisionAwaited, TurnNotFound, VersionConflict
from ..events.types import DecisionWords, Draft, ToolApproved, ToolRefused, TurnResumed
from ..log.base import Append, Connection, Exactly, Exists, NewEvent, Place, Reference, RequestKey, Scratch
from ..log.sql.idempotency import find_request
from ..sessions import queries
from ..sessions.envelope import Caller, seal
from ..sessions.history import state_at
from ..sessions.state import SessionState
from ..sessions.turn_state import TurnState
from ..streams.backlog import turn_events
from ..streams.transcript import Story
from .observer import report_end
from .outcomes import Ending, Stop, end_of_turn
from .supervisor import Supervisor
from .turn import Turn

MAX_TRIES = 5
"""How often a decision is tried again when the session moves on meanwhile."""


class Decision(msgspec.Struct, frozen=True):
    """What somebody says to one call, and why."""

    call: str
    approve: bool
    reason: str | None = None


class Paused(msgspec.Struct, frozen=True):
    """A paused turn as it is recorded, and what it takes to go on with it."""

    session: SessionState
    turn: TurnState
    story: Story
    brief: Brief


class Decider:
    """Takes decisions, and goes on with the turns that waited for them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._kit = supervisor.kit

    async def decide(
        self, caller: Caller, turn: UUID, decision: Decision, *, request: RequestKey | None = None
    ) -> None:
        """Record a decision; with the last that it waits for, the turn goes on.

        Raises TurnNotFound, or NoDecisionAwaited where the turn does not wait for this one.
        """
        for tries_left in reversed(range(MAX_TRIES)):
            reading = partial(self._look, tenant=caller.tenant, turn=turn, request=request)
            paused = await self._kit.store.read(reading)
            if paused is None:
                return
            if decision.call not in paused.turn.awaited:
                raise NoDecisionAwaited("the turn does not wait for a decision on this call", field="tool_use_id")
            try:
                await self._record(caller, paused, decision, request)
            except VersionConflict:
                if not tries_left:
                    raise
            else:
                return

    async def cancel(self, caller: Caller, turn: TurnState) -> None:
        """End a turn that waits; one that goes on meanwhile, or has ended, is left alone."""

        def events(place: Place, state: Any) -> list[NewEvent]:
            now: TurnState | None = state.open_turn
            if now is None or now.id != turn.id or now.status != "requires_action":
                return []
            ending = Ending("cancelled", stop=Stop("cancelled", caller.actor))
            return seal(end_of_turn(now, ending, now.frame, place.position), caller, self._kit.clock)

        ended = await self._kit.store.append(Append(caller.tenant, turn.session, Exists(), events))
        report_end(self._kit.observer, turn, ended.events)

    def _look(self, connection: Connection, *, tenant: str, turn: UUID, request: RequestKey | None) -> Paused | None:
        """The turn as it waits; None where this very request came before."""
        if find_request(connection, tenant, request) is not None:
            return None
        state = queries.turn_state(connection, tenant, turn)
        if state is None:
            raise TurnNotFound("there is no such turn", turn_id=str(turn))
        if state.status != "requires_action":
            raise NoDecisionAwaited("the turn does not wait for a decision", turn_status=state.status)
        session, _ = state_at(connection, tenant, state.session)
        story = Story(turn)
        for event in turn_events(connection, tenant, state):
            story.tell(event)
        brief = recall(connection, tenant=tenant, turn=state, state=session, providers=self._kit.providers)
        return Paused(session, state, story, brief)

    async def _record(self, caller: Caller, paused: Paused, decision: Decision, request: RequestKey | None) -> None:
        drafts, turn = _drafts(paused.turn, decision), paused.turn
        sealed = seal(drafts, caller, self._kit.clock)
        resumed = isinstance(drafts[-1].facts, TurnResumed)
        scratch: tuple[Scratch, ...] = ()
        if resumed:
            scratch = (self._supervisor.run_of(caller.tenant, turn.session, turn.id),)
        with self._supervisor.admitted():
            answer = await self._kit.store.append(
                Append(
                    tenant=caller.tenant,
                    session=turn.session,
                    expected=Exactly(paused.session.version),
                    events=lambda _, __: sealed,
                    request=request,
                    reference=Reference("turn", turn.id, 0),
                    scratch=scratch,
                )
            )
            if resumed and answer.replayed is None:
                going_on = Turn(self._kit, caller, turn.id, paused.brief, answer.events, story=paused.story)
                self._supervisor.start(going_on)


def _drafts(turn: TurnState, decision: Decision) -> list[Draft]:
    words = None if decision.reason is None else DecisionWords(decision.reason)
    facts = (ToolApproved if decision.approve else ToolRefused)(turn.id, decision.call, turn.frame + 1)
    drafts = [Draft(facts, words, causation=turn.id)]
    if turn.awaited == (decision.call,):
        drafts.append(Draft(TurnResumed(turn.id, turn.frame + 2), causation=turn.id))
    return drafts
