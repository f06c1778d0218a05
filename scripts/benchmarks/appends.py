"""Durable appends of 300-byte messages: Manent against raw sqlite3 and against openai-agents, side by side.

Each contestant has a process and a file of its own on the same disk, and only one works at a time. They take turns, a
fraction of a second each, in another order every round, so that the disk's moods meet all of them alike. A ratio is
taken within a round, against the best that raw did in it; the median of the rounds is the figure. The first round
warms up and does not count.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import starmap
from pathlib import Path

from contest import CALLERS, Contestant, Speed
from report import Figure, Spread, ratios, spread

PEER = "openai-agents==0.24.0"
PEER_NEEDS = (PEER, "uvloop")

Run = tuple[str, str, int]
"""Contestant, kind, callers."""

RAW_ONE: Run = ("raw", "loop", 1)
RAW_TASK: Run = ("raw", "tasks", 1)
RAW_LOOP: Run = ("raw", "loop", CALLERS)
RAW_TASKS: Run = ("raw", "tasks", CALLERS)
MANENT_ONE: Run = ("manent", "tasks", 1)
MANENT_ALL: Run = ("manent", "tasks", CALLERS)
PEER_ONE: Run = ("agents", "tasks", 1)
PEER_ALL: Run = ("agents", "tasks", CALLERS)


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    chance = random.Random(0)  # noqa: S311 - any order will do
    rounds, seconds = (7, 0.12) if quick else (40, 0.2)
    with _contestants(folder) as contestants:
        runs = [RAW_ONE, RAW_TASK, MANENT_ONE, PEER_ONE, RAW_LOOP, RAW_TASKS, MANENT_ALL, PEER_ALL]
        runs = [run for run in runs if run[0] in contestants]
        speeds: dict[Run, list[Speed]] = {run: [] for run in runs}
        for number in range(rounds + 1):
            for run in chance.sample(runs, len(runs)):
                name, kind, callers = run
                speed = contestants[name].measure(kind, callers, seconds)
                if number > 0:
                    speeds[run].append(speed)
    return _figures(speeds)


def _figures(speeds: dict[Run, list[Speed]]) -> list[Figure]:
    rates = {run: [speed.per_s for speed in found] for run, found in speeds.items()}
    raw_one = list(starmap(max, zip(rates[RAW_ONE], rates[RAW_TASK], strict=True)))
    raw_all = list(starmap(max, zip(rates[RAW_LOOP], rates[RAW_TASKS], strict=True)))
    figures = [
        Figure("Manent, 1 caller, 1 session", ratios(rates[MANENT_ONE], raw_one), "of raw", at_least=0.30),
        Figure("Manent, 64 callers, a session each", ratios(rates[MANENT_ALL], raw_all), "of raw", at_least=2.0),
        Figure("openai-agents, 1 caller", _beside(rates, PEER_ONE, raw_one), "of raw"),
        Figure("openai-agents, 64 callers", _beside(rates, PEER_ALL, raw_all), "of raw"),
    ]
    names = {
        MANENT_ONE: "Manent, 1 caller",
        MANENT_ALL: "Manent, 64 callers",
        RAW_ONE: "raw sqlite3, 1 session, plain loop",
        RAW_TASK: "raw sqlite3, 1 task, a thread",
        RAW_LOOP: "raw sqlite3, 64 sessions, plain loop",
        RAW_TASKS: "raw sqlite3, 64 tasks, a lock and a thread",
        PEER_ONE: "openai-agents, 1 caller",
        PEER_ALL: "openai-agents, 64 callers",
    }
    for run, name in names.items():
        if run in speeds:
            cpu = statistics.median(speed.cpu_us for speed in speeds[run])
            figures.append(Figure(name, spread(rates[run]), "/s", note=f"{cpu:.0f} us CPU each"))
    return figures


def _beside(rates: dict[Run, list[float]], run: Run, raw: Sequence[float]) -> Spread | None:
    return ratios(rates[run], raw) if run in rates else None


@contextmanager
def _contestants(folder: Path) -> Iterator[dict[str, Contestant]]:
    commands = {
        "raw": (sys.executable, "raw.py"),
        "manent": (sys.executable, "appender.py"),
        "agents": (peer_python(), "peer_openai_agents.py"),
    }
    with ExitStack() as running:
        yield {
            name: running.enter_context(Contestant(python, script, folder))
            for name, (python, script) in commands.items()
            if python is not None
        }


def peer_python() -> str | None:
    """The Python of an environment that holds the peer, made once and kept; None, and a word, if that fails."""
    home = _cache() / PEER
    python = str(home / "bin" / "python")
    stamp = home / "complete"
    if stamp.exists():
        return python
    print(f"installing {PEER} into {home}, this once", file=sys.stderr)
    try:
        venv.create(home, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "install", "--quiet", *PEER_NEEDS], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(getattr(error, "stderr", ""), file=sys.stderr)
        print(f"{PEER} could not be installed, going on without it: {error}", file=sys.stderr)
        return None
    stamp.touch()
    return python


def _cache() -> Path:
    """The user's cache, or a folder for temporary files where there is no home."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "manent-bench"
    if os.environ.get("HOME"):
        return Path.home() / ".cache" / "manent-bench"
    return Path(tempfile.gettempdir()) / "manent-bench"
