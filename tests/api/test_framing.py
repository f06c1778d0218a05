"""Requests whose framing says more than the request: it is done once, and as its head says."""

import json
import socket

from tests.api.test_raw_http import post, read_answer


def test_trailers_are_no_headers(server):
    """A field in the trailer of a chunked body changes nothing of the request: not its id, and not who sends it."""
    with socket.create_connection(server.host, timeout=20) as connection:
        body = b"2\r\n{}\r\n0\r\nx-request-id: smuggled\r\nidempotency-key: smuggled\r\n\r\n"
        connection.sendall(post(b"transfer-encoding: chunked") + body)
        first = read_answer(connection)
        connection.sendall(post(b"transfer-encoding: chunked", b"x-request-id: mine") + body)
        second = read_answer(connection)
    assert first.startswith(b"HTTP/1.1 201")
    assert b"smuggled" not in first
    assert b"x-request-id: mine\r\n" in second
    ids = [json.loads(answer.partition(b"\r\n\r\n")[2])["id"] for answer in (first, second)]
    assert ids[0] != ids[1]


def test_garbage_after_a_request_leaves_its_answer(server):
    """What was asked is done once, and its answer comes; then the connection closes, and no other answer is given."""
    (before, _) = server.size()
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(post(b"content-length: 2") + b"{}garbage\r\n\r\n")
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 201")
    assert answer.count(b"HTTP/1.1") == 1
    assert server.size()[0] == before + 1
