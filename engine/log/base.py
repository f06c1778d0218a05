"""The contract of a store: one totally ordered log per tenant, written by appending, never changed.

The log reads nothing of what an event says. It holds some things for its caller, without looking into them:

* *Meaning*: what an event's facts say. Whoever appends gives it along, and a ``Decoder`` makes it of what is read, so
  that facts are decoded once. It is no part of what is recorded.
* *Projections*: a ``Projector`` folds events into rows of the caller's, in the append's own transaction; and callers
  may pass a function that decides, on the session's state at that moment, which events to append.
* *Scratch*, which is neither hashed nor kept: the runs of what the caller has open and by whom (``log.leases``), the
  journal of what it has not appended yet (``log.journal``); and *requests*, which are kept: what an idempotency key has
  made (``log.sql.idempotency``). Their columns are named for turns and frames, and it could be any other work.

What is promised:

* ``append`` writes all of its events or none. It is acknowledged only after the commit is durable.
* Positions (per log) and versions (per session) are dense from 1, in commit order.
* ``expected`` is enforced inside the transaction, against batch-mates too; a conflict names the current version.
* An event id that came before gives the first answer again if its words are the same, and is refused otherwise.
* What was written is refused every change by the database itself.

``tests/contracts/test_store.py`` holds every member to this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec
from sqlalchemy import Connection as Connection  # noqa: PLC0414 - named here for those who only pass it on

Decoder = Callable[[str, int, bytes], Any]
"""What an event's facts say, of its type and schema; None where they say nothing that is known. Raises nothing."""
DECODER = "manent.decoder"
"""Under which name a connection carries its decoder (``Connection.info``)."""


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event before the disk. ``facts`` is canonical JSON, ``body`` plain bytes (empty: no words). ``meaning``: what
    the facts say, if whoever made them has it at hand.
    """

    id: UUID
    type: str
    schema: int
    facts: bytes
    actor: str
    body: bytes = b""
    causation: UUID | None = None
    correlation: str | None = None
    meaning: Any = None


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """The event that tells of an erasure, as much of it as is told beside what it erased. ``body`` None: it is erased,
    or damaged.
    """

    position: int
    schema: int
    actor: str
    recorded_at: int
    body: bytes | None


class RecordedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event after the disk. ``body`` is None where it was not read, is erased or damaged; ``recorded_at`` in
    microseconds. ``meaning``: what the facts say, if somebody has decoded them. ``damaged``: its body was read, and is
    not the one that was recorded; it is not given. ``erasure``: who erased it, where it was read from the log.
    """

    tenant: str
    position: int
    session: UUID
    version: int
    id: UUID
    type: str
    schema: int
    actor: str
    recorded_at: int
    causation: UUID | None
    correlation: str | None
    facts: bytes
    length: int
    commitment: bytes
    leaf_hash: bytes
    body: bytes | None = None
    erased: bool = False
    meaning: Any = None
    damaged: bool = False
    erasure: Erasure | None = None


# --- the version that a caller expects: a closed type -----------------------------------------------------------------


class Exactly(msgspec.Struct, frozen=True, gc=False):
    """The session is at this version."""

    version: int


class NoStream(msgspec.Struct, frozen=True, gc=False):
    """The session has not begun."""


class Exists(msgspec.Struct, frozen=True, gc=False):
    """The session has begun."""


class AnyVersion(msgspec.Struct, frozen=True, gc=False):
    """Whatever it is."""


Expected = Exactly | NoStream | Exists | AnyVersion


class Place(msgspec.Struct, frozen=True, gc=False):
    """The place of an append's first event."""

    position: int
    version: int


Decide = Callable[[Place, Any], Sequence[NewEvent]]


class RequestKey(msgspec.Struct, frozen=True, gc=False):
    """An idempotent request: who sent what where under which key. ``body`` is what is fingerprinted (salted): what was
    said, in a form that does not hang on how it was written. ``raw``: as it was sent, if that differs; earlier versions
    have fingerprinted that.
    """

    principal: str
    route: str
    key: str
    body: bytes
    raw: bytes | None = None


class Reference(msgspec.Struct, frozen=True, gc=False):
    """The result of a remembered request: never an answer's words. ``kind`` is the caller's; ``id`` and ``version``
    find it.
    """

    kind: str
    id: UUID
    version: int


class Scratch(Protocol):
    """A change to scratch tables that belongs to an append. ``check`` may refuse it, before anything is written."""

    def check(self, connection: Connection) -> None:
        """Raise an EngineError if the append must not happen."""
        ...

    def apply(self, connection: Connection) -> None:
        """Write; called after the events of the append."""
        ...


def same_facts(new: NewEvent, old: RecordedEvent) -> bool:
    """True if two events say the same, but for their words."""
    return (new.type, new.schema, new.facts) == (old.type, old.schema, old.facts)


class Inherited(msgspec.Struct, frozen=True, gc=False):
    """The history with which a session begins that is another's up to a version: its first event has the next one."""

    session: UUID
    version: int


class Append(msgspec.Struct, frozen=True, gc=False):
    """One append. ``events`` are given, or decided on the state inside the transaction. ``known`` are those of the
    decided events whose ids the caller chose: if they came before, theirs is the first answer; ``alike`` says whether
    their facts are the same, where some are decided inside. ``request`` makes it idempotent by key, ``reference`` says
    what to remember (default: the session and its new version). ``inherits``: the history that a new session begins
    with.
    """

    tenant: str
    session: UUID
    expected: Expected
    events: Sequence[NewEvent] | Decide
    known: Sequence[NewEvent] = ()
    alike: Callable[[NewEvent, RecordedEvent], bool] = same_facts
    request: RequestKey | None = None
    reference: Reference | None = None
    scratch: tuple[Scratch, ...] = ()
    inherits: Inherited | None = None


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The answer to an append: what was recorded, and the state after it. ``replayed`` is set where the request or
    the event ids came before: then ``events`` are the first answer's (empty for a request), and nothing was
    written.
    """

    events: tuple[RecordedEvent, ...]
    state: Any
    replayed: Reference | None = None


class Projector(Protocol):
    """Folds events into the rows of projections, inside the transaction that writes them."""

    def load(self, connection: Connection, tenant: str, session: UUID) -> Any:
        """The state of a session, or None if it has not begun."""
        ...

    def inherited(self, first: RecordedEvent) -> Inherited | None:
        """The history that a session begins with, of its first event; None: its own."""
        ...

    def inherit(self, log: Connection, derived: Connection, tenant: str, session: UUID, source: Inherited) -> Any:
        """The state from which such a session begins. The events are read from one connection, and the projections,
        which are flushed, from another, or the same. Raises what refuses it.
        """
        ...

    def current(self, connection: Connection, tenant: str, state: Any) -> Any:
        """A state as decisions are to see it: with what was erased of the history that it has from another."""
        ...

    def fold(self, state: Any, event: RecordedEvent) -> Any:
        """The state after one more event; remembers the rows to write until ``flush`` or ``forget``."""
        ...

    def flush(self, connection: Connection) -> None:
        """Write the rows of all events folded since the last flush."""
        ...

    def forget(self) -> None:
        """Drop the rows remembered: their transaction was rolled back."""
        ...
