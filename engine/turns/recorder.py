"""Recording of a running round: chunks become journal rows, and a frame is shown only after the commit of its row has
returned.

``JournalWriter`` collects the rows of all running turns and hands them to the store's writer whenever that is idle: at
once under little load, in larger batches under more. ``Recorder`` belongs to one turn: it numbers the frames, and
builds the message from what is on disk.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import ProviderMalformed
from ..log.journal import JournalRow
from ..providers.base import BlockStarted, Chunk, Delta, Ended, UsageReported, VendorBlock
from ..streams.frames import DELTA, START, VENDOR, Frame, Opening, delta_frame, delta_head, frame_of
from ..streams.tail import Tail
from .answer import Answer, VendorForm
from .journal_writer import JournalWriter

_encode = msgspec.json.Encoder().encode

MAX_WAITING_ROWS = 256
"""Most rows of one turn that wait for the disk; beyond that its provider is not read."""


class Recorder:
    """Records one turn: it numbers frames, journals them, and publishes those that are on disk."""

    def __init__(
        self, journal: JournalWriter, tail: Tail, clock: Clock, tenant: str, turn_id: UUID, frame: int
    ) -> None:
        self._journal = journal
        self._tail = tail
        self._clock = clock
        self._tenant = tenant
        self._turn_id = turn_id
        self._begun_s = clock.monotonic_s()
        self._last_ms = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._room = asyncio.Event()
        self._room.set()
        self._waiting = 0
        self.full = False
        """True while so many rows wait for the disk that ``room`` must be awaited."""
        self._types: dict[int, str] = {}
        self._heads: dict[int, bytes] = {}
        self._calls: set[str | None] = set()
        self._vendors: set[int] = set()
        self._frame = frame
        self.bytes = 0
        self.blocks = 0
        self.error: Exception | None = None
        self.usage: UsageReported | None = None
        self.ended: Ended | None = None
        self.answer = Answer(clock.new_id())

    async def room(self) -> None:
        """Wait until there is room for more rows."""
        await self._room.wait()

    def take(self, chunk: Chunk) -> None:
        """Record a chunk. Raises the error that keeps the turn from being recorded."""
        if self.error is not None:
            raise self.error
        if isinstance(chunk, Delta):  # nearly every chunk
            self._delta(chunk.block, chunk.text)
            return
        match chunk:
            case BlockStarted(block, kind, call, name):
                self._check_call(call)
                self._types[block] = kind
                self._heads[block] = delta_head(self.answer.message_id, block, kind)
                self.blocks += 1
                self._add(block, START, 0, _encode(Opening(kind, call, name)))
            case VendorBlock(block, kind, raw):
                self._vendor(block, VendorForm(kind, raw))
            case UsageReported():
                self.usage = chunk
            case Ended():
                self.ended = chunk

    async def settle(self) -> None:
        """Wait until every row is on disk or discarded."""
        await self._settled.wait()
        self._journal.forget(self._turn_id)

    def _check_call(self, call: str | None) -> None:
        """Refuse a second tool call with the same id: a result names its call by the id."""
        if call is not None and call in self._calls:
            raise ProviderMalformed("the provider sent two tool calls with the same id")
        self._calls.add(call)

    def _delta(self, block: int, text: str) -> None:
        if block not in self._types:
            raise ProviderMalformed("the provider sent text for a block that it has not begun")
        # The time since the beginning is rounded, not each pause: rounding errors would add up.
        at_ms = round((self._clock.monotonic_s() - self._begun_s) * 1000)
        elapsed_ms, self._last_ms = at_ms - self._last_ms, at_ms
        data = text.encode()
        self.bytes += len(data)
        self._add(block, DELTA, elapsed_ms, data)

    def _vendor(self, block: int, vendor: VendorForm) -> None:
        """Keep the vendor's own form of a block. It is journalled once, so that it survives the server, and never
        shown.
        """
        self.bytes += len(vendor.raw)
        self.blocks += block not in self._types
        if block not in self._vendors:
            self._vendors.add(block)
            self._add(block, VENDOR, 0, _encode(vendor), frame=-1 - block)
        else:
            self.answer.vendor[block] = vendor

    def _add(self, block: int, kind: str, elapsed_ms: int, text: bytes, *, frame: int | None = None) -> None:
        if frame is None:
            frame = self._frame = self._frame + 1
        row = JournalRow(self._tenant, self._turn_id, frame, self.answer.message_id, block, kind, elapsed_ms, text)
        self._waiting += 1
        self._settled.clear()
        if self._waiting >= MAX_WAITING_ROWS:
            self.full = True
            self._room.clear()
        self._journal.add(row, self._written)

    def _written(self, rows: list[JournalRow], error: Exception | None) -> None:
        """Show rows that are on disk. After a failed commit the rest of the turn is discarded."""
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
        """Apply a row that is on disk to the message, and add the frame that it is shown as."""
        if row.kind == DELTA:
            text = row.text.decode()
            self.answer.say(row.block, text, row.elapsed_ms)
            frames.append(delta_frame(self._heads[row.block], row.frame, text))
            return
        self.answer.apply(row)
        if row.kind != VENDOR:
            frames.append(frame_of(row, self._types[row.block]))
