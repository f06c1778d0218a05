"""The plan of a round: the request's parameters, the window, the bytes of the request, and the facts from which all of
that can be derived again.

It reads a snapshot; it decides nothing and writes nothing. The first round is planned before the turn is appended,
every later one by the turn itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from ..clock import Clock, utc_day
from ..errors import StoreCorrupt
from ..events.blocks import ToolSchema
from ..events.turn_types import OTHER, AttemptStarted, AttemptWords, CacheMarks, SaidContent
from ..events.types import NewMessage
from ..events.upcasts import facts_of, words_of
from ..events.usage import Price
from ..log import codec
from ..log.base import Connection
from ..log.sql import reads
from ..log.sql.documents import KeepDocument, read_document
from ..providers import tokens
from ..providers.base import Parameters
from ..providers.registry import Providers, ResolvedModel, resolve, resolve_if_there
from ..providers.routes import Candidate
from ..sessions.history import state_at
from ..sessions.state import SessionState
from ..sessions.turn_commands import StartAttempt
from ..sessions.turn_state import TurnState
from ..settings import Settings
from ..tools.registry import read_schemas, write_schemas
from .content import IMAGES, check_content, has_images
from .prompt import UNPLACED, ChosenWindow, ClientForm, Limits, choose_window, given_window, measure_of, prompt_of
from .recorded import parameter_facts, parameter_words, parameters_of
from .routing import asked_of, give_back, plan_routed
from .support import check_parameters, refused_parameter
from .window import WHOLE, Measure

FREE = "auto"


class ToolOffer(msgspec.Struct, frozen=True):
    """The tools that are offered to a turn's model. ``client``: names of those that the caller runs; ``unknown``: of
    those that are not registered here, and are answered from a record.
    """

    schemas: tuple[ToolSchema, ...] = ()
    client: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def server(self) -> tuple[str, ...]:
        """The names of those that the server runs."""
        return tuple(schema.name for schema in self.schemas if schema.name not in (*self.client, *self.unknown))

    @property
    def document(self) -> bytes:
        """The schemas as they are stored; empty if there are none."""
        return write_schemas(self.schemas) if self.schemas else b""


class RequestPlan(msgspec.Struct, frozen=True):
    """The plan of a turn's requests: what all its rounds have in common. ``fallback`` answers if ``model`` cannot; its
    name may be set while it is not served any more. ``task``: by which a route chooses; ``form``: in which a client has
    sent what is on record; ``whole``: nothing that is on record is left out.
    """

    model: ResolvedModel
    limits: Limits
    parameters: Parameters
    offer: ToolOffer = ToolOffer()
    fallback: ResolvedModel | None = None
    fallback_name: str | None = None
    task: str | None = None
    form: ClientForm | None = None
    whole: bool = False

    def fallback_for(self, planned: PlannedRound) -> ResolvedModel | None:
        """The fallback model, if it can take what the other one was asked."""
        return None if self.why_no_fallback(planned) else self.fallback

    def why_no_fallback(self, planned: PlannedRound) -> str:
        """Say why the fallback model cannot be asked this; empty if it can, or if there is none."""
        if self.fallback is None:
            return "is not served any more" if self.fallback_name is not None else ""
        if planned.has_images and not self.fallback.info.can(IMAGES):
            return "takes no images"
        refused = refused_parameter(self.fallback, self.parameters, self.offer.schemas)
        return "" if refused is None else f"takes no {refused}"

    def after_tools(self) -> RequestPlan:
        """The plan for the rounds after the first: a model that had to call a tool may answer now."""
        choice = self.parameters.tool_choice
        if choice in {None, FREE, "none"}:
            return self
        return msgspec.structs.replace(self, parameters=msgspec.structs.replace(self.parameters, tool_choice=FREE))


class PlannedRound(msgspec.Struct, frozen=True):
    """A round that can be recorded and sent, planned at ``window.state.version``. ``has_images``: only a model that
    takes them can be asked this. ``chosen``: by a route; ``request_plan`` then has the model that was chosen.
    ``changed``: contents that a client says otherwise than they are on record; ``marks``: where it wants them cached.
    """

    window: ChosenWindow
    model: ResolvedModel
    request: bytes
    request_plan: RequestPlan
    has_images: bool = False
    chosen: Candidate | None = None
    changed: tuple[SaidContent, ...] = ()
    marks: CacheMarks | None = None


def plan_round(  # noqa: PLR0913 - each says more of the one round
    connection: Connection,
    *,
    tenant: str,
    state: SessionState,
    request_plan: RequestPlan,
    settings: Settings,
    new: NewMessage | None = None,
    without: int | None = None,
    fallback: bool = False,
    positions: Sequence[int] | None = None,
) -> PlannedRound:
    """Choose the window and render the request. ``new`` is a message about to be appended, ``without`` the position of
    one to leave out; ``fallback``: for the fallback model; ``positions``: the messages to send, if they fit. A route's
    model is chosen here.

    Raises BudgetTooSmall, ContentNotSupported, RecordDamaged, and Invalid for what the provider's protocol cannot
    express.
    """
    plan = partial(
        _plan_for,
        connection,
        tenant=tenant,
        state=state,
        request_plan=request_plan,
        settings=settings,
        new=new,
        without=without,
        positions=positions,
    )
    if fallback and request_plan.fallback is not None:
        asked = asked_of(request_plan.parameters, request_plan.offer.schemas, new, None)
        planned, chosen = plan_routed(request_plan.fallback, asked, plan)
        return replace(planned, chosen=chosen)
    return settled(request_plan, new, plan)


def settled(
    request_plan: RequestPlan, new: NewMessage | None, plan: Callable[[ResolvedModel], PlannedRound]
) -> PlannedRound:
    """Plan with the model; or, if it is a route, with one that it chooses, with which the turn then stays."""
    asked = asked_of(request_plan.parameters, request_plan.offer.schemas, new, request_plan.task)
    planned, chosen = plan_routed(request_plan.model, asked, plan)
    stays = request_plan if chosen is None else replace(request_plan, model=chosen.model, task=None)
    return replace(planned, chosen=chosen, request_plan=stays)


def fixed_tokens(request_plan: RequestPlan) -> int:
    """The base tokens of what is sent beside system and messages: the schemas of tools, and of the answer, of which
    vendors tell the model.
    """
    form = request_plan.parameters.response_format
    answer = 0 if form is None or form.schema is UNSET else tokens.count_text(bytes(form.schema).decode())
    return tokens.count_tools(request_plan.offer.schemas) + answer


def measure_for(
    connection: Connection,
    tenant: str,
    state: SessionState,
    request_plan: RequestPlan,
    settings: Settings,
    model: ResolvedModel,
) -> Measure:
    """Measure what the messages cost."""
    limits, fixed = request_plan.limits, fixed_tokens(request_plan)
    measure = measure_of(connection, tenant, state, model, limits, settings, tool_tokens=fixed)
    return replace(measure, policy=WHOLE) if request_plan.whole else measure


def _plan_for(  # noqa: PLR0913 - as above
    connection: Connection,
    model: ResolvedModel,
    *,
    tenant: str,
    state: SessionState,
    request_plan: RequestPlan,
    settings: Settings,
    new: NewMessage | None,
    without: int | None,
    positions: Sequence[int] | None,
) -> PlannedRound:
    schemas = request_plan.offer.schemas
    check_parameters(model, request_plan.parameters)
    measure = measure_for(connection, tenant, state, request_plan, settings, model)
    window = None if positions is None else given_window(connection, tenant, state, measure, positions)
    if window is None:
        window = choose_window(connection, tenant, state, measure, new=new, without=without)
    form = request_plan.form or ClientForm()
    prompt = prompt_of(window, model, request_plan.parameters, new, schemas, form)
    check_content(prompt, window, model, new)
    request = model.provider.renderers[model.provider.renderer](prompt)
    images = has_images(prompt)
    return PlannedRound(window, model, request, request_plan, images, changed=form.contents, marks=form.marks)


def plan_first_round(
    connection: Connection,
    *,
    tenant: str,
    state: SessionState,
    request_plan: RequestPlan,
    settings: Settings,
    new: NewMessage | None,
) -> PlannedRound:
    """Plan the first round of a session that is not on record yet: its system prompt counts, and its words are not
    there.
    """
    return plan_round(connection, tenant=tenant, state=state, request_plan=request_plan, settings=settings, new=new)


def plan_next_round(
    connection: Connection,
    *,
    tenant: str,
    session_id: UUID,
    request_plan: RequestPlan,
    settings: Settings,
    fallback: bool = False,
) -> PlannedRound:
    """Plan a round on the session as it is now."""
    state = state_at(connection, tenant, session_id)
    return plan_round(
        connection,
        tenant=tenant,
        state=state,
        request_plan=request_plan,
        settings=settings,
        fallback=fallback,
    )


def plan_at(
    connection: Connection,
    *,
    tenant: str,
    session_id: UUID,
    version: int | None,
    model: ResolvedModel,
    limits: Limits,
    settings: Settings,
) -> PlannedRound:
    """Plan the request that the model would be sent now, or at a version, if a turn without content and tools began."""
    state = state_at(connection, tenant, session_id, version)
    parameters = Parameters(max_output_tokens=limits.max_output_tokens or state.max_output_tokens)
    request_plan = RequestPlan(model, limits, parameters)
    planned = plan_round(connection, tenant=tenant, state=state, request_plan=request_plan, settings=settings)
    give_back(planned.chosen)
    return planned


def document_of(planned: PlannedRound, tenant: str, clock: Clock) -> KeepDocument | None:
    """The tools' schemas, to be kept with the attempt that names them; None: there are no tools."""
    data = planned.request_plan.offer.document
    return KeepDocument(tenant, data, clock.salts(1)[0]) if data else None


def attempt_of(
    planned: PlannedRound,
    turn_id: UUID,
    number: tuple[int, int],
    *,
    now_us: int,
    salt: bytes,
    document: KeepDocument | None,
    new_position: int = 0,
    system_position: int = 0,
) -> StartAttempt:
    """The attempt for a planned round, as it is recorded: all that decides the bytes of the request. ``number`` is
    round and attempt, ``new_position`` that of the first message appended with it, ``system_position`` that of the
    event that sets the system prompt with it. ``document`` has been checked by now.
    """
    window, measure, parameters = planned.window, planned.window.measure, planned.request_plan.parameters
    choice = None if parameters.tool_choice in planned.request_plan.offer.client else parameters.tool_choice
    facts = AttemptStarted(
        turn=turn_id,
        round=number[0],
        attempt=number[1],
        provider=planned.model.provider.name,
        model=planned.model.info.name if planned.model.info.listed else OTHER,
        renderer=planned.model.provider.renderer,
        positions=tuple(
            row.position if row.position > UNPLACED else new_position - row.position for row in window.chosen.rows
        ),
        request=codec.commitment(salt, planned.request).hex(),
        counter=tokens.COUNTER,
        factor_permille=measure.factor_permille,
        overhead=measure.overhead,
        base_tokens=window.chosen.base_tokens,
        budget_tokens=measure.budget_tokens,
        reserve_tokens=measure.reserve_tokens,
        policy=measure.policy,
        system=(window.state.system.position or system_position) if window.state.system else None,
        tools=document.name if document else None,
        tool_choice=choice,
        price=_price(planned.model, now_us),
        **parameter_facts(parameters),
        **_route_facts(planned.chosen),
    )
    words = AttemptWords(
        salt=salt,
        **parameter_words(parameters),
        model=None if planned.model.info.listed else planned.model.info.name,
        tool_choice=None if choice == parameters.tool_choice else parameters.tool_choice,
        contents=planned.changed,
        marks=planned.marks,
    )
    return StartAttempt(facts, words)


def _route_facts(chosen: Candidate | None) -> dict[str, Any]:
    return (
        {}
        if chosen is None
        else {"route": chosen.route.name, "route_index": chosen.index, "route_reason": chosen.reason}
    )


def restore_plan(
    connection: Connection, *, tenant: str, turn: TurnState, state: SessionState, providers: Providers
) -> RequestPlan:
    """Restore the plan of a paused turn's requests from its first attempt (a later one may be the fallback model's), so
    that the turn can be resumed.
    """
    facts, words = _first_attempt(connection, tenant, turn)
    said = words or AttemptWords(b"")
    schemas = read_schemas(read_document(connection, tenant, facts.tools)) if facts.tools else ()
    return RequestPlan(
        model=resolve(providers, f"{facts.provider}/{said.model or facts.model}"),
        limits=Limits(facts.budget_tokens, facts.max_output_tokens),
        parameters=parameters_of(facts, said),
        offer=ToolOffer(schemas, turn.client_tools),
        fallback=resolve_if_there(providers, state.setting("fallback_model")),
        fallback_name=state.setting("fallback_model"),
        whole=facts.policy == WHOLE,
    )


def _first_attempt(connection: Connection, tenant: str, turn: TurnState) -> tuple[AttemptStarted, AttemptWords | None]:
    found = reads.session_events_of_types(
        connection, tenant, turn.session, after=turn.version, limit=1, types=("attempt.started",)
    )
    facts = facts_of(found[0]) if found else None
    if not isinstance(facts, AttemptStarted) or facts.turn != turn.id:
        raise StoreCorrupt(f"turn {turn.id} has no attempt")
    words = words_of(found[0])
    return facts, words if isinstance(words, AttemptWords) else None


def _price(model: ResolvedModel, now_us: int) -> Price | None:
    return model.info.price_at(utc_day(now_us))
