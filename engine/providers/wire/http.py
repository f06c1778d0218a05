"""HTTP towards the vendors: the one module that knows httpx and the transport beneath it.

A request is bytes, an answer is bytes as they arrive, and every failure is one of ``engine.errors``. Details name the
provider and the status; what the upstream said goes into ``upstream``, for the record alone, and addresses, headers and
keys go nowhere.

The transport is aiohttp's under httpx's client: it costs less than half per chunk, and does not walk all connections
for each request. What the adapter between the two gets wrong is put right in ``_Transport``. Time limits beyond
connecting, retries and circuit breaking are the caller's.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
import httpx
import msgspec
from httpx_aiohttp import AiohttpTransport

from ...clock import Clock
from ...errors import (
    Invalid,
    ProviderError,
    ProviderMalformed,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
)
from .addresses import proxy_pattern
from .failures import UPSTREAM_BYTES, bounded, failure_from_response, request_id_in

Client = httpx.AsyncClient
Transport = httpx.AsyncBaseTransport

EVENT_STREAM = "text/event-stream"
MAX_CONNECTIONS = 4096
KEEPALIVE_S = 30
PIECE_BYTES = 256 << 10
ERROR_BODY_TIMEOUT_S = 5
DRAIN_S = 0.05

REDACTED = "***"
_SECRET_HEADERS = frozenset({"authorization", "x-api-key"})

# Whatever the adapter lets through must still come out as a ProviderError.
_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)

_reused: ContextVar[bool] = ContextVar("reused", default=False)
_content: ContextVar[aiohttp.StreamReader] = ContextVar("content")

HEAD_TOO_LARGE = "head too large"
_TOO_MUCH = ("Got more than", "Too many headers")  # aiohttp's words for it, which has no type of its own

CONTENT = "aiohttp_content"  # a response's extension: what its body is read from; a test's has none


class Head(msgspec.Struct, frozen=True):
    """What an adapter needs to know of an answer before its body."""

    request_id: str | None


def make_client(connect_timeout_s: float, transport: Transport | None = None) -> Client:
    """A client for one provider; close it with ``aclose``. Needs no running loop yet.

    Environment proxies and CA files (``SSL_CERT_FILE``, ``SSL_CERT_DIR``) are respected; a given transport has its own.
    Raises Invalid for one that cannot be used.
    """
    # It would print the vendor's address with each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    mounts: dict[str, Transport | None] = {}
    if transport is None:
        tls = _trust()
        transport, mounts = _Transport(tls), _proxies(tls)
    timeout = httpx.Timeout(None, connect=connect_timeout_s, pool=connect_timeout_s)
    return Client(transport=transport, mounts=mounts, timeout=timeout, trust_env=False, follow_redirects=False)


async def post_stream(
    client: Client,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    clock: Clock,
    expect: str = EVENT_STREAM,
    on_head: Callable[[Head], None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Send ``body`` and yield the answer's bytes as they arrive, after ``on_head`` was called with its head.

    Closing it, or cancelling who waits for it, closes the connection. Raises ProviderUnavailable if the upstream cannot
    be reached, ProviderTimedOut if not in time, ``failure_from_response`` for a status other than 2xx,
    ProviderMalformed for content of a type other than ``expect``, ProviderTruncated if the body breaks off.
    """
    response = await _send(client, url, headers, body, provider=provider, expect=expect)
    try:
        request_id = request_id_in(response.headers)
        if not response.is_success:
            upstream = await _read_bounded(response, headers)
            raise failure_from_response(
                provider, response.status_code, response.headers, upstream, now_s=clock.now_us() / 1e6
            )
        if not _is_type(response, expect):
            raise ProviderMalformed(
                f"{provider} answered with something else than {expect}",
                status=response.status_code,
                request_id=request_id,
                upstream=bounded(await _read_bounded(response, headers)),
            )
        if on_head is not None:
            on_head(Head(request_id))
        async with _reading(response) as read:
            while piece := await read():
                yield piece
    except _BROKEN as error:
        raise _broken_off(provider, error, response) from None
    finally:
        with suppress(*_BROKEN):
            await response.aclose()
        response.stream = httpx.ByteStream(b"")  # its own knows the response, and circles wait for the collector


async def drain(body: AsyncGenerator[bytes, None]) -> None:
    """Let a body that has said all it has to say come to its end, briefly, so that its connection can be used again."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in body:
                pass


@contextmanager
def on_record(headers: Mapping[str, str], request_id: Callable[[], str | None]) -> Iterator[None]:
    """What fails here goes on record with the request's id, and without the key, wherever an upstream shows it."""
    try:
        yield
    except ProviderError as error:
        error.request_id = error.request_id or request_id()
        error.upstream = _without_key(error.upstream, headers)
        if error.vendor_code != _without_key(error.vendor_code or "", headers):
            error.vendor_code = None
        raise


async def _send(
    client: Client, url: str, headers: Mapping[str, str], body: bytes, *, provider: str, expect: str
) -> httpx.Response:
    # Compressed events would sit in somebody's buffer.
    own = {"content-type": "application/json", "accept": expect, "accept-encoding": "identity"}
    request = httpx.Request(
        "POST",
        url,
        headers={**own, **headers, "content-length": str(len(body))},
        stream=_Pieces(body),
        extensions={"timeout": client.timeout.as_dict()},
    )
    try:
        return await client.send(request, stream=True)
    except httpx.TimeoutException:
        raise ProviderTimedOut(f"{provider} could not be connected to in time") from None
    except httpx.ConnectError:
        raise ProviderUnavailable(f"{provider} could not be reached") from None
    except httpx.DecodingError as error:
        if str(error) == HEAD_TOO_LARGE:
            raise ProviderTooLarge(f"{provider} answered with a head that is too large") from None
        raise ProviderMalformed(f"{provider} answered something that is not HTTP") from None
    except _BROKEN:
        raise ProviderUnavailable(f"{provider} closed the connection without an answer") from None


class _Pieces(httpx.AsyncByteStream):
    """A body that can be sent again. In pieces, because images make it large, and others want the loop meanwhile."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), PIECE_BYTES):
            yield self._body[start : start + PIECE_BYTES]


@asynccontextmanager
async def _reading(response: httpx.Response) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """What gives the next bytes of a body as they arrive, decompressed if they came so unasked; none at its end."""
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    content: aiohttp.StreamReader | None = response.extensions.get(CONTENT)
    if content is not None and not encoded:
        yield content.readany  # past three generators of the client's, which cost as much as all the rest
        return
    # Not aiter_raw, which counts bytes, and gives nothing of what a test's answer holds already.
    whole = response.aiter_bytes() if encoded else cast("AsyncIterable[bytes]", response.stream)
    async with aclosing(_filled(whole)) as pieces:
        yield lambda: anext(pieces, b"")


async def _filled(whole: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    pieces = aiter(whole)
    assert isinstance(pieces, AsyncGenerator)  # so declared or not: it has to be closed
    async with aclosing(pieces):
        async for piece in pieces:
            if piece:
                yield piece


def _is_type(response: httpx.Response, expect: str) -> bool:
    """Whether the content is of the type; a server that says nothing is believed."""
    given: str = response.headers.get("content-type", expect)
    return given.partition(";")[0].strip().lower() == expect


async def _read_bounded(response: httpx.Response, headers: Mapping[str, str]) -> bytes:
    """The beginning of a failure's body: bounded in bytes and in time, and whatever came if it breaks off.

    It goes on record, so the key is taken out: some servers show people what they sent.
    """
    read = bytearray()
    with suppress(TimeoutError, *_BROKEN):
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S), _reading(response) as more:
            while len(read) < UPSTREAM_BYTES and (piece := await more()):
                read += piece
    return _without_key(read.decode("latin-1"), headers).encode("latin-1")[:UPSTREAM_BYTES]


def _without_key(text: str, headers: Mapping[str, str]) -> str:
    """Also without half a key where the text was cut."""
    for name, value in headers.items():
        secret = value.rpartition(" ")[2]
        if not secret or name.lower() not in _SECRET_HEADERS:
            continue
        text = text.replace(secret, REDACTED)
        half = next((n for n in range(len(secret) - 1, len(REDACTED), -1) if text.endswith(secret[:n])), 0)
        text = text[: len(text) - half] + REDACTED * bool(half)
    return text


def _broken_off(provider: str, error: Exception, response: httpx.Response) -> ProviderError:
    kind = ProviderMalformed if isinstance(error, httpx.DecodingError) else ProviderTruncated
    return kind(
        f"the answer of {provider} broke off", status=response.status_code, request_id=request_id_in(response.headers)
    )


# --- the transport ----------------------------------------------------------------------------------------------------


class _Transport(httpx.AsyncBaseTransport):
    """aiohttp's transport with its failures told apart, and a second try where a kept-alive connection was dead.

    A server may drop a kept-alive connection at the moment it is used again. If nothing of an answer was received, the
    request goes out once more, on a connection that is certainly new.
    """

    def __init__(self, tls: ssl.SSLContext, proxy: httpx.Proxy | None = None) -> None:
        self._tls = tls
        self._kept_alive = AiohttpTransport(verify=tls, proxy=proxy, client=self._kept_alive_session)
        self._fresh = AiohttpTransport(verify=tls, proxy=proxy, client=self._fresh_session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _reused.set(False)
        try:
            return _with_content(await self._kept_alive.handle_async_request(request))
        except _BROKEN as error:
            if not (_reused.get() and _was_dropped(error)):
                raise _told_apart(error) from error
        try:
            return _with_content(await self._fresh.handle_async_request(request))
        except _BROKEN as error:
            raise _told_apart(error) from error

    async def aclose(self) -> None:
        await self._kept_alive.aclose()
        await self._fresh.aclose()

    def _kept_alive_session(self) -> aiohttp.ClientSession:
        return _session(aiohttp.TCPConnector(ssl=self._tls, limit=MAX_CONNECTIONS, keepalive_timeout=KEEPALIVE_S))

    def _fresh_session(self) -> aiohttp.ClientSession:
        return _session(aiohttp.TCPConnector(ssl=self._tls, limit=MAX_CONNECTIONS, force_close=True))


def _with_content(response: httpx.Response) -> httpx.Response:
    response.extensions[CONTENT] = _content.get()
    return response


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Without cookies: one conversation's answer must not colour another's request."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace], response_class=_Response
    )


class _Response(aiohttp.ClientResponse):
    """After an error in the framing of chunks, aiohttp (3.14) closes the connection and leaves its reader waiting."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        _content.set(self.content)  # within the request's own task, so the variable is the request's
        closed = None if connection.protocol is None else connection.protocol.closed
        if closed is not None:
            closed.remove_done_callback(_look_at)  # one for each connection, however often it is used again
            closed.add_done_callback(_look_at)
            closed.add_done_callback(self._connection_closed)
            self.content.on_eof(partial(self._content_complete, closed))
        return self

    def _content_complete(self, closed: asyncio.Future[None]) -> None:
        closed.remove_done_callback(self._connection_closed)

    def _connection_closed(self, _: asyncio.Future[None]) -> None:
        if not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientPayloadError())


def _look_at(closed: asyncio.Future[None]) -> None:
    """An exception that nobody looks at is logged as a mistake."""
    if not closed.cancelled():
        closed.exception()


async def _note_reuse(*_: object) -> None:
    _reused.set(True)  # within the request's own task, too


def _cause(error: BaseException) -> BaseException:
    """The adapter's translations are not to be trusted (a refused connection is a time-out to it); what it saw is."""
    return error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error


def _was_dropped(error: BaseException) -> bool:
    cause = _cause(error)
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # else it is the part of an answer that was received
    return isinstance(cause, aiohttp.ClientOSError) and not isinstance(cause, aiohttp.ClientConnectorError)


def _told_apart(error: Exception) -> httpx.HTTPError:
    cause = _cause(error)
    text = cause.__class__.__name__
    if isinstance(cause, TimeoutError):
        return httpx.ConnectTimeout(text)
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ClientSSLError | aiohttp.ClientHttpProxyError):
        return httpx.ConnectError(text)
    if isinstance(cause, aiohttp.ClientResponseError):
        return httpx.DecodingError(HEAD_TOO_LARGE if cause.message.startswith(_TOO_MUCH) else text)
    return httpx.ReadError(text)


def _trust() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError:
        raise Invalid("SSL_CERT_FILE", "does not name certificates that can be read") from None


def _proxies(tls: ssl.SSLContext) -> dict[str, Transport | None]:
    """The environment's proxies by httpx's rules, which it does not apply to a transport of one's own.

    Loopback addresses are never proxied: a model that runs beside the server is not to be found elsewhere.
    """
    found = getproxies()
    exempt = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    wanted = {scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme)}
    if "*" in exempt or not wanted:
        return {}
    if {"http", "https"} <= wanted.keys():
        wanted.pop("all", None)
    mounts: dict[str, Transport | None] = {
        f"{scheme}://": _Transport(tls, proxy=_proxy(f"{scheme}_proxy", address)) for scheme, address in wanted.items()
    }
    return mounts | {proxy_pattern(host): None for host in (*exempt, "localhost", "127.0.0.1", "::1")}


def _proxy(variable: str, address: str) -> httpx.Proxy:
    address = address if "://" in address else f"http://{address}"
    try:
        urlsplit(address)  # stricter than the next
        proxy = httpx.Proxy(address)
    except (ValueError, httpx.InvalidURL):
        raise Invalid(variable, "is not the address of a proxy") from None
    if proxy.url.scheme not in {"http", "https"}:
        raise Invalid(variable, "only http and https proxies can be used")
    return proxy
