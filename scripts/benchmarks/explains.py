"""What it costs to explain what a model was sent, beside choosing such a window: both as the public call.

Explaining reads and checks the same messages, renders the request again and hashes it, and looks at a hundred messages
beyond the window. How many were left out in all is counted from the nearer end of the session: so an attempt in its
middle costs more.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

import uvloop

from manent import engine
from manent.engine import Engine, MessageIn
from report import Figure, ratios, spread
from sessions import BATCH, LOAD, QUICK_ROUNDS, ROUNDS, WINDOW_TOKENS, Timed, in_turns
from texts import messages

MOST = 3


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(folder, QUICK_ROUNDS if quick else ROUNDS))


async def _measure(folder: Path, rounds: int) -> list[Figure]:
    async with engine.open(folder / "manent.db") as chat:
        session = (await chat.create_session(model="echo/echo", system="You are brief.")).id
        half, whole = [await _converse(chat, session) for _ in range(2)]
        ways: list[Timed] = [
            partial(_choose, chat, session),
            partial(_explain, chat, whole),
            partial(_explain, chat, half),
        ]
        chosen, last, middle = await in_turns(ways, rounds, 2, 20)
        sent = len((await chat.explain(whole)).window.included)
    return [
        Figure(
            f"explaining the last of {LOAD:,}", ratios(last, chosen), f"of its window, {sent} messages", at_most=MOST
        ),
        Figure("    one in the middle", ratios(middle, chosen), "of such a window"),
        Figure("    choosing the window", spread([1e6 * each for each in chosen]), "us"),
    ]


async def _converse(chat: Engine, session: UUID) -> UUID:
    """Half of the messages, and a turn; its id."""
    texts = messages()
    for _ in range(0, LOAD // 2, BATCH):
        await chat.append_messages(session, [MessageIn(text) for text in islice(texts, BATCH)])
    turn = await chat.say(session, "And now?", budget_tokens=WINDOW_TOKENS)
    return turn.id


async def _choose(chat: Engine, session: UUID) -> float:
    begun = time.perf_counter()
    await chat.window(session, budget_tokens=WINDOW_TOKENS)
    return time.perf_counter() - begun


async def _explain(chat: Engine, turn: UUID) -> float:
    begun = time.perf_counter()
    prompt = await chat.explain(turn)
    seconds = time.perf_counter() - begun
    assert prompt.matches
    return seconds
