"""Time and ids: the only callers of now and random.

Times are integer microseconds since the Unix epoch, UTC. Ids are UUIDv7 (RFC 9562 section 5.7). Everything that needs
either takes a ``Clock``, so that a test can hold time still.
"""

from __future__ import annotations

import os
import time
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import msgspec


class Clock(Protocol):
    """The clock: time, ids and random salts for the engine."""

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


DRAW_BYTES = 4096
"""Drawn from the system at once: each draw gives the interpreter's lock away, which costs more than the drawing."""

PIECE_BYTES = 16


class SystemClock:
    """The machine's clock and its random source."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def new_id(self) -> UUID:
        return uuid7(time.time_ns(), entropy())

    def salts(self, count: int) -> list[bytes]:
        return [entropy() for _ in range(count)]


def entropy() -> bytes:
    """``PIECE_BYTES`` random bytes of the system, each given once: taking from a list's end is one step for all
    threads.
    """
    while True:
        try:
            return _drawn.pop()
        except IndexError:
            drawn = os.urandom(DRAW_BYTES)
            _drawn.extend([drawn[at : at + PIECE_BYTES] for at in range(0, DRAW_BYTES, PIECE_BYTES)])


_drawn: list[bytes] = []

# A child that was forked has its parent's, and must not be given the same.
os.register_at_fork(after_in_child=_drawn.clear)


_system = SystemClock()
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive: the Z is written by hand


def new_id() -> UUID:
    """A fresh UUIDv7 by the machine's clock, for what needs no test's."""
    return _system.new_id()


ID_BYTES = 16
_read_id = msgspec.msgpack.Decoder(UUID).decode


def id_of(raw: bytes) -> UUID:
    """The id of these 16 bytes: ``UUID(bytes=raw)`` for a quarter of its cost. Raises ValueError for another length."""
    if len(raw) != ID_BYTES:
        raise ValueError("an id has 16 bytes")
    return _read_id(b"\xc4\x10" + raw)  # MessagePack's header of 16 bytes


def uuid7(unix_ns: int, random: bytes) -> UUID:
    """UUIDv7 with the time to a quarter of a microsecond (RFC 9562 section 6.2, method 3), so that ids sort as they are
    made and an index of them grows at its end. Of ``random`` the last 62 bits are used.
    """
    unix_ms, rest_ns = divmod(unix_ns, 1_000_000)
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | (rest_ns << 12) // 1_000_000
    return id_of((value << 64 | _VARIANT | int.from_bytes(random, "big") & _RANDOM).to_bytes(16, "big"))


_VARIANT, _RANDOM = 0b10 << 62, (1 << 62) - 1


def rfc3339(time_us: int) -> str:
    """``2026-01-02T03:04:05.000006Z``: always UTC, always six digits, so that text sorts as time does."""
    text = str(time_us)
    if len(text) < 7:
        return f"{_second('0')}.{text.zfill(6)}Z"
    return f"{_second(text[:-6])}.{text[-6:]}Z"  # half the time of divmod and a format


def utc_day(time_us: int) -> date:
    """The day of a time, UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).date()


@lru_cache(maxsize=4096)
def _second(seconds: str) -> str:
    """One second as text, cached: events shown together were often recorded within the same seconds."""
    return (_EPOCH + timedelta(seconds=int(seconds))).isoformat()
