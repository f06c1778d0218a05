"""Turns streamed through a real ``manent serve`` from a loopback upstream, beside the same streams read from the
upstream directly by the same client.

Server, upstream and client are three processes. The client notes bytes and times and looks at them afterwards; the
upstream keeps to the clock whatever its readers do. What is compared takes turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

import memory
from client import Answer, connect
from processes import Server, server, upstream
from raw import INSERT, open_raw
from report import Figure, Spread, percentile, spread
from texts import messages
from turns import all_wrong, ask_all, completion, first_turns, gaps_ms, model, text_of, turn

STREAMS = 100
EVERY_MS = 20
DELTAS = 64
ROUNDS, QUICK_ROUNDS = 5, 1
FIRST_TOKENS, QUICK_FIRST_TOKENS = 300, 40
TURNS_A_SESSION = 20
SAMPLE_S = 0.1


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with ExitStack() as running:
            port = running.enter_context(upstream())
            url = f"http://127.0.0.1:{port}/v1"
            serving = running.enter_context(server(folder / "streams.db", url))
            figures = runner.run(_first_tokens(folder, serving, port, QUICK_FIRST_TOKENS if quick else FIRST_TOKENS))
            found = runner.run(_together(serving, port, QUICK_ROUNDS if quick else ROUNDS))
        return figures + _figures(found) + runner.run(memory.measure(folder, quick=quick))


# --- the first token --------------------------------------------------------------------------------------------------


async def _first_tokens(folder: Path, serving: Server, port: int, times: int) -> list[Figure]:
    """One stream at a time, through Manent and directly by turns. A turn needs two commits before its first token: its
    start, and the journal's first row. What they must cost at the least is what raw sqlite3 takes on the same disk for
    two rows of its own, measured in between.
    """
    through, direct, raw = await connect(serving.port), await connect(port), open_raw(folder / "commits.db")
    texts = messages()
    manent_ms, direct_ms, commits_ms, added_ms = [], [], [], []
    session = ""
    for number in range(times + TURNS_A_SESSION):
        if number % TURNS_A_SESSION == 0:
            session = serving.create_session()
        tag, name = f"s{number}", model(1, 0)
        manent = _first_ms(await through.ask(turn(serving.port, session, name, tag)))
        plain = _first_ms(await direct.ask(completion(port, name, tag)))
        begun = time.perf_counter()
        for _ in range(2):
            raw.execute(INSERT, (session, "user", next(texts)))
        commits = (time.perf_counter() - begun) * 1000
        if number >= TURNS_A_SESSION:  # the first session warms up
            manent_ms.append(manent)
            direct_ms.append(plain)
            commits_ms.append(commits)
            added_ms.append(manent - plain - commits)
    for connection in (through, direct, raw):
        connection.close()
    return [
        Figure("first token, beyond the direct one and two commits", spread(added_ms), "ms", at_most=4),
        Figure("    through Manent", spread(manent_ms), "ms"),
        Figure("    directly", spread(direct_ms), "ms"),
        Figure("    two raw commits", spread(commits_ms), "ms"),
    ]


def _first_ms(read: Answer) -> float:
    first = next(event for event in read.events() if text_of(event))
    return (first.at_s - read.asked_s) * 1000


# --- a hundred at once ------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the rounds of concurrent streams gave, a value a round."""

    through_p99_ms: list[float] = field(default_factory=list)
    direct_p99_ms: list[float] = field(default_factory=list)
    through_p50_ms: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)


async def _together(serving: Server, port: int, rounds: int) -> Found:
    """All streams are asked for in the same moment: their beginnings are part of what the gaps show."""
    found = Found()
    await ask_all(serving.port, first_turns(serving, STREAMS, model(2, EVERY_MS)))
    name = model(DELTAS, EVERY_MS)
    for _ in range(rounds):
        plain = await ask_all(port, [completion(port, name, f"s{n}") for n in range(STREAMS)])
        found.direct_p99_ms.append(percentile(gaps_ms(plain), 0.99))
        turns = first_turns(serving, STREAMS, name)
        sampling = asyncio.create_task(_sample(serving, found.resident_mb))
        answers = await ask_all(serving.port, turns)
        sampling.cancel()
        found.wrong.append(all_wrong(answers, DELTAS))
        through = gaps_ms(answers)
        found.through_p99_ms.append(percentile(through, 0.99))
        found.through_p50_ms.append(percentile(through, 0.5))
    return found


async def _sample(serving: Server, resident_mb: list[float]) -> None:
    """Until cancelled, while the streams are open."""
    while True:
        await asyncio.sleep(SAMPLE_S)
        resident_mb.append(serving.resident_mb())


def _figures(found: Found) -> list[Figure]:
    pairs = zip(found.through_p99_ms, found.direct_p99_ms, strict=True)
    at_once = f"{STREAMS} streams, {DELTAS} x {EVERY_MS} ms"
    return [
        Figure(f"{at_once}: deltas lost or out of order", spread(found.wrong), "", at_most=0),
        Figure("    gap added at p99", spread([through - plain for through, plain in pairs]), "ms", at_most=40),
        Figure("    gap at p99 through Manent", spread(found.through_p99_ms), "ms"),
        Figure("    gap at p99 directly", spread(found.direct_p99_ms), "ms"),
        Figure("    gap at p50 through Manent", spread(found.through_p50_ms), "ms"),
        Figure(f"resident with {STREAMS} open streams", _highest(found.resident_mb), "MB", at_most=250),
    ]


def _highest(values: Sequence[float]) -> Spread:
    """Of memory the peak is the figure."""
    return Spread(max(values), min(values), max(values))
