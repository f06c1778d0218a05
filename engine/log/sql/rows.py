"""An event as a row, both ways: the one place that knows the columns of ``events`` by their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert

from ...clock import id_of
from ..base import DECODER, Decoder, RecordedEvent
from .damage import erasure_of, is_sound
from .driver import PreparedRows
from .tables import bodies, events

ENCODING_PLAIN = 0

_insert_events = PreparedRows(insert(events))
_insert_bodies = PreparedRows(insert(bodies))


def reading(connection: Connection) -> Callable[[Sequence[Any]], RecordedEvent]:
    """How rows of ``clauses.recorded`` are read: each body is checked against its commitment, and the event's meaning
    is what the decoder makes of it that the connection's store was opened with.
    """
    return partial(_event_of, connection, connection.info.get(DECODER))


def _event_of(connection: Connection, decode: Decoder | None, row: Sequence[Any]) -> RecordedEvent:
    tenant, position, session, version, event_id, kind, schema, actor, recorded_at, causation, *rest = row
    correlation, facts, length, commitment, leaf_hash, body, salt = rest
    sound = is_sound(connection, tenant, position, commitment, salt, body)
    erased = sound and body is None
    return RecordedEvent(  # its fields in their order: naming twenty of them takes longer than reading them
        tenant,
        position,
        session_id(session),
        version,
        id_of(event_id),
        kind,
        schema,
        actor,
        recorded_at,
        id_of(causation) if causation else None,
        correlation,
        facts,
        length,
        commitment,
        leaf_hash,
        body if sound else None,
        erased,
        decode(kind, schema, facts) if decode else None,
        not sound,
        erasure_of(connection, tenant, position) if erased else None,
    )


def write_events(connection: Connection, recorded: Iterable[tuple[RecordedEvent, bytes | None]]) -> None:
    """Write events, and their bodies with the salts beside them; salt None: the body is erased."""
    rows, words = [], []
    for event, salt in recorded:
        rows.append(_row_of(event))
        if salt is not None:
            words.append((event.tenant, event.position, salt, ENCODING_PLAIN, event.body))
    _insert_events(connection, rows)
    _insert_bodies(connection, words)


@lru_cache(maxsize=1024)
def session_id(raw: bytes) -> UUID:
    """Ids cost a microsecond each to make, and what is read together has the same session."""
    return id_of(raw)


def _row_of(event: RecordedEvent) -> tuple[object, ...]:
    return (
        event.tenant,
        event.position,
        event.session.bytes,
        event.version,
        event.id.bytes,
        event.type,
        event.schema,
        event.actor,
        event.recorded_at,
        event.causation.bytes if event.causation else None,
        event.correlation,
        event.facts,
        event.length,
        event.commitment,
        event.leaf_hash,
    )
