"""Time and ids: the only callers of now and random.

Times are integer microseconds since the Unix epoch, UTC. Ids are UUIDv7 (RFC 9562 section 5.7). Everything that needs
either takes a ``Clock``, so that a test can hold time still.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """What the engine asks of time and chance."""

    def now_us(self) -> int:
        """Wall clock, microseconds since the epoch; may step back, and the log copes."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from some start; never steps back."""
        ...

    def new_id(self) -> UUID:
        """A fresh UUIDv7."""
        ...

    def salts(self, count: int) -> list[bytes]:
        """``count`` fresh salts of 16 random bytes."""
        ...


class SystemClock:
    """The machine's clock and its random source."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def new_id(self) -> UUID:
        return uuid7(time.time_ns() // 1_000_000, os.urandom(10))

    def salts(self, count: int) -> list[bytes]:
        pool = os.urandom(16 * count)
        return [pool[start : start + 16] for start in range(0, 16 * count, 16)]


def new_id() -> UUID:
    """A fresh UUIDv7 by the machine's clock, for what needs no test's."""
    return SystemClock().new_id()


def uuid7(unix_ms: int, random: bytes) -> UUID:
    """UUIDv7 from 48 bits of milliseconds and 10 random bytes, of which 74 bits are used."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def rfc3339(time_us: int) -> str:
    """``2026-01-02T03:04:05.000006Z``: always UTC, always six digits, so that text sorts as time does."""
    seconds, micros = divmod(time_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"
