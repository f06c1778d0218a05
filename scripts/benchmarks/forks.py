"""What branches cost: forking a long session at its end and anywhere in it, and what a deep fork costs to use, beside a
session that has no parent.

A fork copies nothing: what it costs is its own event, and folding what follows the newest snapshot. All of it is timed
as the public call.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

import uvloop

from manent import engine
from manent.engine import Engine, MessageIn
from report import Figure, ratios, spread
from sessions import BATCH, LOAD, NEWEST, QUICK_ROUNDS, ROUNDS, Timed, in_turns
from texts import messages

LEVELS = 20
SEED = 7


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    async with engine.open(folder / "manent.db") as chat:
        long = (await chat.create_session(model="echo/echo", system="You are brief.")).id
        texts = messages()
        for _ in range(0, LOAD, BATCH):
            await chat.append_messages(long, [MessageIn(text) for text in islice(texts, BATCH)])
        flat, deep = await _flat_and_deep(chat)
        forking: list[Timed] = [
            partial(_timed, lambda: chat.create_session(model="echo/echo")),
            partial(_timed, lambda: chat.fork(long)),
            partial(_fork_anywhere, chat, long, random.Random(SEED)),  # noqa: S311 - any versions will do
        ]
        started, at_end, anywhere = await in_turns(forking, rounds, 3, 20)
        using: list[Timed] = [partial(_append, chat, flat), partial(_append, chat, deep)]
        appended, deep_appended = await in_turns(using, rounds, 3, 20)
        reading: list[Timed] = [partial(_newest, chat, flat), partial(_newest, chat, deep)]
        read, deep_read = await in_turns(reading, rounds, 3, 20)
        folding = await in_turns([partial(_read_events, chat, long)], rounds, 3, 20)
    return [
        Figure(f"forking {LOAD:,} messages at the end", ratios(at_end, started), "of starting a session", at_most=1.2),
        Figure("    at random versions", ratios(anywhere, started), "of starting a session"),
        Figure(
            "    and beyond that",
            ratios([each - start for each, start in zip(anywhere, started, strict=True)], folding[0]),
            "of reading 127 events",
            at_most=1.2,
        ),
        Figure(
            f"appending to a fork {LEVELS} deep", ratios(deep_appended, appended), "of an unforked one", at_most=1.3
        ),
        Figure(f"reading its newest {NEWEST}", ratios(deep_read, read), "of an unforked one", at_most=1.3),
        Figure("    starting a session", spread([1e6 * each for each in started]), "us"),
        Figure("    reading the newest", spread([1e6 * each for each in read]), "us"),
    ]


async def _flat_and_deep(chat: Engine) -> tuple[UUID, UUID]:
    """A session without a parent, and one of as many messages along its lineage."""
    texts = messages()
    deep = (await chat.create_session(model="echo/echo")).id
    flat = (await chat.create_session(model="echo/echo")).id
    for level in range(LEVELS + 1):
        said = [MessageIn(text) for text in islice(texts, 4)]
        deep = deep if level == 0 else (await chat.fork(deep)).id
        for each in (flat, deep):
            await chat.append_messages(each, said)
    return flat, deep


async def _timed(do: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await do()
    return time.perf_counter() - begun


async def _fork_anywhere(chat: Engine, session: UUID, rng: random.Random) -> float:
    version = rng.randint(1, LOAD)
    return await _timed(lambda: chat.fork(session, version=version))


async def _append(chat: Engine, session: UUID) -> float:
    return await _timed(lambda: chat.append_message(session, "one more message of a usual length, and then some"))


async def _newest(chat: Engine, session: UUID) -> float:
    return await _timed(lambda: chat.messages(session, limit=NEWEST, descending=True))


async def _read_events(chat: Engine, session: UUID) -> float:
    return await _timed(lambda: chat.events(session, after=LOAD // 2, limit=127))
