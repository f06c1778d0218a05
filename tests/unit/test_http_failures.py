"""What can go wrong between us and an upstream, on real sockets: each failure has its type, and nobody's words leak.

The upstream is raw asyncio on a loopback port: it says, to the byte, what a server should never say.
"""

import asyncio
import socket
from contextlib import ExitStack, aclosing, asynccontextmanager
from email.utils import formatdate

import aiohttp
import httpx
import pytest

from manent.engine.clock import SystemClock
from manent.engine.errors import (
    Invalid,
    ProviderError,
    ProviderMalformed,
    ProviderRejected,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnavailable,
)
from manent.engine.providers.wire import http
from manent.engine.providers.wire.failures import UPSTREAM_BYTES, failure_from_response
from manent.engine.providers.wire.http import AnswerHead, drain, make_client, post_stream
from tests.support import alive

KEY = "sk-very-secret"
NOW_S = 1_800_000_000
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nx-request-id: r1\r\n\r\n"
LAST = b"0\r\n\r\n"


def part(data):
    """A chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(status, body=b"", *headers):
    """A whole answer."""
    lines = [b"HTTP/1.1 %d X" % status, b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Upstream:
    """What a test's server has seen."""

    def __init__(self):
        self.address = ""
        self.connections = 0
        self.requests = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()


@asynccontextmanager
async def upstream(play):
    """A server that hands each request, once read, to ``play(writer, number of the request)``."""
    seen, tasks = Upstream(), set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        seen.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1]) if length else 0)
                seen.requests.append((head, body))
                seen.asked.set()
                await play(writer, len(seen.requests))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.gone.set()
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's server would log it
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="module")
async def client(anyio_backend):
    """As the providers have it: one for all requests."""
    client = make_client(connect_timeout_s=5)
    yield client
    await client.aclose()


def post(client, address, body=b"{}", **options):
    """A stream from there."""
    headers = {"authorization": f"Bearer {KEY}"}
    return post_stream(client, address, headers, body, provider="openai", clock=SystemClock(), **options)


async def read(client, address, **options):
    """Everything that comes, as it came."""
    async with aclosing(post(client, address, **options)) as body:
        return await read_on(body)


async def read_on(body):
    """What is still to come."""
    return [data async for data in body]


async def failure(client, address, kind):
    """The failure that comes of it, which must be of the kind exactly, and must not say what it may not."""
    with pytest.raises(kind) as caught:
        await read(client, address)
    error = caught.value
    assert type(error) is kind
    assert error.detail.startswith(("openai ", "the answer of openai "))
    for secret in (KEY, "127.0.0.1", "/v1", "words of"):
        assert secret not in error.detail
    assert KEY not in f"{error!r} {error.upstream} {error.__cause__!r} {error.__context__!r}"
    return error


def plays(*parts):
    """An upstream that says these and goes on listening."""

    async def play(writer, number):
        for data in parts:
            writer.write(data)

    return upstream(play)


def breaks(*parts, reset=True):
    """An upstream that says these and drops the connection."""

    async def play(writer, number):
        for data in parts:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)
        if reset:
            writer.transport.abort()
        raise ConnectionResetError

    return upstream(play)


# --- what is sent, and what arrives -----------------------------------------------------------------------------------


async def test_bytes_arrive_as_they_were_sent(client):
    """Request and answer are bytes, and the head comes before the first of them."""
    heads = []
    async with plays(OK, part(b"data: a\n"), part(b"\n"), LAST) as seen:
        got = await read(client, seen.address, body=b'{"model": "m" }', on_head=heads.append)
    assert b"".join(got) == b"data: a\n\n"
    assert heads == [AnswerHead("r1")]
    (head, body), *_ = seen.requests
    assert body == b'{"model": "m" }'
    assert b"POST /v1 HTTP/1.1\r\n" in head
    for line in (b"Bearer sk-very-secret", b"Accept: text/event-stream", b"Accept-Encoding: identity", b"Length: 15"):
        assert line.lower() in head.lower()
    assert b"cookie" not in head.lower()


@pytest.mark.usefixtures("no_collector")
async def test_an_answer_leaves_nothing_behind(client):
    """Of what it was read with nothing stays in memory until somebody looks for circles."""
    before = alive(httpx.Request, httpx.Response, aiohttp.ClientResponse)
    async with plays(OK, part(b"data: a\n\n"), LAST) as seen:
        for _ in range(3):
            await read(client, seen.address)
    assert alive(httpx.Request, httpx.Response, aiohttp.ClientResponse) <= before


async def test_a_large_body_is_sent_whole(client):
    """Images make megabytes."""
    body = bytes(range(256)) * (12 << 10)
    async with plays(OK, LAST) as seen:
        assert await read(client, seen.address, body=body) == []
    assert seen.requests[0][1] == body


async def test_a_piece_arrives_before_the_next_is_sent(client):
    """Nothing is held back for more."""
    go_on = asyncio.Event()

    async def play(writer, number):
        writer.write(OK + part(b"first"))
        await go_on.wait()
        writer.write(part(b"second") + LAST)

    async with upstream(play) as seen, aclosing(post(client, seen.address)) as body:
        assert await anext(body) == b"first"
        go_on.set()
        assert await read_on(body) == [b"second"]


async def test_a_connection_is_used_again(client):
    """An answer that was read to its end leaves its connection open; one drained after its last word does too."""
    async with plays(OK, part(b"x"), LAST) as seen:
        for _ in range(3):
            await read(client, seen.address)
        async with aclosing(post(client, seen.address)) as body:
            await anext(body)
            await drain(body)
        await read(client, seen.address)
    assert (seen.connections, len(seen.requests)) == (1, 5)


async def test_draining_waits_for_nobody(client):
    """A server that does not end its body does not hold the answer's end."""
    async with plays(OK, part(b"data: [DONE]\n\n")) as seen, aclosing(post(client, seen.address)) as body:
        await anext(body)
        async with asyncio.timeout(1):
            await drain(body)


async def test_cookies_are_not_kept(client):
    """One conversation's answer must not colour another's request."""
    async with plays(OK.replace(b"x-request-id: r1", b"set-cookie: a=b; Path=/"), LAST) as seen:
        await read(client, seen.address)
        await read(client, seen.address)
    assert b"cookie" not in seen.requests[1][0].lower()


async def test_five_hundred_streams_run_at_once(client):
    """No limit of the client is in the way: all are open before any ends."""
    count, go_on = 500, asyncio.Event()

    async def play(writer, number):
        writer.write(OK + part(b"x"))
        if number == count:
            go_on.set()
        await go_on.wait()
        writer.write(LAST)

    async with upstream(play) as seen, asyncio.timeout(15):
        assert await asyncio.gather(*(read(client, seen.address) for _ in range(count))) == [[b"x"]] * count


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_closing_the_iterator_closes_the_connection(client):
    """The upstream stops at once: tokens cost money."""
    async with plays(OK, part(b"x")) as seen:
        body = post(client, seen.address)
        await anext(body)
        await body.aclose()
        async with asyncio.timeout(1):
            await seen.gone.wait()


@pytest.mark.parametrize("said", [(), (OK,), (OK, part(b"x"))], ids=["nothing", "head", "some"])
async def test_cancelling_closes_the_connection(client, said):
    """Also before the first byte."""
    async with plays(*said) as seen:
        task = asyncio.create_task(read(client, seen.address))
        await seen.asked.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(1):
            await seen.gone.wait()


# --- no connection ----------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable(client):
    """Nobody listens: come again."""
    async with plays() as seen:
        pass
    error = await failure(client, seen.address, ProviderUnavailable)
    assert (error.retryable, error.status) == (True, None)


async def test_a_name_that_does_not_resolve_is_unavailable(client):
    """As good as nobody there."""
    await failure(client, "http://nowhere.invalid/v1", ProviderUnavailable)


async def test_a_server_that_does_not_speak_tls_is_unavailable(client):
    """The connection is made, and no trust."""

    async def greet(reader, writer):
        writer.write(b"220 Welcome\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await failure(client, f"https://127.0.0.1:{port}/v1", ProviderUnavailable)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectTimeout("x"), ProviderTimedOut),
        (httpx.PoolTimeout("x"), ProviderTimedOut),
        (httpx.ConnectError("x"), ProviderUnavailable),
        (httpx.ReadError("x"), ProviderUnavailable),
        (OSError("x"), ProviderUnavailable),
        (aiohttp.ClientError("x"), ProviderUnavailable),
    ],
)
async def test_what_fails_before_an_answer_has_its_type(raised, kind):
    """Whatever the transport raises comes out as a ProviderError."""

    def fail(request):
        raise raised

    async with make_client(5, httpx.MockTransport(fail)) as client:
        await failure(client, "http://upstream.test/v1", kind)


async def test_connecting_has_a_time_limit():
    """A server whose queue is full does not answer at all."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        host, port = server.getsockname()
        for _ in range(4):  # the queue takes one or two; the others make sure
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((host, port))
        async with make_client(connect_timeout_s=0.2) as client:
            await failure(client, f"http://{host}:{port}/v1", ProviderTimedOut)


# --- broken connections -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_lost_before_the_head_is_unavailable(client, reset):
    """A new connection is not tried twice: the server may have begun to work."""
    async with breaks(reset=reset) as seen:
        await failure(client, seen.address, ProviderUnavailable)
    assert len(seen.requests) == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_a_connection_lost_within_the_body_is_truncated(client, reset):
    """What came before it was given."""
    async with breaks(OK, part(b"first"), b"7\r\nsec", reset=reset) as seen:
        body = post(client, seen.address)
        assert await anext(body) == b"first"
        with pytest.raises(ProviderTruncated) as caught:
            await read_on(body)
    assert (caught.value.status, caught.value.request_id, caught.value.retryable) == (200, "r1", True)


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"]
)
async def test_an_answer_that_is_not_http_is_malformed(client, garbage):
    """Another kind of server listens there."""
    async with plays(garbage) as seen:
        await failure(client, seen.address, ProviderMalformed)


async def test_a_broken_chunk_is_truncated(client):
    """The framing of the body is part of its end."""
    async with breaks(OK, part(b"first"), b"zz\r\n") as seen:
        await failure(client, seen.address, ProviderTruncated)


def drops_the_second(*said, reset=True, also_later=False):
    """An upstream that answers once, and drops the kept-alive connection when it is used again."""

    async def play(writer, number):
        if number == 1 or (number > 2 and not also_later):
            writer.write(OK + part(b"x") + LAST)
            return
        for data in said:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.01)
        if reset:
            writer.transport.abort()
        raise ConnectionResetError

    return upstream(play)


@pytest.mark.parametrize("reset", [True, False])
async def test_a_dropped_kept_alive_connection_is_replaced_once(client, reset):
    """Nothing was received, so the same request goes out again, on a new connection."""
    async with drops_the_second(reset=reset) as seen:
        await read(client, seen.address)
        assert await read(client, seen.address, body=b'{"second": 1}') == [b"x"]
    assert [body for _, body in seen.requests] == [b"{}", b'{"second": 1}', b'{"second": 1}']
    assert seen.connections == 2


async def test_a_connection_is_replaced_no_more_than_once(client):
    """A server that drops the new one as well is not available."""
    async with drops_the_second(also_later=True) as seen:
        await read(client, seen.address)
        await failure(client, seen.address, ProviderUnavailable)
    assert len(seen.requests) == 3


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n", OK])
async def test_nothing_is_sent_again_once_something_was_received(client, said):
    """The upstream has begun to answer, and to count."""
    async with drops_the_second(said, reset=False) as seen:
        await read(client, seen.address)
        with pytest.raises(ProviderError):
            await read(client, seen.address)
    assert len(seen.requests) == 2


# --- answers that are none --------------------------------------------------------------------------------------------

STATUSES = {
    ProviderRejected: (301, 302, 307, 400, 401, 402, 403, 404, 413, 418, 422),
    ProviderUnavailable: (408, 409, 429, 500, 502, 503, 504, 529, 599),
}


@pytest.mark.parametrize(("status", "kind"), [(status, kind) for kind, all_ in STATUSES.items() for status in all_])
async def test_a_status_has_its_type(client, status, kind):
    """What may pass is unavailable, what will come again is rejected."""
    body = b'{"error":{"message":"words of the upstream","type":"some_error","code":null}}'
    async with plays(answer(status, body, b"request-id: req_7", b"location: http://elsewhere.invalid/")) as seen:
        error = await failure(client, seen.address, kind)
    assert (error.status, error.vendor_code, error.request_id) == (status, "some_error", "req_7")
    assert error.upstream == body.decode()
    assert error.retryable is (kind is ProviderUnavailable)
    assert len(seen.requests) == 1


async def test_a_redirect_is_not_followed(client):
    """A key goes where it was meant to go."""
    async with plays(OK, LAST) as other, plays(answer(307, b"", b"location: " + other.address.encode())) as seen:
        await failure(client, seen.address, ProviderRejected)
    assert other.requests == []


async def test_a_key_that_is_shown_back_does_not_go_on_record(client):
    """Some servers tell people what they sent."""
    async with plays(answer(401, f'{{"error":"bad key {KEY}"}}'.encode())) as seen:
        error = await failure(client, seen.address, ProviderRejected)
    assert error.upstream == '{"error":"bad key [secret]"}'


async def test_an_upstreams_body_is_bounded(client):
    """16 KiB of it go on record, readable, whatever the bytes."""
    async with plays(answer(500, b"\xff" + b"x" * 100_000)) as seen:
        error = await failure(client, seen.address, ProviderUnavailable)
    assert error.upstream == "\ufffd" + "x" * (UPSTREAM_BYTES - 1)


async def test_an_endless_error_body_ends(client):
    """The upstream is left as soon as there is enough."""

    async def play(writer, number):
        writer.write(OK.replace(b"200", b"500"))
        while True:
            writer.write(part(b"x" * 1000))
            await writer.drain()

    async with upstream(play) as seen, asyncio.timeout(2):
        error = await failure(client, seen.address, ProviderUnavailable)
        await seen.gone.wait()
    assert len(error.upstream) == UPSTREAM_BYTES


async def test_an_error_body_that_stalls_is_not_waited_for(client, monkeypatch):
    """The status is what counts."""
    monkeypatch.setattr(http, "ERROR_BODY_TIMEOUT_S", 0.05)
    async with plays(OK.replace(b"200", b"429"), part(b"some")) as seen:
        error = await failure(client, seen.address, ProviderUnavailable)
    assert (error.status, error.upstream) == (429, "some")


@pytest.mark.parametrize("content_type", [b"text/html", b"application/json; charset=utf-8", b"text/plain"])
async def test_an_answer_of_another_type_is_malformed(client, content_type):
    """A login page, or a server that does not stream."""
    async with plays(answer(200, b"<p>words of a page</p>", b"content-type: " + content_type)) as seen:
        error = await failure(client, seen.address, ProviderMalformed)
    assert (error.status, error.upstream) == (200, "<p>words of a page</p>")


@pytest.mark.parametrize("header", [b"content-type: Text/Event-Stream;charset=UTF-8\r\n", b""])
async def test_an_event_stream_is_known(client, header):
    """With parameters, in any case, and where a server does not say."""
    async with plays(OK.replace(b"content-type: text/event-stream\r\n", header), part(b"x"), LAST) as seen:
        assert await read(client, seen.address) == [b"x"]


async def test_a_body_that_does_not_decompress_is_malformed(client):
    """Nobody asked for it."""
    async with plays(OK.replace(b"x-request-id: r1", b"content-encoding: gzip"), part(b"not gzip"), LAST) as seen:
        await failure(client, seen.address, ProviderMalformed)


# --- headers of failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "retry_after_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(NOW_S + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW_S + 90)}, 90.0),
        ({"retry-after": formatdate(NOW_S - 90, usegmt=True)}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "inf"}, None),
        ({"retry-after": "Mon, 99 Foo 2026 99:99:99 GMT"}, None),
    ],
)
def test_every_form_of_retry_after_is_read(headers, retry_after_s):
    """Milliseconds, seconds, a date; nonsense is nothing."""
    error = failure_from_response("openai", 429, httpx.Headers(headers), b"", now_s=NOW_S)
    assert error.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("status", "value", "kind"),
    [
        (429, "false", ProviderRejected),
        (500, "false", ProviderRejected),
        (500, "true", ProviderUnavailable),
        (400, "true", ProviderRejected),
    ],
)
def test_a_vendor_may_forbid_a_retry(status, value, kind):
    """It knows better than its status."""
    error = failure_from_response("openai", status, httpx.Headers({"X-Should-Retry": value}), b"", now_s=NOW_S)
    assert type(error) is kind


@pytest.mark.parametrize(
    ("body", "vendor_code"),
    [
        (b'{"error":{"code":"model_not_found","type":"invalid_request_error"}}', "model_not_found"),
        (b'{"error":{"code":404,"type":"t"}}', "404"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', "overloaded_error"),
        (b'{"error":"words"}', None),
        (b'{"error":{"code":"words of somebody"}}', None),
        (b'{"code":"bare"}', "bare"),
        (b"<html>", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 10_000, None),
    ],
)
def test_a_vendors_code_is_a_word_or_nothing(body, vendor_code):
    """It becomes a fact, which is hashed for ever: no text gets in there."""
    assert failure_from_response("openai", 400, {}, body, now_s=NOW_S).vendor_code == vendor_code


@pytest.mark.parametrize(("value", "request_id"), [("req_1", "req_1"), ("x" * 129, None), ("a\x01b", None), ("", None)])
def test_a_request_id_is_bounded(value, request_id):
    """It goes on record as the vendor wrote it, if it can be one."""
    assert failure_from_response("openai", 400, {"x-request-id": value}, b"", now_s=NOW_S).request_id == request_id


# --- the environment --------------------------------------------------------------------------------------------------


async def test_the_environments_proxy_is_used(monkeypatch):
    """And the key goes through it as a request and not into its address."""
    async with plays(OK, part(b"x"), LAST) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with make_client(5) as client:
            assert await read(client, "http://vendor.invalid/v1") == [b"x"]
    assert proxy.requests[0][0].startswith(b"POST http://vendor.invalid/v1 HTTP/1.1\r\n")


@pytest.mark.parametrize("exempt", ["127.0.0.1", "*", "", "localhost,example.org"])
async def test_a_loopback_address_is_never_proxied(monkeypatch, exempt):
    """What runs beside the server is not to be found elsewhere."""
    async with plays(OK, LAST) as proxy, plays(OK, part(b"x"), LAST) as seen:
        monkeypatch.setenv("ALL_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", exempt)
        async with make_client(5) as client:
            assert await read(client, seen.address) == [b"x"]
    assert proxy.requests == []


@pytest.mark.parametrize("exempt", ["vendor.invalid", ".invalid", "a, invalid", "*", "http://vendor.invalid"])
async def test_exempt_hosts_are_reached_directly(monkeypatch, exempt):
    """By the rules that httpx has for NO_PROXY."""
    async with plays(OK, LAST) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", exempt)
        async with make_client(5) as client:
            await failure(client, "http://vendor.invalid/v1", ProviderUnavailable)
    assert proxy.requests == []


@pytest.mark.parametrize("host", ["10.0.0.1", "::1", "[fe80::1]", "localhost:80", "example.org", ".example.org"])
def test_every_form_of_an_exempt_host_is_a_pattern(monkeypatch, host):
    """No entry of NO_PROXY keeps the server from starting."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", host)
    assert make_client(5)


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "ftp://x", "http://[", "http://x:port"])
def test_a_proxy_that_cannot_be_used_is_refused(monkeypatch, address):
    """Going around it in silence would be worse."""
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(Invalid, match="https_proxy"):
        make_client(5)


def test_certificates_that_cannot_be_read_are_refused(monkeypatch):
    """The setting is named, and the path is not."""
    monkeypatch.setenv("SSL_CERT_FILE", "nothing-here.pem")
    with pytest.raises(Invalid, match="SSL_CERT_FILE") as caught:
        make_client(5)
    assert "nothing-here" not in caught.value.detail


def test_certificates_of_the_environment_are_trusted(monkeypatch, tmp_path):
    """They stand in the place of the built-in ones."""
    empty = tmp_path / "none.pem"
    empty.write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    with pytest.raises(Invalid):
        make_client(5)
