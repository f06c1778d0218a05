"""The reading side of stream measurements: a raw connection that notes when bytes came and looks at them afterwards, so
that it is never what is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

END = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Event:
    """A server-sent event, when it came, and of which sort it is."""

    at_s: float
    type: str
    id: int | None
    data: bytes


@dataclass
class Answer:
    """The bytes of one chunked answer, as they came."""

    asked_s: float
    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def events(self) -> list[Event]:
        """Every event, with the time at which its last byte came. Raises RuntimeError for an answer that is none."""
        data = b"".join(piece for _, piece in self.pieces)
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the answer was {data[:500]!r}")
        times = self._times()
        base = len(head) + 4
        text, ends = _without_chunks(body)
        events = []
        begin = 0
        while (end := text.find(b"\n\n", begin)) >= 0:
            at = base + ends(end + 1)
            if event := _event(times(at), text[begin:end]):
                events.append(event)
            begin = end + 2
        return events

    def _times(self) -> Any:
        """When the byte at an offset came; asked for in order."""
        steps = iter(self.pieces)
        at_s, piece = next(steps)
        reached = len(piece)

        def when(offset: int) -> float:
            nonlocal at_s, reached
            while offset >= reached:
                at_s, more = next(steps)
                reached += len(more)
            return at_s

        return when


class Connection(asyncio.Protocol):
    """One kept-alive connection, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._begun: asyncio.Future[None] | None = None
        self._whole = b""

    async def ask(self, request: bytes) -> Answer:
        """Send it, and wait for the whole of the answer, which must be chunked."""
        assert self._transport is not None
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.perf_counter())
        self._whole = b""
        self._transport.write(request)
        return await self._done

    async def begin(self, request: bytes) -> asyncio.Transport:
        """Send it, and wait for the first that an endless answer says; what is left is the connection."""
        assert self._transport is not None
        self._begun = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._begun
        return self._transport

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if self._begun is not None and not self._begun.done() and b"\n\n" in data:
            self._begun.set_result(None)
        if self._answer is None or self._done is None:
            return
        self._answer.pieces.append((time.perf_counter(), data))
        self._whole = (self._whole + data)[-len(END) :]
        if self._whole == END and not self._done.done():
            self._done.set_result(self._answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            got = b"".join(piece for _, piece in self._answer.pieces) if self._answer else b""
            self._done.set_exception(RuntimeError(f"the connection broke off ({error}) after {got[-500:]!r}"))


async def connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def post(port: int, path: str, body: object) -> bytes:
    """A request as bytes."""
    data = msgspec.json.encode(body)
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\naccept: text/event-stream\r\n"
        b"content-length: %d\r\n\r\n%b" % (path.encode(), port, len(data), data)
    )


def get(port: int, path: str, last_id: int | None = None) -> bytes:
    """A request for a stream, from its beginning or taken up again."""
    resumed = b"" if last_id is None else b"last-event-id: %d\r\n" % last_id
    head = b"GET %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: text/event-stream\r\n%b\r\n"
    return head % (path.encode(), port, resumed)


def _without_chunks(body: bytes) -> tuple[bytes, Any]:
    """A chunked body's content, and a function from an offset in it to that in the body; asked for in order."""
    parts = list(_chunks(body))
    at = 0
    before = 0

    def offset(wanted: int) -> int:
        nonlocal at, before
        while wanted >= before + len(parts[at][1]):
            before += len(parts[at][1])
            at += 1
        return parts[at][0] + wanted - before

    return b"".join(part for _, part in parts), offset


def _chunks(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each chunk's content begins, and the content."""
    begin = 0
    while (line := body.find(b"\r\n", begin)) >= 0:
        size = int(body[begin:line], 16)
        if size == 0:
            return
        yield line + 2, body[line + 2 : line + 2 + size]
        begin = line + 2 + size + 2


def _event(at_s: float, text: bytes) -> Event | None:
    """Comments are no events."""
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        name, _, value = line.partition(b": ")
        fields[name] = value
    if b"data" not in fields:
        return None
    number = fields.get(b"id")
    return Event(at_s, fields.get(b"event", b"message").decode(), int(number) if number else None, fields[b"data"])
