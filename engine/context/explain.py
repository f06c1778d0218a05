"""An attempt explained: the exact request that it sent, derived from the record again, and why its window was chosen.

It reads one snapshot, and writes nothing. Every body that goes into the request is checked against its commitment as it
is read, and the request against its own at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from ..errors import Erased, StoreCorrupt, TurnNotFound
from ..events.session_types import SessionForked, SessionStarted, SessionUpdated, SessionWords
from ..events.turn_types import AttemptStarted, AttemptWords
from ..events.types import MessageAppended
from ..events.upcasts import facts_of, words_of
from ..log import codec
from ..log.base import Connection, RecordedEvent
from ..log.sql import reads
from ..log.sql.documents import read_document
from ..providers.registry import Providers
from ..providers.renderers import find_renderer
from ..sessions import queries
from ..sessions.history import state_at
from ..sessions.messages import rows_then
from ..sessions.prompt_views import BUDGET, LeftOut, MessageCount, Reason, SentPrompt, SentWindow, WindowMessage
from ..tools.registry import read_schemas
from .derive import Past, look_back, messages_sent, prompt_again, role_of, used

NAMED = 10
"""Positions that an error names in its sentence; it has all as a member."""


class _Record(msgspec.Struct, frozen=True):
    """What is on record of an attempt: its event, and those that it points to."""

    event: RecordedEvent
    facts: AttemptStarted
    system: RecordedEvent | None
    messages: Sequence[RecordedEvent]


def explain(
    connection: Connection, *, tenant: str, turn_id: UUID, attempt: int | None, providers: Providers
) -> SentPrompt:
    """Derive the request of a turn's attempt, by default of the last, and explain it.

    Raises TurnNotFound, Erased, UnknownRenderer, RecordDamaged, and StoreNewer for a window's policy.
    """
    number, event = _find_attempt(connection, tenant, turn_id, attempt)
    record = _read_record(connection, tenant, event)
    facts, words = record.facts, words_of(event)
    assert isinstance(words, AttemptWords)
    tools = read_schemas(read_document(connection, tenant, facts.tools)) if facts.tools else ()
    render = find_renderer(providers, facts.provider, facts.renderer)
    prompt = prompt_again(facts, words, _system_prompt(record), record.messages, tools)
    request = render(prompt)
    commitment = codec.commitment(words.salt, request).hex()
    return SentPrompt(
        turn_id=turn_id,
        attempt=number,
        request=_as_json(request),
        request_bytes=request,
        renderer=facts.renderer,
        counter=facts.counter,
        model=f"{facts.provider}/{prompt.model}",
        parameters=prompt.parameters,
        tools=tools,
        commitment=commitment,
        recorded_commitment=facts.request,
        matches=commitment == facts.request,
        window=_window(connection, tenant, record),
    )


def _find_attempt(connection: Connection, tenant: str, turn_id: UUID, attempt: int | None) -> tuple[int, RecordedEvent]:
    """The number of an attempt in its turn, and its event."""
    turn = queries.turn_state(connection, tenant, turn_id)
    if turn is None:
        raise TurnNotFound("there is no such turn", turn_id=str(turn_id))
    count = len(turn.attempts)
    number = count if attempt is None else attempt
    if number > count:
        detail = f"the turn has {count} attempt{'s' * (count != 1)}, and no attempt {number}"
        raise TurnNotFound(detail, turn_id=str(turn_id), field="attempt", attempts=count)
    events = reads.session_events_of_types(
        connection, tenant, turn.session, (AttemptStarted.event_type,), after=turn.version, limit=number
    )
    if len(events) < number:
        raise StoreCorrupt(f"turn {turn_id} has no attempt {number}")
    return number, events[-1]


def _read_record(connection: Connection, tenant: str, event: RecordedEvent) -> _Record:
    """Read what an attempt points to. Raises Erased where the words of any of it are gone."""
    facts = facts_of(event)
    assert isinstance(facts, AttemptStarted)
    system = None if facts.system is None else reads.event_at_position(connection, tenant, facts.system)
    messages = reads.events_at_positions(connection, tenant, facts.positions)
    sent = [event, *([] if system is None else [system]), *messages]
    missing = {*facts.positions, facts.system or event.position} - {each.position for each in sent}
    if missing or any(each.type != MessageAppended.event_type for each in messages):
        raise StoreCorrupt(f"event {event.position} points to what is not on record")
    gone = sorted(each.position for each in sent if each.erased)
    if gone:
        more = f" and {len(gone) - NAMED} more" * (len(gone) > NAMED)
        detail = f"the request held words that are erased: those of {', '.join(map(str, gone[:NAMED]))}{more}"
        raise Erased(detail, positions=gone)
    return _Record(event, facts, system, messages)


def _system_prompt(record: _Record) -> str | None:
    words = None if record.system is None else words_of(record.system)
    return words.system if isinstance(words, SessionWords) else None


def _as_json(request: bytes) -> msgspec.Raw | None:
    """A request as a JSON object to be passed on; None if it is none."""
    try:
        request.decode()
        msgspec.json.decode(request, type=dict[str, msgspec.Raw])
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return None
    return msgspec.Raw(request)


# --- the window -------------------------------------------------------------------------------------------------------


def _window(connection: Connection, tenant: str, record: _Record) -> SentWindow:
    facts, event = record.facts, record.event
    users = [each.position for each in record.messages if role_of(each) == "user"]
    before = state_at(connection, tenant, event.session, event.version - 1)
    with rows_then(connection, tenant, before) as then:
        found = look_back(facts, max(users, default=None), then.rows)
    system = [] if record.system is None else [_system_item(record.system)]
    said = [_item(each, found.included[each.position]) for each in record.messages]
    tokens = sum(item.tokens for item in said)
    count, total = then.count - len(said), then.tokens - tokens
    omitted = LeftOut(count, total, _by_reason(found.passed, count, total), _items(found.omitted))
    return SentWindow(
        policy=facts.policy,
        budget_tokens=facts.budget_tokens,
        reserve_tokens=facts.reserve_tokens,
        base_tokens=facts.base_tokens,
        tool_tokens=facts.base_tokens - tokens - sum(item.tokens for item in system),
        factor_permille=facts.factor_permille,
        overhead=facts.overhead,
        used_tokens=used(facts, facts.base_tokens, messages_sent(facts)),
        included=(*system, *said),
        omitted=omitted,
    )


def _by_reason(passed: Mapping[Reason, tuple[int, int]], count: int, tokens: int) -> dict[str, MessageCount]:
    """What was passed over, and the rest, which is missing for the budget."""
    counts = {str(reason): MessageCount(*figures) for reason, figures in passed.items()}
    left = count - sum(each.count for each in counts.values())
    if left:
        counts[BUDGET] = MessageCount(left, tokens - sum(each.tokens for each in counts.values()))
    return counts


def _items(omitted: Sequence[tuple[Past, Reason]]) -> tuple[WindowMessage, ...]:
    return tuple(WindowMessage(row.position, row.version, row.role, row.tokens, reason) for row, reason in omitted)


def _item(event: RecordedEvent, reason: Reason) -> WindowMessage:
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    return WindowMessage(event.position, event.version, facts.role, facts.tokens, reason)


def _system_item(event: RecordedEvent) -> WindowMessage:
    facts = facts_of(event)
    if not isinstance(facts, SessionStarted | SessionForked | SessionUpdated):
        raise StoreCorrupt(f"event {event.position} is a {event.type}, and sets no system prompt")
    return WindowMessage(event.position, event.version, "system", facts.system_tokens, "system")
