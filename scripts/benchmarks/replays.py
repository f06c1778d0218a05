"""How fast recorded turns are done again, with the log as the model and the tools: requests and frames compared.

The engine is closed then: the record is opened for reading only, as it is on a read-only medium. A late turn that is
asked for alone lays out its own history; what that costs must not hang on how long the session is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from uuid import UUID

import uvloop

from manent import engine
from manent.engine import Engine, MessageIn
from manent.engine.clock import SystemClock
from manent.engine.events.upcasts import meaning_of
from manent.engine.log.store import Store, open_reading
from manent.engine.providers.registry import Providers
from manent.engine.service.replay.recorded import recorded_results
from report import Figure, spread
from sessions import BATCH, LOAD, QUICK_ROUNDS, ROUNDS, WINDOW_TOKENS
from texts import messages

TURNS, QUICK_TURNS = 300, 150
DELTAS = 20
LEAST = 300
TOOL = {"tool": {"id": "call", "name": "timestamp", "input": {}}}
WORDS = {"text": "word " * DELTAS, "chunk_chars": 5}
CALLS = [{"match": "Go", "steps": [TOOL]}, {"match": "Go", "steps": [WORDS]}]
SCRIPT = {"models": {"talks": [{"steps": [WORDS]}], "calls": CALLS}}


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS, QUICK_TURNS if quick else TURNS))


async def _measure(folder: Path, rounds: int, count: int) -> list[Figure]:
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT), encoding="utf-8")
    settings = engine.Settings(database=str(folder / "manent.db"), script=str(script))
    async with engine.open(settings) as chat:
        talks = await _session(chat, "scripted/talks", count)
        calls = await _session(chat, "scripted/calls", count, tools=["timestamp"])
        late = await _late(chat)
    async with open_reading(folder / "manent.db", settings, meaning_of) as store:
        seconds = [await _all(store, talks, calls, late) for _ in range(rounds)]
    plain, with_tools, alone = zip(*seconds, strict=True)
    return [
        Figure(
            "recorded replay",
            spread([count / each for each in plain]),
            "turns/s",
            at_least=LEAST,
            note=f"{DELTAS} deltas, windows of 1,000 tokens",
        ),
        Figure("    with a tool, two rounds", spread([count / each for each in with_tools]), "turns/s"),
        Figure(f"    one turn behind {LOAD:,} messages", spread([1e3 * each for each in alone]), "ms"),
    ]


async def _session(chat: Engine, model: str, count: int, tools: Sequence[str] = ()) -> UUID:
    session = (await chat.create_session(model=model, system="You are brief.", budget_tokens=1000)).id
    for number in range(count):
        await chat.say(session, f"Go on with number {number}.", tools=tools, max_output_tokens=50)
    return session


async def _late(chat: Engine) -> UUID:
    """A turn that has many messages before it; its id."""
    session = (await chat.create_session(model="echo/echo", system="You are brief.")).id
    texts = messages()
    for _ in range(0, LOAD, BATCH):
        await chat.append_messages(session, [MessageIn(text) for text in islice(texts, BATCH)])
    return (await chat.say(session, "And now?", budget_tokens=WINDOW_TOKENS)).id


async def _all(store: Store, talks: UUID, calls: UUID, late: UUID) -> tuple[float, float, float]:
    return (
        await _replay(store, sessions=[talks]),
        await _replay(store, sessions=[calls]),
        await _replay(store, turns=[late]),
    )


async def _replay(store: Store, *, sessions: Sequence[UUID] = (), turns: Sequence[UUID] = ()) -> float:
    begun = time.perf_counter()
    results = recorded_results(store, Providers(), SystemClock(), tenant="default", sessions=sessions, turns=turns)
    async for result in results:
        assert result.same, result
    return time.perf_counter() - begun
