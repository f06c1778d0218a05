"""Projections from the log again: their rows are dropped, and every event is folded once more, in one transaction.

It is how a changed or damaged projection is made right, and how it is shown that the live one is right: the rows
before and after are compared. Memory does not grow with the log: rows are written a batch at a time, and compared
by digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Table

from ..errors import EngineError, StoreCorrupt
from .base import Projector, RecordedEvent
from .sql.checkpoints import log_sizes
from .sql.driver import empty_table, table_rows
from .sql.reads import all_events
from .sql.session_index import place_all
from .sql.tables import places
from .sqlite.connection import DRIVER_ERRORS, meaning_of, open_writer
from .sqlite.schema import Progress
from .transaction import Heads

BATCH_EVENTS = 1000
KEPT_STATES = 10_000
"""Session states kept between batches; the others are read again from the rows just written."""


class Rebuilt(msgspec.Struct, frozen=True):
    """How many events were folded, and the tables whose rows were not what the log says. They are now."""

    events: int
    differed: tuple[str, ...]


def rebuild_file(path: Path, projector: Projector, tables: Sequence[Table], progress: Progress) -> Rebuilt:
    """Rebuild the projections of a database file, or leave all as it was. The caller holds the file's lock."""
    engine = open_writer(path)
    try:
        with engine.begin() as connection:
            return rebuild(connection, projector, tables, progress)
    except DRIVER_ERRORS as error:
        raise meaning_of(error) from error
    finally:
        engine.dispose()


def rebuild(connection: Connection, projector: Projector, tables: Sequence[Table], progress: Progress) -> Rebuilt:
    """Empty ``tables``, which are those that ``projector`` writes, and fold the whole log into them. The store's own
    ``places`` are made anew with them.

    Raises StoreCorrupt where the log is not whole; then, as after any error, the transaction must be rolled back.
    """
    derived = [places, *tables]
    before = [digest(connection, table) for table in derived]
    place_all(connection)
    for table in tables:
        empty_table(connection, table)
    try:
        count = fold_all(connection, connection, projector, progress)
    except BaseException:
        projector.forget()
        raise
    after = [digest(connection, table) for table in derived]
    differed = (table.name for table, old, new in zip(derived, before, after, strict=True) if old != new)
    return Rebuilt(count, tuple(differed))


def digest(connection: Connection, table: Table) -> bytes:
    """SHA-256 over every row, in the order of the key: equal for equal rows, and for no others."""
    hashed = hashlib.sha256()
    for row in table_rows(connection, table):
        hashed.update(msgspec.msgpack.encode(row))
    return hashed.digest()


def fold_all(connection: Connection, into: Connection, projector: Projector, progress: Progress) -> int:
    """Fold the whole log of one database into the empty projections of another, or of the same; how many events.

    Raises StoreCorrupt where the log is not whole.
    """
    total = sum(log_sizes(connection).values())
    known, done = Heads(KEPT_STATES), 0
    for batch in _batches(all_events(connection)):
        fold_batch(connection, into, projector, known, batch)
        done += len(batch)
        progress(done, total)
    if done != total:
        raise StoreCorrupt(f"the log should hold {total} events, and holds {done}; nothing was changed")
    return done


def fold_batch(
    log: Connection, into: Connection, projector: Projector, known: Heads, events: Sequence[RecordedEvent]
) -> None:
    """Fold events that follow those folded before, and write the rows; ``known`` keeps states between the batches. The
    events stand in the ``log`` by now.

    Raises StoreCorrupt for an event that does not follow from those before it.
    """
    for event in events:
        state = known.state(into, projector, event.tenant, event.session)
        source = projector.inherited(event) if state is None else None
        if source is not None:
            projector.flush(into)
            state = projector.inherit(log, into, event.tenant, event.session, source)
        known.keep((event.tenant, event.session.int), _fold(projector, state, event))
    projector.flush(into)
    known.trim()


def _fold(projector: Projector, state: Any, event: RecordedEvent) -> Any:
    try:
        return projector.fold(state, event)
    except EngineError:
        raise
    except Exception as error:  # whatever it is: an event was recorded only after it had been folded
        place = f"event {event.position} of {event.tenant} ({event.type})"
        raise StoreCorrupt(f"{place} does not follow from those before it; nothing was changed") from error


def _batches(events: Iterator[RecordedEvent]) -> Iterator[list[RecordedEvent]]:
    while batch := list(islice(events, BATCH_EVENTS)):
        yield batch
