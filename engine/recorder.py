"""Record first, show second: chunks become journal rows, and a frame is released only after its row's commit has
returned.

``Journal`` collects the rows of all running turns and hands them to the writer whenever it is idle: at once while
there is little to do, and in larger batches the busier it is. ``Recorder`` is one turn's end of it: it numbers the
frames, and builds the answer from what is on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from engine.answer import DELTA, START, VENDOR, Answer, Opening, Vendor, delta_frame, delta_head, start_frame
from engine.clock import Clock
from engine.errors import EngineError, ProviderMalformed, StoreError, StoreUnavailable, TurnNotOpen
from engine.providers.base import BlockStarted, Chunk, Delta, Ended, UsageReported, VendorBlock
from engine.store.base import JournalRow
from engine.store.log import Store
from engine.store.works import WriteJournal, write_journal
from engine.tail import Tail
from engine.views import Frame

_encode = msgspec.json.Encoder().encode

MAX_WAITING_ROWS = 256
"""Rows of one turn that may wait for the disk before its provider is read no further."""

MANY_ROWS = 8
"""A write of so many rows means that many streams run. Then the next one waits for more: a good part of what a commit
costs does not depend on its rows."""
PAUSE_S_A_ROW, MOST_PAUSE_S = 0.00025, 0.003
"""How long it waits, for each row of the write before. Longer would save more CPU, and show in the gaps."""

Released = Callable[[list[JournalRow], Exception | None], None]
Waiting = tuple[Released, JournalRow]


class Journal:
    """The rows of all turns on their way to disk; at most one write is under way, and the next takes all that has
    come since.
    """

    def __init__(self, store: Store, owner: UUID) -> None:
        self._store = store
        self._owner = owner
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
        """What one turn's rows are refused for is not the others' fault: each turn's are written alone."""
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


class Recorder:
    """One turn's recording: numbers frames, journals them, publishes what is on disk."""

    def __init__(self, journal: Journal, tail: Tail, clock: Clock, tenant: str, turn: UUID, frame: int) -> None:
        self._journal = journal
        self._tail = tail
        self._clock = clock
        self._tenant = tenant
        self._turn = turn
        self._begun_s = clock.monotonic_s()
        self._last_ms = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._room = asyncio.Event()
        self._room.set()
        self._waiting = 0
        self.full = False
        """Whether so many rows are on their way that ``room`` must be waited for."""
        self._types: dict[int, str] = {}
        self._heads: dict[int, bytes] = {}
        self._calls: set[str | None] = set()
        self._vendors: set[int] = set()
        self.frame = self._first_frame = frame
        self.bytes = 0
        self.blocks = 0
        self.error: Exception | None = None
        self.usage: UsageReported | None = None
        self.ended: Ended | None = None
        self.answer = Answer(clock.new_id())

    async def room(self) -> None:
        """Until there is room for more rows."""
        await self._room.wait()

    def take(self, chunk: Chunk) -> None:
        """Record a chunk. Raises what keeps the turn from being recorded."""
        if self.error is not None:
            raise self.error
        if isinstance(chunk, Delta):  # nearly every chunk
            self._delta(chunk.block, chunk.text)
            return
        match chunk:
            case BlockStarted(block, kind, call, name):
                self._check_call(call)
                self._types[block] = kind
                self._heads[block] = delta_head(self.answer.message, block, kind)
                self.blocks += 1
                self._add(block, START, 0, _encode(Opening(kind, call, name)))
            case VendorBlock(block, kind, raw):
                self._vendor(block, Vendor(kind, raw))
            case UsageReported():
                self.usage = chunk
            case Ended():
                self.ended = chunk

    async def settle(self) -> None:
        """Wait until every row is on disk or given up; numbering goes on after the last frame that was shown."""
        await self._settled.wait()
        self._journal.forget(self._turn)
        self.frame = max(self._tail.last, self._first_frame)

    def next_frame(self) -> int:
        """The number of the next frame that is recorded as an event."""
        self.frame += 1
        return self.frame

    def _check_call(self, call: str | None) -> None:
        """A result names its call by its id, so no two calls of an answer may have the same."""
        if call is not None and call in self._calls:
            raise ProviderMalformed("the provider sent two tool calls of one id")
        self._calls.add(call)

    def _delta(self, block: int, text: str) -> None:
        if block not in self._types:
            raise ProviderMalformed("the provider sent text for a block that it has not begun")
        # Rounding the time since the beginning, not the pause, keeps the pace from drifting.
        at_ms = round((self._clock.monotonic_s() - self._begun_s) * 1000)
        elapsed_ms, self._last_ms = at_ms - self._last_ms, at_ms
        data = text.encode()
        self.bytes += len(data)
        self._add(block, DELTA, elapsed_ms, data)

    def _vendor(self, block: int, vendor: Vendor) -> None:
        """Keep a vendor's own form; it is journalled once, so that it outlives the server, and never shown."""
        self.bytes += len(vendor.raw)
        self.blocks += block not in self._types
        if block not in self._vendors:
            self._vendors.add(block)
            self._add(block, VENDOR, 0, _encode(vendor), frame=-1 - block)
        else:
            self.answer.vendor[block] = vendor

    def _add(self, block: int, kind: str, elapsed_ms: int, text: bytes, *, frame: int | None = None) -> None:
        number = self.next_frame() if frame is None else frame
        row = JournalRow(self._tenant, self._turn, number, self.answer.message, block, kind, elapsed_ms, text)
        self._waiting += 1
        self._settled.clear()
        if self._waiting >= MAX_WAITING_ROWS:
            self.full = True
            self._room.clear()
        self._journal.add(row, self._released)

    def _released(self, rows: list[JournalRow], error: Exception | None) -> None:
        """Rows are on disk: show them. After a failed commit the rest of the turn is discarded, whatever happens
        to it.
        """
        self.error = self.error or error
        if self.error is None:
            frames: list[Frame] = []
            for row in rows:
                self._show(row, frames)
            self._tail.publish(frames)
        self._waiting -= len(rows)
        if self.full and self._waiting < MAX_WAITING_ROWS:
            self.full = False
            self._room.set()
        if self._waiting == 0:
            self._settled.set()

    def _show(self, row: JournalRow, frames: list[Frame]) -> None:
        """Take a row that is on disk into the answer, and add the frame that it is shown as."""
        if row.kind == DELTA:
            text = row.text.decode()
            self.answer.say(row.block, text, row.elapsed_ms)
            frames.append(delta_frame(self._heads[row.block], row.frame, text))
            return
        self.answer.apply(row)
        if row.kind != VENDOR:
            frames.append(frame_of(row, self._types[row.block]))


def _given_up() -> StoreUnavailable:
    return StoreUnavailable("the write was given up")


def _lost() -> TurnNotOpen:
    return TurnNotOpen("another process has taken this turn over")


def is_of_one(error: BaseException) -> bool:
    """Whether an error may lie with one row: the disk did its part, and a constraint or a mistake of ours did not."""
    if isinstance(error, StoreError):
        return str(error.extra.get("reason", "")).startswith("SQLITE_CONSTRAINT")
    return not isinstance(error, EngineError)


def frame_of(row: JournalRow, block_type: str) -> Frame:
    """The frame that a journal row is shown as."""
    if row.kind == START:
        return start_frame(row.message, row.frame, row.block, msgspec.json.decode(row.text, type=Opening))
    return delta_frame(delta_head(row.message, row.block, block_type), row.frame, row.text.decode())
