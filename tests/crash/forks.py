"""Starts the server again and again without importing it again: each ``start`` on standard input forks one.

``python forks.py ARGUMENTS``: those of ``manent serve``, and after ``start`` may come more. Says ``pid N`` for each
server, and ``dead`` when it is.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from manent.api.cli.main import main
from manent.api.server import running
from manent.engine import Settings
from manent.engine.providers import tokens


async def warm_up():
    """One start that is none of those: what it imports and compiles, the others have."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(Settings(database=str(Path(folder) / "chat.db"), port=0), str):
            pass


tokens.load()
asyncio.run(warm_up())
print("ready", flush=True)  # noqa: T201 - its output is what it is for
for line in sys.stdin:
    command, *more = line.split()
    if command != "start":
        break
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        sys.argv = ["manent", "serve", *sys.argv[1:], *more]
        print(f"pid {os.getpid()}", flush=True)  # noqa: T201
        main()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    print("dead", flush=True)  # noqa: T201
