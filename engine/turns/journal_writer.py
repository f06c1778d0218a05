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
from ..log.writer import Took

MANY_ROWS = 8
"""A write of this many rows means that many streams run. The next write then waits for more rows: a good part of the
cost of a commit does not depend on the number of its rows."""

PAUSE_S_A_ROW, MOST_PAUSE_S = 0.00025, 0.003
"""The wait for each row of the write before. A longer one would save CPU time and lengthen the gaps between frames."""

OnWritten = Callable[[list[JournalRow], Exception | None], None]

QueuedRow = tuple[OnWritten, JournalRow]


class JournalWriter:
    """The rows of all turns on their way to disk. At most one write is under way, and the next takes all rows that have
    come since. ``took`` is told how long each write took; ``most_pause_s``: how long it waits at most between writes.
    """

    def __init__(self, store: Store, owner: UUID, took: Took | None = None, most_pause_s: float = MOST_PAUSE_S) -> None:
        self._store = store
        self._owner = owner
        self._took = took
        self._most_pause_s = most_pause_s
        self._queue: list[QueuedRow] = []
        self._refused: dict[UUID, Exception] = {}
        self._busy = False

    def add(self, row: JournalRow, on_written: OnWritten) -> None:
        """Queue a row. ``on_written`` is called with it once it is on disk, or with the error that kept it from being
        written.
        """
        self._queue.append((on_written, row))
        if not self._busy:
            self._busy = True
            # Not now but at the end of this pass of the event loop, with the rows that other streams add until then.
            asyncio.get_running_loop().call_soon(self._write)

    def forget(self, turn_id: UUID) -> None:
        """Forget why rows of this turn were not written. All of them have been reported."""
        self._refused.pop(turn_id, None)

    def _write(self) -> None:
        batch, self._queue = self._queue, []
        work = WriteJournal(self._owner, [row for _, row in batch])
        try:
            future = self._submit(work)
        except EngineError as error:
            self._report(batch, {row.turn: error for _, row in batch})
            return
        future.add_done_callback(partial(self._written, batch))

    def _submit(self, work: WriteJournal) -> asyncio.Future[frozenset[UUID]]:
        return self._store.submit(partial(write_journal, work=work), urgent=True, ahead=True, took=self._took)

    def _write_or_rest(self) -> None:
        self._busy = bool(self._queue)
        if self._busy:
            self._write()

    def _written(self, batch: list[QueuedRow], future: asyncio.Future[frozenset[UUID]]) -> None:
        error = _given_up() if future.cancelled() else future.exception()
        if error is None:
            self._report(batch, dict.fromkeys(future.result(), _lost()))
            return
        turns = {row.turn for _, row in batch}
        if len(turns) > 1 and is_of_one(error):
            self._write_each(batch)
        else:
            self._report(batch, dict.fromkeys(turns, error if isinstance(error, Exception) else _given_up()))

    def _write_each(self, batch: list[QueuedRow]) -> None:
        """Write each turn's rows alone: an error that one turn's rows cause must not discard those of the others."""
        parts: dict[UUID, list[QueuedRow]] = {}
        for each in batch:
            parts.setdefault(each[1].turn, []).append(each)
        works = [WriteJournal(self._owner, [row for _, row in part]) for part in parts.values()]
        try:
            writes = [self._submit(work) for work in works]
        except EngineError as error:
            self._report(batch, dict.fromkeys(parts, error))
            return
        asyncio.gather(*writes, return_exceptions=True).add_done_callback(partial(self._written_each, batch, [*parts]))

    def _written_each(self, batch: list[QueuedRow], turns: list[UUID], writes: asyncio.Future[list[Any]]) -> None:
        results = [_given_up()] * len(turns) if writes.cancelled() else writes.result()
        errors: dict[UUID, Exception] = {}
        for turn, result in zip(turns, results, strict=True):
            if isinstance(result, BaseException):
                errors[turn] = result if isinstance(result, Exception) else _given_up()
            elif result:
                errors[turn] = _lost()
        self._report(batch, errors)

    def _report(self, batch: list[QueuedRow], errors: dict[UUID, Exception]) -> None:
        self._refused |= errors
        refused = self._take_refused()
        self._busy = bool(self._queue) or len(batch) >= MANY_ROWS
        if len(batch) >= MANY_ROWS:
            pause_s = min(len(batch) * PAUSE_S_A_ROW, self._most_pause_s)
            asyncio.get_running_loop().call_later(pause_s, self._write_or_rest)
        elif self._busy:
            self._write()
        by_turn: dict[OnWritten, list[JournalRow]] = {}  # not by id: hashing a method takes a tenth of a UUID's time
        for on_written, row in batch + refused:
            by_turn.setdefault(on_written, []).append(row)
        for on_written, rows in by_turn.items():
            on_written(rows, self._refused.get(rows[0].turn) if self._refused else None)

    def _take_refused(self) -> list[QueuedRow]:
        """Rows that waited behind a row that was not written: a gap in a journal would shift all that follows it."""
        if not self._refused:
            return []
        refused = [each for each in self._queue if each[1].turn in self._refused]
        self._queue = [each for each in self._queue if each[1].turn not in self._refused]
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
