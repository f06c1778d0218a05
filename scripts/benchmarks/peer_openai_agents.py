"""The fastest peer as a contestant in appends and in reading: ``SQLiteSession`` of openai-agents, as its documentation
uses it, on the event loop that Manent has too. It runs in an environment of its own, which ``appends`` makes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import uvloop
from agents import SQLiteSession  # type: ignore[import-not-found] # in its own environment only

from contest import CALLERS, answer_questions, append_together
from texts import messages

LONG = 10_000
AT_MOST = {"newest 20": 20, "all": None}
"""How many messages of a session of ``LONG`` are read."""


async def main(folder: Path) -> None:
    path = folder / "agents.db"
    sessions = [SQLiteSession(f"session {caller}", path) for caller in range(CALLERS)]
    texts = messages()

    async def append(caller: int, text: str) -> None:
        await sessions[caller].add_items([{"role": "user", "content": text}])

    long = SQLiteSession("a long session", folder / "read.db")

    async def measure(kind: str, callers: int, seconds: float) -> int:
        if kind == "fill":
            return await _fill(long, texts)
        if kind in AT_MOST:
            return await _read(long, AT_MOST[kind], seconds)
        return await append_together(append, texts, callers, seconds)

    await answer_questions(measure)


async def _fill(session: SQLiteSession, texts: Iterator[str]) -> int:
    for _ in range(0, LONG, 100):
        await session.add_items([{"role": "user", "content": text} for text in islice(texts, 100)])
    return LONG


async def _read(session: SQLiteSession, at_most: int | None, seconds: float) -> int:
    """Read until the time is up, once at the least; returns how often."""
    end, made = time.perf_counter() + seconds, 0
    while made == 0 or time.perf_counter() < end:
        assert len(await session.get_items(limit=at_most)) == (at_most or LONG)
        made += 1
    return made


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
