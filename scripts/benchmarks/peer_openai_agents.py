"""The fastest peer as a contestant in appends: ``SQLiteSession`` of openai-agents, as its documentation uses it, on the
event loop that Manent has too. It runs in an environment of its own, which ``appends`` makes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from agents import SQLiteSession  # type: ignore[import-not-found] # in its own environment only

from contest import CALLERS, answer_questions, append_together
from texts import messages


async def main(folder: Path) -> None:
    path = folder / "agents.db"
    sessions = [SQLiteSession(f"session {caller}", path) for caller in range(CALLERS)]
    texts = messages()

    async def append(caller: int, text: str) -> None:
        await sessions[caller].add_items([{"role": "user", "content": text}])

    async def measure(_: str, callers: int, seconds: float) -> int:
        return await append_together(append, texts, callers, seconds)

    await answer_questions(measure)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
