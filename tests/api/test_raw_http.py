"""What is no proper HTTP: heads without end, broken framing, garbage. Answered in words, bounded, and survived."""

import json
import re
import socket
import threading
from contextlib import suppress

import pytest

from tests.api.harness import problem

pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.fixture
def exchange(server):
    """Sends bytes, as long as they are taken, and gives back the answer."""

    def send(data):
        with socket.create_connection(server.host, timeout=20) as connection:
            sending = threading.Thread(target=_send, args=(connection, [data] if isinstance(data, bytes) else data))
            sending.start()
            answer = read_answer(connection)
            connection.shutdown(socket.SHUT_RDWR)
            sending.join()
        return answer

    return send


def _send(connection, pieces):
    with suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)


def read_answer(connection):
    """One answer: its head, and as much of a body as it announces."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += (chunk := connection.recv(1))
        assert chunk, f"the connection closed after {answer!r}"
    length = int(re.search(rb"content-length: (\d+)", answer)[1])
    while length:
        chunk = connection.recv(length)
        assert chunk, f"the connection closed within the body of {answer!r}"
        answer, length = answer + chunk, length - len(chunk)
    return answer


def read_refusal(answer, status, code):
    """The problem document in raw bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode(), answer[:300]
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert headers[b"content-type"] == b"application/problem+json"
    document = json.loads(body)
    assert document["code"] == code
    assert document["status"] == status
    assert document["request_id"].encode() == headers[b"x-request-id"]
    assert {"type", "title", "detail"} <= document.keys()


def endless(piece=b"x" * 4096):
    while True:
        yield piece


def head(*lines, start=b"GET /api/sessions HTTP/1.1"):
    return b"\r\n".join([start, b"host: localhost", *lines, b"", b""])


def test_headers_without_end(exchange):
    """A header bomb is refused long before it has taken memory."""
    answer = exchange(
        (b"x-%d: %b\r\n" % (number, b"y" * 2000) if number else b"GET / HTTP/1.1\r\n") for number in range(9999)
    )
    read_refusal(answer, 431, "headers_too_large")


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nx: ",
        b"GET / HTTP/1.1\r\n",
        b"GET /",
        b"GET /?",
        b"GET / HTTP/1.1\r\nhost: localhost\r\ncookie: ",
    ],
)
def test_one_line_without_end(exchange, start):
    """So is a single line of it, be it the URL."""

    def pieces():
        yield start
        yield from endless()

    answer = exchange(pieces())
    read_refusal(answer, 431, "headers_too_large")


@pytest.mark.parametrize("size", [33 << 10, 60 << 10, 1 << 20])
@pytest.mark.parametrize("place", [b"GET /api/%b HTTP/1.1", b"GET /?cursor=%b HTTP/1.1", b"GET / HTTP/1.1\r\nx: %b"])
def test_a_head_that_is_whole_and_too_large(exchange, size, place):
    """Refused, however it arrives."""
    read_refusal(exchange(head(start=place % (b"x" * size))), 431, "headers_too_large")


def test_many_small_headers(client):
    """A thousand short lines are a large head too."""
    response = client.get("/healthz", headers={f"x-{number}": "y" * 30 for number in range(1000)})
    problem(response, 431, "headers_too_large")


def test_a_head_below_the_limit(client):
    """What is within the limit is served."""
    assert client.get("/healthz", headers={"x-filling": "x" * (31 << 10)}).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: localhost\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nbad header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"POST /api/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_request(exchange, data):
    """A 400 with a problem document."""
    answer = exchange(data)
    read_refusal(answer, 400, "bad_request")


def post(*lines):
    return head(b"content-type: application/json", *lines, start=b"POST /api/sessions HTTP/1.1")


def test_a_body_in_broken_pieces(exchange):
    """A 400 where the framing of a chunked body makes no sense."""
    answer = exchange([post(b"transfer-encoding: chunked"), b'5\r\n{"tit\r\n', b"zz\r\n"])
    read_refusal(answer, 400, "bad_request")


@pytest.mark.parametrize("end", [b"5;x=", b"0\r\n", b"0\r\nx: "])
def test_around_the_pieces_of_a_body(exchange, end):
    """Extensions of chunks and trailers have no end either, and are refused as a head would be."""

    def pieces():
        yield post(b"transfer-encoding: chunked") + end
        yield from endless(b"x: yyyyyyyyyyyyyyyy\r\n" * 200 if end == b"0\r\n" else b"x" * 4096)

    answer = exchange(pieces())
    read_refusal(answer, 431, "headers_too_large")


def test_a_body_that_breaks_off(server):
    """A client that leaves within its body leaves nothing behind."""
    with socket.create_connection(server.host) as connection:
        connection.sendall(post(b"content-length: 1000") + b'{"title": "x')


def test_the_next_request_after_all_this(client):
    """The server goes on as before."""
    assert client.get("/readyz").json() == {"status": "ready", "damaged": 0}


def test_requests_in_one_packet(server):
    """Pipelined requests are answered one after the other."""
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(head(start=b"GET /healthz HTTP/1.1") + head(start=b"GET /nothing HTTP/1.1"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        read_refusal(read_answer(connection), 404, "not_found")


@pytest.mark.parametrize(
    ("lines", "code", "field"),
    [
        ((b"host: localhost", b"host: example.org"), "duplicate_field", "Host"),
        ((b"host: localhost", b"Host: localhost"), "duplicate_field", "Host"),
        (
            (b"host: localhost", b"authorization: Bearer a", b"Authorization: Bearer b"),
            "duplicate_field",
            "Authorization",
        ),
        ((b"x: y",), "missing_field", "Host"),
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_what_decides_who_is_served_is_said_once(exchange, lines, code, field, version):
    """A request names its host once, and one key at most: two readers could take two."""
    answer = exchange(b"\r\n".join([b"GET /healthz HTTP/" + version, *lines, b"", b""]))
    read_refusal(answer, 400, code)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["field"] == field


def test_garbage_during_an_answer(server, session):
    """It ends the connection, and does not get into the answer."""
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(head(start=b"GET /api/sessions/%b/events/stream HTTP/1.1" % session.encode()))
        answer = b""
        while b": caught-up" not in answer:
            answer += connection.recv(1 << 16)
        connection.sendall(b"garbage\r\n\r\n")
        while chunk := connection.recv(1 << 16):
            answer += chunk
    assert answer.count(b"HTTP/1.1") == 1
