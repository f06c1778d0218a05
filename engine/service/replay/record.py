"""A recorded turn, read for doing it again: what it was asked, with which parameters and tools, what its tools gave
back, what people decided, and whether there is something to compare with at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ...context.plan import ToolOffer
from ...context.prompt import Limits
from ...context.recorded import parameters_of
from ...errors import Erased, RecordDamaged, StoreCorrupt, TurnNotFound
from ...events.blocks import ToolResultBlock, ToolSchema, ToolUseBlock
from ...events.replay_types import Compared
from ...events.turn_types import AttemptStarted, AttemptWords, ToolApproved, ToolCalled, ToolRefused, TurnStarted
from ...events.upcasts import facts_of, words_left
from ...log.base import Connection, RecordedEvent
from ...log.sql import reads
from ...log.sql.documents import read_document
from ...providers.base import Parameters
from ...sessions import queries
from ...sessions.turn_state import TurnState
from ...sessions.turn_views import Turn, turn_view
from ...sessions.views import Message
from ...streams.backlog import turn_events, turn_of
from ...tools.from_record import CallKey, RecordedResult, key_of
from ...tools.registry import read_schemas
from .answers import answers_of, content_of, what_is_gone


class TurnRecord(msgspec.Struct, frozen=True):
    """See the module. ``position``: of its start; ``positions``: the messages that its first attempt was sent.
    ``skip``: why it is not done again; then the rest may be empty.
    """

    position: int
    state: TurnState
    view: Turn
    continues: bool
    model: str
    parameters: Parameters
    limits: Limits
    positions: tuple[int, ...]
    schemas: tuple[ToolSchema, ...]
    results: tuple[tuple[CallKey, RecordedResult], ...]
    decisions: tuple[tuple[CallKey, bool], ...]
    skip: Compared | None

    def offer(self, registered: Iterable[str]) -> ToolOffer:
        """The tools that its model was told of, as the new one is told of them."""
        client, known = self.state.client_tools, frozenset(registered)
        unknown = tuple(each.name for each in self.schemas if each.name not in known and each.name not in client)
        return ToolOffer(self.schemas, client, unknown)


def read_turn_record(connection: Connection, *, tenant: str, position: int) -> TurnRecord:
    """Read the turn that starts at a position. Raises StoreCorrupt where none does."""
    event = reads.event_at_position(connection, tenant, position)
    started = None if event is None else facts_of(event)
    state = None if event is None else queries.turn_state(connection, tenant, event.id)
    if state is None or not isinstance(started, TurnStarted):
        raise StoreCorrupt(f"no turn starts at position {position}")
    view, skip = _view(connection, tenant, state)
    events = turn_events(connection, tenant, state)
    attempt = next((each for each in events if isinstance(facts_of(each), AttemptStarted)), None)
    if attempt is None:
        raise StoreCorrupt(f"turn {state.id} has no attempt")
    facts, words = facts_of(attempt), words_left(attempt)
    assert isinstance(facts, AttemptStarted)
    said = words if isinstance(words, AttemptWords) else AttemptWords(b"")
    skip = skip or _nothing_to_compare(state, view) or _input_gone(connection, tenant, attempt, facts)
    schemas: tuple[ToolSchema, ...] = ()
    if facts.tools is not None and skip is None:
        try:
            schemas = read_schemas(read_document(connection, tenant, facts.tools))
        except Erased:
            skip = "input_erased"
    return TurnRecord(
        position=position,
        state=state,
        view=view,
        continues=started.continues,
        model=f"{facts.provider}/{said.model or facts.model}",
        parameters=parameters_of(facts, said),
        limits=Limits(facts.budget_tokens, facts.max_output_tokens),
        positions=facts.positions,
        schemas=schemas,
        results=() if skip else tuple(results_in(view.messages)),
        decisions=() if skip else tuple(_decisions(events, view.messages)),
        skip=skip,
    )


def _view(connection: Connection, tenant: str, state: TurnState) -> tuple[Turn, Compared | None]:
    """The turn as it is now; without its messages, and why it is skipped, where they are damaged."""
    try:
        return turn_of(connection, tenant, state), None
    except RecordDamaged:
        return turn_view(state, ()), "recorded_damaged"


def model_of(connection: Connection, tenant: str, position: int) -> str:
    """The full name of the model that the turn was asked of first. Raises TurnNotFound where no turn starts there."""
    event = reads.event_at_position(connection, tenant, position)
    state = None if event is None else queries.turn_state(connection, tenant, event.id)
    if state is None or not state.attempts:
        raise TurnNotFound(f"no turn starts at position {position}")
    return state.attempts[0].full_name


def results_in(messages: Sequence[Message]) -> Iterator[tuple[CallKey, RecordedResult]]:
    """The results of tools in messages, in order, each with the call that it answers."""
    calls: dict[str, CallKey] = {}
    for message in messages:
        for block in content_of(message):
            if isinstance(block, ToolUseBlock):
                calls[block.id] = key_of(block)
            elif isinstance(block, ToolResultBlock) and block.tool_use_id in calls:
                yield calls[block.tool_use_id], RecordedResult(block.content, block.is_error)


def _decisions(events: Sequence[RecordedEvent], messages: Sequence[Message]) -> Iterator[tuple[CallKey, bool]]:
    """What people decided on the turn's calls, in order."""
    said = {message.position: content_of(message) for message in messages}
    calls: dict[str, CallKey] = {}
    for event in events:
        facts = facts_of(event)
        if isinstance(facts, ToolCalled):
            blocks = [block for block in said.get(facts.message, ()) if isinstance(block, ToolUseBlock)]
            if facts.index is not None and facts.index < len(blocks):
                calls[facts.call] = key_of(blocks[facts.index])
        elif isinstance(facts, ToolApproved | ToolRefused) and facts.call in calls:
            yield calls[facts.call], isinstance(facts, ToolApproved)


def _nothing_to_compare(state: TurnState, view: Turn) -> Compared | None:
    gone = what_is_gone(view)
    if gone is not None:
        return "recorded_erased" if gone == "erased" else "recorded_damaged"
    if state.end_version is None:
        return "recorded_open"
    if state.status != "completed":
        return "recorded_not_completed"
    return None if answers_of(view) else "recorded_no_answer"


def _input_gone(connection: Connection, tenant: str, attempt: RecordedEvent, facts: AttemptStarted) -> Compared | None:
    """Why what it was asked cannot be asked again."""
    sent = reads.events_at_positions(connection, tenant, facts.positions)
    system = None if facts.system is None else reads.event_at_position(connection, tenant, facts.system)
    asked = [attempt, *sent, *([] if system is None else [system])]
    if any(event.erased for event in asked):
        return "input_erased"
    return "input_damaged" if any(event.damaged for event in asked) else None
