"""One write transaction: what the works of a batch have decided, held in memory until it is written at once.

A work checks everything before it records anything, so a refusal leaves no trace, and its batch-mates go on. Heads
and session states outlive a transaction only if it was committed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from ..clock import Clock
from ..errors import EngineError
from . import codec
from .base import Inherited, NewEvent, Place, Projector, RecordedEvent
from .merkle import Frontier
from .sql.clauses import same
from .sql.driver import Prepared
from .sql.rows import write_events
from .sql.session_index import place_events
from .sql.tables import heads, origins
from .sql.tree import Growing, grow

_UNREAD = object()
_ORIGIN = re.compile(r"manent/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[a-z0-9][a-z0-9._-]{0,63}")
MOST_LOGS = 1000
"""Heads that are kept, of up to 20 KB each."""

_head = Prepared(select(heads.c.size, heads.c.recorded_at, heads.c.frontier).where(*same(heads, "tenant")))
_insert_head = Prepared(insert(heads))
# size, recorded_at, frontier, tenant
_update_head = Prepared(
    update(heads)
    .values(size=bindparam("size_"), recorded_at=bindparam("recorded_"), frontier=bindparam("frontier_"))
    .where(*same(heads, "tenant"))
)
_origin = Prepared(
    select(origins.c.origin)
    .where(*same(origins, "tenant"))
    .order_by(origins.c.from_position.desc(), origins.c.origin.desc())
)
_insert_origin = Prepared(insert(origins))

StateKey = tuple[str, int]
"""Tenant, and a session's id as a number: that is hashed in no time, a UUID takes its."""


class UnrecordableError(Exception):
    """An event that the projector cannot fold; its cause says why. The transaction must be rolled back."""


class Head(msgspec.Struct):
    """The end of one log, as the writer knows it."""

    size: int
    recorded_at: int
    origin: str
    stored: bool
    tree: Growing
    leaves: list[bytes]
    """Hashes of the leaves that the tree does not have yet."""
    dirty: bool = False


class Heads:
    """The writer's cache: log heads, and the states of the sessions last written (bounded)."""

    def __init__(self, most_states: int) -> None:
        self.logs: dict[str, Head] = {}
        self.states: dict[StateKey, Any] = {}
        self._most_states = most_states

    def state(self, connection: Connection, projector: Projector, tenant: str, session: UUID) -> Any:
        """The state of a session, from its row where it is not known; None if the session has not begun."""
        key = (tenant, session.int)
        state = self.states.get(key, _UNREAD)
        if state is _UNREAD:
            state = self.states[key] = projector.load(connection, tenant, session)
        return state

    def keep(self, key: StateKey, state: Any) -> None:
        """As the newest."""
        self.states.pop(key, None)
        self.states[key] = state

    def trim(self) -> None:
        """Let go of the states longest unused and of the oldest heads; only between transactions, for both may be ahead
        of their rows.
        """
        while len(self.states) > self._most_states:
            del self.states[next(iter(self.states))]
        while len(self.logs) > MOST_LOGS:
            del self.logs[next(iter(self.logs))]

    def drop(self) -> None:
        """Forget everything: the database is the truth again."""
        self.logs.clear()
        self.states.clear()


class Transaction:
    """The reads and writes of one batch. Rows wait in lists and are written by ``flush``."""

    def __init__(self, connection: Connection, heads: Heads, projector: Projector, clock: Clock) -> None:
        self.connection = connection
        self.changed: set[StateKey] = set()
        self.word_bytes = 0
        """Of bodies, and of the journal's frames."""
        self.journaled = 0
        """Turns of which the journal was given frames."""
        self._heads = heads
        self._projector = projector
        self._clock = clock
        self._events: list[tuple[RecordedEvent, bytes | None]] = []
        """With the salts of their bodies."""

    def state(self, tenant: str, session: UUID) -> Any:
        """The session's state now, batch-mates included; None if it has not begun."""
        return self._heads.state(self.connection, self._projector, tenant, session)

    def current(self, tenant: str, state: Any) -> Any:
        """A state as decisions are to see it."""
        return None if state is None else self._projector.current(self.connection, tenant, state)

    def inherit(self, tenant: str, session: UUID, source: Inherited) -> Any:
        """The state from which a session begins that has another's history."""
        self.flush()
        return self._projector.inherit(self.connection, self.connection, tenant, session, source)

    def forget_states(self, tenant: str, sessions: Iterable[UUID]) -> None:
        """Read the states of these sessions anew: their rows were changed."""
        for session in sessions:
            self._heads.states.pop((tenant, session.int), None)

    def salt(self) -> bytes:
        """A fresh salt, for a fingerprint."""
        return self._clock.salts(1)[0]

    def place(self, tenant: str, version: int) -> Place:
        """The place of the next event of a session at ``version``."""
        return Place(position=self._head(tenant).size + 1, version=version + 1)

    def record(
        self, tenant: str, session: UUID, news: Sequence[NewEvent], state: Any
    ) -> tuple[tuple[RecordedEvent, ...], Any]:
        """Give each event its place, time, salt and hashes; fold it into the session's ``state``; remember its rows.
        Returns the events and the new state.
        """
        head = self._head(tenant)
        now = max(self._clock.now_us(), head.recorded_at)
        version = 0 if state is None else state.version
        recorded = []
        for new, salt in zip(news, self._clock.salts(len(news)), strict=True):
            head.size += 1
            version += 1
            event = _recorded(new, salt, tenant, session, head, version, now)
            self._events.append((event, salt))
            self.word_bytes += event.length
            state = self._fold(state, event)
            recorded.append(event)
            head.leaves.append(event.leaf_hash)
        head.recorded_at = now
        head.dirty = True
        key = (tenant, session.int)
        self._heads.keep(key, state)
        self.changed.add(key)
        return tuple(recorded), state

    def flush(self) -> None:
        """Write what was remembered so far; called before scratch, and at the end."""
        if not self._events:
            return
        write_events(self.connection, self._events)
        self._projector.flush(self.connection)
        self._events = []
        for tenant, head in self._heads.logs.items():
            if head.dirty:
                self._write_head(tenant, head)

    def _fold(self, state: Any, event: RecordedEvent) -> Any:
        try:
            return self._projector.fold(state, event)
        except EngineError as error:
            # By now rows are remembered, so this cannot be a refusal that leaves the batch alone.
            raise UnrecordableError from error

    def _head(self, tenant: str) -> Head:
        head = self._heads.logs.get(tenant)
        if head is None:
            head = self._heads.logs[tenant] = self._load_head(tenant) or self._new_head(tenant)
        return head

    def _load_head(self, tenant: str) -> Head | None:
        row = _head(self.connection, tenant).fetchone()
        if row is None:
            return None
        tree = Growing.resume(self.connection, tenant, Frontier.from_bytes(row[2]))
        return Head(row[0], row[1], self._origin(tenant) or "", stored=True, tree=tree, leaves=[])

    def _new_head(self, tenant: str) -> Head:
        """The head of a log that has not begun; it is written with the log's first event."""
        origin = self._origin(tenant) or new_origin(tenant, self._clock)
        return Head(size=0, recorded_at=0, origin=origin, stored=False, tree=Growing(), leaves=[])

    def _origin(self, tenant: str) -> str | None:
        row = _origin(self.connection, tenant).fetchone()
        return None if row is None else row[0]

    def _write_head(self, tenant: str, head: Head) -> None:
        place_events(self.connection, tenant, head.tree.size, head.size)
        grow(self.connection, tenant, head.tree, head.leaves)
        head.leaves, frontier = [], head.tree.frontier()
        if head.stored:
            move_head(self.connection, tenant, head.recorded_at, frontier)
        else:
            begin_head(self.connection, tenant, head.recorded_at, frontier)
            if self._origin(tenant) is None:
                _insert_origin(self.connection, tenant, 1, head.origin)
        head.stored, head.dirty = True, False


def begin_head(connection: Connection, tenant: str, recorded_at: int, frontier: Frontier) -> None:
    """Write the head of a log that has none yet: its events are written, and the last is of this time."""
    _insert_head(connection, tenant, frontier.size, recorded_at, frontier.to_bytes())


def move_head(connection: Connection, tenant: str, recorded_at: int, frontier: Frontier) -> None:
    """Write the head of a log that has one anew, in the same way."""
    _update_head(connection, frontier.size, recorded_at, frontier.to_bytes(), tenant)


def new_origin(tenant: str, clock: Clock) -> str:
    """A name for a log that no other log has."""
    return f"manent/{clock.new_id()}/{tenant}"


def is_origin(name: str) -> bool:
    """True for a name as ``new_origin`` makes it."""
    return _ORIGIN.fullmatch(name) is not None


def _recorded(
    new: NewEvent, salt: bytes, tenant: str, session: UUID, head: Head, version: int, now: int
) -> RecordedEvent:
    columns = (
        tenant,
        head.size,
        session,
        version,
        new.id,
        new.type,
        new.schema,
        new.actor,
        now,
        new.causation,
        new.correlation,
        new.facts,
        len(new.body),
        codec.commitment(salt, new.body),
    )
    leaf_hash = codec.leaf_hash(codec.leaf_bytes(head.origin, columns))
    return RecordedEvent(*columns, leaf_hash, new.body, meaning=new.meaning)
