"""``manent serve`` that can tell where its main thread spends CPU, for the bench alone: between two SIGUSR2 it looks
every other millisecond of CPU at what is running, and at the second it writes what it saw to the file named by the
environment's BENCH_PROFILE, a line for each stack: how often, and its functions from the inside to the outside.

A few hundred looks a second cost next to nothing, where a tracing profiler would make small functions look dear.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType

import msgspec

from api.cli import main

EVERY_S = 0.002

_stacks: Counter[tuple[CodeType, ...]] = Counter()


def look(_: int, frame: FrameType | None) -> None:
    stack = []
    while frame is not None:
        stack.append(frame.f_code)
        frame = frame.f_back
    _stacks[tuple(stack)] += 1


def begin_or_end(_: int, __: FrameType | None) -> None:
    if signal.getitimer(signal.ITIMER_PROF)[1]:
        signal.setitimer(signal.ITIMER_PROF, 0)
        seen = [(count, [_name(code) for code in stack]) for stack, count in _stacks.items()]
        Path(os.environ["BENCH_PROFILE"]).write_bytes(msgspec.json.encode(seen))
    else:
        _stacks.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)


def _name(code: CodeType) -> str:
    """``package/module.py Class.function``."""
    return f"{'/'.join(Path(code.co_filename).parts[-2:])} {code.co_qualname}"


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR2, begin_or_end)
    main()
