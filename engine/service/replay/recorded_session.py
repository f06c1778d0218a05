"""A recorded session in a temporary log: as much of its history as the windows of the turns that are done again could
reach, with the counts that are on record. Positions there are others; ``places`` says which is which.

The first time, a turn finds the history as it was seen then: from the newest message back, to beyond what its budget
could take, and what was pinned. A later turn of the session finds what is there already, and what it was sent besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from uuid import UUID

import msgspec

from ...context.derive import available
from ...events.session_types import MessagePinned, SessionForked, SessionStarted, SessionUpdated, SessionWords
from ...events.types import Draft, MessageAppended, MessageWords
from ...events.upcasts import facts_of, words_of
from ...log import codec
from ...log.base import AnyVersion, Append, Connection, NewEvent, RecordedEvent
from ...log.scratch_store import ScratchStore
from ...log.sql import reads
from ...providers.tokens import figure
from ...sessions.envelope import LOCAL, Caller, seal
from ...sessions.history import state_at
from ...sessions.messages import PastRow, rows_then
from .recorded_turn import CannotReplay, RecordedTurn, check_words

BEYOND = 2
"""History is laid out for so many times the budget: a window that would take more than it did must find it."""


class History(msgspec.Struct, frozen=True):
    """What had been said before a turn, oldest first, as much as is needed. ``pinned``: positions; ``system``: the
    event that set the system prompt; ``messages``: so many with so many ``tokens`` lie there without a gap, and
    ``whole``: nothing lies before them.
    """

    events: tuple[RecordedEvent, ...]
    system: RecordedEvent | None
    pinned: frozenset[int] = frozenset()
    messages: int = 0
    tokens: int = 0
    whole: bool = False


class ScratchSession:
    """A session of a temporary log that stands for a recorded one. ``places``: positions here by those on record."""

    def __init__(self, store: ScratchStore, clock_id: UUID, tenant: str, recorded: UUID) -> None:
        self.id = clock_id
        self.recorded = recorded
        self.places: dict[int, int] = {}
        self.messages = 0
        self.tokens = 0
        self.whole = False
        self._store = store
        self._caller = Caller(tenant, LOCAL.actor)
        self._system: int | None = None
        self._fallback: str | None = None

    def reaches(self, record: RecordedTurn) -> bool:
        """True if as much history lies here as a turn's windows could reach."""
        return self.whole or is_beyond(record, self.tokens, self.messages)

    def lacks(self, record: RecordedTurn) -> bool:
        """True if a turn was sent what is not here, or another system prompt, or asked another fallback model."""
        settings = (record.attempts[0].facts.system, record.fallback)
        return settings != (self._system, self._fallback) or not record.earlier() <= self.places.keys()

    async def begin(self, record: RecordedTurn, history: History) -> None:
        """Lay out the history of the first turn."""
        self._system = None if history.system is None else history.system.position
        self._fallback = record.fallback
        words = SessionWords(system=system_prompt(history.system), fallback_model=record.fallback)
        model = record.attempts[0].model
        started = SessionStarted(model, system_tokens=_system_tokens(history.system), fallback_model=record.fallback)
        await self._append(self._sealed(Draft(started, words)))
        await self._say(history.events, {*history.pinned, *record.earlier()})
        pins = [Draft(MessagePinned(self.places[position])) for position in sorted(history.pinned)]
        await self._append(self._sealed(*pins))
        self.messages, self.tokens, self.whole = history.messages, history.tokens, history.whole

    async def go_on(self, record: RecordedTurn, history: History) -> None:
        """Add what a later turn was sent besides."""
        system = None if history.system is None else history.system.position
        if (system, record.fallback) != (self._system, self._fallback):
            self._system, self._fallback = system, record.fallback
            words = SessionWords(system=system_prompt(history.system), fallback_model=record.fallback)
            changed = ("fallback_model", "system")
            tokens = _system_tokens(history.system)
            updated = SessionUpdated(changed, system_tokens=tokens, fallback_model=record.fallback)
            await self._append(self._sealed(Draft(updated, words)))
        await self._say(history.events, record.earlier())
        for event in history.events:
            self._count(event)

    def take(self, record: RecordedTurn, messages: Sequence[int]) -> None:
        """A turn was done again: the positions of its messages here, in order."""
        said = [event for event in (record.input, *record.events) if event is not None and _is_message(event)]
        for event, position in zip(said, messages, strict=True):
            self.places[event.position] = position
            self._count(event)

    def _count(self, event: RecordedEvent) -> None:
        facts = facts_of(event)
        assert isinstance(facts, MessageAppended)
        self.messages += 1
        self.tokens += facts.tokens

    async def _say(self, events: Sequence[RecordedEvent], sent: set[int]) -> None:
        """Append messages as they are on record. Of one that is not sent the words may be gone: it has its tokens."""
        check_words(event for event in events if event.position in sent)
        recorded = await self._append(
            [_again(new_id, event) for new_id, event in zip(self._ids(len(events)), events, strict=True)]
        )
        for event, new in zip(events, recorded, strict=True):
            self.places[event.position] = new.position

    async def _append(self, news: Sequence[NewEvent]) -> tuple[RecordedEvent, ...]:
        if not news:
            return ()
        return (await self._store.append(Append(self._caller.tenant, self.id, AnyVersion(), news))).events

    def _sealed(self, *drafts: Draft) -> list[NewEvent]:
        return seal(drafts, self._caller, self._store.clock)

    def _ids(self, count: int) -> Iterator[UUID]:
        return (self._store.clock.new_id() for _ in range(count))


def _again(new_id: UUID, event: RecordedEvent) -> NewEvent:
    body = codec.encode_body(MessageWords(())) if event.body is None else event.body
    return NewEvent(new_id, event.type, event.schema, event.facts, event.actor, body, meaning=facts_of(event))


def _is_message(event: RecordedEvent) -> bool:
    return event.type == MessageAppended.event_type


def system_prompt(event: RecordedEvent | None) -> str | None:
    """The system prompt that an event has set."""
    words = None if event is None else words_of(event)
    return words.system if isinstance(words, SessionWords) else None


def _system_tokens(event: RecordedEvent | None) -> int:
    facts = None if event is None else facts_of(event)
    return facts.system_tokens if isinstance(facts, SessionStarted | SessionForked | SessionUpdated) else 0


# --- reading the record -----------------------------------------------------------------------------------------------


def further_history(connection: Connection, record: RecordedTurn, there: AbstractSet[int]) -> History:
    """What a turn was sent of what had been said before it, but for what is there already. Raises CannotReplay."""
    return History(_messages_at(connection, record, sorted(record.earlier() - there)), _system_of(connection, record))


def history_then(connection: Connection, record: RecordedTurn) -> History:
    """What had been said before a turn, as it was seen then. Raises CannotReplay."""
    first = record.first_event
    before = state_at(connection, record.tenant, first.session, first.version - 1)
    with rows_then(connection, record.tenant, before) as then:
        laid = _Laid(record)
        for _, unit in groupby(then.rows, key=lambda row: row.unit):
            if not laid.take(list(unit)):
                break
        else:
            laid.whole = True
    if laid.wanted:
        raise CannotReplay(f"what it was sent is not on record: {', '.join(map(str, sorted(laid.wanted)))}")
    positions = sorted(row.position for row in laid.rows)
    pinned = frozenset(row.position for row in laid.rows if row.pinned)
    events = _messages_at(connection, record, positions)
    system = _system_of(connection, record)
    return History(events, system, pinned, laid.messages, laid.tokens, laid.whole)


class _Laid:
    """The history of a turn as it is laid out, from the newest unit back. ``wanted``: positions still to come."""

    def __init__(self, record: RecordedTurn) -> None:
        self.rows: list[PastRow] = []
        self.wanted = record.earlier()
        self.messages = self.tokens = 0
        self.whole = False
        self._record = record
        self._has_user = False
        self._full = False

    def take(self, unit: Sequence[PastRow]) -> bool:
        """Take a unit in if it is needed; False: nothing that lies before it is."""
        supersedes = self._record.started.supersedes
        if any(row.left_out and row.position != supersedes for row in unit):
            return True
        positions = {row.position for row in unit}
        is_first_user = not self._has_user and unit[0].role == "user"
        if not self._full or positions & self.wanted or is_first_user or any(row.pinned for row in unit):
            self.rows += unit
        if not self._full:
            self.messages += len(unit)
            self.tokens += sum(row.tokens for row in unit)
            self._full = is_beyond(self._record, self.tokens, self.messages)
        self.wanted -= positions
        self._has_user = self._has_user or unit[0].role == "user"
        return not self._full or bool(self.wanted) or not self._has_user


def is_beyond(record: RecordedTurn, tokens: int, messages: int) -> bool:
    """True if so much is far more than any window of a turn could take."""
    facts = [attempt.facts for attempt in record.attempts]
    factor, overhead = min(each.factor_permille for each in facts), min(each.overhead for each in facts)
    return figure(tokens, messages, factor, overhead) > BEYOND * max(available(each) for each in facts)


def _messages_at(connection: Connection, record: RecordedTurn, positions: Sequence[int]) -> tuple[RecordedEvent, ...]:
    events = reads.events_at_positions(connection, record.tenant, positions)
    if len(events) != len(positions) or not all(map(_is_message, events)):
        raise CannotReplay("what it was sent is not on record")
    return tuple(events)


def _system_of(connection: Connection, record: RecordedTurn) -> RecordedEvent | None:
    position = record.attempts[0].facts.system
    if position is None:
        return None
    event = reads.event_at_position(connection, record.tenant, position)
    if event is None:
        raise CannotReplay(f"its system prompt is not on record: event {position}")
    check_words([event])
    return event
