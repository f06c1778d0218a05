"""Deduplication of retries that carry no idempotency key: while the turn that the first request started still runs, a
retry is given that turn and starts nothing.

Vendors' client libraries retry a request that timed out or broke off, and count the retries in a header. Without
deduplication each retry would cost another answer of the model, or be refused because the first request has opened a
turn. The memory is this process's: a restart ends the turns too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from ..log.base import RequestKey
from .start import Started

SWEEP_FROM = 256
"""Remembered requests from which on those whose turns have ended are forgotten."""


class RetryDeduplicator:
    """The turns that requests have started. ``runs`` tells if a turn runs here."""

    def __init__(self, runs: Callable[[UUID], bool]) -> None:
        self._runs = runs
        self._started: dict[bytes, asyncio.Future[Started | None]] = {}
        self._sweep_at = SWEEP_FROM

    async def once(
        self, tenant: str, idempotency: RequestKey, *, repeated: bool, start: Callable[[], Awaitable[Started]]
    ) -> Started:
        """Start a turn, or, for a retry, return the turn that the same request has started before, if that turn runs or
        is being started. ``idempotency``: who sent which request where.
        """
        digest = _digest(tenant, idempotency)
        before = self._started.get(digest)
        if repeated and before is not None:
            started = await asyncio.shield(before)
            if started is not None and self._runs(started.turn):
                return msgspec.structs.replace(started, replayed=True)
        mine: asyncio.Future[Started | None] = asyncio.get_running_loop().create_future()
        self._started[digest] = mine
        result: Started | None = None
        try:
            result = await start()
        finally:
            mine.set_result(result)
            if result is None and self._started.get(digest) is mine:
                del self._started[digest]
            self._sweep()
        return result

    def _sweep(self) -> None:
        """Forget the requests whose turns have ended, once there are many."""
        if len(self._started) < self._sweep_at:
            return
        self._started = {digest: each for digest, each in self._started.items() if self._is_needed(each)}
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._started))

    def _is_needed(self, each: asyncio.Future[Started | None]) -> bool:
        if not each.done():
            return True
        started = each.result()
        return started is not None and self._runs(started.turn)


def _digest(tenant: str, idempotency: RequestKey) -> bytes:
    head = f"{tenant}\0{idempotency.principal}\0{idempotency.route}\0".encode()
    return hashlib.sha256(head + idempotency.body).digest()
