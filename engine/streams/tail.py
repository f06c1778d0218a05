"""The tail of a running turn: its newest committed frames, in memory, for readers that keep up.

The tail is a cache of what is on disk and never runs ahead of it: frames are published only after their commit. It is
bounded; a reader that is further behind reads from the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from .frames import Frame


class Tail:
    """The newest frames, up to ``last``. It is closed when no more will come."""

    def __init__(self, most_frames: int) -> None:
        self._frames: deque[Frame] = deque(maxlen=most_frames)
        self._waiting: list[asyncio.Future[None]] = []
        self._end = asyncio.Event()
        self.last = 0
        self.closed = False
        self.error: Frame | None = None

    def publish(self, frames: Sequence[Frame]) -> None:
        """Add committed frames, in order, and wake the readers."""
        if not frames:
            return
        self._frames.extend(frames)
        self.last = frames[-1].number
        self.ring()

    def close(self, error: Frame | None = None) -> None:
        """Close: no more frames will come. ``error`` is sent to the readers though it is not part of the record."""
        self.closed = True
        self.error = error
        self._end.set()
        self.ring()

    def after(self, cursor: int, limit: int) -> list[Frame] | None:
        """The frames that follow a cursor, at most so many; None if some of them are no longer here."""
        if cursor >= self.last:
            return []
        if cursor == self.last - 1:  # as for nearly every reader
            return [self._frames[-1]]
        first = self._frames[0].number
        if cursor < first - 1:
            return None
        # Numbers are dense, so the frames after the cursor are counted from the end, where most readers are.
        start = max(cursor - self.last, -len(self._frames))
        return [self._frames[place] for place in range(start, min(0, start + limit))]

    async def end(self) -> None:
        """Wait until the tail is closed."""
        await self._end.wait()

    def next_ring(self) -> asyncio.Future[None]:
        """A future that is done with the next ring: for new frames, for the end, or to keep the connection alive."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    def ring(self) -> None:
        """Wake all readers."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():  # a reader that has disconnected has cancelled it
                waiter.set_result(None)
