"""The window of a client that keeps its own history: all that it sends, in its order, and nothing is ever left out
(DESIGN section 11), unless the client asks for that.

What is on record stands for what was recognised; where the client says a message otherwise than it is on record, the
request is the client's, and the attempt's words hold the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain

import msgspec
from msgspec.structs import replace

from ..events.blocks import Content, ToolSchema, raw_blocks
from ..events.turn_types import CacheMarks, SaidContent
from ..events.types import NewMessage
from ..log.base import Connection
from ..providers.base import Parameters, Prompt, PromptMessage
from ..providers.registry import ResolvedModel
from ..sessions.marks import NO_MARKS, marks_at
from ..sessions.messages import SENT, SentRow, last_user
from ..sessions.state import Row, SessionState
from ..settings import Settings
from .content import check_said, has_images
from .derive import to_send
from .plan import PlannedRound, RequestPlan, measure_for, settled
from .prompt import UNPLACED, ChosenWindow, ClientForm, content_of, further
from .support import check_parameters
from .window import POLICIES, Measure, take_all


class Conversation(msgspec.Struct, frozen=True):
    """A client's conversation as it is to be sent: what is on record up to ``state``, but for the contents that were
    ``changed`` (by version), then the ``news``; ``system`` is the prompt that holds for it, ``marks`` say where it is
    to be cached.
    """

    state: SessionState
    news: tuple[NewMessage, ...]
    system: str | None
    changed: Mapping[int, Content] = {}
    marks: CacheMarks | None = None
    known: int = 0
    """How many of the client's messages are those on record: its marks count them."""
    trims: bool = False
    """What is older than the model takes is left out, instead of being refused."""


def plan_whole(
    connection: Connection, tenant: str, conversation: Conversation, request_plan: RequestPlan, settings: Settings
) -> PlannedRound:
    """Plan the first round of a turn that is sent all of a conversation, or its newest messages where it ``trims``. The
    budget is the caller's or the session's, if there is one, else all that the model takes.

    The fallback model is sent the same messages in the same form. Raises BudgetTooSmall where it is more than the model
    takes, ContentNotSupported, RecordDamaged, and Invalid for what the provider's protocol cannot express.
    """
    limits = request_plan.limits
    budget = limits.budget_tokens or conversation.state.budget_tokens or settings.max_budget_tokens
    limits = replace(limits, budget_tokens=budget)
    request_plan = replace(request_plan, whole=not conversation.trims, limits=limits)
    plan = partial(_plan_for, connection, tenant, conversation, request_plan, settings)
    planned = settled(request_plan, conversation.news[-1] if conversation.news else None, plan)
    form = ClientForm(planned.changed, planned.marks)
    return replace(planned, request_plan=replace(planned.request_plan, form=form))


def _plan_for(
    connection: Connection,
    tenant: str,
    conversation: Conversation,
    request_plan: RequestPlan,
    settings: Settings,
    model: ResolvedModel,
) -> PlannedRound:
    schemas = request_plan.offer.schemas
    check_parameters(model, request_plan.parameters)
    measure = measure_for(connection, tenant, conversation.state, request_plan, settings, model)
    choose = _newest if conversation.trims else _all
    window = choose(connection, tenant, conversation, measure)
    recorded = [row for row in window.chosen.rows if row.position > UNPLACED]
    conversation = replace(conversation, marks=_placed(conversation, len(recorded)))
    said = [_content(conversation, window, row) for row in window.chosen.rows]
    news = [each.content for each in conversation.news]
    prompt = _prompt(conversation, window, said, model, request_plan.parameters, schemas)
    check_said([*said[: len(recorded)], *news], model, max(0, len(recorded) - conversation.known))
    request = model.provider.renderers[model.provider.renderer](prompt)
    changed = _changed(conversation, recorded)
    placed = conversation.marks
    return PlannedRound(window, model, request, request_plan, has_images(prompt), changed=changed, marks=placed)


def _all(connection: Connection, tenant: str, conversation: Conversation, measure: Measure) -> ChosenWindow:
    rows = (*_recorded(connection, tenant, conversation.state), *_new_rows(conversation))
    chosen = take_all(reversed(rows), None, (), measure)
    return ChosenWindow(conversation.state, conversation.system, chosen, {}, measure)


def _newest(connection: Connection, tenant: str, conversation: Conversation, measure: Measure) -> ChosenWindow:
    """The newest messages that fit, as a session's own turns choose them."""
    state, new = conversation.state, _new_rows(conversation)
    asked = next((row for row in reversed(new) if row.role == "user"), None)
    user = asked or last_user(connection, tenant, state)
    marks = marks_at(connection, tenant, state)
    pinned = SENT.pinned(connection, tenant, state, marks)
    with SENT.newest(connection, tenant, state, marks) as rows:
        chosen = POLICIES[measure.policy](chain(reversed(new), rows), user, pinned, measure)
    return ChosenWindow(state, conversation.system, chosen, further(connection, tenant, chosen), measure)


def recorded_contents(connection: Connection, tenant: str, state: SessionState) -> list[tuple[str, Content]]:
    """The messages on record as they would be sent, each its role and its content, the oldest first."""
    rows = _recorded(connection, tenant, state)
    return [(row.role, to_send(row.words(), complete=bool(row.complete))) for row in rows]


def _recorded(connection: Connection, tenant: str, state: SessionState) -> tuple[SentRow, ...]:
    """The messages on record, the oldest first; without the units of which one is left out: no model takes a result
    whose call is erased, or a call without its result.
    """
    if state.last is None:
        return ()
    with SENT.newest(connection, tenant, state, NO_MARKS) as rows:
        found = tuple(row for row in rows if isinstance(row, SentRow))
    gone = {row.unit for row in found if row.left_out}
    return tuple(row for row in reversed(found) if row.unit not in gone)


def _new_rows(conversation: Conversation) -> tuple[Row, ...]:
    """Rows of the messages that are still to be appended: the n-th stands at minus n. A result belongs to its call."""
    state, rows = conversation.state, list[Row]()
    unit = state.version if state.last is None else state.last.unit
    for number, new in enumerate(conversation.news):
        version = state.version + number + 1
        unit = unit if new.role == "tool" else version
        rows.append(Row(version, -number, new.role, new.tokens, unit))
    return tuple(rows)


def _content(conversation: Conversation, window: ChosenWindow, row: Row) -> Content:
    if row.position <= UNPLACED:
        return conversation.news[-row.position].content
    changed = conversation.changed.get(row.version)
    return content_of(window, row) if changed is None else changed


def _prompt(
    conversation: Conversation,
    window: ChosenWindow,
    contents: Sequence[Content],
    model: ResolvedModel,
    parameters: Parameters,
    schemas: tuple[ToolSchema, ...],
) -> Prompt:
    marks = conversation.marks
    said = [
        PromptMessage(row.role, content, () if marks is None else marks.of_message(number))
        for number, (row, content) in enumerate(zip(window.chosen.rows, contents, strict=True))
        if content
    ]
    return Prompt(model.info.name, tuple(said), conversation.system, schemas, parameters, marks)


def _placed(conversation: Conversation, recorded: int) -> CacheMarks | None:
    """The marks by the places of what is sent: a session that a client names may hold more than the client says."""
    marks, known = conversation.marks, conversation.known
    if marks is None or recorded == known:
        return marks
    moved = tuple((at + recorded - known, block, control) for at, block, control in marks.messages if at >= known)
    return replace(marks, messages=moved)


def _changed(conversation: Conversation, recorded: Sequence[Row]) -> tuple[SaidContent, ...]:
    """The contents that the client says otherwise, by the place of their message in the window."""
    return tuple(
        SaidContent(number, raw_blocks(conversation.changed[row.version]))
        for number, row in enumerate(recorded)
        if row.version in conversation.changed
    )
