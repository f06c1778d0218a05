"""What a reader costs who waits: a thousand open streams on which nothing happens, and what the server's resident
memory has grown by, for each of them. Each kind on a fresh server, for what one has let go of would hide the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from client import connect, get
from processes import Server, server, upstream
from report import Figure, spread
from turns import model

READERS = 1000
WARM_READERS = 20
ROUNDS, QUICK_ROUNDS = 3, 1
AT_MOST_KB = 60
NEVER_MS = 600_000
SETTLE_S = 0.5
KILO = 1e3

Paths = Callable[[Server, int], Sequence[str]]


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    kinds: tuple[tuple[str, Paths], ...] = (
        ("a session's events, each of its own session", _sessions),
        ("one turn that says nothing", _one_turn),
    )
    figures = []
    with ExitStack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        url = f"http://127.0.0.1:{running.enter_context(upstream())}/v1"
        for number, (what, paths) in enumerate(kinds):
            each_kb = []
            for place in range(rounds):
                with server(folder / f"readers-{number}-{place}.db", url) as serving:
                    each_kb.append(runner.run(_growth_kb(serving, paths)))
            figures.append(
                Figure(f"{READERS:,} idle readers of {what}", spread(each_kb), "KB each", at_most=AT_MOST_KB)
            )
    return figures


async def _growth_kb(serving: Server, paths: Paths) -> float:
    """How much a reader has the server's memory grow by."""
    wanted = await asyncio.to_thread(paths, serving, WARM_READERS + READERS)
    readers = [await _begin(serving.port, path) for path in wanted[:WARM_READERS]]
    await asyncio.sleep(SETTLE_S)
    before_mb = serving.resident_mb()
    readers += [await _begin(serving.port, path) for path in wanted[WARM_READERS:]]
    await asyncio.sleep(SETTLE_S)
    grown_mb = serving.resident_mb() - before_mb
    gone = sum(reader.is_closing() for reader in readers)
    if gone:
        raise RuntimeError(f"{gone} of {len(readers)} readers were let go")
    for reader in readers:
        reader.abort()
    return grown_mb * KILO / READERS


async def _begin(port: int, path: str) -> asyncio.Transport:
    """A stream that is open, and has told all there was to tell."""
    return await (await connect(port)).begin(get(port, path))


def _sessions(serving: Server, readers: int) -> list[str]:
    return [f"/api/sessions/{serving.create_session()}/events/stream" for _ in range(readers)]


def _one_turn(serving: Server, readers: int) -> list[str]:
    """It waits for its second delta, as all who read it do."""
    return [f"/api/turns/{serving.start_turn(model(2, NEVER_MS))}/stream"] * readers
