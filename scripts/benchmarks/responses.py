"""OpenAI's Responses through Manent: the first token of an answer that goes on from another, beside a native turn in a
session as long; the last answer of a long chain beside its first; and a stored answer read again as a stream, beside
the native stream of the same turn.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop

from client import Answer, Connection, connect, get, post
from processes import Server, server, upstream
from report import Figure, ratios, spread
from streams import QUICK_ROUNDS, ROUNDS
from texts import messages
from turns import model, turn

MOST, MOST_READING = 1.2, 1.5
HISTORY = 20
"""Messages on record when an answer is measured that goes on."""
MEASURED = 3
CHAINS, QUICK_CHAINS = 40, 10
LONG, QUICK_LONG = 1000, 200
"""Answers of a long chain of which all is sent."""
LONGER = 10
"""So many times as many are given with a window."""
ENDS = 20
"""Answers at its beginning and at its end that are compared."""
WINDOW = 400
"""The budget of a chain of which older messages are left out."""
FULL = 100
"""Answers after which such a chain's window is full."""
TRIMS = {"truncation": "auto"}
EVENTS = 2000
SHORT = model(1, 0)
ALL = 2_000_000
"""A budget under which a native turn sends all messages, as a drop-in route does."""


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with ExitStack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        port = running.enter_context(upstream())
        serving = running.enter_context(server(folder / "responses.db", f"http://127.0.0.1:{port}/v1"))
        figures = runner.run(_going_on(serving, QUICK_CHAINS if quick else CHAINS))
        figures += runner.run(_long_chain(serving, QUICK_LONG if quick else LONG))
        figures += runner.run(_reading(serving, QUICK_ROUNDS if quick else ROUNDS))
    return figures


# --- going on ---------------------------------------------------------------------------------------------------------


async def _going_on(serving: Server, chains: int) -> list[Figure]:
    """A chain of answers and the turns of a session, one by one and side by side. The first warms up."""
    ours, native = await connect(serving.port), await connect(serving.port)
    texts = messages()
    ours_ms: list[float] = []
    native_ms: list[float] = []
    for number in range(chains + 1):
        session, previous = serving.create_session(budget_tokens=ALL), None
        for link in range(HISTORY // 2 + MEASURED):
            said = next(texts)
            measured = bool(number) and link >= HISTORY // 2
            asked = turn(serving.port, session, SHORT, said)
            before_ms = _first_ms(await native.ask(asked)) if link % 2 else None
            previous, first_ms = await _answer(ours, serving.port, said, previous)
            native_first_ms = _first_ms(await native.ask(asked)) if before_ms is None else before_ms
            if measured:
                ours_ms.append(first_ms)
                native_ms.append(native_first_ms)
    for connection in (ours, native):
        connection.close()
    return [
        Figure(f"first token after {HISTORY} messages", ratios(ours_ms, native_ms), "of native", at_most=MOST),
        Figure("    going on from an answer", spread(ours_ms), "ms"),
        Figure("    native", spread(native_ms), "ms"),
    ]


async def _answer(connection: Connection, port: int, said: str, previous: str | None) -> tuple[str, float]:
    """The id of a streamed answer, and the time to its first token."""
    return await _read(connection, _request(port, SHORT, said, previous))


async def _read(connection: Connection, request: bytes) -> tuple[str, float]:
    read = await connection.ask(request)
    first = read.events()[0]
    return str(msgspec.json.decode(first.data)["response"]["id"]), _first_ms(read)


def _request(port: int, name: str, said: str, previous: str | None, **more: str) -> bytes:
    body = {"model": f"openai/{name}", "input": said, "stream": True} | more
    if previous is not None:
        body["previous_response_id"] = previous
    return post(port, "/v1/responses", body)


def _first_ms(read: Answer) -> float:
    first = next(event for event in read.events() if event.type in {"delta", "response.output_text.delta"})
    return (first.at_s - read.asked_s) * 1000


# --- a long chain -----------------------------------------------------------------------------------------------------


async def _long_chain(serving: Server, length: int) -> list[Figure]:
    """Each answer goes on from the one before; what is compared is the time to the first token. A chain that leaves out
    what is older than its session's budget stays as it was at first; one of which all is sent cannot.
    """
    connection = await connect(serving.port)
    whole = await _grown(connection, serving.port, length, {})
    window = await _with_window(connection, serving, length * LONGER)
    connection.close()
    name = f"answers {length - ENDS:,} to {length:,} of a chain of which all is sent"
    return [
        Figure(name, ratios(whole.first_ms[-ENDS:], whole.first_ms[ENDS : 2 * ENDS]), f"of {ENDS} to {2 * ENDS}"),
        Figure("    the last of them", spread(whole.first_ms[-ENDS:]), "ms"),
        *window,
    ]


async def _with_window(connection: Connection, serving: Server, length: int) -> list[Figure]:
    """The last answers of a long chain and those of one whose window is just full, one by one and side by side."""
    chains = []
    for links in (length - ENDS, FULL):
        session = UUID(serving.create_session(budget_tokens=WINDOW))
        chains.append(await _grown(connection, serving.port, links, {"conversation": f"conv_{session.hex}"} | TRIMS))
    for number in range(ENDS):
        for chain in chains if number % 2 else reversed(chains):
            await chain.go_on(connection, serving.port, TRIMS)
    late, begun = (chain.first_ms[-ENDS:] for chain in chains)
    name = f"answers {length - ENDS:,} to {length:,} of a chain with a window"
    return [
        Figure(name, ratios(late, begun), f"of {FULL} to {FULL + ENDS} of another", at_most=MOST),
        Figure("    the last of them", spread(late), "ms"),
    ]


class _Chain:
    """Answers that go on from one another: the last, and the times to their first tokens."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.first_ms: list[float] = []

    async def go_on(self, connection: Connection, port: int, more: dict[str, str]) -> None:
        request = _request(port, SHORT, f"link {len(self.first_ms):05}", self.last, **more)
        self.last, first_ms = await _read(connection, request)
        self.first_ms.append(first_ms)


async def _grown(connection: Connection, port: int, length: int, first: dict[str, str]) -> _Chain:
    """A chain of so many answers; ``first``: more fields of its first request."""
    chain, later = _Chain(), {name: value for name, value in first.items() if name != "conversation"}
    for number in range(length):
        await chain.go_on(connection, port, later if number else first)
    return chain


# --- reading again ----------------------------------------------------------------------------------------------------


async def _reading(serving: Server, rounds: int) -> list[Figure]:
    """A stored answer of many events, from the first on."""
    connection = await connect(serving.port)
    read = await connection.ask(_request(serving.port, model(EVENTS, 0), "long", None))
    events = read.events()
    name = str(msgspec.json.decode(events[0].data)["response"]["id"])
    native = f"/api/turns/{UUID(name.removeprefix('resp_'))}/stream"
    ours_ms: list[float] = []
    native_ms: list[float] = []
    for number in range(rounds + 1):
        ours = await _whole_ms(connection, get(serving.port, f"/v1/responses/{name}?stream=true"), events[-1].data)
        theirs = await _whole_ms(connection, get(serving.port, native), None)
        if number:
            ours_ms.append(ours)
            native_ms.append(theirs)
    connection.close()
    return [
        Figure(
            f"reading {EVENTS:,} events again", ratios(ours_ms, native_ms), "of the native stream", at_most=MOST_READING
        ),
        Figure("    as events of a response", spread(ours_ms), "ms"),
        Figure("    natively", spread(native_ms), "ms"),
    ]


async def _whole_ms(connection: Connection, request: bytes, last: bytes | None) -> float:
    begun = time.perf_counter()
    read = await connection.ask(request)
    found_ms = (time.perf_counter() - begun) * 1000
    events = read.events()
    if last is not None and events[-1].data != last:
        raise RuntimeError(f"the answer ended with {events[-1].data!r}")
    return found_ms
