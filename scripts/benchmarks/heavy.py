"""What a heavy session costs to look at: one of 36 MB and 1,248 messages, whose last page is asked for beside that of a
small one. Chats that keep a conversation as one JSON blob take minutes over it.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from uuid import UUID

import uvloop

from manent import engine
from manent.engine import Engine, MessageIn
from report import Figure, ratios, spread
from sessions import NEWEST, QUICK_ROUNDS, ROUNDS, in_turns

HEAVY, SMALL = 1248, 20
HEAVY_BYTES = 36 << 20
MOST = 3


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    async with engine.open(folder / "manent.db") as chat:
        large = ("A page of a book that somebody has pasted. " * 700)[: HEAVY_BYTES // HEAVY]
        heavy = await _filled(chat, [large] * (HEAVY - SMALL) + ["A usual message."] * SMALL)
        same = await _filled(chat, [large] * SMALL)
        all_heavy = await _filled(chat, [large] * HEAVY)
        small = await _filled(chat, ["A usual message."] * SMALL)
        sessions = [heavy, small, all_heavy, same]
        looked, usual, whole, large_page = await in_turns(
            [partial(_look, chat, each) for each in sessions], rounds, 2, 10
        )
    return [
        Figure(f"last page of {HEAVY:,} messages, 36 MB", ratios(looked, usual), "of a small session's", at_most=MOST),
        Figure("    where the page itself is large", ratios(whole, large_page), "of the same page alone", at_most=MOST),
        Figure("    a small session's", spread([1e6 * each for each in usual]), "us"),
    ]


async def _filled(chat: Engine, texts: list[str]) -> UUID:
    session = (await chat.create_session(model="echo/echo")).id
    for at in range(0, len(texts), 50):
        await chat.append_messages(session, [MessageIn(text) for text in texts[at : at + 50]])
    return session


async def _look(chat: Engine, session: UUID) -> float:
    """As somebody who opens it: the session, and its newest messages."""
    begun = time.perf_counter()
    await chat.session(session)
    await chat.messages(session, limit=NEWEST, descending=True)
    return time.perf_counter() - begun
