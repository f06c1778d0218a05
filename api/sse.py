"""Server-sent events: frames and log events as the bytes of a stream (WHATWG HTML, section 9.2).

What is ready goes out in one write: the write is the cost. Silence is broken by a comment, so that proxies keep the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from litestar.response import Stream

from api.errors import Problem, document, problem_of
from engine import Event, Frame

HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream; charset=utf-8"
KEEP_ALIVE = b": keep-alive\n\n"
CAUGHT_UP = b": caught-up\n\n"


def stream(chunks: AsyncGenerator[bytes, None], headers: dict[str, str] | None = None) -> Stream:
    """A streaming response."""
    return Stream(chunks, media_type=MEDIA_TYPE, status_code=200, headers=HEADERS | (headers or {}))


async def frames(batches: AsyncGenerator[list[Frame], None], request_id: str) -> AsyncGenerator[bytes, None]:
    """A turn's frames; an empty batch is silence."""
    try:
        async with aclosing(batches) as ready:
            async for batch in ready:
                yield b"".join(map(frame_bytes, batch)) if batch else KEEP_ALIVE
                # Frames that are already there never suspend; without this a reader who has left would not be noticed.
                await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001 - the headers are gone: what went wrong can only be said in the stream
        yield error_bytes(problem_of(error), request_id)


async def events(
    batches: AsyncGenerator[list[Event], None], request_id: str, *, by_position: bool
) -> AsyncGenerator[bytes, None]:
    """Log events as they are committed; ids are positions or versions."""
    caught_up = False
    try:
        async with aclosing(batches) as ready:
            async for batch in ready:
                if batch:
                    yield b"".join(event_bytes(event, by_position=by_position) for event in batch)
                elif not caught_up:
                    caught_up = True
                    yield CAUGHT_UP
                else:
                    yield KEEP_ALIVE
                await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001 - as above
        yield error_bytes(problem_of(error), request_id)


def frame_bytes(frame: Frame) -> bytes:
    """One frame. A frame that is not part of the record has no id."""
    if frame.number == 0:
        return b"event: %b\ndata: %b\n\n" % (frame.type.encode(), frame.data)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (frame.number, frame.type.encode(), frame.data)


def event_bytes(event: Event, *, by_position: bool) -> bytes:
    number = event.position if by_position else event.version
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, event.type.encode(), msgspec.json.encode(event))


def error_bytes(problem: Problem, request_id: str) -> bytes:
    return b"event: error\ndata: %b\n\n" % document(problem, request_id)


def data_lines(text: str) -> bytes:
    """Text as ``data:`` lines: a line break cannot stand in a line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return b"".join(b"data: %b\n" % line.encode() for line in lines)
