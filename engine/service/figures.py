"""Figures of a running engine, for metrics: what it is busy with, and how its logs stand. They name no session."""

from __future__ import annotations

import msgspec

from ..log.sql.checkpoints import standings
from ..log.store import Store


class Load(msgspec.Struct, frozen=True):
    """The load of this process now. ``readers`` are open streams and requests that wait for a turn or an event;
    ``breakers`` says of each provider whether its breaker is open.
    """

    open_turns: int
    readers: int
    waiting_writes: int
    breakers: dict[str, bool]


class Standing(msgspec.Struct, frozen=True):
    """How the logs stand. ``sizes``: tenant -> events. ``uncovered_s``: how long ago the oldest event was recorded that
    no signed checkpoint covers yet; 0 where there is none.
    """

    sizes: dict[str, int]
    uncovered_s: float


async def read_standing(store: Store, now_us: int) -> Standing:
    """Raises a StoreError where the file cannot be read."""
    logs = await store.read(standings)
    waiting = [log.uncovered_since for log in logs if log.uncovered_since is not None]
    since_us = min(waiting, default=now_us)
    return Standing({log.tenant: log.size for log in logs}, max(0, now_us - since_us) / 1e6)
