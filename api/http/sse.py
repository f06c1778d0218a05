"""Server-sent events: frames and log events as the bytes of a stream (WHATWG HTML, section 9.2).

What is ready goes out in one write: the write is the cost. Silence is broken by a comment, so that proxies keep the
connection. A stream reads along and never drives what it shows: when its client leaves, or is too slow, only the
stream ends.

What is held for a client that is slow is bounded: what the connection has not sent (64 KiB and one write) and the batch
that is being written. One that takes nothing for too long is dropped by the connection (``api/http/protocol.py``), with
``DROPPED`` as its last words.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, Generic, TypeVar

import msgspec

from ...engine import SHUTTING_DOWN, Event, Frame
from .errors import PROBLEM, Problem, document, problem_of, problem_of_code
from .key_ring import has_ended
from .pieces import Streamed
from .protocol import LAST_WORDS

T = TypeVar("T")
Encode = Callable[[T], bytes]

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
FRAMES_UNHEARD = 64
"""After so many frames everybody else gets a turn, also where all frames are there already."""
KEEP_ALIVE = b": keep-alive\n\n"
CAUGHT_UP = b": caught-up\n\n"
STOPPING = b": shutting-down\n\n"
DROPPED = b": dropped: nothing was read for too long; come back with the last id\n\n"

REVOKED = b": the API key is no longer valid\n\n"

WRITE_BYTES = 64 << 10
"""A write is no larger than this and one frame."""


class EventStream(Streamed, Generic[T]):
    """The answer that sends batches as they come, after those ``before``. An empty one is silence. ``revoked`` gives
    the last words where the key is no longer valid.
    """

    def __init__(
        self,
        batches: AsyncGenerator[Sequence[T], None],
        encode: Encode[T],
        failed: Callable[[Problem], bytes],
        headers: dict[str, str] | None = None,
        *,
        silences: Iterator[bytes] | None = None,
        farewell: bytes = b"",
        before: Sequence[T] = (),
    ) -> None:
        super().__init__(b"", status_code=200, headers=HEADERS | (headers or {}))
        self._batches = batches
        self._encode = encode
        self._failed = failed
        self._silences = silences or repeat(KEEP_ALIVE)
        self._farewell = farewell
        self._before = before
        self.revoked: Callable[[], bytes] = lambda: REVOKED

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        state = scope["state"]
        state[LAST_WORDS] = DROPPED
        try:
            if not await self._sent(scope, receive, send) and has_ended(state):
                await send({"type": "http.response.body", "body": self.revoked(), "more_body": False})
        finally:
            await self._batches.aclose()

    async def _send(self, send: Any, send_body: Any, state: dict[str, Any]) -> None:
        await send(self._head())
        last, unheard = self._farewell, 0
        try:
            for chunk in self._joined(self._before):
                await send_body({"type": "http.response.body", "body": chunk, "more_body": True})
            async for batch in self._batches:
                for chunk in self._writes(batch):
                    await send_body({"type": "http.response.body", "body": chunk, "more_body": True})
                # What is there already never suspends; without this a client who leaves would not be noticed.
                unheard += len(batch) + 1
                if unheard >= FRAMES_UNHEARD:
                    unheard = 0
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - the head is gone: what went wrong can only be said in the stream
            state[PROBLEM] = problem_of(error)
            last = self._failed(state[PROBLEM])
        await send({"type": "http.response.body", "body": last, "more_body": False})

    def _writes(self, batch: Sequence[T]) -> Iterable[bytes]:
        """A batch in as few writes as may be."""
        if len(batch) == 1:  # nearly every batch of a turn that streams
            one = self._encode(batch[0])
            return (one,) if one else ()
        return self._joined(batch) if batch else (next(self._silences),)

    def _joined(self, batch: Sequence[T]) -> Iterator[bytes]:
        parts, size = [], 0
        for item in batch:
            part = self._encode(item)
            parts.append(part)
            size += len(part)
            if size >= WRITE_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        if size:
            yield b"".join(parts)


def frames(
    batches: AsyncGenerator[list[Frame], None], request_id: str, headers: dict[str, str] | None = None
) -> EventStream[Frame]:
    """A turn's frames."""

    def encode(frame: Frame) -> bytes:
        return frame_bytes(frame, request_id)

    return EventStream(batches, encode, lambda problem: error_bytes(problem, request_id), headers)


def events(batches: AsyncGenerator[list[Event], None], request_id: str, *, by_position: bool) -> EventStream[Event]:
    """Log events as they are committed; ids are positions or versions. The first silence says that all was given. It
    has no end but the server's.
    """
    return EventStream(
        batches,
        partial(event_bytes, by_position=by_position),
        lambda problem: error_bytes(problem, request_id),
        silences=chain((CAUGHT_UP,), repeat(KEEP_ALIVE)),
        farewell=STOPPING,
    )


def frame_bytes(frame: Frame, request_id: str) -> bytes:
    """One frame. One that is not part of the record tells why there may be no more, and has no id."""
    if frame is SHUTTING_DOWN:
        return STOPPING
    if frame.number == 0:
        return error_bytes(unrecorded_problem(frame), request_id)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (frame.number, frame.type.encode(), frame.data)


def unrecorded_problem(frame: Frame) -> Problem:
    """The problem that a frame tells which is not part of the record."""
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
