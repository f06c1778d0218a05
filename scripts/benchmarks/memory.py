"""Whether a server's memory stays flat over thousands of turns: a fresh server, a few callers who chat with the echo
model, twenty turns a session, and its resident memory on the way.

A database's page caches (bounded) fill during the first turns, so the second half is held against the first.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from client import Connection, connect, post
from processes import Server, server
from report import Figure, spread
from texts import messages

CALLERS = 8
TURNS_A_SESSION = 20
TURNS, QUICK_TURNS = 10_000, 600
FLAT = 1.1
NO_UPSTREAM = "http://127.0.0.1:9/v1"


async def measure(folder: Path, *, quick: bool) -> list[Figure]:
    turns = QUICK_TURNS if quick else TURNS
    marks = [turns // 10, turns // 2, turns]
    resident_mb = []
    with server(folder / "memory.db", NO_UPSTREAM) as serving:
        connections = [await connect(serving.port) for _ in range(CALLERS)]
        begun = time.perf_counter()
        done = 0
        for mark in marks:
            await asyncio.gather(*(_chat(serving, each, (mark - done) // CALLERS) for each in connections))
            done = mark
            resident_mb.append(serving.resident_mb())
        seconds = time.perf_counter() - begun
        for connection in connections:
            connection.close()
    first, middle, last = resident_mb
    return [
        Figure(f"resident after {turns:,} turns", spread([last / first]), f"of after {marks[0]:,}", at_most=FLAT),
        *(Figure(f"    after {at:,}", spread([mb]), "MB") for at, mb in zip(marks, (first, middle, last), strict=True)),
        Figure(f"    echo turns, {CALLERS} callers", spread([turns / seconds]), "/s"),
    ]


async def _chat(serving: Server, connection: Connection, turns: int) -> None:
    texts = messages()
    session = ""
    for number in range(turns):
        if number % TURNS_A_SESSION == 0:
            session = await asyncio.to_thread(serving.create_session)
        body = {"content": next(texts), "stream": True}
        read = await connection.ask(post(serving.port, f"/api/sessions/{session}/turns", body))
        last = read.events()[-1]
        if last.type != "turn.completed":
            raise RuntimeError(f"an echo turn ended with {last.data!r}")
