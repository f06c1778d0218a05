"""Turns streamed through a real ``manent serve`` from a loopback upstream, beside the same streams read from the
upstream directly by the same client.

Server, upstream and client are three processes. The client notes bytes and times and looks at them afterwards; the
upstream keeps to the clock whatever its readers do. What is compared takes turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import bench_memory
import msgspec
import uvloop
from bench_client import Answer, Event, connect, post
from bench_processes import Server, Variant, server, upstream, variant
from bench_raw import INSERT, open_raw
from bench_report import Figure, Spread, percentile, spread
from bench_texts import answer, delta, messages

STREAMS = 100
EVERY_MS = 20
DELTAS = 64
MORE_DELTAS, QUICK_MORE_DELTAS = 192, 128
ROUNDS, QUICK_ROUNDS = 5, 1
FIRST_TOKENS, QUICK_FIRST_TOKENS = 300, 40
TURNS_A_SESSION = 20
SAMPLE_S = 0.1
CPU_TARGET_US = 150


def measure(folder: Path, *, quick: bool) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with ExitStack() as running:
            port = running.enter_context(upstream())
            url = f"http://127.0.0.1:{port}/v1"
            serving = running.enter_context(server(folder / "streams.db", url))
            figures = runner.run(_first_tokens(folder, serving, port, QUICK_FIRST_TOKENS if quick else FIRST_TOKENS))
            (folder / "parts").mkdir()
            parts = {
                name: running.enter_context(variant(name, url, STREAMS, folder / "parts"))
                for name in ("decode", "record")
            }
            rounds, more = (QUICK_ROUNDS, QUICK_MORE_DELTAS) if quick else (ROUNDS, MORE_DELTAS)
            found = runner.run(_together(serving, port, parts, rounds, more))
        return figures + _figures(found) + runner.run(bench_memory.measure(folder, quick=quick))


# --- the first token --------------------------------------------------------------------------------------------------


async def _first_tokens(folder: Path, serving: Server, port: int, times: int) -> list[Figure]:
    """One stream at a time, through Manent and directly by turns. A turn needs two commits before its first token: its
    start, and the journal's first row. What they must cost at the least is what raw sqlite3 takes on the same disk for
    two rows of its own, measured in between.
    """
    through, direct, raw = await connect(serving.port), await connect(port), open_raw(folder / "commits.db")
    texts = messages()
    manent_ms, direct_ms, commits_ms, added_ms = [], [], [], []
    session = ""
    for number in range(times + TURNS_A_SESSION):
        if number % TURNS_A_SESSION == 0:
            session = serving.create_session()
        turn = post(
            serving.port,
            f"/api/sessions/{session}/turns",
            {"content": f"s{number}", "model": "openai/1x0", "stream": True},
        )
        manent = _first_ms(await through.ask(turn))
        plain = _first_ms(await direct.ask(_completion(port, "1x0", f"s{number}")))
        begun = time.perf_counter()
        for _ in range(2):
            raw.execute(INSERT, (session, "user", next(texts)))
        commits = (time.perf_counter() - begun) * 1000
        if number >= TURNS_A_SESSION:  # the first session warms up
            manent_ms.append(manent)
            direct_ms.append(plain)
            commits_ms.append(commits)
            added_ms.append(manent - plain - commits)
    for connection in (through, direct, raw):
        connection.close()
    return [
        Figure("first token, beyond the direct one and two commits", spread(added_ms), "ms", at_most=4),
        Figure("    through Manent", spread(manent_ms), "ms"),
        Figure("    directly", spread(direct_ms), "ms"),
        Figure("    two raw commits", spread(commits_ms), "ms"),
    ]


def _first_ms(read: Answer) -> float:
    first = next(event for event in read.events() if _text_of(event))
    return (first.at_s - read.asked_s) * 1000


def _completion(port: int, model: str, tag: str) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": tag}], "stream": True}
    return post(port, "/v1/chat/completions", body)


# --- a hundred at once ------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What the rounds of concurrent streams gave, a value a round."""

    through_p99_ms: list[float] = field(default_factory=list)
    direct_p99_ms: list[float] = field(default_factory=list)
    through_p50_ms: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    decode_us: list[float] = field(default_factory=list)
    record_us: list[float] = field(default_factory=list)
    all_us: list[float] = field(default_factory=list)


async def _together(serving: Server, port: int, parts: dict[str, Variant], rounds: int, more: int) -> Found:
    """All streams are asked for in the same moment: their beginnings are part of what the gaps show."""
    found = Found()
    await _ask_all(serving.port, _turns(serving, "2x0"))
    for _ in range(rounds):
        plain = await _ask_all(port, [_completion(port, _model(DELTAS), f"s{n}") for n in range(STREAMS)])
        found.direct_p99_ms.append(percentile(_gaps_ms(plain), 0.99))
        short_s = await _through(serving, DELTAS, found)
        long_s = await _through(serving, more, found)
        found.all_us.append(_per_delta_us(short_s, long_s, more))
        for name, costs_us in (("decode", found.decode_us), ("record", found.record_us)):
            short_s, long_s = [await asyncio.to_thread(parts[name].cpu_s, _model(count)) for count in (DELTAS, more)]
            costs_us.append(_per_delta_us(short_s, long_s, more))
    return found


async def _through(serving: Server, count: int, found: Found) -> float:
    """Stream through Manent, note what came, and return the server's CPU seconds."""
    turns = _turns(serving, _model(count))
    sampling = asyncio.create_task(_sample(serving, found.resident_mb))
    before_s = serving.cpu_s()
    answers = await _ask_all(serving.port, turns)
    used_s = serving.cpu_s() - before_s
    sampling.cancel()
    found.wrong.append(sum(_wrong(read.events(), f"s{number}", count) for number, read in enumerate(answers)))
    if count == DELTAS:
        gaps_ms = _gaps_ms(answers)
        found.through_p99_ms.append(percentile(gaps_ms, 0.99))
        found.through_p50_ms.append(percentile(gaps_ms, 0.5))
    return used_s


async def _ask_all(port: int, requests: Sequence[bytes]) -> list[Answer]:
    """All at once, each on a connection that is open already."""
    connections = [await connect(port) for _ in requests]
    pairs = zip(connections, requests, strict=True)
    answers = await asyncio.gather(*(connection.ask(request) for connection, request in pairs))
    for connection in connections:
        connection.close()
    return answers


async def _sample(serving: Server, resident_mb: list[float]) -> None:
    """Until cancelled, while the streams are open."""
    while True:
        await asyncio.sleep(SAMPLE_S)
        resident_mb.append(serving.resident_mb())


def _turns(serving: Server, model: str) -> list[bytes]:
    """Requests for the first turns of new sessions: a history would make each round dearer than the last."""
    sessions = [serving.create_session() for _ in range(STREAMS)]
    return [
        post(
            serving.port,
            f"/api/sessions/{session}/turns",
            {"content": f"s{number}", "model": f"openai/{model}", "stream": True},
        )
        for number, session in enumerate(sessions)
    ]


def _model(count: int) -> str:
    return f"{count}x{EVERY_MS}"


def _wrong(events: Sequence[Event], tag: str, count: int) -> int:
    """How many of a turn's frames are not what and where they must be: ids dense from 1, deltas those that were sent
    and in their order, the recorded message their join, and the end the turn's.
    """
    wrong = sum(event.id != place for place, event in enumerate(events, 1))
    texts = [_text_of(event) for event in events if event.type == "delta"]
    sent = [delta(tag, number) for number in range(count)]
    wrong += abs(len(texts) - count) + sum(text != piece for text, piece in zip(texts, sent, strict=False))
    last: dict[str, Any] = msgspec.json.decode(events[-1].data)
    recorded = "".join(block["text"] for block in (last.get("message") or {}).get("content", ()))
    return wrong + (events[-1].type != "turn.completed") + (recorded != answer(tag, count))


def _gaps_ms(answers: Sequence[Answer]) -> list[float]:
    """Between one delta and the next, of all streams."""
    gaps: list[float] = []
    for read in answers:
        times = [event.at_s for event in read.events() if _text_of(event)]
        gaps += [(after - before) * 1000 for before, after in pairwise(times)]
    return gaps


def _text_of(event: Event) -> str:
    """What an event adds to the answer: a delta of ours, or a vendor's chunk."""
    if event.type == "delta":
        return str(msgspec.json.decode(event.data)["text"])
    if event.type != "message" or event.data == b"[DONE]":
        return ""
    choices = msgspec.json.decode(event.data)["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


def _per_delta_us(short_s: float, long_s: float, more: int) -> float:
    """CPU of the deltas that the longer streams have more, so that beginnings and ends do not count."""
    return (long_s - short_s) * 1e6 / (STREAMS * (more - DELTAS))


def _figures(found: Found) -> list[Figure]:
    pairs = zip(found.through_p99_ms, found.direct_p99_ms, strict=True)
    parts = zip(found.decode_us, found.record_us, found.all_us, strict=True)
    decode, record, write = zip(*((d, r - d, a - r) for d, r, a in parts), strict=True)
    at_once = f"{STREAMS} streams, {DELTAS} x {EVERY_MS} ms"
    return [
        Figure(f"{at_once}: deltas lost or out of order", spread(found.wrong), "", at_most=0),
        Figure("    gap added at p99", spread([through - plain for through, plain in pairs]), "ms", at_most=40),
        Figure("    gap at p99 through Manent", spread(found.through_p99_ms), "ms"),
        Figure("    gap at p99 directly", spread(found.direct_p99_ms), "ms"),
        Figure("    gap at p50 through Manent", spread(found.through_p50_ms), "ms"),
        Figure("CPU per delta, server process", spread(found.all_us), "us", at_most=CPU_TARGET_US),
        Figure("    upstream decode", spread(decode), "us"),
        Figure("    record", spread(record), "us"),
        Figure("    downstream write", spread(write), "us"),
        Figure(f"resident with {STREAMS} open streams", _highest(found.resident_mb), "MB", at_most=250),
    ]


def _highest(values: Sequence[float]) -> Spread:
    """Of memory the peak is the figure."""
    return Spread(max(values), min(values), max(values))
