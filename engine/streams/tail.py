"""The newest committed frames of a running turn, in memory, for those who read along.

A cache of what is on disk that never runs ahead of it: only the recorder publishes, and only after a commit. It is
bounded; who lies further behind reads from the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from .frames import Frame


class Tail:
    """Frames from ``first`` to ``last``. Closed when no more will come to it."""

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
        """No more frames will come; ``error`` is told to the readers though it is not part of the record."""
        self.closed = True
        self.error = error
        self._end.set()
        self.ring()

    def after(self, cursor: int, limit: int) -> list[Frame] | None:
        """The frames that follow a cursor, at most so many; None if some of them are no longer here."""
        if cursor >= self.last:
            return []
        if cursor == self.last - 1:  # as nearly every reader's
            return [self._frames[-1]]
        first = self._frames[0].number
        if cursor < first - 1:
            return None
        # Numbers are dense, so what follows the cursor is counted from the end, where readers mostly are.
        start = max(cursor - self.last, -len(self._frames))
        return [self._frames[place] for place in range(start, min(0, start + limit))]

    async def end(self) -> None:
        """Until it is closed."""
        await self._end.wait()

    def rung(self) -> asyncio.Future[None]:
        """Done when the bell rings: for news, for the end, or for nothing."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        return waiter

    def ring(self) -> None:
        """Wake whoever waits."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():  # who left has cancelled it
                waiter.set_result(None)
