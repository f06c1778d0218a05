"""The journal: the delta frames of the rounds that now run, on disk before they are shown. Scratch, not history."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, select

from ..clock import id_of
from .codec import MAX_SAFE_INTEGER
from .leases import log, owner_of
from .sql.checksums import checked, is_sound
from .sql.clauses import limited, same
from .sql.driver import Prepared, PreparedRows
from .sql.tables import journal, runs
from .transaction import Transaction

_FOLLOWING = (*same(journal, "tenant", "turn"), journal.c.frame > bindparam("after_"))
_frames = Prepared(limited(select(journal).where(*_FOLLOWING).order_by(journal.c.frame)))
_frames_of_kind = Prepared(
    limited(select(journal).where(*_FOLLOWING, *same(journal, "kind")).order_by(journal.c.frame))
)
_insert_frames = PreparedRows(insert(journal))
_delete_frames = Prepared(delete(journal).where(*same(journal, "tenant", "turn")))

PROBE_BYTES = 64 << 10
"""What a small append writes, and some: a leaf of each table and index is a page of 4 KiB."""


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
    place = (tenant, turn.bytes, -MAX_SAFE_INTEGER if after is None else after)
    most = MAX_SAFE_INTEGER if limit is None else limit
    rows = _frames(connection, *place, most) if kind is None else _frames_of_kind(connection, *place, kind, most)
    found: list[JournalRow] = []
    for row in rows:
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
    _insert_frames(tx.connection, [row for row in rows if row[:2] not in lost])
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
        found = _owned(size)(tx.connection, tenant, owner.bytes, *ids).fetchone()
        if found[0] != len(some):
            lost |= {(tenant, turn) for turn in some if owner_of(tx, tenant, id_of(turn)) != owner}
    return lost


@cache
def _owned(turns: int) -> Prepared:
    """How many of so many turns are an owner's: tenant, owner, the turns."""
    some: list[BindParameter[bytes]] = [bindparam(f"turn_{number}") for number in range(turns)]
    return Prepared(select(func.count()).select_from(runs).where(*same(runs, "tenant", "owner"), runs.c.turn.in_(some)))


def probe(tx: Transaction) -> None:
    """Write as much as an append does, and fail where one would; nothing is left of it.

    A row of the journal's is written and deleted in one transaction. Its pages are written all the same: SQLite writes
    over what is deleted (``secure_delete``). One page would not do: a disk that is full often has room for one, which
    an append that failed has begun to write.
    """
    nobody = ("", b"")
    frame, message, block, kind, elapsed_ms = 0, b"", 0, "probe", 0
    _insert_frames(tx.connection, [checked((*nobody, frame, message, block, kind, elapsed_ms, bytes(PROBE_BYTES)))])
    _delete_frames(tx.connection, *nobody)
    tx.word_bytes += PROBE_BYTES
