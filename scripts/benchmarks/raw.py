"""The yardstick of appends: the standard library's sqlite3, WAL and ``synchronous=FULL``, one table with an index, each
row committed by itself. As a plain loop, and as what people do in a server: tasks that share the connection under a
lock and insert in a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from contest import answer_questions, append_together
from texts import messages

INSERT = "INSERT INTO messages (session, role, content) VALUES (?, ?, ?)"


def open_raw(path: Path) -> sqlite3.Connection:
    """A database with a table of messages."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = full")
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, session TEXT, role TEXT, content TEXT)")
    connection.execute("CREATE INDEX messages_by_session ON messages (session, id)")
    return connection


async def main(folder: Path) -> None:
    connection = open_raw(folder / "raw.db")
    lock = asyncio.Lock()
    texts = messages()

    async def append(caller: int, text: str) -> None:
        async with lock:
            await asyncio.to_thread(connection.execute, INSERT, (f"session {caller}", "user", text))

    async def measure(kind: str, callers: int, seconds: float) -> int:
        if kind == "loop":
            return _append_in_a_loop(connection, texts, callers, seconds)
        return await append_together(append, texts, callers, seconds)

    await answer_questions(measure)
    connection.close()


def _append_in_a_loop(connection: sqlite3.Connection, texts: Iterator[str], sessions: int, seconds: float) -> int:
    """Without tasks or threads: nothing but the database."""
    end = time.perf_counter() + seconds
    made = 0
    while time.perf_counter() < end:
        connection.execute(INSERT, (f"session {made % sessions}", "user", next(texts)))
        made += 1
    return made


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
