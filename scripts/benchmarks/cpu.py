"""What a streamed delta costs in CPU, where, and what would be the next to make cheaper.

The same streams are run in three ways: read from the upstream and thrown away, recorded with nobody who reads
(``variants``), and served whole. What one way costs more than the one before is what recording costs, and what
writing to readers costs. In the largest part a profile names the function that runs most (``profiled``).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvloop

from processes import Server, Variant, server, upstream, variant
from report import Figure, spread
from turns import all_wrong, ask_all, first_turns, model

STREAMS, EVERY_MS = 100, 20
DELTAS = 64
MORE_DELTAS, QUICK_MORE_DELTAS = 192, 128
ROUNDS, QUICK_ROUNDS = 5, 1
PROFILED_DELTAS = 256
BEGUN_S = 1.0
"""After so long all streams have begun, and what is looked at are deltas."""
AT_MOST_US = 120

DECODE, RECORD, WRITE = "upstream decode", "record", "downstream write"
MARKS = (
    (WRITE, ("api/http/sse.py EventStream", "engine/streams/follow.py")),
    (RECORD, ("engine/turns/recorder.py", "thread manent-writer")),
    (DECODE, ("engine/turns/attempt.py", "aiohttp/", "providers/")),
)
"""What a stack holds that belongs to a part. What feeds the recorder is below it, so the order counts."""


@dataclass
class Found:
    """CPU per delta of each way, a value a round."""

    decode_us: list[float] = field(default_factory=list)
    record_us: list[float] = field(default_factory=list)
    all_us: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    profile = folder / "profile.json"
    with ExitStack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        url = f"http://127.0.0.1:{running.enter_context(upstream())}/v1"
        serving = running.enter_context(server(folder / "cpu.db", url))
        (folder / "parts").mkdir()
        parts = {
            name: running.enter_context(variant(name, url, STREAMS, folder / "parts")) for name in ("decode", "record")
        }
        rounds, more = (QUICK_ROUNDS, QUICK_MORE_DELTAS) if quick else (ROUNDS, MORE_DELTAS)
        found = runner.run(_rounds(serving, parts, rounds, more))
        os.environ["BENCH_PROFILE"] = str(profile)
        profiled = running.enter_context(server(folder / "profiled.db", url, "profiled.py"))
        runner.run(_profile(profiled))
    return _figures(found, msgspec.json.decode(profile.read_bytes(), type=list[tuple[int, list[str]]]))


async def _rounds(serving: Server, parts: Mapping[str, Variant], rounds: int, more: int) -> Found:
    found = Found()
    await _served_s(serving, 2, found)
    for _ in range(rounds):
        short_s, long_s = [await _served_s(serving, count, found) for count in (DELTAS, more)]
        found.all_us.append(_per_delta_us(short_s, long_s, more))
        for name, costs_us in (("decode", found.decode_us), ("record", found.record_us)):
            short_s, long_s = [
                await asyncio.to_thread(parts[name].cpu_s, model(count, EVERY_MS)) for count in (DELTAS, more)
            ]
            costs_us.append(_per_delta_us(short_s, long_s, more))
    return found


async def _served_s(serving: Server, count: int, found: Found) -> float:
    """CPU seconds of the server while it serves all streams."""
    turns = first_turns(serving, STREAMS, model(count, EVERY_MS))
    before_s = serving.cpu_s()
    answers = await ask_all(serving.port, turns)
    used_s = serving.cpu_s() - before_s
    found.wrong.append(all_wrong(answers, count))
    return used_s


def _per_delta_us(short_s: float, long_s: float, more: int) -> float:
    """CPU of the deltas that the longer streams have more, so that beginnings and ends do not count."""
    return (long_s - short_s) * 1e6 / (STREAMS * (more - DELTAS))


async def _profile(serving: Server) -> None:
    """Streams, profiled between their beginnings and their ends."""
    turns = first_turns(serving, STREAMS, model(PROFILED_DELTAS, EVERY_MS))
    streaming = asyncio.create_task(ask_all(serving.port, turns))
    await asyncio.sleep(BEGUN_S)
    serving.profile()
    await asyncio.sleep(PROFILED_DELTAS * EVERY_MS / 1000 - BEGUN_S)
    serving.profile()
    await streaming


def _figures(found: Found, stacks: list[tuple[int, list[str]]]) -> list[Figure]:
    rounds = zip(found.decode_us, found.record_us, found.all_us, strict=True)
    decode, record, write = zip(*((d, r - d, a - r) for d, r, a in rounds), strict=True)
    parts = {DECODE: spread(decode), RECORD: spread(record), WRITE: spread(write)}
    largest = max(parts, key=lambda name: parts[name].median)
    return [
        Figure(
            f"{STREAMS} streams, every {EVERY_MS} ms: deltas lost or out of order", spread(found.wrong), "", at_most=0
        ),
        Figure("CPU per delta, server process", spread(found.all_us), "us", at_most=AT_MOST_US),
        *(Figure(f"    {name}", value, "us") for name, value in parts.items()),
        Figure(f"next to make cheaper: {largest}", None, "", note=_dearest(stacks, largest)),
    ]


def _dearest(stacks: list[tuple[int, list[str]]], part: str) -> str:
    """The functions of a part that used most by themselves, with their share of all CPU."""
    seen: Counter[str] = Counter()
    for spent_us, stack in stacks:
        if _part_of(stack) == part:
            seen[stack[0]] += spent_us
    every_us = sum(spent_us for spent_us, _ in stacks)
    return ", ".join(f"{name} {100 * spent_us / every_us:.0f} %" for name, spent_us in seen.most_common(3))


def _part_of(stack: list[str]) -> str | None:
    for part, marks in MARKS:
        if any(name.startswith(marks) for name in stack):
            return part
    return None
