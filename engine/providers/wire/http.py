"""HTTP towards the vendors: this module and ``transport`` alone know httpx.

A request is bytes, an answer is bytes as they arrive, and every failure is one of ``engine.errors``. Details name the
provider and the status; what the upstream said goes into ``upstream``, for the record alone, and addresses, headers and
keys go nowhere.

Time limits beyond connecting, retries and circuit breaking are the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import cast

import aiohttp
import httpx
import msgspec

from ...clock import Clock
from ...errors import (
    ProviderError,
    ProviderMalformed,
    ProviderTimedOut,
    ProviderTooLarge,
    ProviderTruncated,
    ProviderUnavailable,
)
from ..secrets import Secrets
from .failures import UPSTREAM_BYTES, bounded, failure_from_response, request_id_in
from .transport import BROKEN, CONTENT, HEAD_TOO_LARGE, Transport, make_transport

Client = httpx.AsyncClient

EVENT_STREAM = "text/event-stream"
PIECE_BYTES = 256 << 10
ERROR_BODY_TIMEOUT_S = 5
DRAIN_S = 0.05

_SECRET_HEADERS = frozenset({"authorization", "x-api-key"})


class AnswerHead(msgspec.Struct, frozen=True):
    """The head of an answer, as far as a provider needs it before the body."""

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
        transport, mounts = make_transport()
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
    on_head: Callable[[AnswerHead], None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Send ``body`` and yield the answer's bytes as they arrive, after ``on_head`` was called with its head.

    Closing it, or cancelling who waits for it, closes the connection. Raises ProviderUnavailable if the upstream cannot
    be reached, ProviderTimedOut if not in time, ``failure_from_response`` for a status other than 2xx,
    ProviderMalformed for content of a type other than ``expect``, ProviderTruncated if the body breaks off.
    """
    response = await _send(client, url, headers, body, provider=provider, expect=expect)
    try:
        if not (response.is_success and _is_type(response, expect)):
            raise _failure(provider, response, await _read_bounded(response, headers), expect, clock)
        if on_head is not None:
            on_head(AnswerHead(request_id_in(response.headers)))
        async with _reading(response) as read:
            while piece := await read():
                yield piece
    except BROKEN as error:
        raise _broken_off(provider, error, response) from None
    finally:
        with suppress(*BROKEN):
            await response.aclose()
        response.stream = httpx.ByteStream(b"")  # its own refers to the response: a cycle, for the collector


async def drain(body: AsyncGenerator[bytes, None]) -> None:
    """Read a finished body to its end, briefly, so that its connection can be used again."""
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in body:
                pass


@contextmanager
def on_record(headers: Mapping[str, str], request_id: Callable[[], str | None]) -> Iterator[None]:
    """Errors of this block go on record with the request's id, and without the key, even if the upstream shows it."""
    try:
        yield
    except ProviderError as error:
        error.request_id = error.request_id or request_id()
        secrets = _secrets_in(headers)
        error.upstream = secrets.cut_end(error.upstream)
        if secrets.are_in(error.vendor_code or ""):
            error.vendor_code = None
        raise


async def _send(
    client: Client, url: str, headers: Mapping[str, str], body: bytes, *, provider: str, expect: str
) -> httpx.Response:
    # Compressed events would be held in buffers on the way.
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
    except BROKEN:
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
    """A function that returns the next bytes of a body as they arrive, decompressed if they came so unasked; none at
    its end.
    """
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    content: aiohttp.StreamReader | None = response.extensions.get(CONTENT)
    if content is not None and not encoded:
        yield content.readany  # without three generators of the client's, which cost as much as all the rest
        return
    # Not aiter_raw, which counts bytes, and returns nothing of a body that a test has set.
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


def _failure(provider: str, response: httpx.Response, body: bytes, expect: str, clock: Clock) -> ProviderError:
    """The failure that an answer means by its status, or by its type."""
    status, headers = response.status_code, response.headers
    if not response.is_success:
        return failure_from_response(provider, status, headers, body, now_s=clock.now_us() / 1e6)
    return ProviderMalformed(
        f"{provider} answered with a type other than {expect}",
        status=status,
        request_id=request_id_in(headers),
        upstream=bounded(body),
    )


def _is_type(response: httpx.Response, expect: str) -> bool:
    """True if the content is of the expected type, or no type is given."""
    given: str = response.headers.get("content-type", expect)
    return given.partition(";")[0].strip().lower() == expect


async def _read_bounded(response: httpx.Response, headers: Mapping[str, str]) -> bytes:
    """The beginning of a failure's body: bounded in bytes and in time, and whatever came if it breaks off.

    It goes on record, so the key is taken out: some servers show clients what they sent.
    """
    read = bytearray()
    with suppress(TimeoutError, *BROKEN):
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S), _reading(response) as more:
            while len(read) < UPSTREAM_BYTES and (piece := await more()):
                read += piece
    return _secrets_in(headers).cut_end(read.decode("latin-1")).encode("latin-1")[:UPSTREAM_BYTES]


def _secrets_in(headers: Mapping[str, str]) -> Secrets:
    """The key that a request is sent with."""
    return Secrets(value.rpartition(" ")[2] for name, value in headers.items() if name.lower() in _SECRET_HEADERS)


def _broken_off(provider: str, error: Exception, response: httpx.Response) -> ProviderError:
    kind = ProviderMalformed if isinstance(error, httpx.DecodingError) else ProviderTruncated
    return kind(
        f"the answer of {provider} broke off", status=response.status_code, request_id=request_id_in(response.headers)
    )
