"""Chat Completions through Manent: the first token of a conversation that a client sends whole, beside the same turn on
the native route; many streams at once; and short completions a second, beside the upstream asked directly.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from client import Answer, Connection, connect, post
from processes import Server, server, upstream
from report import Figure, percentile, ratios, spread
from streams import DELTAS, EVERY_MS, QUICK_ROUNDS, ROUNDS, STREAMS
from texts import answer, delta, messages
from turns import ask_all, completion, first_turns, gaps_ms, model, text_of, turn

MOST = 1.3
HISTORY = 20
MEASURED = 3
"""How many turns of a conversation are measured: their histories are of 20, 22 and 24 messages."""
CONVERSATIONS, QUICK_CONVERSATIONS = 40, 10
AT_ONCE = 16
COMPLETIONS, QUICK_COMPLETIONS = 1600, 320
SHORT = model(1, 0)


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with ExitStack() as running, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        port = running.enter_context(upstream())
        serving = running.enter_context(server(folder / "dropin.db", f"http://127.0.0.1:{port}/v1"))
        rounds = QUICK_ROUNDS if quick else ROUNDS
        figures = runner.run(_first_tokens(serving, QUICK_CONVERSATIONS if quick else CONVERSATIONS))
        figures += runner.run(_together(serving, port, rounds))
        figures += runner.run(_short(serving, port, QUICK_COMPLETIONS if quick else COMPLETIONS, rounds))
    return figures


# --- the first token --------------------------------------------------------------------------------------------------


async def _first_tokens(serving: Server, conversations: int) -> list[Figure]:
    """A conversation on each route, turn by turn and side by side, with the same words. The first warms up."""
    drop_in, native = await connect(serving.port), await connect(serving.port)
    texts = messages()
    drop_in_ms: list[float] = []
    native_ms: list[float] = []
    for number in range(conversations + 1):
        session = serving.create_session()
        said: list[dict[str, str]] = [{"role": "user", "content": f"conversation {number}"}]
        while len(said) <= HISTORY + 2 * MEASURED:
            asks = [
                (drop_in, _completion(serving.port, said), drop_in_ms),
                (native, turn(serving.port, session, SHORT, said[-1]["content"]), native_ms),
            ]
            for connection, request, found_ms in asks[:: -1 if number % 2 else 1]:
                first_ms = _first_ms(await connection.ask(request))
                if number and len(said) > HISTORY:
                    found_ms.append(first_ms)
            said.append({"role": "assistant", "content": answer(said[-1]["content"], 1)})
            said.append({"role": "user", "content": next(texts)})
    for connection in (drop_in, native):
        connection.close()
    return [
        Figure(f"first token after {HISTORY} messages", ratios(drop_in_ms, native_ms), "of native", at_most=MOST),
        Figure("    Chat Completions", spread(drop_in_ms), "ms"),
        Figure("    native", spread(native_ms), "ms"),
    ]


def _completion(port: int, said: Sequence[dict[str, str]]) -> bytes:
    return post(port, "/v1/chat/completions", {"model": f"openai/{SHORT}", "messages": said, "stream": True})


def _first_ms(read: Answer) -> float:
    first = next(event for event in read.events() if text_of(event))
    return (first.at_s - read.asked_s) * 1000


# --- a hundred at once ------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the rounds of concurrent streams gave, a value a round."""

    through_p99_ms: list[float] = field(default_factory=list)
    direct_p99_ms: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)


async def _together(serving: Server, port: int, rounds: int) -> list[Figure]:
    found = Found()
    name = model(DELTAS, EVERY_MS)
    await ask_all(serving.port, _asked(serving.port, model(2, EVERY_MS), "warm"))
    for number in range(rounds):
        plain = await ask_all(port, [completion(port, name, f"s{n}") for n in range(STREAMS)])
        answers = await ask_all(serving.port, _asked(serving.port, name, f"r{number}"))
        found.direct_p99_ms.append(percentile(gaps_ms(plain), 0.99))
        found.through_p99_ms.append(percentile(gaps_ms(answers), 0.99))
        found.wrong.append(sum(_wrong(serving, read, f"r{number}.{n}") for n, read in enumerate(answers)))
    added = [through - plain for through, plain in zip(found.through_p99_ms, found.direct_p99_ms, strict=True)]
    at_once = f"{STREAMS} streams, {DELTAS} x {EVERY_MS} ms"
    return [
        Figure(f"{at_once}: deltas lost or out of order", spread(found.wrong), "", at_most=0),
        Figure("    gap added at p99", spread(added), "ms", at_most=40),
        Figure("    gap at p99 directly", spread(found.direct_p99_ms), "ms"),
    ]


def _asked(port: int, name: str, round_tag: str) -> list[bytes]:
    return [completion(port, f"openai/{name}", f"{round_tag}.{number}") for number in range(STREAMS)]


def _wrong(serving: Server, read: Answer, tag: str) -> int:
    """How many pieces of a stream are not what and where they must be, on the wire and on record."""
    events = read.events()
    texts = [text for event in events if (text := text_of(event))]
    sent = [delta(tag, number) for number in range(DELTAS)]
    found = abs(len(texts) - DELTAS) + sum(text != piece for text, piece in zip(texts, sent, strict=False))
    recorded = "".join(block["text"] for block in _recorded(serving, read)["content"])
    return found + (events[-1].data != b"[DONE]") + (recorded != answer(tag, DELTAS))


def _recorded(serving: Server, read: Answer) -> Any:
    """The message that is on record of an answer, which names its turn."""
    head = b"".join(piece for _, piece in read.pieces).partition(b"\r\n\r\n")[0].decode()
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:])
    connection = http.client.HTTPConnection("127.0.0.1", serving.port)
    connection.request("GET", f"/api/turns/{headers['x-manent-turn']}")
    found = msgspec.json.decode(connection.getresponse().read())
    connection.close()
    return found["message"]


# --- short completions ------------------------------------------------------------------------------------------------


async def _short(serving: Server, port: int, count: int, rounds: int) -> list[Figure]:
    """As many a second as ``AT_ONCE`` clients get that ask again and again; each begins a conversation."""
    through, native, direct = [], [], []
    for number in range(rounds + 1):  # the first warms up
        tags = [f"short {number}.{each}" for each in range(count)]
        plain = await _per_s(port, [completion(port, SHORT, tag) for tag in tags])
        ours = await _per_s(serving.port, [completion(serving.port, f"openai/{SHORT}", tag) for tag in tags])
        turns = await _per_s(serving.port, first_turns(serving, count, SHORT))
        if number:
            direct.append(plain)
            through.append(ours)
            native.append(turns)
    return [
        Figure(f"short completions, {AT_ONCE} at once", spread(through), "/s"),
        Figure("    native, in sessions that were made before", spread(native), "/s"),
        Figure("    directly", spread(direct), "/s"),
    ]


async def _per_s(port: int, requests: Sequence[bytes]) -> float:
    connections = [await connect(port) for _ in range(AT_ONCE)]
    begun = time.perf_counter()
    await asyncio.gather(*(_ask_each(each, requests[number::AT_ONCE]) for number, each in enumerate(connections)))
    seconds = time.perf_counter() - begun
    for connection in connections:
        connection.close()
    return len(requests) / seconds


async def _ask_each(connection: Connection, requests: Sequence[bytes]) -> None:
    for request in requests:
        await connection.ask(request)
