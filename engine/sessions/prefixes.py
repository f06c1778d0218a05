"""The histories by which conversations are recognised: a keyed hash for each message of a session that clients send
again (``canonical``).

An erasure deletes the hash of an erased message and all behind it, in every branch that shares it: a conversation with
words that are gone is not recognised any more, and folding the log again gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select

from ..clock import id_of
from ..events.blocks import read_blocks
from ..events.session_types import SessionForked, SessionStarted, SessionWords
from ..events.types import MessageAppended, MessageWords
from ..events.upcasts import words_left
from ..log.base import RecordedEvent
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared, PreparedRows
from .canonical import following, origin
from .state import SessionState
from .tables import prefixes

AT_ONCE = 64
CHAINED = (SessionStarted.event_type, MessageAppended.event_type)
"""The events whose words a history's hash is of."""

insert_prefixes = PreparedRows(insert(prefixes))
_hash = Prepared(select(prefixes.c.hash).where(*same(prefixes, "tenant", "session", "version")))
_forget = Prepared(
    delete(prefixes).where(*same(prefixes, "tenant", "session"), prefixes.c.version >= bindparam("from_"))
)
_known = Prepared(
    select(prefixes.c.hash, prefixes.c.session, prefixes.c.version).where(
        *same(prefixes, "tenant"), prefixes.c.hash.in_([bindparam(f"hash_{number}") for number in range(AT_ONCE)])
    )
)


class Known(msgspec.Struct, frozen=True, gc=False):
    """A message on record that ends a history of this hash."""

    hash: bytes
    session: UUID
    version: int


def chained(
    key: bytes | None, before: SessionState | None, event: RecordedEvent, facts: object, after: SessionState
) -> SessionState:
    """The state after an event with the hash of the history up to it; None: it is not recognised, or not any more."""
    chain = None if before is None else before.chain
    if key is None or not after.drop_in:
        return after
    words = words_left(event) if isinstance(facts, SessionStarted | MessageAppended) else None
    if isinstance(facts, SessionStarted):
        end_user = words.user_id if isinstance(words, SessionWords) else None
        gone = event.erased or event.damaged
        chain = None if gone else origin(key, event.tenant, event.actor, end_user)
    elif isinstance(facts, MessageAppended) and chain is not None:
        said = words.content if isinstance(words, MessageWords) else None
        chain = None if said is None else following(key, chain, facts.role, read_blocks(said))
    return after if chain == after.chain else msgspec.structs.replace(after, chain=chain)


def prefix_row(event: RecordedEvent, facts: object, after: SessionState) -> tuple[object, ...] | None:
    """The row of an event, if it has one: the beginnings of sessions, and messages."""
    if after.chain is None or not isinstance(facts, SessionStarted | SessionForked | MessageAppended):
        return None
    return event.tenant, event.session.bytes, event.version, after.chain


def chain_at(connection: Connection, tenant: str, state: SessionState) -> bytes | None:
    """The hash of a session's history at a state of it, from its row."""
    if not state.drop_in:
        return None
    first = (state.parent_version or 0) + 1
    last = state.last.version if state.last is not None and state.last.position > state.shared else first
    row = _hash(connection, tenant, state.id.bytes, last).fetchone()
    return None if row is None else row[0]


def forget_prefixes(connection: Connection, tenant: str, session: UUID, version: int) -> None:
    """Let the messages of a session from a version on be recognised no longer."""
    _forget(connection, tenant, session.bytes, version)


def known_prefixes(connection: Connection, tenant: str, wanted: Sequence[bytes]) -> Iterator[list[Known]]:
    """The messages on record that end a history of one of these hashes: some hashes at a time, in their order."""
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        rows: Any = _known(connection, tenant, *some, *[some[-1]] * (AT_ONCE - len(some)))
        yield [Known(row[0], id_of(row[1]), row[2]) for row in rows]
