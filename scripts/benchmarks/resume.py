"""Taking up a stream again in a long session: the first turn and the newest one, asked for by turns. What a turn's
frames cost must not depend on how many turns came before or after it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import uvloop

from client import Connection, connect, get
from manent import engine
from manent.engine import Settings
from processes import server
from report import Figure, ratios, spread
from texts import MESSAGE_BYTES, messages

TURNS, QUICK_TURNS = 10_000, 1_000
TIMES, QUICK_TIMES = 400, 100
WARM_TIMES = 20
BUDGET_TOKENS = 1024
SEEN = 2
"""The frames that the reader has already."""
AT_MOST = 1.2
NO_UPSTREAM = "http://127.0.0.1:9/v1"


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    database, turns = folder / "resume.db", QUICK_TURNS if quick else TURNS
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        first, last = runner.run(_fill(database, turns))
        with server(database, NO_UPSTREAM) as serving:
            firsts_ms, lasts_ms = runner.run(_read(serving.port, first, last, QUICK_TIMES if quick else TIMES))
    return [
        Figure(f"resuming turn {turns:,} of a session", ratios(lasts_ms, firsts_ms), "of the first", at_most=AT_MOST),
        Figure("    the first", spread(firsts_ms), "ms"),
        Figure(f"    the {turns:,}th", spread(lasts_ms), "ms"),
    ]


async def _fill(database: Path, turns: int) -> tuple[str, str]:
    """One session of so many turns, all of one size: its first and its last."""
    settings = Settings(database=str(database), model="echo/echo")
    async with engine.open(settings) as chat:
        session = (await chat.create_session(budget_tokens=BUDGET_TOKENS)).id
        texts = messages()
        found = [(await chat.say(session, next(texts))).id for _ in range(turns)]
    return str(found[0]), str(found[-1])


async def _read(port: int, first: str, last: str, times: int) -> tuple[list[float], list[float]]:
    connection = await connect(port)
    firsts_ms, lasts_ms = [], []
    for number in range(times + WARM_TIMES):
        pair = (first, last) if number % 2 else (last, first)
        took_ms = {turn: await _resume_ms(connection, port, turn) for turn in pair}
        if number >= WARM_TIMES:
            firsts_ms.append(took_ms[first])
            lasts_ms.append(took_ms[last])
    connection.close()
    return firsts_ms, lasts_ms


async def _resume_ms(connection: Connection, port: int, turn: str) -> float:
    """Until the turn's last frame is here. Raises RuntimeError for frames that are not those that follow."""
    begun_s = time.perf_counter()
    answer = await connection.ask(get(port, f"/api/turns/{turn}/stream", last_id=SEEN))
    took_ms = (time.perf_counter() - begun_s) * 1000
    events = answer.events()
    if [event.id for event in events] != [*range(SEEN + 1, SEEN + 1 + len(events))]:
        raise RuntimeError(f"turn {turn} gave frames {[event.id for event in events]}")
    if events[-1].type != "turn.completed" or len(events[-1].data) < MESSAGE_BYTES:
        raise RuntimeError(f"turn {turn} ended with {events[-1].data!r}")
    return took_ms
