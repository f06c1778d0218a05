"""The load that is recorded by strace: appends and turns on one file, and what it was told of them.

``python traced.py FILE SYNCHRONOUS ROUNDS SEED``. Everything that a caller has been answered, and each frame that a
reader has been shown, is written to standard output at once, in one system call, so that a record of the system calls
has it in its place: ``event POSITION`` and ``frame TURN NUMBER``.
"""

import asyncio
import os
import random
import sys

from manent.engine.log.sqlite import connection
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.support import Dictated, begin, chatting

SESSIONS = 5
STEPS = 8


def tell(line):
    os.write(1, f"{line}\n".encode())


def provider(every_s=0.002):
    async def pause():
        await asyncio.sleep(every_s)

    deltas = [step for number in range(12) for step in (Delta(0, f"{number} " * 20), pause)]
    return Dictated(BlockStarted(0, "text"), *deltas, BlockStopped(0), Ended("end_turn"))


async def talk(chat, seed, told=tell):
    """One session's life: messages of any size, and turns that are read along."""
    chance = random.Random(seed)
    session = await chat.create_session(model="dictated/model")
    for _ in range(STEPS):
        if chance.random() < 0.7:
            message = await chat.append_message(session.id, "x" * round(10 ** chance.uniform(0, 4.2)))
            told(f"event {message.position}")
        else:
            turn = await begin(chat, session.id, "Go.")
            async for batch in chat.frames(turn):
                told(f"frame {turn.hex} {batch[-1].number}")


async def main(path, rounds, seed):
    for number in range(rounds):
        async with chatting(path, providers=(provider(),), checkpoint_pages=45, drain_s=0) as chat:
            await asyncio.gather(*(talk(chat, f"{seed}/{number}/{each}") for each in range(SESSIONS)))
            if number == rounds - 1:
                os._exit(0)  # the power goes here; before, the file was closed as it should be


if __name__ == "__main__":
    connection.WRITER_PRAGMAS["synchronous"] = sys.argv[2]
    asyncio.run(main(sys.argv[1], int(sys.argv[3]), sys.argv[4]))
