"""The prompt: from a session's record to what a model would be sent now - state, window, prompt. It reads; it decides
nothing and writes nothing.

Everything is read in one snapshot, on a reading thread. A plan names the version that it was made at, and the turn is
appended only if the session is still at that version.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from uuid import UUID

import msgspec

from ..errors import Refused, StoreCorrupt
from ..events.blocks import Content, ToolSchema, read_blocks
from ..events.turn_types import CacheMarks, SaidContent
from ..events.types import MessageAppended, NewMessage
from ..events.upcasts import facts_of
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from ..providers import tokens
from ..providers.base import Parameters, Prompt, PromptMessage
from ..providers.registry import Providers, ResolvedModel, resolve
from ..sessions import queries
from ..sessions.history import state_at, system_of
from ..sessions.lineage import stretches
from ..sessions.marks import marks_at
from ..sessions.messages import SENT, SHOWN, Reading, SentRow, ShownRow, with_answers
from ..sessions.messages import last_user as find_last_user
from ..sessions.state import Row, SessionState
from ..sessions.views import Message, Omitted, Window, message_view
from ..settings import Settings
from .derive import content_to_send, to_send
from .window import AS_RECORDED, POLICIES, POLICY, ChosenRows, Measure

UNPLACED = 0
"""Position of a message that is still to be appended; the n-th of several stands at minus n."""


class Limits(msgspec.Struct, frozen=True):
    """Limits that a caller sets for one window or turn; None: the session's, then the settings'."""

    budget_tokens: int | None = None
    max_output_tokens: int | None = None


class ChosenWindow(msgspec.Struct, frozen=True):
    """A window with its content: what was read along with a row, and ``further`` by position what was not. A message
    that is still to come is in neither.
    """

    state: SessionState
    system: str | None
    chosen: ChosenRows
    further: dict[int, RecordedEvent]
    measure: Measure


def measure_of(
    connection: Connection,
    tenant: str,
    state: SessionState,
    model: ResolvedModel,
    limits: Limits,
    settings: Settings,
    *,
    tool_tokens: int = 0,
) -> Measure:
    """Measure what messages cost this model, and what there is to spend; ``tool_tokens`` is the base count of the
    schemas. A model of a record that is done again has its figures from there.
    """
    fixed = (tool_tokens + (state.system.tokens if state.system else 0), 1 if state.system else 0)
    if model.figures is not None:
        said = model.figures()
        figures = (said.factor_permille, said.overhead, *fixed, said.budget_tokens, said.reserve_tokens)
        return Measure(*figures, said.policy)
    family = tokens.family(model.info.family)
    samples, base, messages, reported = queries.calibration(connection, tenant, model.recorded)
    budget = limits.budget_tokens or state.budget_tokens or settings.budget_tokens
    if model.info.context_tokens is not None:
        budget = min(budget, model.info.context_tokens)
    wanted = limits.max_output_tokens or state.max_output_tokens
    return Measure(
        factor_permille=tokens.calibrate(family, base, messages, reported, samples),
        overhead=family.overhead,
        fixed_base_tokens=fixed[0],
        fixed_messages=fixed[1],
        budget_tokens=budget,
        reserve_tokens=wanted if wanted is not None else min(settings.reserve_tokens, budget // 4),
    )


def choose_window(
    connection: Connection,
    tenant: str,
    state: SessionState,
    measure: Measure,
    *,
    new: NewMessage | None = None,
    without: int | None = None,
    reading: Reading = SENT,
) -> ChosenWindow:
    """Choose a window. ``new`` is a message about to be appended; ``without`` the position of one to leave out. Raises
    BudgetTooSmall, and RecordDamaged for a damaged system prompt; a damaged message is refused where it is read.
    """
    last_user = find_last_user(connection, tenant, state)
    first: tuple[Row, ...] = ()
    if new is not None:
        first = (_new_row(state, new),)
        last_user = first[0] if new.role == "user" else last_user
    marks = marks_at(connection, tenant, state)
    pinned = [row for row in reading.pinned(connection, tenant, state, marks) if row.position != without]
    with reading.newest(connection, tenant, state, marks) as found:
        rows: Iterable[Row] = found if without is None else (row for row in found if row.position != without)
        chosen = POLICIES[measure.policy](chain(first, rows), last_user, pinned, measure)
    system = system_of(connection, tenant, state)
    return ChosenWindow(state, system, chosen, further(connection, tenant, chosen), measure)


def given_window(
    connection: Connection, tenant: str, state: SessionState, measure: Measure, positions: Sequence[int]
) -> ChosenWindow | None:
    """The window of exactly these messages of a session's history; None where they do not fit, or words of them are
    erased. Raises RecordDamaged for a damaged system prompt.
    """
    found = {event.position: event for event in reads.events_at_positions(connection, tenant, positions)}
    if len(found) < len(positions) or any(event.erased for event in found.values()):
        return None
    rows = tuple(_row_of(found[position]) for position in positions)
    base_tokens = sum(row.tokens for row in rows)
    used_tokens = measure.used(base_tokens, len(rows))
    if used_tokens > measure.available_tokens:
        return None
    chosen = ChosenRows(rows, base_tokens + measure.fixed_base_tokens, used_tokens)
    measure = msgspec.structs.replace(measure, policy=AS_RECORDED)
    return ChosenWindow(state, system_of(connection, tenant, state), chosen, found, measure)


def _row_of(event: RecordedEvent) -> Row:
    facts = facts_of(event)
    if not isinstance(facts, MessageAppended):
        raise StoreCorrupt(f"event {event.position} is a {event.type}, and was sent as a message")
    return Row(event.version, event.position, facts.role, facts.tokens, event.version)


def further(connection: Connection, tenant: str, chosen: ChosenRows) -> dict[int, RecordedEvent]:
    """Read the required messages from further back than the choice has read."""
    positions = [row.position for row in chosen.rows if type(row) is Row and row.position > UNPLACED]
    return {event.position: event for event in reads.events_at_positions(connection, tenant, positions)}


def window(
    connection: Connection,
    *,
    tenant: str,
    session: UUID,
    limits: Limits,
    model: str | None,
    version: int | None,
    providers: Providers,
    settings: Settings,
) -> Window:
    """The window that a model would be sent now, or at a version, as callers see it."""
    state = state_at(connection, tenant, session, version)
    resolved = resolve(providers, model or state.setting("model"))
    measure = measure_of(connection, tenant, state, resolved, limits, settings)
    view = choose_window(connection, tenant, state, measure, reading=SHOWN)
    left_tokens = state.base_tokens + measure.fixed_base_tokens - view.chosen.base_tokens
    left_count = state.message_count - len(view.chosen.rows)
    return Window(
        session_id=state.id,
        version=state.version,
        model=resolved.name,
        budget_tokens=measure.budget_tokens,
        used_tokens=view.chosen.used_tokens,
        counter=tokens.COUNTER,
        policy=POLICY,
        system=view.system,
        messages=tuple(with_answers(connection, tenant, _shown(connection, tenant, view))),
        omitted=Omitted(left_count, tokens.figure(left_tokens, left_count, measure.factor_permille, measure.overhead)),
        factor_permille=measure.factor_permille,
        overhead=measure.overhead,
        reserve_tokens=measure.reserve_tokens,
        system_tokens=measure.fixed_base_tokens,
    )


def _shown(connection: Connection, tenant: str, view: ChosenWindow) -> list[Message]:
    first = min((row.version for row in view.chosen.rows), default=1)
    along = stretches(connection, tenant, view.state, first - 1)
    owners = [(each.up_to, each.session) for each in along]
    return [
        row.view(next(session for up_to, session in owners if row.version <= up_to))
        if isinstance(row, ShownRow)
        else message_view(view.further[row.position])
        for row in view.chosen.rows
    ]


class ClientForm(msgspec.Struct, frozen=True):
    """The form in which a client has sent a conversation that is on record: ``contents`` that it says otherwise, and
    its ``marks`` for the cache.
    """

    contents: tuple[SaidContent, ...] = ()
    marks: CacheMarks | None = None


def prompt_of(
    view: ChosenWindow,
    model: ResolvedModel,
    parameters: Parameters,
    new: NewMessage | None,
    tools: tuple[ToolSchema, ...] = (),
    form: ClientForm | None = None,
) -> Prompt:
    """The prompt, in the common form; ``form``: as a client says it."""
    form = form or ClientForm()
    said = {each.at: read_blocks(each.content) for each in form.contents}
    messages = []
    for number, row in enumerate(view.chosen.rows):
        marks = () if form.marks is None else form.marks.of_message(number)
        if row.position == UNPLACED:
            assert new is not None
            messages.append(PromptMessage(new.role, new.content, marks))
        else:
            content = said[number] if number in said else content_of(view, row)
            if content:
                messages.append(PromptMessage(row.role, content, marks))
    if not messages:
        raise Refused("the session holds nothing that can be sent")
    return Prompt(model.info.name, tuple(messages), view.system, tools, parameters, form.marks)


def content_of(view: ChosenWindow, row: Row) -> Content:
    """The content of a row of the window, as it is sent."""
    if isinstance(row, SentRow):
        return to_send(row.words(), complete=bool(row.complete))
    return content_to_send(view.further[row.position])


def _new_row(state: SessionState, new: NewMessage) -> Row:
    version = state.version + 1
    unit = state.last.unit if new.role == "tool" and state.last is not None else version
    return Row(version, UNPLACED, new.role, new.tokens, unit)
