"""HEAD is GET without the body: the same status and headers, wherever GET is served, and nothing is done for it."""

import asyncio
import re
import socket
import time

import pytest

from manent.api.app import NATIVE_ROUTES, VENDOR_ROUTES
from manent.api.compat import plumego
from tests.api.test_raw_http import head

OF_EACH_ANSWER = {"date", "x-request-id", "request-id", "transfer-encoding"}
"""Headers that differ from answer to answer, or say how a body is sent."""

PATHS = sorted(
    re.sub(r":\w+\}", "}", path)
    for handler in [*NATIVE_ROUTES, *plumego.ROUTES, *VENDOR_ROUTES]
    for path in handler.paths
    if "GET" in handler.http_methods
)
QUERIES = {"/api/ai/stream": "?q=x", "/api/log/consistency": "?from=1"}
MODEL = {"provider": "echo", "name": "echo", "model_id": "echo/echo"}
MORE = ["/schema", "/schema/openapi.json", "/api/nothing", "/api/sessions/abc", "/api/sessions?limit=0"]


@pytest.fixture(scope="module")
def names(client):
    """Ids for all paths."""
    session = client.post("/api/sessions").json()["id"]
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    replay = client.post("/api/replays", json={"sessions": [session], "mode": "recorded"}).json()["id"]
    while client.get(f"/api/replays/{replay}").json()["status"] == "running":
        time.sleep(0.05)
    client.post("/api/suites", json={"name": MODEL["name"], "items": [{"turn_id": turn}]})
    client.post("/api/log/checkpoint")
    ids = {"session_id": session, "turn_id": turn, "replay_id": replay}
    return {"version": 1, "tile": "0/000.p/1"} | ids | MODEL | kept_by(client)


def kept_by(client):
    """Ids of what clients of vendors' protocols keep here."""
    messages = [{"role": "user", "content": "x"}]
    completion = client.post("/v1/chat/completions", json={"model": "echo/echo", "messages": messages, "store": True})
    response = client.post("/v1/responses", json={"model": "echo/echo", "input": "x"})
    conversation = client.post("/v1/conversations", json={"items": messages}).json()["id"]
    item = client.get(f"/v1/conversations/{conversation}/items").json()["data"][0]["id"]
    ids = {"completion_id": completion.json()["id"], "response": response.json()["id"]}
    return ids | {"conversation_id": conversation, "item_id": item, "chat_id": "no-chat"}


def seen_of(client, method, path):
    with client.stream(method, path) as response:
        if path.startswith("/api/ai/"):
            response.read()  # until the turn that it has started has ended
        apart = OF_EACH_ANSWER | ({"content-length"} if path == "/metrics" else set())  # each request is a figure more
        headers = {name: value for name, value in response.headers.items() if name not in apart}
        return response.status_code, headers


@pytest.mark.parametrize("path", PATHS + MORE)
def test_the_same_but_for_the_body(client, server, names, path):
    """Status and headers are those of GET; there is no body, and the connection serves the next request."""
    path = path.format(**names) + QUERIES.get(path, "")
    status, headers = seen_of(client, "GET", path)
    headers.pop("x-session-id", None)  # of a turn that the guide's stream has started
    before = server.size()
    began = time.monotonic()
    response = client.head(path)
    assert time.monotonic() - began < 5
    assert response.content == b""
    assert seen_of(client, "HEAD", path) == (status, headers)
    assert server.size() == before


def test_nothing_but_the_head_is_sent(server, names):
    """On the wire: a head, and the next request's answer right behind it."""
    paths = [f"/api/sessions/{names['session_id']}/events/stream", "/api/sessions", "/api/nothing"]
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(b"".join(head(start=b"HEAD %b HTTP/1.1" % path.encode()) for path in paths))
        connection.sendall(head(b"connection: close", start=b"HEAD /healthz HTTP/1.1"))
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    heads = answer.split(b"\r\n\r\n")
    assert [each.split(b" ")[1] for each in heads[:-1]] == [b"200", b"200", b"404", b"200"]
    assert heads[-1] == b""


def test_an_older_client(server):
    """HTTP/1.0 gets a head and the end."""
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(b"HEAD /api/events/stream HTTP/1.0\r\nhost: localhost\r\n\r\n")
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


def test_nobody_reads_on(server, client, names):
    """A stream of which the head was asked has no reader afterwards."""
    for _ in range(10):
        client.head(f"/api/sessions/{names['session_id']}/events/stream")
    found = asyncio.run_coroutine_threadsafe(_tasks(), server.loop).result(10)
    assert not [name for name in found if "EventStream" in name]


async def _tasks():
    await asyncio.sleep(0.2)
    return [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
