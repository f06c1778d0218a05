"""A server process: engine, application and socket, from the first line it prints to its end.

SIGTERM and SIGINT end it in order: no more turns are taken, running ones may end within ``drain_s``, the rest are interrupted, and streams close by
themselves because their turns have ended. A second signal ends it at once; the next start then ends what was left open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import engine
from api.app import create_app
from api.auth import is_loopback, read_keys
from api.errors import Problem, document
from engine import Conversation, Invalid, Settings

log = logging.getLogger("manent.api")

BACKLOG = 1024
CLOSE_STREAMS_S = 5
LINGER_S = 1.0


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until a signal comes. Raises an EngineError where it cannot begin."""
    keys = read_keys(settings.api_keys_file)
    if keys.open and not is_loopback(settings.host):
        raise Invalid("host", "without API keys only a loopback address can be served; set MANENT_API_KEYS_FILE")
    async with engine.open(settings, notice=say) as conversation:
        listening = listen(settings.host, settings.port)
        say(f"model of sessions that name none: {conversation.default_model}")
        server = _Server(_config(create_app(conversation, keys), settings), lambda: say(_line(listening)))
        await _until_signal(server, listening, conversation)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises Invalid, which names the setting."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise Invalid("port", f"cannot listen on {host}:{port}: {error.strerror}") from None
    listening.listen(BACKLOG)
    return listening


async def _until_signal(server: _Server, listening: socket.socket, conversation: Conversation) -> None:
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    await conversation.drain()
    server.should_exit = True
    waiting.cancel()
    await serving


def _config(app: Any, settings: Settings) -> uvicorn.Config:
    class Protocol(BoundedHead):
        max_head_bytes = settings.max_header_bytes

    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_STREAMS_S,
    )


def _line(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"listening on http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's server, with signals left to us, and told when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol, with a bound on the request line and headers, which its parser would collect without end.

    What cannot be read as a request is answered with a problem document too.
    """

    max_head_bytes = 32 << 10

    def connection_made(self, transport: Any) -> None:
        self._head_bytes = 0
        self._in_head = True
        self._refused = False
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > self.max_head_bytes:
                self._refuse(
                    Problem(431, "headers_too_large", f"the request's head is larger than {self.max_head_bytes} bytes")
                )

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem(400, "bad_request", "this is not an HTTP request"))

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, a moment later: closing on unread data would take the answer away again."""
        self._refused = True
        request_id = str(engine.new_id())
        body = document(problem, request_id)
        head = (
            f"HTTP/1.1 {problem.status} {msgspec.json.decode(body)['title']}\r\n"
            f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.loop.call_later(LINGER_S, self.transport.close)
