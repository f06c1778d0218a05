"""What a long session costs: appending to it, choosing a window from it, reading it, keeping it on disk.

What is compared lies in one file and is asked for in turns. Raw sqlite3 holds the same messages in one table with an
index, their content as the JSON that Manent keeps. The fastest peer reads in a process of its own, as many messages of
the same size.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import uvloop

from appends import peer_python
from contest import Contestant
from manent import engine
from manent.engine import Engine, MessageIn
from manent.engine.context import prompt
from manent.engine.context.prompt import Limits
from manent.engine.log.base import Connection
from manent.engine.log.sql import damage, reads
from manent.engine.log.store import Store, open_reading
from manent.engine.providers.registry import resolve
from manent.engine.sessions import messages as session_messages
from manent.engine.sessions.envelope import LOCAL
from manent.engine.sessions.history import state_at
from manent.engine.sessions.snapshots import VERSIONS_APART
from raw import INSERT, open_raw
from report import Figure, Spread, ratios, spread
from texts import messages

LONG, QUICK_LONG, SHORT = 100_000, 20_000, 100
BATCH = 100
LOAD = 10_000
PAGE = 1000
FARTHEST = LOAD - LOAD % VERSIONS_APART - 1
"""The version of a session of ``LOAD`` messages that is farthest from the snapshot before it."""
NEWEST = 20
WINDOW_TOKENS = 4000
ROUNDS, QUICK_ROUNDS = 15, 5

RAW_NEWEST = "SELECT role, content FROM messages WHERE session = ? ORDER BY id DESC LIMIT ?"
RAW_OLDEST = "SELECT role, content FROM messages WHERE session = ? ORDER BY id LIMIT ?"

Timed = Callable[[], Awaitable[float]]
"""Does something once and says how many seconds it took."""


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS, QUICK_LONG if quick else LONG))


async def _measure(folder: Path, rounds: int, length: int) -> list[Figure]:
    texts = messages()
    path = folder / "manent.db"
    async with engine.open(path) as chat, open_reading(path, chat.settings) as store:
        long, loaded, short, empty = [(await chat.create_session(model="echo/echo")).id for _ in range(4)]
        begun = time.perf_counter()
        await _fill(chat, long, texts, length)
        seconds = time.perf_counter() - begun
        await _fill(chat, loaded, texts, LOAD)
        await _fill(chat, short, texts, SHORT)
        raw = open_raw(folder / "raw.db")
        for session in (long, loaded):
            await _copy(chat, session, raw)
        figures = await _windows(chat, store, (long, short), raw, rounds, length)
        with _peer(folder) as peer:
            figures += await _checks(chat, loaded, rounds)
            figures += await _newest(chat, loaded, raw, peer, rounds)
            figures += await _loads(chat, store, loaded, raw, peer, rounds)
        figures = [*await _appends(chat, long, empty, texts, rounds, length), *figures]
        raw.close()
    built = Figure(f"appending {length:,} messages, {BATCH} at once", spread([length / seconds]), "/s")
    return [*figures, *await _bytes(folder), built]


async def _fill(chat: Engine, session: UUID, texts: Iterator[str], count: int) -> None:
    for _ in range(0, count, BATCH):
        await chat.append_messages(session, [MessageIn(text) for text in islice(texts, BATCH)])


@contextmanager
def _peer(folder: Path) -> Iterator[Contestant | None]:
    """The peer with a session of ``LOAD`` messages; None where it cannot be had."""
    python = peer_python()
    if python is None:
        yield None
        return
    (folder / "peer").mkdir()
    with Contestant(python, "peer_openai_agents.py", folder / "peer") as peer:
        peer.measure("fill", 1, 0)
        yield peer


async def _ask_peer(peer: Contestant, kind: str, seconds: float) -> float:
    """How long it takes over one reading."""
    return 1 / (await asyncio.to_thread(peer.measure, kind, 1, seconds)).per_s


async def _copy(chat: Engine, session: UUID, connection: sqlite3.Connection) -> None:
    """The same messages as raw sqlite3 would keep them."""
    connection.execute("BEGIN")
    async for message in chat.iter_messages(session):
        connection.execute(INSERT, (str(session), message.role, _json(message.content)))
    connection.execute("COMMIT")


def _json(content: Sequence[Any]) -> str:
    return f"[{','.join(bytes(block).decode() for block in content)}]"


async def in_turns(ways: Sequence[Timed], rounds: int, turns: int, calls: int) -> list[list[float]]:
    """Each way's mean seconds a call in each round. In a round the ways take turns in any order, so that what comes
    every so many calls, as the moving of the write-ahead log does, is not always the same one's. So many calls in a row
    each: one where all do the same, more where each should have the processor's caches for itself. The first round
    warms up.
    """
    chance = random.Random(0)  # noqa: S311 - any order will do
    means: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        sums = [0.0] * len(ways)
        for _ in range(turns):
            for at in chance.sample(range(len(ways)), len(ways)):
                for _ in range(calls):
                    sums[at] += await ways[at]()
        if number > 0:
            for mean, total in zip(means, sums, strict=True):
                mean.append(total / (turns * calls))
    return means


# --- appending --------------------------------------------------------------------------------------------------------


async def _appends(
    chat: Engine, long: UUID, empty: UUID, texts: Iterator[str], rounds: int, length: int
) -> list[Figure]:
    async def append(session: UUID) -> float:
        text = next(texts)
        begun = time.perf_counter()
        await chat.append_message(session, text)
        return time.perf_counter() - begun

    to_long, to_empty = await in_turns([partial(append, long), partial(append, empty)], rounds, 40, 1)
    return [
        Figure(f"append to {length:,} messages", ratios(to_long, to_empty), "of to an empty one", at_most=1.2),
        Figure("    to the empty one", spread([1e6 * each for each in to_empty]), "us"),
    ]


# --- windows ----------------------------------------------------------------------------------------------------------


async def _windows(
    chat: Engine, store: Store, sessions: tuple[UUID, UUID], raw: sqlite3.Connection, rounds: int, length: int
) -> list[Figure]:
    """Two forms of it. The bare choice is what a turn pays: state, budget, choice and the chosen messages' content,
    read in a reading thread; like raw it makes nothing of the rows, so the target over raw is held against it. The
    public call goes to that thread and back, and makes messages of the API's form.
    """
    long, short = sessions
    kept = len((await chat.window(long, budget_tokens=WINDOW_TOKENS)).messages)

    async def ask(session: UUID) -> float:
        begun = time.perf_counter()
        await chat.window(session, budget_tokens=WINDOW_TOKENS)
        return time.perf_counter() - begun

    async def choose(session: UUID) -> float:
        return await store.read(partial(_timed_choice, chat=chat, session=session))

    async def read_raw() -> float:
        begun = time.perf_counter()
        rows = raw.execute(RAW_NEWEST, (str(long), kept)).fetchall()
        seconds = time.perf_counter() - begun
        assert len(rows) == kept
        return seconds

    asking: list[Timed] = [partial(ask, long), partial(ask, short)]
    choosing: list[Timed] = [partial(choose, long), partial(choose, short)]
    ways = [*asking, *choosing, read_raw]
    asked, asked_short, chosen, chosen_short, read = await in_turns(ways, rounds, 2, 20)
    of_short = f"of from {SHORT}"
    return [
        Figure(f"window of 4,000 tokens from {length:,}", ratios(chosen, chosen_short), of_short, at_most=1.5),
        Figure("    as the public call", ratios(asked, asked_short), of_short, at_most=1.5),
        Figure("    the bare choice", ratios(chosen, read), f"of raw, {kept} rows", at_most=5),
        Figure("    as the public call", ratios(asked, read), f"of raw, {kept} rows", at_most=8),
        Figure("    raw", spread([1e6 * each for each in read]), "us"),
    ]


def _timed_choice(connection: Connection, chat: Engine, session: UUID) -> float:
    begun = time.perf_counter()
    state = state_at(connection, LOCAL.tenant, session)
    model = resolve(chat.providers, state.model)
    limits = Limits(WINDOW_TOKENS)
    measure = prompt.measure_of(connection, LOCAL.tenant, state, model, limits, chat.settings)
    prompt.choose_window(connection, LOCAL.tenant, state, measure)
    return time.perf_counter() - begun


async def _checks(chat: Engine, session: UUID, rounds: int) -> list[Figure]:
    """What it costs to check each body against its commitment."""

    async def timed(ask: Callable[[], Awaitable[object]], *, checking: bool) -> float:
        vars(session_messages)["is_sound"] = damage.is_sound if checking else _unchecked
        begun = time.perf_counter()
        await ask()
        seconds = time.perf_counter() - begun
        vars(session_messages)["is_sound"] = damage.is_sound
        return seconds

    asks = (
        ("window of 4,000 tokens", partial(chat.window, session, budget_tokens=WINDOW_TOKENS)),
        ("list of 100 messages", partial(chat.messages, session, limit=100)),
    )
    ways: list[Timed] = [partial(timed, ask, checking=checking) for _, ask in asks for checking in (True, False)]
    means = await in_turns(ways, rounds, 10, 4)
    return [
        Figure(f"{what}, as the public call", ratios(means[2 * number], means[2 * number + 1]), "of unchecked")
        for number, (what, _) in enumerate(asks)
    ]


def _unchecked(*_: object) -> bool:
    return True


# --- the newest -------------------------------------------------------------------------------------------------------


async def _newest(
    chat: Engine, session: UUID, raw: sqlite3.Connection, peer: Contestant | None, rounds: int
) -> list[Figure]:
    """The public call gives messages, the peer gives dictionaries; raw gives decoded JSON, without leaving the event
    loop.
    """

    async def ask() -> float:
        begun = time.perf_counter()
        page = await chat.messages(session, limit=NEWEST, descending=True)
        seconds = time.perf_counter() - begun
        assert len(page.items) == NEWEST
        return seconds

    async def read_raw() -> float:
        begun = time.perf_counter()
        rows = raw.execute(RAW_NEWEST, (str(session), NEWEST)).fetchall()
        found = [(role, json.loads(content)) for role, content in rows]
        seconds = time.perf_counter() - begun
        assert len(found) == NEWEST
        return seconds

    ways: list[Timed] = [ask, read_raw]
    if peer is not None:
        ways.append(partial(_ask_peer, peer, "newest 20", 0.005))
    asked, read, *of_peer = await in_turns(ways, rounds, 2, 20)
    return [
        Figure(f"newest {NEWEST} of {LOAD:,}, as the public call", ratios(asked, read), "of raw", at_most=5),
        Figure("    openai-agents", _beside(of_peer, read), "of raw"),
        Figure("    raw with json.loads", spread([1e6 * each for each in read]), "us"),
    ]


def _beside(of_peer: list[list[float]], read: list[float]) -> Spread | None:
    return ratios(of_peer[0], read) if of_peer else None


# --- loading ----------------------------------------------------------------------------------------------------------


async def _loads(
    chat: Engine,
    store: Store,
    session: UUID,
    raw: sqlite3.Connection,
    peer: Contestant | None,
    rounds: int,
) -> list[Figure]:
    """The public call gives messages, in pages; the store gives events; raw gives decoded JSON, all at once. Nobody
    pays for the garbage of the one before.
    """

    async def load() -> float:
        gc.collect()
        begun = time.perf_counter()
        after: int | str | None = 0
        while after is not None:
            after = (await chat.messages(session, after=after, limit=PAGE)).next
        return time.perf_counter() - begun

    async def read_events() -> float:
        gc.collect()
        begun = time.perf_counter()
        found = await store.read(
            partial(reads.session_events, tenant=LOCAL.tenant, session=session, after=1, limit=LOAD)
        )
        seconds = time.perf_counter() - begun
        assert len(found) == LOAD
        return seconds

    async def load_raw() -> float:
        gc.collect()
        begun = time.perf_counter()
        rows = raw.execute(RAW_OLDEST, (str(session), LOAD)).fetchall()
        found = [(role, json.loads(content)) for role, content in rows]
        seconds = time.perf_counter() - begun
        assert len(found) == LOAD
        return seconds

    async def load_state() -> float:
        gc.collect()
        begun = time.perf_counter()
        assert (await chat.session(session, version=FARTHEST)).version == FARTHEST
        return time.perf_counter() - begun

    ways: list[Timed] = [load, load_state, read_events, load_raw]
    if peer is not None:
        ways.append(partial(_ask_peer, peer, "all", 0))
    loaded, states, events, read, *of_peer = await in_turns(ways, rounds, 1, 1)
    return [
        Figure(f"loading {LOAD:,} messages, {PAGE:,} a page", ratios(loaded, read), "of raw", at_most=1.6),
        Figure("    openai-agents, all at once", _beside(of_peer, read), "of raw"),
        Figure("    the store's events alone", ratios(events, read), "of raw"),
        Figure(f"    the state at version {FARTHEST:,}", ratios(states, loaded), "of loading", at_most=3),
        Figure("    raw with json.loads", spread([1e3 * each for each in read]), "ms"),
    ]


# --- on disk ----------------------------------------------------------------------------------------------------------


async def _bytes(folder: Path) -> list[Figure]:
    """A database of 10,000 messages, appended one by one: every file of it, after closing has made the checkpoint."""
    texts = messages()
    async with engine.open(folder / "bytes.db") as chat:
        sessions = [(await chat.create_session(model="echo/echo")).id for _ in range(10)]

        async def converse(session: UUID) -> None:
            for text in islice(texts, LOAD // len(sessions)):
                await chat.append_message(session, text)

        await asyncio.gather(*map(converse, sessions))
    size = await asyncio.to_thread(_size, folder, "bytes.db*")
    return [Figure(f"on disk at {LOAD:,} messages, all included", spread([size / LOAD]), "bytes each", at_most=1000)]


def _size(folder: Path, files: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(files))
