"""The start of a turn: it is planned on a snapshot; then its message, its start and its first attempt are appended at
once, if the session is still at the version of the snapshot.

The request is rendered before the append, so that ``attempt.started``, which is committed before anything is sent,
holds all that decides the request's bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ..access.limits import Admission
from ..context.plan import (
    PlannedRound,
    RequestPlan,
    ToolOffer,
    attempt_of,
    document_of,
    plan_first_round,
    plan_round,
)
from ..context.prompt import ClientForm, Limits
from ..context.routing import give_back
from ..errors import Invalid, TooLarge, VersionConflict
from ..events.blocks import ToolSchema
from ..events.turn_types import TurnWords
from ..events.types import NewMessage
from ..log.append import check_expected
from ..log.base import (
    AnyVersion,
    Append,
    Connection,
    Exactly,
    Inherited,
    NewEvent,
    NoStream,
    Place,
    Reference,
    RequestKey,
)
from ..log.sql.documents import KeepDocument
from ..log.sql.idempotency import find_request
from ..providers.base import Parameters
from ..providers.registry import resolve, resolve_if_there
from ..sessions import queries
from ..sessions.calls import NONE_READ, CallIds
from ..sessions.decisions import (
    Changes,
    StartTurn,
    check_forkable,
    check_turn,
    fork_session,
    start_turn,
    superseded,
)
from ..sessions.envelope import Caller, seal
from ..sessions.forks import ForkCheck
from ..sessions.history import fork_state, open_call_ids, state_at
from ..sessions.lineage import history_at
from ..sessions.state import SessionState
from ..settings import Settings
from ..tools.registry import Tools, write_schemas
from .again import Again, again_runtime
from .supervisor import Supervisor
from .turn import RunningTurn, Runtime

CHOICES = ("auto", "any", "none")
MAX_PLANS = 5
"""Most plans of one turn, if the session moves on between plan and append."""


class Ask(msgspec.Struct, frozen=True):
    """A caller's request for a turn. ``message`` None: answer what is there. ``parameters``: all but the limit and the
    choice of tools; ``task``: by which a route chooses. ``tools``: names of registered tools; ``client_tools``: tools
    that the caller runs; ``tool_choice``: ``auto``, ``any``, ``none`` or a name. ``continues``: continue a partial
    answer. ``from_version``: the session is forked at that version first, and the turn runs there. ``again``: it is a
    recorded turn, done once more; ``one_round``: the turn ends with the first answer;
    ``form``: in which a client has sent what is on record.
    """

    message: NewMessage | None = None
    model: str | None = None
    limits: Limits = Limits()
    parameters: Parameters = Parameters()
    task: str | None = None
    tools: tuple[str, ...] = ()
    client_tools: tuple[ToolSchema, ...] = ()
    tool_choice: str | None = None
    continues: bool = False
    on_disconnect: Literal["continue", "cancel"] = "continue"
    from_version: int | None = None
    again: Again | None = None
    one_round: bool = False
    form: ClientForm | None = None


class TurnPlan(msgspec.Struct, frozen=True):
    """The plan of a turn that is to start. ``ids``: the vendor's ids of the calls that are open; ``inherits``: the
    history of the fork that it begins in, if it is one.
    """

    first: PlannedRound
    ids: CallIds
    inherits: Inherited | None = None


class Started(msgspec.Struct, frozen=True):
    """A started turn. ``replayed``: it was started before under the same idempotency key."""

    session: UUID
    turn: UUID
    replayed: bool = False


class TurnStarter:
    """Starts turns."""

    def __init__(self, supervisor: Supervisor, tools: Tools) -> None:
        self._supervisor = supervisor
        self._tools = tools
        self._store = supervisor.runtime.store
        self._providers = supervisor.runtime.providers
        self._clock = supervisor.runtime.clock
        self._settings = supervisor.runtime.settings
        self._starting: set[asyncio.Task[Started]] = set()

    async def start(
        self,
        caller: Caller,
        session_id: UUID,
        ask: Ask,
        *,
        expected: int | None = None,
        idempotency: RequestKey | None = None,
    ) -> Started:
        """Start a turn; returns when its start is durable and it runs.

        Raises what ``decisions.check_turn`` refuses, BudgetTooSmall, ContentNotSupported, UnknownModel,
        VersionConflict, Overloaded, RateLimited.
        """
        plans = MAX_PLANS if expected is None else 1
        while True:
            plans -= 1
            plan = partial(self._plan, caller=caller, session_id=session_id, ask=ask, expected=expected)
            planned = await self._store.read(
                partial(_replayed_or_planned, plan, tenant=caller.tenant, idempotency=idempotency)
            )
            if isinstance(planned, Reference):
                return await self._replayed(caller, planned)
            try:
                append = self._append(caller, session_id, ask, planned, expected, idempotency)
                return await self._shielded(append)
            except VersionConflict:
                if plans <= 0:
                    raise

    async def check(self, caller: Caller, session: UUID | SessionState, ask: Ask) -> None:
        """Raise what would keep a turn from starting: on a session, or on one that would be begun for it. Takes and
        writes nothing, so that nothing else is done for a turn that will not be.
        """
        plan: Callable[[Connection], TurnPlan]
        if isinstance(session, UUID):
            plan = partial(self._plan, caller=caller, session_id=session, ask=ask, expected=None)
        else:
            plan = partial(self._plan_on_new, tenant=caller.tenant, state=session, ask=ask)
        planned = await self._store.read(plan)
        give_back(planned.first.chosen)
        with self._supervisor.admitted(), self._admitted(caller, planned.first):
            """There is room, and it is given back."""

    def _plan_on_new(self, connection: Connection, *, tenant: str, state: SessionState, ask: Ask) -> TurnPlan:
        request_plan, settings = self._plan_requests(ask, state), self._settings
        first = plan_first_round(
            connection, tenant=tenant, state=state, request_plan=request_plan, settings=settings, new=ask.message
        )
        return TurnPlan(first, NONE_READ)

    async def _shielded(self, append: Coroutine[Any, Any, Started]) -> Started:
        """A caller that disconnects while the start is written must not leave an open turn that does not run."""
        starting = asyncio.create_task(append)
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return await asyncio.shield(starting)

    async def _replayed(self, caller: Caller, reference: Reference) -> Started:
        event = await self._store.read(partial(_event_session, tenant=caller.tenant, turn_id=reference.id))
        return Started(event, reference.id, replayed=True)

    def _plan(
        self, connection: Connection, *, caller: Caller, session_id: UUID, ask: Ask, expected: int | None
    ) -> TurnPlan:
        state = state_at(connection, caller.tenant, session_id)
        if expected is not None:
            check_expected(Exactly(expected), state.version)
        inherits = None
        if ask.from_version is not None:
            check_forkable(state, self._clock.now_us())
            inherits = history_at(connection, caller.tenant, session_id, ask.from_version, "from_version")
            state = fork_state(connection, caller.tenant, self._clock.new_id(), inherits)
        ids = open_call_ids(connection, caller.tenant, state)
        check_turn(state, ask.message, ids, continues=ask.continues, now_us=self._clock.now_us())
        first = plan_round(
            connection,
            tenant=caller.tenant,
            state=state,
            request_plan=self._plan_requests(ask, state),
            settings=self._settings,
            new=ask.message,
            without=superseded(state, ask.message, continues=ask.continues),
            positions=None if ask.again is None else ask.again.positions,
        )
        return TurnPlan(first, ids, inherits)

    def _plan_requests(self, ask: Ask, state: SessionState) -> RequestPlan:
        """Plan what the turn's requests have in common. Raises UnknownModel, and Invalid for tools that are not
        available.
        """
        if ask.again is not None:
            return ask.again.plan(resolve(self._providers, ask.model or state.setting("model")), ask.limits)
        names = self._tools.allowed(ask.tools, state.setting("allowed_tools"))
        schemas = (*self._tools.schemas(names), *ask.client_tools)
        check_offer(schemas, ask.tool_choice, self._settings)
        fallback = state.setting("fallback_model")
        return RequestPlan(
            model=resolve(self._providers, ask.model or state.setting("model")),
            limits=ask.limits,
            parameters=replace(
                ask.parameters,
                max_output_tokens=ask.limits.max_output_tokens or state.max_output_tokens,
                tool_choice=ask.tool_choice if schemas else None,
                parallel_tool_calls=ask.parameters.parallel_tool_calls if schemas else None,
            ),
            offer=ToolOffer(schemas, tuple(schema.name for schema in ask.client_tools)),
            fallback=resolve_if_there(self._providers, fallback),
            fallback_name=fallback,
            task=ask.task,
            form=ask.form,
        )

    async def _append(
        self,
        caller: Caller,
        session_id: UUID,
        ask: Ask,
        plan: TurnPlan,
        expected: int | None,
        idempotency: RequestKey | None,
    ) -> Started:
        turn_id, first = self._clock.new_id(), plan.first
        document = document_of(first, caller.tenant, self._clock)
        work = self._work(caller, session_id, plan, turn_id, expected)
        if document is not None:
            work = replace(work, scratch=(*work.scratch, document))
        events = partial(self._events, caller=caller, turn_id=turn_id, ask=ask, plan=plan, document=document)
        work = replace(work, events=events, request=idempotency)
        runtime = again_runtime(self._supervisor.runtime, ask.again)
        return await self._launch(caller, work, first, runtime, opening=int(plan.inherits is not None))

    async def _launch(
        self,
        caller: Caller,
        work: Append,
        first: PlannedRound,
        runtime: Runtime,
        *,
        opening: int,
    ) -> Started:
        """Record the start of a turn, and run it. ``opening``: how many events come before those of the turn."""
        assert work.reference is not None
        turn_id = work.reference.id
        with self._supervisor.admitted(), self._admitted(caller, first) as admission:
            answer = await self._store.append(work)
            if answer.replayed is None:
                requests, own = first.request_plan, answer.events[opening:]
                turn = RunningTurn(runtime, caller, turn_id, requests, own, first=first, admission=admission)
                self._supervisor.start(turn)
                return Started(work.session, turn_id)
        return await self._replayed(caller, answer.replayed)

    def _work(self, caller: Caller, session_id: UUID, plan: TurnPlan, turn_id: UUID, expected: int | None) -> Append:
        """The append that starts a turn: in the session, or in a fork of it."""
        tenant, state, reference = caller.tenant, plan.first.window.state, Reference("turn", turn_id, 0)
        run = self._supervisor.run_of(tenant, state.id, turn_id)
        if plan.inherits is None:
            return Append(tenant, session_id, Exactly(state.version), (), reference=reference, scratch=(run,))
        wanted = AnyVersion() if expected is None else Exactly(expected)
        check = ForkCheck(tenant, session_id, wanted, self._clock.now_us(), self._settings.max_forks)
        scratch, inherits = (check, run), plan.inherits
        return Append(tenant, state.id, NoStream(), (), reference=reference, scratch=scratch, inherits=inherits)

    def _admitted(self, caller: Caller, first: PlannedRound) -> AbstractContextManager[Admission]:
        """Admit the turn within the limits of the caller's key and of the provider."""
        provider, tokens = first.model.provider.name, first.window.chosen.used_tokens
        return self._supervisor.runtime.limits.admitted((caller.tenant, caller.actor), provider, tokens)

    def _events(
        self,
        place: Place,
        state: Any,
        *,
        caller: Caller,
        turn_id: UUID,
        ask: Ask,
        plan: TurnPlan,
        document: KeepDocument | None,
    ) -> list[NewEvent]:
        clock, message, first = self._clock, ask.message, plan.first
        origin = None if ask.again is None else ask.again.origin
        forked = [] if plan.inherits is None else [fork_session(Changes({}), plan.inherits, origin)]
        if message is not None:
            message = replace(message, id=clock.new_id())
        salt, now_us = clock.salts(1)[0], clock.now_us()
        command = StartTurn(
            turn_id=turn_id,
            model=first.model.recorded,
            provider=first.model.provider.name,
            attempt=attempt_of(
                first,
                turn_id,
                (1, 1),
                now_us=now_us,
                salt=salt,
                document=document,
                new_position=place.position + len(forked),
            ),
            message=message,
            continues=ask.continues,
            one_round=ask.one_round,
            on_disconnect=ask.on_disconnect,
            words=TurnWords(first.model.words, first.request_plan.offer.client),
            ids=plan.ids,
            now_us=now_us,
        )
        return seal([*forked, *start_turn(state, command)], caller, clock)


def check_offer(schemas: Sequence[ToolSchema], choice: str | None, settings: Settings) -> None:
    """Raises Invalid or TooLarge for tools that cannot be offered together, or for a choice that names none of them."""
    names = [schema.name for schema in schemas]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Invalid("client_tools", f"two tools of this turn are named {twice}")
    for what, size, setting, maximum in (
        ("tools", len(names), "max_tools", settings.max_tools),
        ("bytes of schemas", len(write_schemas(schemas)), "max_tools_bytes", settings.max_tools_bytes),
    ):
        if size > maximum:
            detail = f"tools: {size} {what}, and {setting} allows {maximum}"
            raise TooLarge(detail, field="tools", limit=setting, maximum=maximum)
    if choice is not None and choice not in {*CHOICES, *names}:
        raise Invalid("tool_choice", f"must be one of {', '.join(CHOICES)}, or the name of a tool of this turn")
    if choice == "any" and not names:
        raise Invalid("tool_choice", "this turn has no tools")


def _replayed_or_planned(
    plan: Callable[[Connection], TurnPlan], connection: Connection, *, tenant: str, idempotency: RequestKey | None
) -> TurnPlan | Reference:
    """The turn that this request has started before, else a plan: a retry is answered, whatever has become of the
    session.
    """
    return find_request(connection, tenant, idempotency) or plan(connection)


def _event_session(connection: Connection, *, tenant: str, turn_id: UUID) -> UUID:
    state = queries.turn_state(connection, tenant, turn_id)
    assert state is not None, "a remembered turn is in the record"
    return state.session
