"""The journal: the delta frames of the rounds that now run, on disk before they are shown. Scratch, not history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, select

from ..clock import id_of
from .leases import log, owner_of
from .sql import driver
from .sql.checksums import checked, is_sound
from .sql.tables import journal
from .transaction import Transaction


class JournalRow(msgspec.Struct, frozen=True, gc=False):
    """One frame of a running round. ``kind`` is ``start`` or ``delta``; ``text`` is a delta's text, or the JSON of
    a start.
    """

    tenant: str
    turn: UUID
    frame: int
    message: UUID
    block: int
    kind: str
    elapsed_ms: int
    text: bytes


def journal_rows(
    connection: Connection,
    tenant: str,
    turn: UUID,
    *,
    after: int | None = None,
    limit: int | None = None,
    kind: str | None = None,
) -> list[JournalRow]:
    """The journal of a turn, in order of frames; a vendor's blocks, which have none, come first. It ends before a frame
    whose row is damaged: an answer has no holes.
    """
    query = select(journal).where(journal.c.tenant == tenant, journal.c.turn == turn.bytes).order_by(journal.c.frame)
    if after is not None:
        query = query.where(journal.c.frame > after)
    if kind is not None:
        query = query.where(journal.c.kind == kind)
    found: list[JournalRow] = []
    for row in connection.execute(query.limit(limit)):
        _, _, frame, message, block, kind, elapsed_ms, text, _ = row
        if is_sound(row):
            found.append(JournalRow(tenant, turn, frame, id_of(message), block, kind, elapsed_ms, text))
        else:
            log.error("frame %d of turn %s is damaged in the journal", frame, turn)
            if frame > 0:
                break
    return found


class WriteJournal(msgspec.Struct, frozen=True):
    """Frames of any number of turns, all owned by ``owner``."""

    owner: UUID
    rows: Sequence[JournalRow]


def write_journal(tx: Transaction, work: WriteJournal) -> frozenset[UUID]:
    """Write the rows of the turns that ``owner`` still owns; returns the turns that it has lost."""
    rows = [
        checked(
            (row.tenant, row.turn.bytes, row.frame, row.message.bytes, row.block, row.kind, row.elapsed_ms, row.text)
        )
        for row in work.rows
    ]
    tx.journaled += len({row[:2] for row in rows})
    tx.word_bytes += sum([len(row.text) for row in work.rows])
    lost = _lost(tx, work.owner, rows)
    driver.insert_rows(tx.connection, tx.statements.insert_frame, [row for row in rows if row[:2] not in lost])
    return frozenset(id_of(turn) for _, turn in lost)


def _lost(tx: Transaction, owner: UUID, rows: Sequence[tuple[Any, ...]]) -> set[tuple[str, bytes]]:
    """(tenant, turn) of those whose turns are not the owner's. Where all are, as ever, a tenant's cost one row: each
    row that is fetched gives the interpreter's lock away.
    """
    turns: dict[str, dict[bytes, None]] = {}
    for row in rows:
        turns.setdefault(row[0], {})[row[1]] = None
    lost: set[tuple[str, bytes]] = set()
    for tenant, some in turns.items():
        ids = list(some)
        size = 1 << (len(ids) - 1).bit_length()  # the next power of two, so that a few statements serve all
        ids += ids[-1:] * (size - len(ids))
        found = driver.run(tx.connection, tx.statements.count_owned(size), (tenant, owner.bytes, *ids)).fetchone()
        if found[0] != len(some):
            lost |= {(tenant, turn) for turn in some if owner_of(tx, tenant, id_of(turn)) != owner}
    return lost
