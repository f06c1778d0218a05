"""Erasing bodies: what the store does of it, inside the transaction that records the erasure.

The event that tells of it is recorded before; then each body and its salt go, and with them the salts of the
idempotent requests that held the same words. What stays in the bytes of the file is the purge's to clear.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, literal_column, null, select, update

from .codec import MAX_SAFE_INTEGER
from .sql.checksums import checked
from .sql.clauses import SAME_BODY, same, with_bodies
from .sql.driver import Prepared, PreparedRows
from .sql.session_index import SessionQuery
from .sql.tables import bodies, erasures, events, purges, requests
from .transaction import Transaction

NO_WORDS_BYTES = len(b"{}")
"""A body of no more than this says nothing: it is empty, or an object without a member."""


class Trace(msgspec.Struct, frozen=True, gc=False):
    """An event without its words: as much as erasing asks. ``present``: its body is there (it may be empty)."""

    position: int
    version: int
    raw_id: bytes
    type: str
    schema: int
    recorded_at: int
    correlation: str | None
    facts: bytes
    length: int
    causation: bytes | None
    present: bool

    body: None = None
    meaning: None = None
    damaged: bool = False

    @property
    def has_words(self) -> bool:
        """True if there is something to erase."""
        return self.present and self.length > NO_WORDS_BYTES


_traces = SessionQuery(
    (
        events.c.position,
        events.c.version,
        events.c.id,
        events.c.type,
        events.c.schema,
        events.c.recorded_at,
        events.c.correlation,
        events.c.facts,
        events.c.length,
        events.c.causation,
        bodies.c.position.is_not(None),
    ),
    with_bodies,
)
_sessions_with_words = Prepared(
    select(events.c.session)
    .distinct()
    .select_from(events.join(bodies, SAME_BODY))
    .where(
        *same(events, "tenant"),
        events.c.recorded_at < bindparam("before_"),
        events.c.length > literal_column(str(NO_WORDS_BYTES)),
        events.c.type != bindparam("but_"),
    )
    .order_by(events.c.session)
)
_insert_erasures = PreparedRows(insert(erasures))
_insert_purge = Prepared(insert(purges))
_delete_body = Prepared(delete(bodies).where(*same(bodies, "tenant", "position")))
# tenant, id, first version, last version
_requests_of = Prepared(
    select(requests).where(
        *same(requests, "tenant", "id"),
        requests.c.version >= bindparam("first_"),
        requests.c.version <= bindparam("last_"),
        requests.c.salt.is_not(None),
    )
)
# checksum, tenant, principal, route, key
_forget_request = Prepared(
    update(requests)
    .values(salt=null(), checksum=bindparam("checksum_"))
    .where(*same(requests, "tenant", "principal", "route", "key"))
)


def traces(
    connection: Connection, tenant: str, session: UUID, *, after: int = 0, up_to: int = MAX_SAFE_INTEGER
) -> list[Trace]:
    """A session's events with ``after < version <= up_to``, without their words."""
    return [Trace(*row) for row in _traces(connection, tenant, session, after, up_to)]


def sessions_with_words(connection: Connection, tenant: str, before_us: int, but: str) -> list[UUID]:
    """Sessions that have words recorded before a time, in order of their ids; events of the type ``but`` do not
    count.
    """
    return [UUID(bytes=raw) for (raw,) in _sessions_with_words(connection, tenant, before_us, but)]


def erase_bodies(tx: Transaction, tenant: str, targets: Sequence[tuple[int, int]]) -> None:
    """Delete bodies, each (position, position of the event that tells of it). Those events are recorded by now."""
    tx.flush()
    note_erasures(tx.connection, tenant, targets)
    for position, _ in targets:
        _delete_body(tx.connection, tenant, position)
    _insert_purge(tx.connection, tenant, targets[-1][1])


def note_erasures(connection: Connection, tenant: str, targets: Sequence[tuple[int, int]]) -> None:
    """Write down that bodies are erased, each (position, position of the event that tells of it)."""
    _insert_erasures(connection, [(tenant, position, by_position) for position, by_position in targets])


def forget_requests(
    tx: Transaction,
    tenant: str,
    session: UUID,
    history: Sequence[Trace],
    positions: frozenset[int],
    kinds: Collection[str] = (),
) -> None:
    """Remove the salts of idempotent requests that held words of these events: without its salt a fingerprint confirms
    no guess. A request is found by what it made (the session, an event of its append, or what led to one: a decision is
    kept with its turn) and by its version.

    A salt too many is removed rather than one too few: with an event's, those of all that had the same cause, for a
    decision names a call as the model did; and with any, that of the request which began the session, for it may have
    held the first message. All requests of ``kinds`` lose theirs: one that changed nothing has told of words that were
    there before, and made no event by which it could be found.
    """
    if kinds:
        for row in _requests_of(tx.connection, tenant, session.bytes, 0, MAX_SAFE_INTEGER).fetchall():
            if row[requests.c.keys().index("kind")] in kinds:
                _without_salt(tx, row)
    causes = {trace.causation for trace in history if trace.position in positions} - {None}
    for number, together in enumerate(_appends(history)):
        told = any(trace.position in positions or trace.causation in causes for trace in together)
        if number > 0 and not told:
            continue
        first, last = together[0].version, together[-1].version
        for made in _made(session, together):
            for row in _requests_of(tx.connection, tenant, made, first, last).fetchall():
                _without_salt(tx, row)


def _without_salt(tx: Transaction, row: Sequence[Any]) -> None:
    *key, _, fingerprint, kind, raw_id, version, _ = row
    without = checked((*key, None, fingerprint, kind, raw_id, version))
    _forget_request(tx.connection, without[-1], *key)


def _made(session: UUID, together: Sequence[Trace]) -> set[bytes]:
    """Ids that a request may name as its result, of events that were appended together."""
    led = {trace.causation for trace in together if trace.causation is not None}
    return {session.bytes, *(trace.raw_id for trace in together), *led}


def _appends(history: Sequence[Trace]) -> Iterator[list[Trace]]:
    """Events that were appended together. They have one time and one correlation; neighbours that have the same by
    chance are taken for one append, which forgets a salt too many and never one too few.
    """
    for _, together in groupby(history, key=lambda trace: (trace.recorded_at, trace.correlation)):
        yield list(together)
