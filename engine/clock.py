"""Time and ids: the only callers of now and random.

Times are integer microseconds since the Unix epoch, UTC. Ids are UUIDv7 (RFC 9562 section 5.7). Everything that needs
either takes a ``Clock``, so that a test can hold time still.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import msgspec


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


ENTROPY_BYTES = 4096
"""Drawn from the system at once: each draw gives the interpreter's lock away, which costs more than the drawing."""


class SystemClock:
    """The machine's clock and its random source."""

    def __init__(self) -> None:
        self._entropy = Entropy()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def new_id(self) -> UUID:
        return uuid7(time.time_ns() // 1_000_000, self._entropy.take(10))

    def salts(self, count: int) -> list[bytes]:
        return [self._entropy.take(16) for _ in range(count)]


class Entropy(threading.local):
    """Random bytes of the system, a pool for each thread, each byte given once."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        self._process: object = None

    def take(self, count: int) -> bytes:
        """``count`` random bytes, at most ``ENTROPY_BYTES``."""
        at = self._at
        end = at + count
        if end > len(self._pool) or self._process is not _process:
            # A child that was forked has its parent's pool, and must not draw the same from it.
            self._pool, self._process, at, end = os.urandom(ENTROPY_BYTES), _process, 0, count
        self._at = end
        return self._pool[at:end]


_process = object()
"""Another one in a forked child; asking the system for the process's id costs more than the bytes."""


def _begin_process() -> None:
    global _process  # noqa: PLW0603 - it stands for the process
    _process = object()


os.register_at_fork(after_in_child=_begin_process)


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


def uuid7(unix_ms: int, random: bytes) -> UUID:
    """UUIDv7 from 48 bits of milliseconds and 10 random bytes, of which 74 bits are used."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return id_of((value & ~(0x3 << 62) | 0x2 << 62).to_bytes(16, "big"))


def rfc3339(time_us: int) -> str:
    """``2026-01-02T03:04:05.000006Z``: always UTC, always six digits, so that text sorts as time does."""
    seconds, micros = divmod(time_us, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z"


def utc_day(time_us: int) -> date:
    """The day of a time, UTC."""
    return (_EPOCH + timedelta(microseconds=time_us)).date()


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    """What is shown together was often recorded within the same seconds."""
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()
