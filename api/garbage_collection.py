"""When the interpreter looks through all objects for garbage that refers to itself.

Everything stands still meanwhile: with 500 open streams for 130 ms, which the readers of all of them see, and by itself
the interpreter does it about once in 6 seconds. Here it waits until no turn runs, or until there may be a good deal of
garbage. Young objects, which nearly all of it is, are looked through as often as ever.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..engine import Engine

LOOK_S = 1.0
MOST_DUE = 64
"""So many times as many collections of the young as usual may go by. By then no more than half a million objects have
come to stay."""


@asynccontextmanager
async def collecting_in_quiet(chat: Engine) -> AsyncIterator[None]:
    """While this is open, full collections wait for quiet. What is there already stays, and is not looked at again."""
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(usual[0], usual[1], MOST_DUE)
    collecting = asyncio.create_task(_collect(chat, usual[2]))
    try:
        yield
    finally:
        collecting.cancel()
        gc.set_threshold(*usual)
        gc.unfreeze()


async def _collect(chat: Engine, due: int) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        if gc.get_count()[2] >= due and not chat.serving.busy:
            gc.collect()
