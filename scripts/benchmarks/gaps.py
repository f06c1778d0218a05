"""What recording first costs those who read: the same streams through a server that records, and through the same
server with its record left out (``unrecorded``), by turns.

A gap is the time between one delta and the next; what is added to it is what lies beyond the same gap read from the
upstream directly. All streams of a round are asked for in the same moment, and to begin so many turns is work that the
first deltas wait for; so the gaps are looked at twice, all of them, and those after the last stream has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from client import Answer
from processes import Server, server, upstream
from report import Figure, percentile, ratios, spread
from turns import all_wrong, ask_all, completion, first_turns, gaps_ms, model

DELTAS = 64
LOADS = ((500, 100), (100, 20))
"""How many streams at once, and every how many milliseconds a delta."""
ROUNDS, QUICK_ROUNDS = 5, 1
WARM_STREAMS = 20
AT_MOST = 2.5
RECORDED, UNRECORDED, DIRECT = "record first", "recording off", "directly"


@dataclass
class Found:
    """What one arm gave under one load, a value a round."""

    p99_ms: list[float] = field(default_factory=list)
    steady_p99_ms: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    figures = []
    with ExitStack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        port = running.enter_context(upstream())
        url = f"http://127.0.0.1:{port}/v1"
        servers = {
            RECORDED: running.enter_context(server(folder / "recorded.db", url)),
            UNRECORDED: running.enter_context(server(folder / "unrecorded.db", url, "unrecorded.py")),
        }
        for streams, every_ms in LOADS:
            found = runner.run(_rounds(servers, port, streams, every_ms, QUICK_ROUNDS if quick else ROUNDS))
            figures += _figures(found, streams, every_ms)
    return figures


async def _rounds(
    servers: Mapping[str, Server], port: int, streams: int, every_ms: int, rounds: int
) -> dict[str, Found]:
    name = model(DELTAS, every_ms)
    found = {arm: Found() for arm in (*servers, DIRECT)}
    for serving in servers.values():
        await ask_all(serving.port, first_turns(serving, WARM_STREAMS, model(2, every_ms)))
    for number in range(rounds):
        asked = [completion(port, name, f"s{number}") for number in range(streams)]
        _note(found[DIRECT], await ask_all(port, asked))
        for arm in (*servers,)[:: 1 if number % 2 else -1]:
            answers = await ask_all(servers[arm].port, first_turns(servers[arm], streams, name))
            found[arm].wrong.append(all_wrong(answers, DELTAS))
            _note(found[arm], answers)
    return found


def _note(found: Found, answers: Sequence[Answer]) -> None:
    gaps = gaps_ms(answers)
    found.p99_ms.append(percentile(gaps, 0.99))
    found.p50_ms.append(percentile(gaps, 0.5))
    found.steady_p99_ms.append(percentile(gaps_ms(answers, steady=True), 0.99))


def _figures(found: dict[str, Found], streams: int, every_ms: int) -> list[Figure]:
    recorded, unrecorded, direct = found[RECORDED], found[UNRECORDED], found[DIRECT]
    wrong = [a + b for a, b in zip(recorded.wrong, unrecorded.wrong, strict=True)]
    return [
        Figure(
            f"{streams} streams, {DELTAS} x {every_ms} ms: deltas lost or out of order", spread(wrong), "", at_most=0
        ),
        *_added("gap added at p99", recorded.p99_ms, unrecorded.p99_ms, direct.p99_ms),
        *_added(
            "gap added at p99 after all have begun",
            recorded.steady_p99_ms,
            unrecorded.steady_p99_ms,
            direct.steady_p99_ms,
        ),
        Figure(f"    gap at p50, {RECORDED}", spread(recorded.p50_ms), "ms"),
    ]


def _added(what: str, recorded: list[float], unrecorded: list[float], direct: list[float]) -> list[Figure]:
    with_record = [through - plain for through, plain in zip(recorded, direct, strict=True)]
    without = [through - plain for through, plain in zip(unrecorded, direct, strict=True)]
    return [
        Figure(f"    {what}", ratios(with_record, without), f"of {UNRECORDED}", at_most=AT_MOST),
        Figure(f"        {RECORDED}", spread(with_record), "ms"),
        Figure(f"        {UNRECORDED}", spread(without), "ms"),
        Figure(f"        (p99 {DIRECT})", spread(direct), "ms"),
    ]
