"""The load whose write-ahead log is cut: nothing is ever moved out of that log, and each commit says where it ends.

``python committed.py FILE SEED``: ``BYTES EVENTS`` on standard output for each commit, the size of that log and how
many events there are with it.
"""

import asyncio
import os
import sys
from pathlib import Path

from manent.engine.log.writer import Writer
from tests.crash.traced import provider, talk
from tests.support import chatting

SESSIONS = 4


def saying_where(transact, wal):
    def and_say(writer, batch):
        changed = transact(writer, batch)
        head = writer._heads.logs.get("default")
        os.write(1, f"{wal.stat().st_size} {head.size if head else 0}\n".encode())
        return changed

    return and_say


async def main(path, seed):
    async with chatting(path, providers=(provider(),), checkpoint_pages=1 << 30, drain_s=0, unwitnessed=True) as chat:
        await asyncio.gather(*(talk(chat, f"{seed}/{each}", told=lambda _: None) for each in range(SESSIONS)))
        os._exit(0)


if __name__ == "__main__":
    Writer._transact = saying_where(Writer._transact, Path(f"{sys.argv[1]}-wal"))
    asyncio.run(main(sys.argv[1], sys.argv[2]))
