"""Work that holds much of the machine: so much of it at once, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Problem

RETRY_AFTER_S = 5


class Room:
    """Room for ``most`` at once; ``limit`` is the setting that says so."""

    def __init__(self, most: int, limit: str) -> None:
        self._most = most
        self._limit = limit
        self._taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Room for one, until it is done. Raises Problem 503 where there is none."""
        if self._taken >= self._most:
            headers = {"retry-after": str(RETRY_AFTER_S)}
            figures = {"limit": self._limit, "maximum": self._most, "retry_after_s": RETRY_AFTER_S}
            raise Problem(503, "overloaded", f"{self._limit} allows {self._most} at once", headers, **figures)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
