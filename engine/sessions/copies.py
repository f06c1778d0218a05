"""Copies: sessions that were made from another one, by an import or by a run done again.

A copy names its source in the facts of its first event. Older ones did not: an import is found by the causation of
that event, which is the source's first, and a run by ``replay_of`` in its metadata, for as long as that is not erased.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from ..clock import id_of
from ..events.session_types import SessionStarted, SessionWords
from ..events.upcasts import Stored, facts_of, words_left
from ..log.base import RecordedEvent
from ..log.erasure import Trace
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared, PreparedRows
from .tables import copies

REPLAY_OF = "replay_of"
"""Key of a session's metadata: which one it runs again."""

Row = tuple[object, ...]

insert_copies = PreparedRows(insert(copies))
# source, tenant, session
_set_source = Prepared(update(copies).values(source=bindparam("source_")).where(*same(copies, "tenant", "session")))
_delete = Prepared(delete(copies).where(*same(copies, "tenant", "session")))
_copies_of = Prepared(
    select(copies.c.session)
    .where(*same(copies, "tenant"), or_(copies.c.source == bindparam("source_"), copies.c.cause == bindparam("cause_")))
    .order_by(copies.c.session)
)
_is_copy = Prepared(select(copies.c.session).where(*same(copies, "tenant", "session")))


def copy_row(event: RecordedEvent, facts: SessionStarted) -> Row | None:
    """The row of a session that begins; None: it is no copy."""
    source, cause = _source(event, facts), event.causation
    if source is None and cause is None:
        return None
    return event.tenant, event.session.bytes, source and source.bytes, cause and cause.bytes


def forget_source(connection: Connection, tenant: str, session: UUID, started: Trace) -> None:
    """Make a copy's row what is left of it where the words of its first event are erased."""
    facts = facts_of(started)
    assert isinstance(facts, SessionStarted)
    if facts.source is not None:
        return
    if started.causation is None:
        _delete(connection, tenant, session.bytes)
    else:
        _set_source(connection, None, tenant, session.bytes)


def copies_of(connection: Connection, tenant: str, session: UUID, first_event: bytes) -> list[UUID]:
    """The sessions that were made from this one, whose first event has this id, in order of their ids."""
    return [id_of(raw) for (raw,) in _copies_of(connection, tenant, session.bytes, first_event)]


def is_copy(connection: Connection, tenant: str, session: UUID) -> bool:
    """True if a session was made from another one."""
    return _is_copy(connection, tenant, session.bytes).fetchone() is not None


def _source(event: Stored, facts: SessionStarted) -> UUID | None:
    if facts.source is not None:
        return facts.source.session
    words = words_left(event) if _of_old(event) else None
    if not isinstance(words, SessionWords):
        return None
    try:
        return UUID(str((words.metadata or {}).get(REPLAY_OF)))
    except ValueError:
        return None


def _of_old(event: Stored) -> bool:
    """True for an event of the time before copies named their source: what it says in metadata is believed."""
    return event.schema == 1
