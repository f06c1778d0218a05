"""The transport beneath httpx: aiohttp's, with what the adapter between the two gets wrong put right.

aiohttp's transport costs less than half per chunk, and does not walk all connections for each request. The
environment's proxies and CA files are respected.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar
from functools import partial
from urllib.parse import urlsplit
from urllib.request import getproxies

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from ...errors import Invalid
from .addresses import proxy_pattern

Transport = httpx.AsyncBaseTransport

MAX_CONNECTIONS = 4096
KEEPALIVE_S = 30
HEAD_TOO_LARGE = "head too large"
_TOO_MUCH = ("Got more than", "Too many headers")  # aiohttp's words for it, which has no type of its own

CONTENT = "aiohttp_content"  # a response's extension: what its body is read from; a test's has none

# Whatever the adapter lets through must still come out as a ProviderError.
BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)

_reused: ContextVar[bool] = ContextVar("reused", default=False)
_content: ContextVar[aiohttp.StreamReader] = ContextVar("content")


def make_transport() -> tuple[Transport, dict[str, Transport | None]]:
    """The default transport, and the transports of address patterns: a proxy's, or None for the default one.

    Raises Invalid for a proxy or a CA file of the environment that cannot be used.
    """
    tls = _trust()
    return _RetryingTransport(tls), _proxies(tls)


class _RetryingTransport(httpx.AsyncBaseTransport):
    """aiohttp's transport, with its failures distinguished, and a retry if a kept-alive connection was dead.

    A server may drop a kept-alive connection at the moment it is used again. If nothing of an answer was received, the
    request is sent once more, on a connection that is certainly new.
    """

    def __init__(self, tls: ssl.SSLContext, proxy: httpx.Proxy | None = None) -> None:
        self._tls = tls
        self._kept_alive = AiohttpTransport(verify=tls, proxy=proxy, client=self._kept_alive_session)
        self._fresh = AiohttpTransport(verify=tls, proxy=proxy, client=self._fresh_session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _reused.set(False)
        try:
            return _with_content(await self._kept_alive.handle_async_request(request))
        except BROKEN as error:
            if not (_reused.get() and _was_dropped(error)):
                raise _told_apart(error) from error
        try:
            return _with_content(await self._fresh.handle_async_request(request))
        except BROKEN as error:
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
    """A session without cookies: one conversation's answer must not influence another's request."""
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_reuse)
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace], response_class=_Response
    )


class _Response(aiohttp.ClientResponse):
    """A response whose reader is told of the connection's end: after an error in the framing of chunks, aiohttp (3.14)
    closes the connection and leaves its reader waiting.
    """

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
    """Retrieve the exception: one that is never retrieved is logged as a mistake."""
    if not closed.cancelled():
        closed.exception()


async def _note_reuse(*_: object) -> None:
    _reused.set(True)  # within the request's own task, too


def _cause(error: BaseException) -> BaseException:
    """The cause of an error as aiohttp saw it: the adapter's translations are wrong (a refused connection becomes a
    timeout).
    """
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
    """The environment's proxies by httpx's rules, which it does not apply to a custom transport.

    Loopback addresses are never proxied: a model beside the server cannot be reached through a proxy.
    """
    found = getproxies()
    exempt = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    wanted = {scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme)}
    if "*" in exempt or not wanted:
        return {}
    if {"http", "https"} <= wanted.keys():
        wanted.pop("all", None)
    mounts: dict[str, Transport | None] = {
        f"{scheme}://": _RetryingTransport(tls, proxy=_proxy(f"{scheme}_proxy", address))
        for scheme, address in wanted.items()
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
