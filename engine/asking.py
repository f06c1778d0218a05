"""Starting a turn: plan on a snapshot, then append message, start and first attempt at once, if the session is still
where it was.

The attempt's request is rendered before the append, so that ``attempt.started`` - committed before anything is
sent - holds all that decides its bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Literal
from uuid import UUID

import msgspec

from engine import codec, planning, tokens
from engine.clock import Clock
from engine.decisions import NewMessage, check_turn, message_draft, superseded
from engine.envelope import Caller, seal
from engine.errors import VersionConflict
from engine.events import AttemptStarted, AttemptWords, Draft, TurnStarted
from engine.planning import Limits, Model, Sight
from engine.projections import queries
from engine.projections.window import POLICY
from engine.providers.base import Parameters
from engine.providers.models import Providers
from engine.settings import Settings
from engine.store.base import Append, Connection, Exactly, NewEvent, Place, Reference, RequestKey
from engine.store.log import Store
from engine.store.requests import find_request
from engine.supervisor import Supervisor

MAX_PLANS = 5
"""How often a turn is planned anew when the session moves on between plan and append."""


class Ask(msgspec.Struct, frozen=True):
    """What a caller wants of a turn. ``message`` None: answer what is there. ``continues``: go on with a partial
    answer.
    """

    message: NewMessage | None = None
    model: str | None = None
    limits: Limits = Limits()
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    continues: bool = False
    on_disconnect: Literal["continue", "cancel"] = "continue"


class Started(msgspec.Struct, frozen=True):
    """A turn that runs, or that ran before under the same idempotency key (``replayed``)."""

    session: UUID
    turn: UUID
    replayed: bool = False


class Planned(msgspec.Struct, frozen=True):
    """A turn ready to be appended at ``view.state.version``."""

    view: Sight
    model: Model
    request: bytes
    parameters: Parameters
    supersedes: int | None


class TurnStarter:
    """Starts turns."""

    def __init__(
        self, store: Store, supervisor: Supervisor, providers: Providers, clock: Clock, settings: Settings
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._providers = providers
        self._clock = clock
        self._settings = settings
        self._starting: set[asyncio.Task[Started]] = set()

    async def start(
        self, caller: Caller, session: UUID, ask: Ask, *, expected: int | None = None, request: RequestKey | None = None
    ) -> Started:
        """Start a turn; returns when its start is durable and it runs.

        Raises what ``decisions.check_turn`` refuses, BudgetTooSmall, UnknownModel, VersionConflict, Overloaded.
        """
        plans = MAX_PLANS if expected is None else 1
        while True:
            plans -= 1
            plan = partial(self._plan, caller=caller, session=session, ask=ask, expected=expected)
            planned = await self._store.read(partial(_recall_or, plan, tenant=caller.tenant, request=request))
            if isinstance(planned, Reference):
                return await self._replayed(caller, planned)
            # A caller who leaves while the start is written must not leave a turn that is open and not run.
            starting = asyncio.create_task(self._append(caller, session, ask, planned, request))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
            try:
                return await asyncio.shield(starting)
            except VersionConflict:
                if plans <= 0:
                    raise

    async def _replayed(self, caller: Caller, reference: Reference) -> Started:
        event = await self._store.read(partial(_event_session, tenant=caller.tenant, turn=reference.id))
        return Started(event, reference.id, replayed=True)

    def _plan(
        self, connection: Connection, *, caller: Caller, session: UUID, ask: Ask, expected: int | None
    ) -> Planned:
        state, words = planning.state_at(connection, caller.tenant, session)
        if expected is not None and state.version != expected:
            detail = f"the session was expected to be at version {expected}, and is at {state.version}"
            raise VersionConflict(detail, current_version=state.version)
        check_turn(state, ask.message, continues=ask.continues)
        model = planning.resolve(self._providers, ask.model or state.model)
        measure = planning.measure_of(connection, caller.tenant, state, model, ask.limits, self._settings)
        supersedes = superseded(state, ask.message, continues=ask.continues)
        view = planning.look(connection, caller.tenant, state, words, measure, new=ask.message, without=supersedes)
        parameters = Parameters(
            max_output_tokens=ask.limits.max_output_tokens or state.max_output_tokens,
            temperature=ask.temperature,
            stop=ask.stop,
        )
        prompt = planning.prompt_of(view, model, parameters, ask.message)
        request = model.provider.renderers[model.provider.renderer](prompt)
        return Planned(view, model, request, parameters, supersedes)

    async def _append(
        self, caller: Caller, session: UUID, ask: Ask, planned: Planned, request: RequestKey | None
    ) -> Started:
        turn = self._clock.new_id()
        with self._supervisor.admitted():
            answer = await self._store.append(
                Append(
                    tenant=caller.tenant,
                    session=session,
                    expected=Exactly(planned.view.state.version),
                    events=partial(self._events, caller=caller, turn=turn, ask=ask, planned=planned),
                    request=request,
                    reference=Reference("turn", turn, 0),
                    scratch=(self._supervisor.run_of(caller.tenant, session, turn),),
                )
            )
            if answer.replayed is None:
                self._supervisor.start(caller, planned.model.provider, planned.request, answer.events, turn)
                return Started(session, turn)
        return await self._replayed(caller, answer.replayed)

    def _events(
        self, place: Place, _: Any, *, caller: Caller, turn: UUID, ask: Ask, planned: Planned
    ) -> list[NewEvent]:
        drafts = []
        if ask.message is not None:
            drafts.append(message_draft(msgspec.structs.replace(ask.message, id=self._clock.new_id())))
        cause = drafts[0].id if drafts else None
        started = TurnStarted(
            model=planned.model.name,
            provider=planned.model.provider.name,
            continues=ask.continues,
            supersedes=planned.supersedes,
            on_disconnect=ask.on_disconnect,
        )
        drafts.append(Draft(started, id=turn, causation=cause))
        salt = self._clock.salts(1)[0]
        attempt = _attempt(turn, planned, place.position, salt)
        words = AttemptWords(salt=salt, stop=ask.stop)
        drafts.append(Draft(attempt, words, causation=turn, actor=f"turn:{turn}"))
        return seal(drafts, caller, self._clock)


def _attempt(turn: UUID, planned: Planned, new_position: int, salt: bytes) -> AttemptStarted:
    view, measure, parameters = planned.view, planned.view.measure, planned.parameters
    return AttemptStarted(
        turn=turn,
        round=1,
        attempt=1,
        provider=planned.model.provider.name,
        model=planned.model.info.name,
        renderer=planned.model.provider.renderer,
        positions=tuple(row.position or new_position for row in view.chosen.rows),
        request=codec.commitment(salt, planned.request).hex(),
        counter=tokens.COUNTER,
        factor_permille=measure.factor_permille,
        overhead=measure.overhead,
        base_tokens=view.chosen.base_tokens,
        budget_tokens=measure.budget_tokens,
        reserve_tokens=measure.reserve_tokens,
        policy=POLICY,
        system=view.state.system.position if view.state.system else None,
        max_output_tokens=parameters.max_output_tokens,
        temperature=None if parameters.temperature is None else repr(parameters.temperature),
    )


def _recall_or(
    plan: Callable[[Connection], Planned], connection: Connection, *, tenant: str, request: RequestKey | None
) -> Planned | Reference:
    """What the request made when it came before, else a plan: a repetition is answered whatever has become of the
    session.
    """
    return find_request(connection, tenant, request) or plan(connection)


def _event_session(connection: Connection, *, tenant: str, turn: UUID) -> UUID:
    state = queries.turn_state(connection, tenant, turn)
    assert state is not None, "a remembered turn is in the record"
    return state.session
