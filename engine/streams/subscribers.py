"""The subscribers of a running turn: readers of its stream, and callers that wait for its end. A turn may be cancelled
when it has none.

A caller may ask for that with ``on_disconnect: cancel``: the turn is cancelled as soon as its last reader disconnects;
a turn that never had a reader is not. A server may ask for it for all turns with ``cancel_unread_after_s``: a turn that
nobody reads for so long, from its start on, is cancelled, so that it costs nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Reader:
    """One reader. ``excused``: it ends without having disconnected, because its time is over and it was told so."""

    __slots__ = ("excused",)

    def __init__(self) -> None:
        self.excused = False


class Subscribers:
    """The readers of one running turn. ``absent`` is called, once or more often, when there is none: with ``at_once``
    when the last one disconnects, else after ``unread_s`` without a reader (0: never).
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
        """Start: from now on a turn without a reader is reported."""
        self._open = True
        self._restart()

    def close(self) -> None:
        """Stop: the turn does not run any more, and nothing is reported."""
        self._open = False
        self._restart()
        self._absent = (
            _nobody  # it refers to the turn, which would stay in memory until the garbage collector finds the cycle
        )

    def seen(self) -> None:
        """Note that a client has asked for the turn's state: one that cannot follow the stream polls."""
        self._restart()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Count one more reader, as long as it reads."""
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
    """Report nothing."""
