"""Turns as stream measurements ask for them: the requests, all at once, and what must come of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from client import Answer, Event, connect, post
from processes import Server
from texts import answer, delta

APPENDED = "message.appended"


def model(count: int, every_ms: int) -> str:
    """The upstream's model that sends so many deltas at this pace."""
    return f"{count}x{every_ms}"


def completion(port: int, name: str, tag: str) -> bytes:
    """The same stream, asked of the upstream itself."""
    body = {"model": name, "messages": [{"role": "user", "content": tag}], "stream": True}
    return post(port, "/v1/chat/completions", body)


def first_turns(serving: Server, streams: int, name: str) -> list[bytes]:
    """Requests for the first turns of new sessions: a history would make each round dearer than the last."""
    sessions = [serving.create_session() for _ in range(streams)]
    return [turn(serving.port, session, name, f"s{number}") for number, session in enumerate(sessions)]


def turn(port: int, session: str, name: str, tag: str) -> bytes:
    body = {"content": tag, "model": f"openai/{name}", "stream": True}
    return post(port, f"/api/sessions/{session}/turns", body)


async def ask_all(port: int, requests: Sequence[bytes]) -> list[Answer]:
    """All at once, each on a connection that is open already."""
    connections = [await connect(port) for _ in requests]
    pairs = zip(connections, requests, strict=True)
    answers = await asyncio.gather(*(connection.ask(request) for connection, request in pairs))
    for connection in connections:
        connection.close()
    return answers


def wrong(events: Sequence[Event], tag: str, count: int) -> int:
    """How many of a turn's frames are not what and where they must be: ids dense from 1, deltas those that were sent
    and in their order, the recorded message their join, and the end the turn's.
    """
    found = sum(event.id != place for place, event in enumerate(events, 1))
    texts = [text_of(event) for event in events if event.type == "delta"]
    sent = [delta(tag, number) for number in range(count)]
    found += abs(len(texts) - count) + sum(text != piece for text, piece in zip(texts, sent, strict=False))
    messages: list[dict[str, Any]] = [msgspec.json.decode(each.data) for each in events if each.type == APPENDED]
    recorded = "".join(block["text"] for message in messages for block in message["content"])
    return found + (events[-1].type != "turn.completed") + (recorded != answer(tag, count))


def all_wrong(answers: Sequence[Answer], count: int) -> int:
    """As ``wrong``, of the answers to ``first_turns``."""
    return sum(wrong(read.events(), f"s{number}", count) for number, read in enumerate(answers))


def gaps_ms(answers: Sequence[Answer], *, steady: bool = False) -> list[float]:
    """Between one delta and the next, of all streams. ``steady``: only after each of them has begun."""
    streams = [[event.at_s for event in read.events() if text_of(event)] for read in answers]
    begun_s = max(times[0] for times in streams) if steady else 0.0
    return [(after - before) * 1000 for times in streams for before, after in pairwise(times) if before >= begun_s]


def text_of(event: Event) -> str:
    """What an event adds to the answer: a delta of ours, or a vendor's chunk."""
    if event.type == "delta":
        return str(msgspec.json.decode(event.data)["text"])
    if event.type != "message" or event.data == b"[DONE]":
        return ""
    choices = msgspec.json.decode(event.data)["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""
