"""What a provable record costs: an append with all hashes beside one without, proofs out of a long log, and verifying.

The appends are measured as in ``appends``. The long log is appended through the engine, and measured on its way:
so memory at its end is held against memory at a tenth of it. ``manent verify`` and ``verify_bundle.py`` are run as
their users run them, and their memory is the most that the system saw them hold.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import uvloop

from contest import CALLERS, Contestant, Speed
from manent import engine
from manent.engine import Engine, MessageIn, Settings
from report import Figure, Spread, percentile, ratios, spread
from texts import messages

LONG, QUICK_LONG = 1_000_000, 100_000
BUNDLE = 100_000
A_SESSION, AT_ONCE, SESSIONS_AT_ONCE = 1000, 500, 4
PROOFS = 1000
HASH_BYTES = 32
MOST_HASH_BYTES = 640
MOST_COST, MOST_PROOF_MS, MOST_VERIFY_S, MOST_BUNDLE_S = 1.15, 5, 60, 15
FLAT = 1.1

T = TypeVar("T")


@dataclass(frozen=True)
class Used:
    """What a command took. Memory is the most that it had at a time."""

    seconds: float
    cpu_s: float
    megabytes: float


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    figures = _appends(folder, quick=quick)
    long = QUICK_LONG if quick else LONG
    log = folder / "long.db"
    verified, rates, bundle = {}, [], None
    for size in (long // 10, long):
        rates.append(_run(_grow(log, size)))
        verified[size] = _command(str(Path(sys.executable).with_name("manent")), "verify", "--database", str(log))
        if size == BUNDLE:
            bundle = _bundle(log, folder)
    figures += _run(_proofs(log, long))
    figures += _verifying(verified)
    if bundle is not None:
        figures.append(_taken(f"verify_bundle.py, {BUNDLE:,} events", bundle, MOST_BUNDLE_S))
    return [*figures, Figure(f"appending, {AT_ONCE} at once", spread(rates), "/s")]


# --- what an append pays ----------------------------------------------------------------------------------------------


def _appends(folder: Path, *, quick: bool) -> list[Figure]:
    chance = random.Random(0)  # noqa: S311 - any order will do
    rounds, seconds = (7, 0.15) if quick else (60, 0.25)
    scripts = {"manent": "appender.py", "unproved": "unproved.py"}
    names = [*scripts]
    speeds: dict[str, list[Speed]] = {name: [] for name in names}
    with ExitStack() as running:
        contestants = {}
        for name in names:
            (folder / name).mkdir()
            contestants[name] = running.enter_context(Contestant(sys.executable, scripts[name], folder / name))
        for number in range(rounds + 1):
            for name in chance.sample(names, len(names)):
                speed = contestants[name].measure("tasks", CALLERS, seconds)
                if number > 0:  # the first round warms up
                    speeds[name].append(speed)
    rates = {name: [speed.per_s for speed in found] for name, found in speeds.items()}
    cpu = {name: [speed.cpu_us for speed in found] for name, found in speeds.items()}
    return [
        Figure(
            f"an append, {CALLERS} callers", ratios(rates["unproved"], rates["manent"]), "of without", at_most=MOST_COST
        ),
        Figure("    in CPU", ratios(cpu["manent"], cpu["unproved"]), "of without"),
        *(
            Figure(f"    {what}", spread(rates[name]), "/s", note=f"{spread(cpu[name]).median:.0f} us CPU each")
            for what, name in (("with commitment, leaf and tree", "manent"), ("without", "unproved"))
        ),
    ]


# --- a long log -------------------------------------------------------------------------------------------------------


async def _grow(path: Path, size: int) -> float:
    """Append until the log has so many events, a session after the other; how many a second."""
    texts = messages()
    async with engine.open(Settings(database=str(path), max_messages=AT_ONCE)) as chat:
        missing = size - await _size(chat)
        sessions = iter(range(missing // A_SESSION))
        begun = time.perf_counter()
        await asyncio.gather(*(_fill(chat, sessions, texts) for _ in range(SESSIONS_AT_ONCE)))
        return missing / (time.perf_counter() - begun)


async def _fill(chat: Engine, numbers: Iterator[int], texts: Iterator[str]) -> None:
    """Sessions of so many events, the one that begins each among them."""
    for _ in numbers:
        session = (await chat.create_session(model="echo/echo")).id
        for start in range(1, A_SESSION, AT_ONCE):
            count = min(AT_ONCE, A_SESSION - start)
            await chat.append_messages(session, [MessageIn(text) for text in islice(texts, count)])


async def _size(chat: Engine) -> int:
    return len(await _sessions(chat)) * A_SESSION


async def _sessions(chat: Engine) -> list[UUID]:
    return [session.id async for session in chat.iter_sessions(order="created")]


async def _proofs(path: Path, size: int) -> list[Figure]:
    """Inclusion proofs of events here and there, as the HTTP route asks for them."""
    chance = random.Random(0)  # noqa: S311 - any events will do
    took_ms, most_bytes = [], 0
    async with engine.open(path) as chat:
        sessions = await _sessions(chat)
        for number in range(-PROOFS // 10, PROOFS):
            session, version = chance.choice(sessions), chance.randint(1, A_SESSION)
            begun = time.perf_counter()
            proof = await chat.evidence.inclusion(session, version)
            if number >= 0:
                took_ms.append((time.perf_counter() - begun) * 1000)
                most_bytes = max(most_bytes, len(proof.hashes) * HASH_BYTES)
    name = f"inclusion proof, {size:,} events"
    slow = percentile(took_ms, 0.99)
    return [
        Figure(name, spread(took_ms), "ms", at_most=MOST_PROOF_MS),
        Figure("    p99", Spread(slow, slow, slow), "ms", at_most=MOST_PROOF_MS),
        Figure("    its hashes, at most", spread([most_bytes]), "bytes", at_most=MOST_HASH_BYTES),
    ]


# --- verifying --------------------------------------------------------------------------------------------------------


def _verifying(verified: dict[int, Used]) -> list[Figure]:
    (few, first), (many, last) = verified.items()
    return [
        _taken(f"manent verify, {many:,} events", last, MOST_VERIFY_S),
        _taken(f"    {few:,} events", first),
        Figure("    memory", spread([last.megabytes / first.megabytes]), f"of {few:,} events", at_most=FLAT),
        Figure(f"    {few:,} events", spread([first.megabytes]), "MB"),
        Figure(f"    {many:,} events", spread([last.megabytes]), "MB"),
    ]


def _taken(what: str, used: Used, at_most_s: float | None = None) -> Figure:
    return Figure(what, spread([used.seconds]), "s", at_most=at_most_s, note=f"{used.cpu_s:.1f} s CPU")


def _bundle(log: Path, folder: Path) -> Used:
    """Export all, and verify it with nothing but the verifier that is in it."""
    bundle = folder / "bundle.zip"
    _run(_export(log, bundle))
    with zipfile.ZipFile(bundle) as archive:
        verifier = archive.extract("verify_bundle.py", folder)
    return _command(sys.executable, "-I", verifier, str(bundle))


async def _export(log: Path, to: Path) -> None:
    async with engine.open(log) as chat:
        with to.open("wb") as file:
            await chat.export(file)


def _command(*command: str) -> Used:
    """Run a command to its good end. What it prints is not shown."""
    told = [sys.executable, "-I", "-S", str(Path(__file__).with_name("used.py")), *command]
    done = subprocess.run(told, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return msgspec.json.decode(done.stdout, type=Used)


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
