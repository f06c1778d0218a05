"""Server-sent events: frames and log events as the bytes of a stream (WHATWG HTML, section 9.2).

What is ready goes out in one write: the write is the cost. Silence is broken by a comment, so that proxies keep the
connection. A stream reads along and never drives what it shows: when its client leaves, or is too slow, only the
stream ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from litestar import Response

from api.errors import Problem, document, problem_of, problem_of_code
from engine import Event, Frame

T = TypeVar("T")
Encode = Callable[[Sequence[T]], bytes]

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
FRAMES_UNHEARD = 64
"""After so many frames everybody else gets a turn, also where all frames are there already."""
KEEP_ALIVE = b": keep-alive\n\n"
CAUGHT_UP = b": caught-up\n\n"


class EventStream(Response[bytes], Generic[T]):
    """The answer that sends batches as they come, to their end or until the client leaves. An empty one is silence.

    Litestar's own would not close what it reads from when its client is slow and leaves.
    """

    def __init__(
        self,
        batches: AsyncGenerator[Sequence[T], None],
        encode: Encode[T],
        failed: Callable[[Problem], bytes],
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(b"", status_code=200, headers=HEADERS | (headers or {}))
        self._batches = batches
        self._encode = encode
        self._failed = failed

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(left(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._batches.aclose()

    async def _send(self, send: Any) -> None:
        head = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status_code, "headers": head})
        last, unheard = b"", 0
        try:
            async for batch in self._batches:
                if chunk := self._encode(batch):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                # What is there already never suspends; without this a client who leaves would not be noticed.
                unheard += len(batch) + 1
                if unheard >= FRAMES_UNHEARD:
                    unheard = 0
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - the head is gone: what went wrong can only be said in the stream
            last = self._failed(problem_of(error))
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def left(receive: Any) -> None:
    """Until the client has left, or has all of its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def frames(
    batches: AsyncGenerator[list[Frame], None], request_id: str, headers: dict[str, str] | None = None
) -> EventStream[Frame]:
    """A turn's frames."""

    def encode(batch: Sequence[Frame]) -> bytes:
        return b"".join([frame_bytes(frame, request_id) for frame in batch]) or KEEP_ALIVE

    return EventStream(batches, encode, lambda problem: error_bytes(problem, request_id), headers)


def events(batches: AsyncGenerator[list[Event], None], request_id: str, *, by_position: bool) -> EventStream[Event]:
    """Log events as they are committed; ids are positions or versions. The first silence says that all was given."""
    silence = iter((CAUGHT_UP,))

    def encode(batch: Sequence[Event]) -> bytes:
        sent = b"".join([event_bytes(event, by_position=by_position) for event in batch])
        return sent or next(silence, KEEP_ALIVE)

    return EventStream(batches, encode, lambda problem: error_bytes(problem, request_id))


def frame_bytes(frame: Frame, request_id: str) -> bytes:
    """One frame. One that is not part of the record tells why there will be no more, and has no id."""
    if frame.number == 0:
        return error_bytes(unrecorded_problem(frame), request_id)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (frame.number, frame.type.encode(), frame.data)


def unrecorded_problem(frame: Frame) -> Problem:
    """What a frame that is not part of the record tells."""
    error = msgspec.json.decode(frame.data)
    return problem_of_code(error["code"], error["detail"])


def event_bytes(event: Event, *, by_position: bool) -> bytes:
    number = event.position if by_position else event.version
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, event.type.encode(), msgspec.json.encode(event))


def error_bytes(problem: Problem, request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % document(problem, request_id)


def data_lines(text: str) -> bytes:
    """Text as ``data:`` lines: a line break cannot stand in a line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return b"".join([b"data: %b\n" % line.encode() for line in lines])
