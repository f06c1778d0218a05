"""What lists of sessions cost where sessions are forked, beside a database in which none is; and a family as a tree.

Both databases hold as many sessions, all of them active within the same hours. In the second each of some sessions has
a family, and one has a large one, of which a page shows one member each.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from manent import engine
from manent.engine import Engine
from report import Figure, ratios, spread
from sessions import QUICK_ROUNDS, ROUNDS, Timed, in_turns

SESSIONS, FAMILIES, LARGE = 2000, 50, 1000
AT_ONCE = 100


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    async with engine.open(folder / "alone.db") as alone, engine.open(folder / "families.db") as forked:
        await _begin(alone, SESSIONS)
        first, *others = (await _begin(forked, SESSIONS - FAMILIES))[:FAMILIES]
        for each in others:
            await _fork(forked, each)
        by_activity: list[Timed] = [partial(_page, alone), partial(_page, forked)]
        by_creation: list[Timed] = [partial(_page, chat, order="created") for chat in (alone, forked)]
        without, with_forks, created, created_forks = await in_turns([*by_activity, *by_creation], rounds, 2, 5)
        for _ in range(LARGE):
            await _fork(forked, first)
        large, tree = await in_turns([partial(_page, forked), partial(_tree, forked, first)], rounds, 2, 1)
    return [
        Figure(
            f"page of {AT_ONCE} of {SESSIONS:,} sessions, {FAMILIES} families",
            ratios(with_forks, without),
            "of no fork",
        ),
        Figure("    by creation", ratios(created_forks, created), "of no fork"),
        Figure(f"    behind a family of {LARGE:,}", ratios(large, without), "of no fork"),
        Figure("    without a fork", spread([1e3 * each for each in without]), "ms"),
        Figure(f"a family of {LARGE:,} as a tree", spread([1e3 * each for each in tree]), "ms"),
    ]


async def _begin(chat: Engine, count: int) -> list[UUID]:
    async def begin(number: int) -> UUID:
        session = await chat.create_session(model="echo/echo", title=f"Session {number}")
        await chat.append_message(session.id, "What was said first.")
        return session.id

    found: list[UUID] = []
    for start in range(0, count, AT_ONCE):
        found += await asyncio.gather(*map(begin, range(start, min(start + AT_ONCE, count))))
    return found


async def _fork(chat: Engine, session: UUID) -> None:
    fork = await chat.fork(session)
    await chat.append_message(fork.id, "What was said instead.")


async def _page(chat: Engine, **which: Any) -> float:
    begun = time.perf_counter()
    page = await chat.sessions(limit=AT_ONCE, **which)
    seconds = time.perf_counter() - begun
    assert len(page.items) == AT_ONCE
    return seconds


async def _tree(chat: Engine, session: UUID) -> float:
    begun = time.perf_counter()
    tree = await chat.branches(session)
    seconds = time.perf_counter() - begun
    assert len(tree.nodes) == LARGE + 1
    return seconds
