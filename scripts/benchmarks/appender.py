"""Manent as a contestant in appends: the public engine as a script or a route uses it, each caller on a session of its
own, on the event loop that ``manent serve`` runs on. Everything is on: events, hashes, token counts, projections.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import uvloop

from contest import CALLERS, answer_questions, append_together
from manent import engine
from texts import messages


async def main(folder: Path) -> None:
    async with engine.open(folder / "manent.db") as chat:
        sessions = [(await chat.create_session(model="echo/echo")).id for _ in range(CALLERS)]
        texts = messages()
        gc.freeze()  # as ``manent serve`` does

        async def append(caller: int, text: str) -> None:
            await chat.append_message(sessions[caller], text)

        async def measure(_: str, callers: int, seconds: float) -> int:
            return await append_together(append, texts, callers, seconds)

        await answer_questions(measure)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
