"""A server process: engine, application and socket, from its start to its end.

SIGTERM and SIGINT end it in order: it is no longer ready and takes no more turns, readers are told, running turns may
end within ``drain_s``, the rest are interrupted, and streams close by themselves because their turns have ended. A
second signal ends it at once; the next start then ends what was left open.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress

import msgspec
import uvicorn

from .. import engine
from ..engine import Engine, Invalid, Settings
from .announcement import Announcer, Say, start_of
from .app import create_app
from .garbage_collection import collecting_in_quiet
from .http.auth import is_loopback
from .http.cors import Cors
from .http.errors import Problem
from .http.key_ring import KeyRing
from .http.middleware import Gate
from .http.protocol import BoundedHttp
from .observability.log_lines import loop_failed
from .observability.reporter import Answered, Reporter

BACKLOG = 1024
KEPT_DESCRIPTORS = 768
"""For what is no client's connection: the database, and connections to providers. A quarter, if there are few."""
CLOSE_STREAMS_S = 5
KEEP_CONNECTION_S = 75
"""Longer than clients keep an idle connection: it is theirs to close, or a request may meet the closing."""


class Running(msgspec.Struct, frozen=True):
    """A server that listens. ``serving`` ends when it does."""

    address: str
    chat: Engine
    keys: KeyRing
    serving: asyncio.Task[None]


async def serve(settings: Settings, announcer: Announcer) -> None:
    """Serve until a signal comes. Raises an EngineError where it cannot begin."""
    asyncio.get_running_loop().set_exception_handler(loop_failed)
    stopping = asyncio.create_task(_stop_signal().wait())
    async with running(settings, announcer.notice) as server, collecting_in_quiet(server.chat):
        announcer.start(await start_of(server.chat, server.keys, server.address))
        announcer.listens(server.address)
        await asyncio.wait((server.serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        announcer.shutdown(server.chat.serving.load)
    announcer.end()


@asynccontextmanager
async def running(settings: Settings, say: Say) -> AsyncIterator[Running]:
    """A server on an engine of its own; at the end it drains, closes its streams, and then its engine. What keeps it
    from starting is found before anything is made, as far as that can be.
    """
    keys, cors, reporter = KeyRing(settings.api_keys_file), Cors(settings.cors_origins), Reporter()
    if keys.open and not is_loopback(settings.host):
        raise Invalid("host", "without API keys only a loopback address can be served; set MANENT_API_KEYS_FILE")
    engine.check_unlocked(
        engine.database_path(settings.database)
    )  # who starts a server twice should hear of the first, not of its port
    with closing(bind(settings.host, settings.port, _gone_after_s(settings))) as bound:
        async with engine.open(settings, notice=say, observer=reporter) as chat:
            app = create_app(chat, keys, cors, reporter)
            async with _listening(app, bound, settings) as serving, _following(keys):
                address = _address(bound)
                engine.tell_address(engine.database_path(settings.database), address)
                chat.serving.forget_unstored()
                resumed = await chat.serving.resume_replays()
                if resumed:
                    say(f"going on with {resumed} replay(s) that a stopped server had left running")
                try:
                    yield Running(address, chat, keys, serving)
                finally:
                    await chat.serving.drain()


@asynccontextmanager
async def _listening(app: Gate, bound: socket.socket, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """Answer on a socket; at the end connections may close by themselves, and then are closed."""
    server = _Server(_config(app, settings))
    listen(bound)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await _started(server, serving)
        yield serving
    finally:
        server.should_exit = True
        await serving
        await _abort(server)


@asynccontextmanager
async def _following(keys: KeyRing) -> AsyncIterator[None]:
    """Read the API keys again when their file changes."""
    following = asyncio.create_task(keys.follow())
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait([following])


def bind(host: str, port: int, gone_after_s: float) -> socket.socket:
    """A bound socket, whose clients are gone when they confirm nothing of what they are sent for so long. Raises
    Invalid, which names the setting.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Invalid("host", f"cannot listen on {host}: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from the socket that accepts them
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(gone_after_s * 1000))
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        detail = f"cannot listen on {host}:{port}: {error.strerror}; --port takes another, and 0 a free one"
        raise Invalid("port", detail) from None
    return bound


def listen(bound: socket.socket) -> None:
    """Take connections from now on. Raises Invalid where another process began to meanwhile."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise Invalid("port", f"cannot listen on {_address(bound)}: {error.strerror}") from None


def most_connections(wanted: int) -> int:
    """As many as wanted, or as the system has descriptors for; its soft limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + KEPT_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # a limit above the hard one, as some systems have
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - min(KEPT_DESCRIPTORS, soft // 4))


def _gone_after_s(settings: Settings) -> float:
    """Later than it takes to drop a client that stalls, with a word; this is for those who have vanished."""
    return 2 * settings.client_stall_s + settings.keepalive_s


def _stop_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. The next one ends the process where it stands."""
    asked = asyncio.Event()

    def stop() -> None:
        if asked.is_set():
            os._exit(1)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return asked


def _config(app: Gate, settings: Settings) -> uvicorn.Config:
    class Protocol(BoundedHttp):
        max_head_bytes = settings.max_header_bytes
        max_connections = most_connections(settings.max_connections)
        stall_s = float(settings.client_stall_s)

        def refused(self, problem: Problem, request_id: str) -> None:
            app.reporter.answered(Answered("", None, problem.status, 0.0, request_id, code=problem.code))

    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_CONNECTION_S,
        timeout_graceful_shutdown=CLOSE_STREAMS_S,
    )


async def _started(server: _Server, serving: asyncio.Task[None]) -> None:
    starting = asyncio.create_task(server.listens.wait())
    await asyncio.wait((starting, serving), return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()


async def _abort(server: _Server) -> None:
    """Let go of connections that would still be written to, if only they were read from."""
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    await asyncio.sleep(0)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's server, with signals left to us, that tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
