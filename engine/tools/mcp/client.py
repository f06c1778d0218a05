"""MCP servers as a source of tools, through the official ``mcp`` package (the extra ``mcp``): over stdin and stdout
of a child process, or over streamable HTTP.

A tool of the server ``files`` named ``read.file`` is ``files_read_file`` here. Description and schema are the server's
own, and so is the check of arguments: the server knows them best. A server's answer is a result for the model, and
nothing else.

The package binds a connection to the task that opened it, so each connection has a task of its own that opens, holds
and closes it; calls come from anywhere. A connection that was lost between calls is opened again, once, before the next
call. A call fails if its connection breaks, and is not repeated: it may have taken effect.

A server's process ends with ours: when its input ends, as the protocol says, and on Linux the kernel kills it, however
we end. The tools are listed once, at the start; later changes of the list are not read.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import httpx2
import msgspec
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from ...errors import ToolError
from ...events.blocks import Base64Source, ImageBlock, TextBlock
from ...settings import version
from ..base import NAME, Tool, ToolContext, ToolOutput
from .config import McpServer, check_server, command_line

CLOSE_TIMEOUT_S = 10.0
"""The time for closing a connection; the server's process is killed well before."""

MAX_PAGES = 100
"""Most pages of a server's list of tools."""

MAX_WORDS_CHARS = 1000
"""Most characters of a server's own words about a failure."""

_SESSION = "mcp-session-id"
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


class McpConnection:
    """One server, and the connection to it. Call ``start`` first, and ``aclose`` at the end."""

    def __init__(self, server: McpServer) -> None:
        """Raises Invalid if this cannot be a server."""
        check_server(server)
        self.server = server
        self._connecting = asyncio.Lock()
        self._held: _HeldConnection | None = None
        self._open: set[_HeldConnection] = set()
        self._closed = False

    async def start(self) -> tuple[Tool, ...]:
        """Connect, and list the server's tools in its order. Raises ToolError, which says what failed."""
        try:
            async with asyncio.timeout(self.server.connect_timeout_s):
                held = await self._connected()
                listed = await self._list(held.client)
        except TimeoutError:
            await self._close()
            raise ToolError(
                f"the MCP server {self.server.name} was not ready within {self.server.connect_timeout_s:g} s"
            ) from None
        except BaseException:
            await self._close()
            raise
        return tuple(_named_apart(McpTool(self, tool) for tool in listed))

    async def call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call one of its tools by the server's own name for it. Raises ToolError."""
        for may_repeat in (True, False):
            held = await self._connected()
            held.callers += 1
            try:
                return await held.client.call_tool(name, arguments)
            except (MCPError, OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
                refused = isinstance(error, MCPError) and error.code != types.CONNECTION_CLOSED
                if not (may_repeat and refused and held.is_forgotten):  # forgotten: refused before anything was done
                    raise self._failed(error) from error
            finally:
                held.callers -= 1
                await self._close_if_lost(held)
        raise AssertionError("the second try ends it")

    async def aclose(self) -> None:
        """Close the connection for good, and end the server's process."""
        self._closed = True
        await self._close()

    async def _connected(self) -> _HeldConnection:
        async with self._connecting:
            if self._closed:
                raise ToolError(f"the MCP server {self.server.name} is closed")
            if self._held is not None and self._held.is_lost:
                lost, self._held = self._held, None
                await self._close_if_lost(lost)
            if self._held is None:
                self._held = await self._open_one()
            return self._held

    async def _open_one(self) -> _HeldConnection:
        held = _HeldConnection(self.server)
        try:
            async with asyncio.timeout(self.server.connect_timeout_s):
                await held.open()
        except BaseException as error:
            await held.close()
            if isinstance(error, Exception):
                raise ToolError(_why_not(self.server, error)) from error
            raise
        self._open.add(held)
        return held

    async def _close_if_lost(self, held: _HeldConnection) -> None:
        """Close a lost connection, with the last call over it: the other calls may still get their errors from it."""
        if held.is_lost and not held.callers:
            self._open.discard(held)
            await held.close()

    async def _close(self) -> None:
        async with self._connecting:
            self._held = None
            while self._open:
                await self._open.pop().close()

    async def _list(self, client: Client) -> list[types.Tool]:
        listed: list[types.Tool] = []
        cursor = None
        for _ in range(MAX_PAGES):
            try:
                page = await client.list_tools(cursor=cursor)
            except (MCPError, OSError, RuntimeError, ValueError, httpx2.HTTPError) as error:
                raise ToolError(f"the MCP server {self.server.name} did not list its tools: {_words(error)}") from error
            listed += page.tools
            cursor = page.next_cursor
            if not cursor:
                return listed
        raise ToolError(f"the MCP server {self.server.name} lists its tools on more than {MAX_PAGES} pages")

    def _failed(self, error: Exception) -> ToolError:
        if isinstance(error, MCPError) and error.code != types.CONNECTION_CLOSED:
            return ToolError(f"the MCP server {self.server.name} refused: {_words(error)}")
        if isinstance(error, ValueError | RuntimeError):
            return ToolError(f"the MCP server {self.server.name} sent an answer that does not fit its own schema")
        return ToolError(
            f"the connection to the MCP server {self.server.name} was lost; whether the call took effect is not known"
        )


class McpTool:
    """A tool that an MCP server offers."""

    def __init__(self, connection: McpConnection, tool: types.Tool) -> None:
        server = connection.server
        self.name = _UNFIT.sub("_", f"{server.name}_{tool.name}")
        self.description = tool.description or tool.title or ""
        self.parameters: dict[str, Any] = tool.input_schema
        self.approval = server.approval
        self.timeout_s = server.timeout_s
        self.max_output_bytes = server.max_output_bytes
        self._own_name = tool.name
        self._connection = connection

    def check(self, given: dict[str, Any]) -> None:
        """Nothing: the server checks the arguments."""

    async def run(self, given: dict[str, Any], context: ToolContext) -> ToolOutput:  # noqa: ARG002 - the contract's
        return output_of(await self._connection.call(self._own_name, given))


class _HeldConnection:
    """A connection in the task that opened it."""

    def __init__(self, server: McpServer) -> None:
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Client] = loop.create_future()
        self._ending = asyncio.Event()
        self._ended = asyncio.Event()
        self._forgotten = asyncio.Event()
        self.callers = 0
        self._task = loop.create_task(self._hold(server), name=f"mcp-{server.name}")

    async def open(self) -> None:
        """Wait until the connection is open. Raises the error that kept it from opening."""
        await asyncio.shield(self._ready)

    @property
    def client(self) -> Client:
        return self._ready.result()

    @property
    def is_lost(self) -> bool:
        """True if the connection is unusable."""
        return self._ended.is_set() or self._forgotten.is_set() or self._task.done()

    @property
    def is_forgotten(self) -> bool:
        """True if the server, perhaps restarted, does not know this session any more, and refuses every request."""
        return self._forgotten.is_set()

    async def close(self) -> None:
        """Close the connection; a task that does not end in time is cancelled."""
        self._ending.set()
        if not self._ready.done():
            self._task.cancel()
        _, late = await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_S)
        for task in late:
            task.cancel()
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # retrieved, so that the event loop does not report it

    async def _hold(self, server: McpServer) -> None:
        try:
            transport = _watched(_transport(server, self._forgotten), self._ended)
            implementation = types.Implementation(name="manent", version=version())
            async with Client(transport, cache=None, client_info=implementation) as client:
                self._ready.set_result(client)
                await self._ending.wait()
        except Exception as error:  # noqa: BLE001 - raised by open(); after that the connection is lost
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._ready.cancel()


def output_of(result: types.CallToolResult) -> ToolOutput:
    """The output made of a server's result. Text and images stay as they are, text of embedded resources is text, and
    what no model can read is mentioned; structured content is used if no text came.
    """
    blocks = [_block(item) for item in result.content]
    has_text = any(isinstance(block, TextBlock) and block.text for block in blocks)
    if result.structured_content is not None and not has_text:
        blocks.append(TextBlock(msgspec.json.encode(result.structured_content).decode()))
    is_error = bool(result.is_error)
    match blocks:
        case []:
            return ToolOutput("", is_error)
        case [TextBlock(text=text)]:
            return ToolOutput(text, is_error)
        case _:
            return ToolOutput(tuple(blocks), is_error)


def _block(item: types.ContentBlock) -> TextBlock | ImageBlock:
    match item:
        case types.TextContent():
            return TextBlock(item.text)
        case types.ImageContent():
            return ImageBlock(Base64Source(item.mime_type, item.data))
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return TextBlock(f"[the resource {resource.uri}]\n{resource.text}")
        case types.EmbeddedResource(resource=resource):
            return TextBlock(f"[the resource {resource.uri} of type {resource.mime_type}, not shown]")
        case types.ResourceLink():
            return TextBlock(f"[a link to the resource {item.name}: {item.uri}]")
        case types.AudioContent():
            return TextBlock(f"[sound of type {item.mime_type}, not shown]")


@asynccontextmanager
async def _transport(server: McpServer, forgotten: asyncio.Event) -> AsyncGenerator[Any]:
    """The package's own streams for this server."""
    if server.url is None:
        command, *args = command_line(server)
        process = StdioServerParameters(command=command, args=args, env=server.env)
        async with stdio_client(process, errlog=sys.__stderr__ or sys.stderr) as streams:
            yield streams
        return
    # No limit on reading: a call may take as long as its tool may, and is cancelled then. The transport does not follow
    # a redirect to another host.
    timeout = httpx2.Timeout(server.connect_timeout_s, read=None)

    async def look(response: httpx2.Response) -> None:
        if response.status_code == 404 and _SESSION in response.request.headers:
            forgotten.set()

    hooks = {"response": [look]}
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log addresses
    async with (
        httpx2.AsyncClient(headers=server.headers, timeout=timeout, event_hooks=hooks) as http,
        streamable_http_client(server.url, http_client=http) as streams,
    ):
        yield streams


@asynccontextmanager
async def _watched(transport: AbstractAsyncContextManager[Any], ended: asyncio.Event) -> AsyncGenerator[Any]:
    async with transport as (incoming, outgoing):
        yield _Watched(incoming, ended), outgoing


class _Watched:
    """A stream of incoming messages that notes its end; the package tells only callers."""

    def __init__(self, stream: Any, ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._ended.set()
        await self._stream.__aexit__(*raised)


def _named_apart(tools: Iterable[McpTool]) -> Iterator[McpTool]:
    """The tools, if their names differ. Raises ToolError for two that get the same name, or for a name that no vendor
    accepts.
    """
    seen: set[str] = set()
    for tool in tools:
        if not NAME.fullmatch(tool.name):
            raise ToolError(f"{tool.name[:100]} is too long for the name of a tool: 64 characters is the maximum")
        if tool.name in seen:
            raise ToolError(f"two tools of one MCP server get the name {tool.name}")
        seen.add(tool.name)
        yield tool


def _why_not(server: McpServer, error: Exception) -> str:
    """The reason why a server cannot be used, without an address or a path."""
    cause = _leaf(error)
    if isinstance(cause, ToolError):
        return cause.detail
    if isinstance(cause, TimeoutError):
        return f"the MCP server {server.name} was not ready within {server.connect_timeout_s:g} s"
    if isinstance(cause, OSError) and server.url is None:
        reason = "there is no such command" if isinstance(cause, FileNotFoundError) else type(cause).__name__
        return f"the MCP server {server.name} could not be started: {reason}"
    if isinstance(cause, MCPError):
        return f"the MCP server {server.name} did not complete the handshake: {_words(cause)}"
    return f"the MCP server {server.name} could not be reached: {type(cause).__name__}"


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: Exception) -> str:
    return error.message[:MAX_WORDS_CHARS] if isinstance(error, MCPError) else type(error).__name__


async def connect_all(servers: Sequence[McpServer]) -> tuple[list[McpConnection], list[Tool]]:
    """Connect to all servers side by side; returns their tools in the order of the servers. Raises the first ToolError;
    then no connection is left open.
    """
    connections = [McpConnection(server) for server in servers]
    started = await asyncio.gather(*(connection.start() for connection in connections), return_exceptions=True)
    failures = [result for result in started if isinstance(result, BaseException)]
    if failures:
        await close_all(connections)
        raise failures[0]
    return connections, [tool for tools in started if isinstance(tools, tuple) for tool in tools]


async def close_all(connections: Iterable[McpConnection]) -> None:
    await asyncio.gather(*(connection.aclose() for connection in connections))
