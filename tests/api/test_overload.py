"""More than there is room for is refused at once, with a time to come again, while what runs goes on."""

import asyncio
import json
import socket
import threading
import time

import pytest

from manent.api import server as api_server
from manent.api.http.errors import Problem
from manent.api.http.middleware import Bodies
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem

STEADY = {"text": "abcdefghij" * 20, "chunk_chars": 2, "every_ms": 10}


def settings_for(folder, **options):
    settings = settings_on(folder, **options)
    models = {
        "steady": [{"steps": [STEADY]}],
        "hang": [{"steps": [{"text": "Wait"}, {"hang": True}]}],
        "endless": [{"steps": [{"text": "x" * 100_000, "chunk_chars": 1}]}],
    }
    (folder / "script.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    return settings


def begin(client, model="scripted/hang"):
    path = client.post("/api/sessions", json={"model": model}).headers["location"]
    return client.post(f"{path}/turns", json={"content": "x"}, headers={"Prefer": "respond-async"})


def refused(response, limit):
    """At once, whole, with figures and a time."""
    assert problem(response, 503, "overloaded")["limit"] == limit
    assert int(response.headers["retry-after"]) > 0
    assert response.elapsed.total_seconds() < 1


def raw(server, data, timeout_s=10, then=b""):
    """What comes back for these bytes, until the connection is closed."""
    with socket.create_connection(server.host, timeout=timeout_s) as one:
        one.sendall(data)
        if then:
            one.sendall(then)
        answer = b""
        while part := one.recv(65536):
            answer += part
    return answer


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_turns_beyond_the_bound(tmp_path):
    """503, nothing on record of the turn, and those that run are read to their end; with room again it is taken."""
    with in_thread(settings_for(tmp_path, max_open_turns=2)) as server, server.client() as client:
        steady, hangs = begin(client, "scripted/steady").json(), begin(client).json()
        path = client.post("/api/sessions", json={"model": "echo/echo"}).headers["location"]
        before = server.size()
        for body in ({"content": "x"}, {"content": "x", "stream": True}):
            refused(client.post(f"{path}/turns", json=body), "max_open_turns")
        assert server.size() == before
        assert client.get(f"/api/turns/{steady['id']}/stream").text.count("event: delta") == 100
        client.post(f"/api/turns/{hangs['id']}/cancel")
        assert client.post(f"{path}/turns", json={"content": "x"}).json()["status"] == "completed"


def test_a_librarys_repetition_needs_no_room(tmp_path):
    """It attaches to what runs already, however full it is."""
    with in_thread(settings_for(tmp_path, max_open_turns=1)) as server, server.client() as client:
        path = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"]
        ask = {"json": {"content": "x"}, "headers": {"Prefer": "respond-async"}}
        first = client.post(f"{path}/turns", **ask)
        ask["headers"]["x-stainless-retry-count"] = "1"
        assert client.post(f"{path}/turns", **ask).json()["id"] == first.json()["id"]
        client.post(f"/api/turns/{first.json()['id']}/cancel")


def test_writes_beyond_the_bound(tmp_path):
    """While the writer is held up, appends beyond the queue are refused at once; a turn goes on being recorded."""
    with in_thread(settings_for(tmp_path, queue_writes=4)) as server, server.client() as client:
        turn = begin(client, "scripted/steady").json()["id"]
        path = client.post("/api/sessions").headers["location"]
        answers = []

        def append():
            with server.client() as own:
                answers.append(own.post(f"{path}/messages", json={"content": "x"}))

        hold_the_writer(server, 0.5)
        threads = [threading.Thread(target=append) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sorted(answer.status_code for answer in answers)
        assert set(statuses) == {201, 503}
        for answer in answers:
            if answer.status_code == 503:
                refused(answer, "queue_writes")
        listed = client.get(f"{path}/messages").json()["items"]
        assert len(listed) == statuses.count(201)
        assert client.get(f"/api/turns/{turn}/stream").text.count("event: delta") == 100


def hold_the_writer(server, seconds):
    entered = threading.Event()

    def hold(_):
        entered.set()
        time.sleep(seconds)

    server.loop.call_soon_threadsafe(lambda: server.chat._parts.store.submit(hold))
    assert entered.wait(5)


def test_bodies_beyond_the_bound(tmp_path):
    """What requests hold together is bounded: one more is refused, and taken when there is room again."""
    settings = settings_for(tmp_path, max_bodies_bytes=300_000)
    with in_thread(settings) as server, server.client() as client:
        path = client.post("/api/sessions").headers["location"]
        large = {"content": "x" * 200_000}
        assert client.post(f"{path}/messages", json=large).status_code == 201
        head = (
            f"POST {path}/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            "content-length: 250000\r\n\r\n"
        )
        with socket.create_connection(server.host) as half:
            half.sendall(head.encode() + b'{"content": "' + b"y" * 200_000)
            time.sleep(0.3)
            refused(client.post(f"{path}/messages", json=large), "max_bodies_bytes")
            assert client.post(f"{path}/messages", json={"content": "small"}).status_code == 201
        time.sleep(0.3)
        assert client.post(f"{path}/messages", json=large).status_code == 201
        problem(client.post(f"{path}/messages", json={"content": "x" * 400_000}), 503, "overloaded")


async def test_bodies_are_counted_to_the_byte():
    """What is refused is not counted, and what is answered is given back."""
    bodies = Bodies(10)

    def receiving(*parts):
        rest = iter(parts)

        async def receive():
            return {"type": "http.request", "body": next(rest)}

        return receive

    with bodies.held(receiving(b"12345", b"6789", b"xx", b"0")) as receive:
        assert (await receive())["body"] == b"12345"
        await receive()
        with pytest.raises(Problem):
            await receive()
        await receive()
        with bodies.held(receiving(b"", b"x")) as other:
            await other()
            with pytest.raises(Problem):
                await other()
    assert bodies._held_bytes == 0


def test_connections_beyond_the_bound(tmp_path):
    """One more is told when to come again, and closed; those that are there are served."""
    with in_thread(settings_for(tmp_path, max_connections=5)) as server, server.client() as client:
        assert client.get("/healthz").status_code == 200
        others = [socket.create_connection(server.host) for _ in range(4)]
        time.sleep(0.1)
        answer = raw(server, b"")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b"retry-after: 5" in head
        assert json.loads(body)["limit"] == "max_connections"
        assert client.get("/healthz").status_code == 200
        for other in others:
            other.close()
        time.sleep(0.1)
        with server.client() as another:
            assert another.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("wanted", "limits", "given"), [(100, (1024, 1024), 100), (5000, (400, 400), 300), (9000, (4096, 4096), 3328)]
)
def test_no_more_connections_than_descriptors(monkeypatch, wanted, limits, given):
    """Where the system allows no more, some are kept for the database and for providers."""
    monkeypatch.setattr(api_server.resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(api_server.resource, "setrlimit", lambda *_: None)
    assert api_server.most_connections(wanted) == given


def test_the_soft_limit_is_raised(monkeypatch):
    """As far as is needed, and as it may be."""
    limits = [(1024, 20_000)]
    monkeypatch.setattr(api_server.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(api_server.resource, "setrlimit", lambda _, new: limits.append(new))
    assert api_server.most_connections(5000) == 5000
    assert limits[-1] == (5768, 20_000)


# --- clients that keep one waiting ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    with in_thread(settings_for(tmp_path_factory.mktemp("impatient"), client_stall_s=1)) as server:
        yield server


POST = b"POST /api/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nhost: local",
        POST + b'content-length: 9\r\n\r\n{"a',
        POST + b"content-length: 9\r\n\r\n",
    ],
    ids=["half a head", "half a body", "no body"],
)
def test_a_request_that_does_not_come_to_an_end(impatient, data):
    """408, and the connection is closed."""
    began = time.monotonic()
    assert raw(impatient, data).startswith(b"HTTP/1.1 408 ")
    assert 0.9 < time.monotonic() - began < 5


def test_a_connection_without_a_request(impatient):
    """Is closed without a word."""
    assert raw(impatient, b"") == b""


def test_a_request_that_comes_slowly_comes(impatient):
    """As long as something comes."""
    with socket.create_connection(impatient.host, timeout=10) as one:
        for part in (POST, b"content-length: 14\r\n", b"\r\n", b'{"title"', b": ", b'"x"}'):
            one.sendall(part)
            time.sleep(0.4)
        assert one.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_an_idle_connection_is_kept_for_the_next_request(impatient):
    """A client's pool is not surprised: what is idle between requests is not what stalls within one."""
    with impatient.client() as client:
        assert client.get("/healthz").status_code == 200
        time.sleep(1.5)
        assert client.get("/healthz").status_code == 200
        turn = begin(client).json()["id"]
        assert client.get(f"/api/turns/{turn}").json()["status"] == "running"
        waiting = client.post(f"/api/turns/{turn}/cancel")
        assert waiting.json()["status"] == "cancelled"


def test_a_stream_may_be_silent_for_long(impatient):
    """A reader that reads what there is has not stalled, however little that is."""
    with impatient.client() as client:
        turn = begin(client).json()["id"]
        with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
            until = time.monotonic() + 2.5
            for block in stream:
                last = block.raw
                if time.monotonic() > until:
                    break
            assert last == b": keep-alive"
        client.post(f"/api/turns/{turn}/cancel")


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_replay_that_never_waits_starves_nobody(tmp_path):
    """Long turns are read from the record by many at once, and others are answered in time."""
    with in_thread(settings_for(tmp_path)) as server, server.client() as client:
        turn = begin(client, "scripted/endless").json()["id"]
        path = f"/api/turns/{turn}"
        while client.get(path).json()["status"] == "running":
            time.sleep(0.1)
        request = f"GET {path}/stream HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        stop, waits = threading.Event(), []

        def replay(leaves):
            while not stop.is_set():
                with socket.create_connection(server.host) as one:
                    one.sendall(request)
                    one.recv(1 if leaves else 1 << 20)
                    while not leaves and not stop.is_set() and one.recv(1 << 20):
                        pass

        threads = [threading.Thread(target=replay, args=(number % 2,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            began = time.monotonic()
            assert client.get("/healthz").status_code == 200
            waits.append(time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(waits)[-6] < 0.5


def test_the_server_is_idle_when_nobody_is_there(impatient):
    """Who reads a replay and vanishes leaves nothing that spins."""
    with impatient.client() as client:
        turn = begin(client, "scripted/endless").json()["id"]
        request = f"GET /api/turns/{turn}/stream HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        for _ in range(20):
            with socket.create_connection(impatient.host) as one:
                one.sendall(request)
                one.recv(1)
        client.post(f"/api/turns/{turn}/cancel")
    time.sleep(0.5)
    done, names = threading.Event(), []

    def look():
        names.extend(task.get_coro().__qualname__ for task in asyncio.all_tasks(impatient.loop))
        done.set()

    impatient.loop.call_soon_threadsafe(look)
    assert done.wait(5)
    assert not [name for name in names if "EventStream" in name or "_live" in name]
