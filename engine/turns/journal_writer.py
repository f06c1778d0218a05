"""Writes the journal rows of all running turns: one write at a time, with all rows that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from ..errors import EngineError, StoreError, StoreUnavailable, TurnNotOpen
from ..log.journal import JournalRow, WriteJournal, write_journal
from ..log.store import Store

MANY_ROWS = 8
"""A write of this many rows means that many streams run. The next write then waits for more rows: a good part of the
cost of a commit does not depend on the number of its rows."""

PAUSE_S_A_ROW, MOST_PAUSE_S = 0.00025, 0.003
"""The wait for each row of the write before. A longer one would save CPU time and lengthen the gaps between frames."""

Released = Callable[[list[JournalRow], Exception | None], None]

Waiting = tuple[Released, JournalRow]


class Journal:
    """The rows of all turns on their way to disk. At most one write is under way, and the next takes all rows that have
    come since.
    """

    def __init__(self, store: Store, owner: UUID) -> None:
        self._store = store
        self._owner = owner
        self._waiting: list[Waiting] = []
        self._refused: dict[UUID, Exception] = {}
        self._busy = False

    def add(self, row: JournalRow, released: Released) -> None:
        """Queue a row. ``released`` is called with it once it is on disk, or with the error that kept it from being
        written.
        """
        self._waiting.append((released, row))
        if not self._busy:
            self._busy = True
            # Not now but at the end of this pass of the event loop, with the rows that other streams add until then.
            asyncio.get_running_loop().call_soon(self._write)

    def forget(self, turn: UUID) -> None:
        """Forget why rows of this turn were not written. All of them have been released."""
        self._refused.pop(turn, None)

    def _write(self) -> None:
        batch, self._waiting = self._waiting, []
        work = WriteJournal(self._owner, [row for _, row in batch])
        try:
            future = self._store.submit(partial(write_journal, work=work), urgent=True, ahead=True)
        except EngineError as error:
            self._release(batch, {row.turn: error for _, row in batch})
            return
        future.add_done_callback(partial(self._written, batch))

    def _write_or_rest(self) -> None:
        self._busy = bool(self._waiting)
        if self._busy:
            self._write()

    def _written(self, batch: list[Waiting], future: asyncio.Future[frozenset[UUID]]) -> None:
        error = _given_up() if future.cancelled() else future.exception()
        if error is None:
            self._release(batch, dict.fromkeys(future.result(), _lost()))
            return
        turns = {row.turn for _, row in batch}
        if len(turns) > 1 and is_of_one(error):
            self._write_each(batch)
        else:
            self._release(batch, dict.fromkeys(turns, error if isinstance(error, Exception) else _given_up()))

    def _write_each(self, batch: list[Waiting]) -> None:
        """Write each turn's rows alone: an error that one turn's rows cause must not discard those of the others."""
        parts: dict[UUID, list[Waiting]] = {}
        for each in batch:
            parts.setdefault(each[1].turn, []).append(each)
        works = [WriteJournal(self._owner, [row for _, row in part]) for part in parts.values()]
        try:
            writes = [self._store.submit(partial(write_journal, work=work), urgent=True, ahead=True) for work in works]
        except EngineError as error:
            self._release(batch, dict.fromkeys(parts, error))
            return
        asyncio.gather(*writes, return_exceptions=True).add_done_callback(partial(self._written_each, batch, [*parts]))

    def _written_each(self, batch: list[Waiting], turns: list[UUID], writes: asyncio.Future[list[Any]]) -> None:
        results = [_given_up()] * len(turns) if writes.cancelled() else writes.result()
        errors: dict[UUID, Exception] = {}
        for turn, result in zip(turns, results, strict=True):
            if isinstance(result, BaseException):
                errors[turn] = result if isinstance(result, Exception) else _given_up()
            elif result:
                errors[turn] = _lost()
        self._release(batch, errors)

    def _release(self, batch: list[Waiting], errors: dict[UUID, Exception]) -> None:
        self._refused |= errors
        refused = self._take_refused()
        self._busy = bool(self._waiting) or len(batch) >= MANY_ROWS
        if len(batch) >= MANY_ROWS:
            pause_s = min(len(batch) * PAUSE_S_A_ROW, MOST_PAUSE_S)
            asyncio.get_running_loop().call_later(pause_s, self._write_or_rest)
        elif self._busy:
            self._write()
        by_turn: dict[Released, list[JournalRow]] = {}  # not by id: hashing a method takes a tenth of a UUID's time
        for released, row in batch + refused:
            by_turn.setdefault(released, []).append(row)
        for released, rows in by_turn.items():
            released(rows, self._refused.get(rows[0].turn) if self._refused else None)

    def _take_refused(self) -> list[Waiting]:
        """Rows that waited behind a row that was not written: a gap in a journal would shift all that follows it."""
        if not self._refused:
            return []
        refused = [each for each in self._waiting if each[1].turn in self._refused]
        self._waiting = [each for each in self._waiting if each[1].turn not in self._refused]
        return refused


def _given_up() -> StoreUnavailable:
    return StoreUnavailable("the write was abandoned")


def _lost() -> TurnNotOpen:
    return TurnNotOpen("another process has taken this turn over")


def is_of_one(error: BaseException) -> bool:
    """True if an error may be one row's alone: a violated constraint, or a mistake of ours, and not a failure of the
    disk.
    """
    if isinstance(error, StoreError):
        return str(error.extra.get("reason", "")).startswith("SQLITE_CONSTRAINT")
    return not isinstance(error, EngineError)
