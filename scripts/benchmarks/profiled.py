"""``manent serve`` that can tell where it spends CPU, for the bench alone: between two SIGUSR2 it looks every other
millisecond of CPU at what is running, and at the second it writes what it saw to the file named by the environment's
BENCH_PROFILE: for each stack how many microseconds, and its functions from the inside to the outside.

Other threads than the main one are told by their names alone: the look comes when they have let go of the interpreter,
so where they stand then is where they wait. A few hundred looks a second cost next to nothing, where a tracing profiler
would make small functions look dear.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import msgspec

from manent.api.cli.main import main

EVERY_S = 0.002
THREAD = "thread "

_stacks: Counter[tuple[str, ...]] = Counter()
_used_s: dict[int, float] = {}


def look(_: int, frame: FrameType | None) -> None:
    """Charge each thread with what it has used since the last look; ``frame`` is what this one, the main, does."""
    for thread in threading.enumerate():
        ident = thread.ident
        if ident is None:
            continue
        now_s = time.clock_gettime(time.pthread_getcpuclockid(ident))
        spent_us = round((now_s - _used_s.get(ident, now_s)) * 1e6)
        _used_s[ident] = now_s
        if spent_us:
            mine = thread is threading.main_thread()
            _stacks[_stack(frame) if mine else (THREAD + thread.name,)] += spent_us


def _stack(frame: FrameType | None) -> tuple[str, ...]:
    """Its functions, as ``package/module.py Class.function``."""
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append(f"{'/'.join(code.co_filename.rsplit('/', 2)[-2:])} {code.co_qualname}")
        frame = frame.f_back
    return tuple(stack)


def begin_or_end(_: int, __: FrameType | None) -> None:
    if signal.getitimer(signal.ITIMER_PROF)[1]:
        signal.setitimer(signal.ITIMER_PROF, 0)
        seen = [(spent_us, stack) for stack, spent_us in _stacks.items()]
        Path(os.environ["BENCH_PROFILE"]).write_bytes(msgspec.json.encode(seen))
    else:
        _stacks.clear()
        _used_s.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR2, begin_or_end)
    main()
