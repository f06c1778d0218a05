"""A turn as it is on record, with all that it takes to do it again: what it was asked, its attempts with their answers,
its tools' results, what people decided, and how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

import msgspec

from ...context.recorded import parameters_of
from ...context.window import AS_RECORDED, POLICIES
from ...errors import Refused, StoreError, TurnAlreadyOpen, TurnNotFound
from ...events.base import Facts
from ...events.blocks import ToolOutcome, ToolResultBlock, ToolSchema, read_blocks
from ...events.turn_types import (
    AttemptEnded,
    AttemptEndedWords,
    AttemptStarted,
    AttemptWords,
    DecisionWords,
    FailureWords,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnCancelled,
    TurnFailed,
    TurnInterrupted,
    TurnPaused,
    TurnStarted,
)
from ...events.types import MessageAppended, MessageWords
from ...events.upcasts import facts_of, words_of
from ...log.base import Connection, RecordedEvent
from ...log.sql import reads
from ...log.sql.documents import read_document
from ...providers import tokens
from ...providers.base import Parameters
from ...sessions import queries
from ...sessions.calls import block_of
from ...sessions.turn_commands import TurnStop
from ...sessions.turn_state import OpenCall, TurnState
from ...streams.backlog import turn_events
from ...tools.registry import read_schemas

BROKEN_OFF = frozenset({"cancelled", "interrupted"})
"""Outcomes of calls that had not returned when their turn ended."""
NEVER_RAN = BROKEN_OFF | {"not_run", "refused"}
"""Outcomes of calls that the turn's own end has given, or a person: no tool did."""


class CannotReplay(Refused):
    """The turn cannot be done again; the detail says why."""

    code = "cannot_replay"


class RecordedAttempt(msgspec.Struct, frozen=True):
    """A request to a provider as it is on record. ``answer``: the message that it gave, in whole or in part; ``failed``
    and ``detail``: what the turn's end says of its failure, where it was the last.
    """

    event: RecordedEvent
    facts: AttemptStarted
    words: AttemptWords
    tools: tuple[ToolSchema, ...]
    ended: AttemptEnded
    ended_words: AttemptEndedWords
    answer: RecordedEvent | None = None
    failed: TurnFailed | None = None
    detail: str = ""

    @property
    def model(self) -> str:
        """The full name."""
        return f"{self.facts.provider}/{self.words.model or self.facts.model}"

    @property
    def parameters(self) -> Parameters:
        return parameters_of(self.facts, self.words)


class RecordedCall(msgspec.Struct):
    """A call of a tool that runs here. ``id``: as the model gave it; ``asked``: a person was to decide on it;
    ``refused``: by that person; ``outcome`` None: none is on record.
    """

    id: str
    asked: bool = False
    refused: bool = False
    outcome: ToolOutcome | None = None


class RecordedDecision(msgspec.Struct, frozen=True):
    """What a person decided on a call, and as whom."""

    call: str
    approve: bool
    reason: str | None
    actor: str
    correlation: str | None


class RecordedTurn(msgspec.Struct, frozen=True):
    """See the module. ``input``: the message that was appended with its start; ``stop``: how it was stopped, if it was;
    ``failed``: how it failed, if it did.
    """

    state: TurnState
    started: TurnStarted
    events: tuple[RecordedEvent, ...]
    input: RecordedEvent | None
    attempts: tuple[RecordedAttempt, ...]
    calls: tuple[RecordedCall, ...]
    decisions: tuple[RecordedDecision, ...]
    stop: TurnStop | None
    failed: TurnFailed | None

    @property
    def tenant(self) -> str:
        return self.events[0].tenant

    @property
    def first_event(self) -> RecordedEvent:
        """The first event of its start."""
        return self.input or self.events[0]

    def earlier(self) -> set[int]:
        """The positions of what it was sent that had been said before it began."""
        first = self.first_event.position
        return {position for attempt in self.attempts for position in attempt.facts.positions if position < first}

    @property
    def fallback(self) -> str | None:
        """The model that was asked in place of the turn's own; None: no other was."""
        own = self.attempts[0].model
        return next((each.model for each in self.attempts if each.model != own), None)


def read_recorded_turn(connection: Connection, tenant: str, turn_id: UUID) -> RecordedTurn:
    """Read a turn. Raises TurnNotFound, TurnAlreadyOpen for one that has not ended, and CannotReplay."""
    state = closed_turn(connection, tenant, turn_id)
    events = [
        event
        for event in turn_events(connection, tenant, state)
        if event.id == turn_id or getattr(facts_of(event), "turn", None) == turn_id
    ]
    started = facts_of(events[0])
    assert isinstance(started, TurnStarted)
    given = _input(connection, tenant, events[0])
    check_words([*events, *([] if given is None else [given])])
    failed, detail = _failure(events[-1])
    calls, stop = _calls(events), _stop(events[-1])
    if stop is None and any(call.outcome is not None and call.outcome.code in BROKEN_OFF for call in calls.values()):
        raise CannotReplay("it ended while its tools ran, and nobody had stopped it: that is not done again")
    return RecordedTurn(
        state=state,
        started=started,
        events=tuple(events),
        input=given,
        attempts=_attempts(connection, tenant, events, failed, detail),
        calls=tuple(calls.values()),
        decisions=tuple(_decisions(events, calls)),
        stop=stop,
        failed=failed,
    )


def _input(connection: Connection, tenant: str, start: RecordedEvent) -> RecordedEvent | None:
    """The message that a turn began with; None: it answered what was there."""
    event = None if start.causation is None else reads.event_by_id(connection, tenant, start.causation)
    return event if event is not None and event.type == MessageAppended.event_type else None


def closed_turn(connection: Connection, tenant: str, turn_id: UUID) -> TurnState:
    """The state of a turn that has ended. Raises TurnNotFound and TurnAlreadyOpen."""
    state = queries.turn_state(connection, tenant, turn_id)
    if state is None:
        raise TurnNotFound(f"there is no turn {turn_id}", turn_id=str(turn_id))
    if state.end_version is None:
        raise TurnAlreadyOpen(f"turn {turn_id} has not ended: it cannot be replayed yet", turn_id=str(turn_id))
    return state


def check_words(events: Iterable[RecordedEvent]) -> None:
    """Raises CannotReplay, which names them, where the words of any of these are erased or damaged."""
    events = list(events)
    for what, gone in (
        ("erased", sorted(event.position for event in events if event.erased)),
        ("damaged", sorted(event.position for event in events if event.damaged)),
    ):
        if gone:
            raise CannotReplay(f"its words are {what}: those of {', '.join(map(str, gone))}", positions=gone)


# --- attempts ---------------------------------------------------------------------------------------------------------


def _attempts(
    connection: Connection, tenant: str, events: Iterable[RecordedEvent], failed: TurnFailed | None, detail: str
) -> tuple[RecordedAttempt, ...]:
    begun: list[RecordedEvent] = []
    ended: list[RecordedEvent] = []
    answers: dict[int, RecordedEvent] = {}
    for event in events:
        facts = facts_of(event)
        if isinstance(facts, AttemptStarted):
            begun.append(event)
        elif isinstance(facts, AttemptEnded):
            ended.append(event)
        elif isinstance(facts, MessageAppended) and facts.role == "assistant":
            answers[len(begun) - 1] = event
    if not begun or len(begun) != len(ended):
        raise CannotReplay("its attempts are not on record")
    made = [
        _attempt(connection, tenant, start, end, answers.get(number))
        for number, (start, end) in enumerate(zip(begun, ended, strict=True))
    ]
    if failed is not None and made[-1].ended.outcome == failed.code:
        made[-1] = msgspec.structs.replace(made[-1], failed=failed, detail=detail)
    return tuple(made)


def _attempt(
    connection: Connection, tenant: str, start: RecordedEvent, end: RecordedEvent, answer: RecordedEvent | None
) -> RecordedAttempt:
    facts, words, ended = facts_of(start), words_of(start), facts_of(end)
    assert isinstance(facts, AttemptStarted)
    assert isinstance(ended, AttemptEnded)
    if not isinstance(words, AttemptWords):
        raise CannotReplay("its requests were recorded by a version that did not keep what they are checked by")
    if facts.counter != tokens.COUNTER:
        raise CannotReplay(f"its tokens were counted by {facts.counter}, which this version does not know")
    if facts.policy not in {*POLICIES, AS_RECORDED}:
        raise CannotReplay(f"its window was chosen by {facts.policy}, which this version does not know")
    said = words_of(end)
    return RecordedAttempt(
        event=start,
        facts=facts,
        words=words,
        tools=read_schemas(read_document(connection, tenant, facts.tools)) if facts.tools else (),
        ended=ended,
        ended_words=said if isinstance(said, AttemptEndedWords) else AttemptEndedWords(),
        answer=answer,
    )


# --- how it ended -----------------------------------------------------------------------------------------------------


def _failure(end: RecordedEvent) -> tuple[TurnFailed | None, str]:
    """How a turn failed, and what was said of it. Raises CannotReplay for what is no doing of ours or a model's."""
    facts, words = facts_of(end), words_of(end)
    if not isinstance(facts, TurnFailed):
        return None, ""
    if facts.code in _codes(StoreError):
        raise CannotReplay(f"it failed with {facts.code}: the database of that moment cannot be had again")
    if facts.limit == "turn_timeout_s":
        raise CannotReplay("it took longer than turn_timeout_s: time is not done again")
    return facts, words.detail if isinstance(words, FailureWords) else ""


def _codes(kind: type[StoreError]) -> set[str]:
    return {kind.code}.union(*(_codes(each) for each in kind.__subclasses__()))


def _stop(end: RecordedEvent) -> TurnStop | None:
    match facts_of(end):
        case TurnCancelled():
            return TurnStop("cancelled", end.actor)
        case TurnInterrupted(reason=reason):
            return TurnStop(reason, end.actor)
    return None


# --- tools and people -------------------------------------------------------------------------------------------------


def _calls(events: Iterable[RecordedEvent]) -> dict[str, RecordedCall]:
    """The calls that ran here, by their ordinals, in the order in which they were asked for."""
    by_position = {event.position: event for event in events}
    calls: dict[str, RecordedCall] = {}
    for event in events:
        facts = facts_of(event)
        if isinstance(facts, ToolCalled) and facts.runner == "server":
            calls[facts.call] = RecordedCall(_call_id(facts, by_position))
        elif isinstance(facts, ToolReturned | TurnPaused | ToolRefused):
            _note(calls, facts, by_position)
    return calls


def _note(calls: Mapping[str, RecordedCall], facts: Facts, by_position: Mapping[int, RecordedEvent]) -> None:
    """What became of calls."""
    match facts:
        case TurnPaused(calls=asked):
            for each in asked:
                calls[each].asked = True
        case ToolRefused(call=call):
            calls[call].refused = True
        case ToolReturned(call=call) if call in calls:
            calls[call].outcome = _outcome(facts, by_position)


def _call_id(called: ToolCalled, by_position: Mapping[int, RecordedEvent]) -> str:
    """The id that the model gave a call."""
    words = words_of(by_position[called.message])
    content = read_blocks(words.content) if isinstance(words, MessageWords) else ()
    block = block_of(OpenCall(called.call, called.name, called.message, index=called.index), content)
    return called.call if block is None else block.id


def _outcome(returned: ToolReturned, by_position: Mapping[int, RecordedEvent]) -> ToolOutcome:
    words = words_of(by_position[returned.message])
    blocks = read_blocks(words.content) if isinstance(words, MessageWords) else ()
    given = next((block for block in blocks if isinstance(block, ToolResultBlock)), None)
    if given is None:
        raise CannotReplay(f"the result at position {returned.message} is not on record")
    return ToolOutcome(returned.outcome, given.content, returned.is_error, returned.duration_ms, returned.output_bytes)


def _decisions(events: Iterable[RecordedEvent], calls: Mapping[str, RecordedCall]) -> Iterable[RecordedDecision]:
    for event in events:
        facts, words = facts_of(event), words_of(event)
        if isinstance(facts, ToolApproved | ToolRefused):
            reason = words.reason if isinstance(words, DecisionWords) else None
            approve = isinstance(facts, ToolApproved)
            yield RecordedDecision(calls[facts.call].id, approve, reason, event.actor, event.correlation)
