"""How contestants in append speed are run: each in a process of its own, one at a time, told what to do on a line of
its standard input. Imports nothing but the standard library, for it also runs in a peer's own environment.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CALLERS = 64
STOP_S = 20

Append = Callable[[int, str], Awaitable[Any]]
"""Appends a text to the session of one caller; done when it is durable."""


@dataclass(frozen=True)
class Speed:
    """Appends a second, and microseconds of CPU an append, all threads together: steadier on a busy machine."""

    per_s: float
    cpu_us: float


class Contestant:
    """A contestant's process, from our side."""

    def __init__(self, python: str, script: str, folder: Path) -> None:
        command = [python, str(Path(__file__).with_name(script)), str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, kind: str, callers: int, seconds: float) -> Speed:
        """How fast it appends durably. ``kind`` is the contestant's own; raw sqlite3 has two."""
        answer = self._ask({"kind": kind, "callers": callers, "seconds": seconds})
        appends = answer["appends"]
        return Speed(appends / answer["seconds"], answer["cpu_seconds"] * 1e6 / appends)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Its standard input ends, and so does it."""
        try:
            self._process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended in the middle of a measurement")
        answer: dict[str, Any] = json.loads(line)
        return answer


async def answer_questions(measure: Callable[[str, int, float], Awaitable[int]]) -> None:
    """The contestant's side: ``measure`` appends for so many seconds with so many callers, and says how often."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        question = json.loads(line)
        begun, cpu_begun = time.perf_counter(), time.process_time()
        appends = await measure(question["kind"], question["callers"], question["seconds"])
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
        print(json.dumps({"appends": appends, "seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


async def append_together(append: Append, texts: Iterator[str], callers: int, seconds: float) -> int:
    """``callers`` tasks append one after the other until the time is up; returns how many appends they made."""
    end = time.perf_counter() + seconds
    made = 0

    async def call(caller: int) -> None:
        nonlocal made
        while time.perf_counter() < end:
            await append(caller, next(texts))
            made += 1

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    return made
