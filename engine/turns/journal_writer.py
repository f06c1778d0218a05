"""Writes the journal rows of all running turns: one write at a time, which takes all that waits."""

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
"""A write of so many rows means that many streams run. Then the next one waits for more: a good part of what a commit
costs does not depend on its rows."""

PAUSE_S_A_ROW, MOST_PAUSE_S = 0.00025, 0.003
"""How long it waits, for each row of the write before. Longer would save more CPU, and show in the gaps."""

Released = Callable[[list[JournalRow], Exception | None], None]

Waiting = tuple[Released, JournalRow]


class Journal:
    """The rows of all turns on their way to disk; at most one write is under way, and the next takes all that has
    come since. ``took`` is told how long each write took.
    """

    def __init__(self, store: Store, owner: UUID, took: Took | None = None) -> None:
        self._store = store
        self._owner = owner
        self._took = took
        self._waiting: list[Waiting] = []
        self._refused: dict[UUID, Exception] = {}
        self._busy = False

    def add(self, row: JournalRow, released: Released) -> None:
        """Put a row on its way; ``released`` is called with it once it is on disk, or with the error that kept it
        from there.
        """
        self._waiting.append((released, row))
        if not self._busy:
            self._busy = True
            # Not now but at the end of this turn of the loop: what other streams have received by then goes along.
            asyncio.get_running_loop().call_soon(self._write)

    def forget(self, turn: UUID) -> None:
        """A turn whose rows have all been released needs no memory of why they were not written."""
        self._refused.pop(turn, None)

    def _write(self) -> None:
        batch, self._waiting = self._waiting, []
        work = WriteJournal(self._owner, [row for _, row in batch])
        try:
            future = self._submit(work)
        except EngineError as error:
            self._release(batch, {row.turn: error for _, row in batch})
            return
        future.add_done_callback(partial(self._written, batch))

    def _submit(self, work: WriteJournal) -> asyncio.Future[frozenset[UUID]]:
        return self._store.submit(partial(write_journal, work=work), urgent=True, ahead=True, took=self._took)

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
        """What one turn's rows are refused for is not the others' fault: each turn's are written alone."""
        parts: dict[UUID, list[Waiting]] = {}
        for each in batch:
            parts.setdefault(each[1].turn, []).append(each)
        works = [WriteJournal(self._owner, [row for _, row in part]) for part in parts.values()]
        try:
            writes = [self._submit(work) for work in works]
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
        by_turn: dict[Released, list[JournalRow]] = {}  # not by id: a method is hashed in a tenth of a UUID's time
        for released, row in batch + refused:
            by_turn.setdefault(released, []).append(row)
        for released, rows in by_turn.items():
            released(rows, self._refused.get(rows[0].turn) if self._refused else None)

    def _take_refused(self) -> list[Waiting]:
        """Rows that waited behind one that was not written: a gap in a journal would shift all that follows it."""
        if not self._refused:
            return []
        refused = [each for each in self._waiting if each[1].turn in self._refused]
        self._waiting = [each for each in self._waiting if each[1].turn not in self._refused]
        return refused


def _given_up() -> StoreUnavailable:
    return StoreUnavailable("the write was given up")


def _lost() -> TurnNotOpen:
    return TurnNotOpen("another process has taken this turn over")


def is_of_one(error: BaseException) -> bool:
    """Whether an error may lie with one row: the disk did its part, and a constraint or a mistake of ours did not."""
    if isinstance(error, StoreError):
        return str(error.extra.get("reason", "")).startswith("SQLITE_CONSTRAINT")
    return not isinstance(error, EngineError)
