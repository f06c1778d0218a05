"""A loopback upstream that speaks OpenAI's Chat Completions, streaming, in a process of its own.

The model's name says what to send: ``64x20`` is 64 pieces of text, one every 20 ms, the first at once. The last
message's content is the tag that all pieces carry (``texts.delta``), so that a reader can tell streams apart.
Everything else is as the vendor sends it: a chunk with the role before, the finish reason, the usage and ``[DONE]``
after.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import cast

import msgspec
import uvloop

from texts import delta

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
_CHUNK = (
    '{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1767225600,"model":"%s",'
    '"service_tier":"default","system_fingerprint":"fp_bench","choices":[%s],"usage":%s}'
)
_CHOICE = '{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}'
_USAGE = (
    '{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    '"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}'
)


class _Message(msgspec.Struct):
    content: str


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]


_read = msgspec.json.Decoder(_Request).decode


@dataclass
class _Stream:
    """An answer under way."""

    model: str
    tag: str
    count: int
    every_s: float
    begun_s: float
    sent: int = 0


class Upstream(asyncio.Protocol):
    """A connection: one request after the other."""

    def __init__(self) -> None:
        self._received = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if blank and len(body) >= _length(head):
            self._received = b""
            self._answer(_read(body))

    def _answer(self, request: _Request) -> None:
        count, _, every_ms = request.model.partition("x")
        stream = _Stream(
            request.model, request.messages[-1].content, int(count), int(every_ms) / 1000, self._loop.time()
        )
        role = _chunk(stream.model, '{"role":"assistant","content":"","refusal":null}')
        self._write(HEAD + role + self._next(stream))

    def _step(self, stream: _Stream) -> None:
        if self._transport is not None:
            self._write(self._next(stream))

    def _next(self, stream: _Stream) -> bytes:
        """The next piece, and after the last one the end; by the clock: a late piece does not delay the rest."""
        text = msgspec.json.encode(delta(stream.tag, stream.sent)).decode()
        piece = _chunk(stream.model, f'{{"content":{text}}}')
        stream.sent += 1
        if stream.sent < stream.count:
            self._loop.call_at(stream.begun_s + stream.sent * stream.every_s, self._step, stream)
            return piece
        usage = _USAGE % (9, stream.count, 9 + stream.count)
        return b"".join(
            (
                piece,
                _chunk(stream.model, "{}", '"stop"'),
                _event(_CHUNK % (stream.model, "", usage)),
                _event("[DONE]"),
                END,
            )
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _chunk(model: str, delta_json: str, finish: str = "null") -> bytes:
    return _event(_CHUNK % (model, _CHOICE % (delta_json, finish), "null"))


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


async def main() -> None:
    """Listens on a free port, says which, and serves until its standard input ends: that of a dead parent does too."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
