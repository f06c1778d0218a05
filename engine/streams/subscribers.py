"""Who reads a turn: readers of its stream, and callers who wait for its end. A turn may wish to end when nobody is
left.

A caller may wish so for one turn (``on_disconnect: cancel``): it ends as soon as the last of those who read it has
gone; one that nobody has begun to read is no reason. And a server may wish so for all (``cancel_unread_after_s``): a
turn that nobody reads for so long, from its start on, is not paid for any further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Reader:
    """One who reads. ``excused``: goes without having left, because its time is over and it was told so."""

    __slots__ = ("excused",)

    def __init__(self) -> None:
        self.excused = False


class Subscribers:
    """The readers of one running turn. ``absent`` is called, once or more often, when they are missed: ``at_once``
    when the last of them leaves, or when nobody was there for ``unread_s`` (0: never).
    """

    def __init__(self, absent: Callable[[], None], *, at_once: bool, unread_s: float) -> None:
        self._absent = absent
        self._at_once = at_once
        self._unread_s = unread_s
        self._readers = 0
        self._open = False
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._readers

    def open(self) -> None:
        """The turn runs: from now on it is missed if nobody reads it."""
        self._open = True
        self._restart()

    def close(self) -> None:
        """The turn runs no more, and nobody is missed."""
        self._open = False
        self._restart()
        self._absent = _nobody  # it leads back to the turn, which would stay until somebody looked for such circles

    def seen(self) -> None:
        """Somebody has asked how the turn is: who cannot read along comes again and again."""
        self._restart()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """One more reader, as long as it reads."""
        reader = Reader()
        self._readers += 1
        self._restart()
        try:
            yield reader
        finally:
            self._readers -= 1
            self._restart()
            if self._at_once and not reader.excused and self._open and not self._readers:
                self._absent()

    def _restart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._open and self._unread_s and not self._readers:
            self._timer = asyncio.get_running_loop().call_later(self._unread_s, self._absent)


def _nobody() -> None:
    """Nobody is missed."""
