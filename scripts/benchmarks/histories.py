"""What it costs to recognise a history that a client sends again, beside reading the same messages: both from the
public call to the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from manent import engine
from manent.engine import Caller, ClientRequest, Engine, MessageIn
from manent.engine.service.drop_in import DropIn
from report import Figure, ratios, spread
from sessions import QUICK_ROUNDS, ROUNDS, in_turns
from texts import messages

HISTORY = 1000
MOST = 3
ROLES = ("user", "assistant")


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    async with engine.open(folder / "manent.db") as chat:
        texts = messages()
        said = [MessageIn(next(texts), ROLES[number % 2]) for number in range(HISTORY)]
        first = ClientRequest((*said, MessageIn("And now?")), {"model": "echo/echo"})
        started = await chat.answer_client(first)
        await chat.ended(started.turn)
        ways = [partial(_recognise, chat, first), partial(_read, chat, started.session)]
        recognised, read = await in_turns(ways, rounds, 2, 5)
    return [
        Figure(f"recognising {HISTORY:,} messages", ratios(recognised, read), "of reading them", at_most=MOST),
        Figure("    reading them", spread([1e3 * each for each in read]), "ms"),
    ]


async def _recognise(chat: Engine, request: ClientRequest) -> float:
    """Without the turn: what is recognised of a history whose last message is not on record."""
    asked: Sequence[MessageIn] = (*request.messages[:-1], MessageIn("And what else?"))
    begun = time.perf_counter()
    place = await _drop_in(chat).place_of(Caller(), ClientRequest(tuple(asked), request.options))
    seconds = time.perf_counter() - begun
    assert place is not None
    assert place.count == HISTORY
    return seconds


def _drop_in(chat: Engine) -> DropIn:
    return chat._parts.drop_in  # noqa: SLF001 - a turn would be recorded else


async def _read(chat: Engine, session: engine.Id) -> float:
    begun = time.perf_counter()
    page = await chat.messages(session, limit=HISTORY)
    seconds = time.perf_counter() - begun
    assert len(page.items) == HISTORY
    return seconds
