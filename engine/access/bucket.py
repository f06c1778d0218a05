"""A token bucket: so many units a minute, and never more at once. Arithmetic alone; time comes from the caller.

Between any two moments it gives no more than its rate for the time between them, and one bucket full. Whole numbers,
so that nothing is lost or won by rounding.
"""

from __future__ import annotations

_MINUTE_US = 60_000_000


class Bucket:
    """Holds ``per_min`` units when it is full, as it is at first, and is filled with as many every minute."""

    def __init__(self, per_min: int, now_us: int) -> None:
        assert per_min >= 1, per_min
        self.per_min = per_min
        self._level = self._full = (
            per_min * _MINUTE_US
        )  # in units for a minute's microseconds: what flows in one is whole
        self._at_us = now_us

    def wait_us(self, amount: int, now_us: int) -> int:
        """How long until it holds so many units; 0: it does now. More than ``per_min`` it never holds at once; for such
        a sum it is the time in which one after the other of its parts could be taken.
        """
        self._fill(now_us)
        return max(0, -((self._level - amount * _MINUTE_US) // self.per_min))

    def take(self, amount: int, now_us: int) -> None:
        """Take units out. It may then hold less than nothing, which must be filled up first."""
        self._fill(now_us)
        self._level -= amount * _MINUTE_US

    def give_back(self, amount: int, now_us: int) -> None:
        """Put back what was taken and not used; it holds no more for it than when it is full."""
        self._fill(now_us)
        self._level = min(self._full, self._level + amount * _MINUTE_US)

    def left(self, now_us: int) -> int:
        """How many units it holds."""
        self._fill(now_us)
        return max(0, self._level // _MINUTE_US)

    def full_in_us(self, now_us: int) -> int:
        """How long until it is full, if nothing more is taken."""
        self._fill(now_us)
        return -((self._level - self._full) // self.per_min)

    def is_full(self, now_us: int) -> bool:
        """Whether it is as it was at first."""
        self._fill(now_us)
        return self._level == self._full

    def _fill(self, now_us: int) -> None:
        """Let in what has flowed since; a clock that steps back lets in nothing."""
        self._level = min(self._full, self._level + max(0, now_us - self._at_us) * self.per_min)
        self._at_us = max(self._at_us, now_us)
