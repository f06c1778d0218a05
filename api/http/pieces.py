"""Answers that are sent in pieces, each made when the client has taken the one before: what is held for a slow client
is a piece, and what the connection has not sent, however large the answer is.

Litestar's own would not close what it reads from when its client is slow and leaves.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import msgspec
from litestar import Response

from .errors import JSON
from .key_ring import tell_of_end
from .middleware import SEND_BODY

PIECE_BYTES = 64 << 10
"""A piece is no larger than this and one item."""
SLICE_BYTES = 48 << 10
"""Of large fields; a multiple of 3, so that the slices in base64 join to the base64 of all."""


class Streamed(Response[bytes], ABC):
    """The answer that is sent to its end, or until the client leaves."""

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        return self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._sent(scope, receive, send)

    async def _sent(self, scope: Any, receive: Any, send: Any) -> bool:
        """Send what there is; False if it was not all, because the client has left or its key is no longer valid.

        ``send_body`` is past those who look at a response's beginning only: each would cost every piece 1 us.
        """
        state = scope["state"]
        sending = asyncio.create_task(self._send(send, state.get(SEND_BODY, send), state))
        leaving = asyncio.create_task(left(receive))
        tell_of_end(state, leaving.cancel)
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if sending.cancelled():
            return False
        sending.result()
        return True

    @abstractmethod
    async def _send(self, send: Any, send_body: Any, state: dict[str, Any]) -> None:
        """Send the head and the body."""

    def _head(self) -> dict[str, Any]:
        head = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return {"type": "http.response.start", "status": self.status_code, "headers": head}


class InPieces(Streamed):
    """``opened`` gives the pieces, and lets go of what they are made from. What it raises before it has given any is
    answered as any refusal.
    """

    def __init__(
        self,
        opened: AbstractAsyncContextManager[AsyncIterator[bytes]],
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(b"", status_code=200, headers={"content-type": media_type, **(headers or {})})
        self._opened = opened

    async def _send(self, send: Any, send_body: Any, _: dict[str, Any]) -> None:
        async with self._opened as pieces:
            await send(self._head())
            async for piece in pieces:
                await send_body({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def as_json(value: msgspec.Struct, items: str) -> InPieces:
    """A struct as JSON, with the list in its field ``items`` an item at a time. What was sent is let go of."""
    return InPieces(aclosing(_json(value, items)), JSON)


async def _json(value: msgspec.Struct, items: str) -> AsyncGenerator[bytes, None]:
    names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
    fields = {name: getattr(value, field) for name, field in names}
    del value
    parts, size, before = list[bytes](), 0, b"{"
    for name in list(fields):
        parts.append(b'%b"%b":' % (before, name.encode()))
        before = b","
        if name != items:
            parts.append(msgspec.json.encode(fields.pop(name)))
            continue
        rest = list(reversed(fields.pop(name)))
        parts.append(b"[")
        while rest:
            part = msgspec.json.encode(rest.pop())
            parts += (part, b",") if rest else (part,)
            size += len(part)
            if size >= PIECE_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
        parts.append(b"]")
    yield b"".join([*parts, b"}"])


def in_slices(value: msgspec.Struct) -> InPieces:
    """A struct as JSON, a field after the other: those that are JSON or bytes already in slices."""
    return InPieces(aclosing(_joined(value)), JSON)


async def _joined(value: msgspec.Struct) -> AsyncGenerator[bytes, None]:
    parts, size = list[bytes](), 0
    for part in _parts(value):
        parts.append(part)
        size += len(part)
        if size >= SLICE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def _parts(value: msgspec.Struct) -> Iterator[bytes]:
    before = b"{"
    for name, field in zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True):
        yield b'%b"%b":' % (before, name.encode())
        before, found = b",", getattr(value, field)
        if isinstance(found, msgspec.Raw):
            yield from _slices(found)
        elif isinstance(found, bytes):
            yield b'"'
            yield from map(b64encode, _slices(found))
            yield b'"'
        else:
            yield msgspec.json.encode(found)
    yield b"}"


def _slices(data: bytes | msgspec.Raw) -> Iterator[bytes]:
    view = memoryview(data)
    return (bytes(view[start : start + SLICE_BYTES]) for start in range(0, len(view), SLICE_BYTES))


async def left(receive: Any) -> None:
    """Until the client has left, or has all of its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
