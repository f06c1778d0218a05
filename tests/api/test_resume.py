"""Streams that are broken off, left, stalled and taken up again: nothing lost, nothing twice, the same for all."""

import asyncio
import gc
import json
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from manent.api.http.protocol import BoundedHttp
from tests.api.conftest import SCRIPT, settings_on
from tests.api.harness import END_FRAMES, Process, in_thread, opened, parse, problem, read

FLOOD = "x" * 2_000


def begin(client, model="scripted/slow", **body):
    """A turn that runs: its session's path and its id."""
    path = client.post("/api/sessions", json={"model": model}).headers["location"]
    answer = client.post(f"{path}/turns", json={"content": "x"} | body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return path, answer.json()["id"]


def eventually(condition, timeout_s=10):
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)
    return found


# --- taken up again ---------------------------------------------------------------------------------------------------


def test_a_page_that_reloads_in_mid_reply_goes_on(server, client):
    """Again and again, by the turn's id alone: at each load the rest comes, and all loads together are the turn."""
    path, turn = begin(client)
    blocks = []
    while not blocks or blocks[-1].event not in END_FRAMES:
        assert client.get(path).json()["open_turn_id"] in {turn, None}
        headers = {"Last-Event-ID": blocks[-1].id} if blocks else {}
        with server.client() as page, opened(page, "GET", f"/api/turns/{turn}/stream", headers=headers) as stream:
            for block in stream:
                blocks.append(block)
                if len(blocks) % 7 == 0 or block.event in END_FRAMES:
                    break
    assert blocks == read(client, f"/api/turns/{turn}/stream")


def test_a_post_that_broke_off_is_sent_again(server, client):
    """With the same key and the last id it goes on, while the turn runs and after its end; one turn is paid for."""
    path = client.post("/api/sessions", json={"model": "scripted/slow"}).headers["location"]
    send = {"json": {"content": "x", "stream": True}, "headers": {"Idempotency-Key": "broken"}}
    with server.client() as first, opened(first, "POST", f"{path}/turns", **send) as stream:
        blocks = stream.until(lambda block: block.id == "5")
    for last in (9, None):
        send["headers"] |= {"Last-Event-ID": blocks[-1].id}
        with server.client() as again, opened(again, "POST", f"{path}/turns", **send) as stream:
            blocks += stream.until(lambda block, last=last: block.id == str(last) or block.event in END_FRAMES)
    assert [int(block.id) for block in blocks] == [*range(1, len(blocks) + 1)]
    assert len(client.get(f"{path}/turns").json()["items"]) == 1


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("route", ["native", "complete", "chat"])
def test_a_librarys_repetition_attaches_to_the_running_turn(server, client, route, streaming):
    """The same body again with ``x-stainless-retry-count``, and no key: the same turn, not a second one."""
    path = client.post("/api/sessions", json={"model": "scripted/slow"}).headers["location"]
    where = {"native": f"{path}/turns", "complete": "/api/ai/complete", "chat": "/api/ai/chat"}[route]
    body = {"message": f"same {route} {streaming}", "model": "scripted/slow"}
    if route == "native":
        body = {"content": "same", "stream": streaming}
    before, answers = attempts(client), []

    def ask(count):
        with server.client() as own:
            answers.append(own.post(where, json=body, headers={"x-stainless-retry-count": count}))

    threads = [threading.Thread(target=ask, args=(count,)) for count in ("0", "1", "2")]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    if route != "native":
        assert len({answer.headers["x-session-id"] for answer in answers}) == 1
    elif streaming:
        assert len({answer.content for answer in answers}) == 1
    else:
        assert len({answer.json()["id"] for answer in answers}) == 1
    assert attempts(client) == before + 1


def attempts(client):
    """How often a provider was asked, as the log has it."""
    count, cursor = 0, 0
    while page := client.get("/api/events", params={"after": cursor, "limit": 1000}).json()["items"]:
        count += sum(event["type"] == "attempt.started" for event in page)
        cursor = page[-1]["position"]
    return count


def test_the_same_words_without_a_repetition_are_another_request(client):
    """While a turn is open they are refused, and a library is told not to try again."""
    path, turn = begin(client, "scripted/hang", content="same")
    refused = client.post(f"{path}/turns", json={"content": "same"})
    assert problem(refused, 409, "turn_already_open")["turn_id"] == turn
    assert refused.headers["x-should-retry"] == "false"
    client.post(f"/api/turns/{turn}/cancel")


def test_frames_are_the_same_after_the_server_was_killed(tmp_path):
    """What a client had before a kill, and what it gets with its last id after the next start, are one stream."""
    (tmp_path / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    environment = {"MANENT_SCRIPT": str(tmp_path / "script.json")}
    database = str(tmp_path / "manent.db")
    with Process(database, **environment) as server, server.client() as client:
        path, turn = begin(client)
        with opened(client, "GET", f"{path}/events/stream?after=0") as stream:
            events = [block for block in stream.until("attempt.started") if block.id]
        with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
            blocks = stream.until(lambda block: block.id == "9")
        server.stop(signal.SIGKILL)
    with Process(database, **environment) as server, server.client() as client:
        whole = read(client, f"/api/turns/{turn}/stream")
        assert whole[:9] == blocks
        assert read(client, f"/api/turns/{turn}/stream", headers={"Last-Event-ID": "9"}) == whole[9:]
        assert whole[-1].event == "turn.interrupted"
        with opened(client, "GET", f"{path}/events/stream", headers={"Last-Event-ID": events[-1].id}) as stream:
            rest = stream.until("turn.interrupted")
        listed = client.get(f"{path}/events?limit=1000").json()["items"]
        assert [block.json for block in events + rest] == listed


# --- idempotency ------------------------------------------------------------------------------------------------------


def test_every_route_that_writes_takes_a_key(tmp_path):
    """The first answer again, in the same life and in the next; with another body 422, and nothing is done."""
    settings = settings_on(tmp_path)
    with in_thread(settings) as server, server.client() as client:
        path = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"]
        _, turn = begin(client, "scripted/hang")
        routes = [
            ("POST", "/api/sessions", {"title": "a"}, {"title": "b"}),
            ("PATCH", path, {"title": "a"}, {"title": "b"}),
            ("POST", f"{path}/messages", {"content": "a"}, {"content": "b"}),
            ("POST", f"{path}/turns", {"content": "a", "model": "echo/echo"}, {"content": "b"}),
            ("POST", f"/api/turns/{turn}/cancel", {}, None),
            ("POST", "/api/ai/complete", {"message": "a"}, {"message": "b"}),
            ("POST", "/api/ai/chat", {"message": "a"}, {"message": "b"}),
        ]
        answers = [send(client, *route[:3]) for route in routes]
        client.patch(path, json={"title": "later"})
        size = server.size()
        assert [send(client, *route[:3]) for route in routes] == answers
        assert [send(client, method, where, other)[0] for method, where, _, other in routes] == [422] * len(routes)
        assert server.size() == size
    with in_thread(settings) as server, server.client() as client:
        size = server.size()
        assert [send(client, *route[:3]) for route in routes] == answers
        assert [send(client, method, where, other)[0] for method, where, _, other in routes] == [422] * len(routes)
        assert server.size() == size


def send(client, method, path, body):
    headers = {"Idempotency-Key": "the key", "content-type": "application/json"}
    content = b"" if body is None else json.dumps(body).encode()
    response = client.request(method, path, content=content, headers=headers)
    return response.status_code, {name: value for name, value in response.json().items() if name != "request_id"}


def test_every_writing_route_says_that_it_takes_a_key(client):
    """Each POST and PATCH of the description names the header; a checkpoint or a count says what is so, however often
    it is asked for, and neither a ticket nor a login is on record. Vendors' clients send none by themselves: their
    retries are known otherwise.
    """
    document = client.get("/schema/openapi.json").json()
    for path, methods in document["paths"].items():
        if path.startswith(("/api/log/", "/api/tokens", "/api/tickets", "/api/console/", "/v1/")):
            continue
        for method in {"post", "patch"} & methods.keys():
            names = {each["name"] for each in methods[method].get("parameters", [])}
            assert "Idempotency-Key" in names, (method, path)


# --- long-poll --------------------------------------------------------------------------------------------------------


def test_a_client_that_cannot_stream_follows_by_asking(client, session):
    """From event to event, each once and in order, without asking in vain."""
    path, seen, asked = f"/api/sessions/{session}", [], 0

    def write():
        for number in range(5):
            time.sleep(0.05)
            client.post(f"{path}/messages", json={"content": f"{number}"})

    writing = threading.Thread(target=write)
    writing.start()
    while len(seen) < 6:
        page = client.get(f"{path}/events", params={"after": len(seen), "wait": 10}).json()
        assert page["items"]
        seen += page["items"]
        asked += 1
    writing.join()
    assert [event["version"] for event in seen] == [*range(1, 7)]
    assert asked <= 6
    began = time.monotonic()
    assert client.get(f"{path}/events?after=6&wait=1").json() == {"items": [], "next_cursor": None}
    assert 0.9 < time.monotonic() - began < 5


def test_the_log_can_be_waited_for(client, session):
    """The whole of it, as soon as anything is committed."""
    newest = client.get("/api/events", params={"limit": 1000}).json()["items"][-1]["position"]
    while page := client.get("/api/events", params={"limit": 1000, "after": newest}).json()["items"]:
        newest = page[-1]["position"]
    timer = threading.Timer(0.1, lambda: client.patch(f"/api/sessions/{session}", json={"title": "t"}))
    timer.start()
    (event,) = client.get("/api/events", params={"after": newest, "wait": 10}).json()["items"]
    timer.join()
    assert event["type"] == "session.updated"


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1.5"])
def test_how_long_can_be_waited(client, session, wait):
    """Up to a minute, in whole seconds."""
    problem(client.get(f"/api/sessions/{session}/events?wait={wait}"), 400, "invalid_value", "wait")


def test_who_leaves_while_waiting_is_let_go(server, client, session):
    """Nothing waits for somebody who has gone."""
    follower = server.chat._parts.follower
    with socket.socket() as leaving:
        leaving.connect(server.host)
        path = f"/api/sessions/{session}/events?after=1&wait=60"
        leaving.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        eventually(lambda: follower._readers == 1)
    eventually(lambda: follower._readers == 0)


# --- many, slow and stalled readers -----------------------------------------------------------------------------------


def test_a_hundred_readers_cost_one_call(server, client):
    """All get the same bytes; the provider is asked once."""
    path, turn = begin(client)
    raws = asyncio.run(read_raw(server, [f"/api/turns/{turn}/stream"] * 100))
    assert len({strip(raw) for raw in raws}) == 1
    assert parse(strip(raws[0]))[-1].event == "turn.completed"
    events = client.get(f"{path}/events").json()["items"]
    assert [event["type"] for event in events].count("attempt.started") == 1


def strip(raw):
    return raw.replace(b": keep-alive\n\n", b"")


async def read_raw(server, paths):
    """The bodies of many streams that are read at the same time."""

    async def one(path):
        reader, writer = await asyncio.open_connection(*server.host)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        body = dechunk(await reader.read())
        writer.close()
        return body

    return await asyncio.gather(*(one(path) for path in paths))


def dechunk(raw, *, whole=True):
    """What chunks say; ``whole``: the end must be there."""
    body, place = b"", 0
    while (line := raw.find(b"\r\n", place)) >= 0:
        size = int(raw[place:line], 16)
        if size == 0:
            return body
        body += raw[line + 2 : line + 2 + size]
        place = line + 2 + size + 2
    assert not whole, "the stream has no end"
    return body


@pytest.fixture(scope="module")
def flooding(tmp_path_factory):
    """A server whose model says much, and that has little patience with those who do not read."""
    folder = tmp_path_factory.mktemp("flood")
    settings = settings_on(folder, client_stall_s=1, drain_s=0)
    text = {"text": FLOOD * 3_000, "chunk_chars": 2_000, "every_ms": 1}
    steady = {"text": "abcdefghij" * 30, "chunk_chars": 2, "every_ms": 20}
    script = {"models": {"flood": [{"steps": [text]}], "steady": [{"steps": [steady]}]}}
    (folder / "script.json").write_text(json.dumps(script), encoding="utf-8")
    settings = type(settings)(
        **{n: getattr(settings, n) for n in settings.__struct_fields__} | {"max_answer_bytes": 1 << 24}
    )
    with in_thread(settings) as server:
        yield server


@contextmanager
def stalled(server, path):
    """A connection that has asked for a stream, and does not read."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.host)
        slow.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        yield slow


def drained(slow):
    """All that comes until the other side closes, or breaks off."""
    slow.settimeout(20)
    raw = b""
    try:
        while part := slow.recv(1 << 20):
            raw += part
    except ConnectionError:
        pass
    return dechunk(raw.partition(b"\r\n\r\n")[2], whole=False)


def test_a_reader_that_stalls_is_dropped_with_a_comment_and_resumes(flooding):
    """What it has is whole, the last of it says why there is no more, and with its last id it gets the rest."""
    with flooding.client() as client:
        _, turn = begin(client, "scripted/flood")
        path = f"/api/turns/{turn}/stream"
        follower = flooding.chat._parts.follower
        with stalled(flooding, path) as slow:
            eventually(lambda: follower._readers == 1)
            eventually(lambda: follower._readers == 0)
            assert client.get(f"/api/turns/{turn}").json()["status"] == "running"
            got = parse(drained(slow))
        assert got[-1].raw.startswith(b": dropped")
        got = [block for block in got if block.id]
        assert [int(block.id) for block in got] == [*range(1, len(got) + 1)]
        rest = read(client, path, headers={"Last-Event-ID": got[-1].id})
        assert len(rest) > 100
        assert got + rest == read(client, path)


def test_stalled_readers_slow_nobody_and_hold_little(flooding):
    """While twenty do not read, a reader of another turn gets each delta when it is due; memory stays what it was."""
    process = psutil.Process()
    with flooding.client() as client:
        _, before = begin(client, "scripted/flood")  # what one such turn costs, whoever reads it, is not counted
        assert len(read(client, f"/api/turns/{before}/stream")) > 1000
        _, turn = begin(client, "scripted/flood")
        _, other = begin(client, "scripted/steady")
        gc.collect()
        before = process.memory_info().rss
        stalls = [stalled(flooding, f"/api/turns/{turn}/stream") for _ in range(20)]
        for each in stalls:
            each.__enter__()
        gaps, last = [], None
        with opened(client, "GET", f"/api/turns/{other}/stream") as stream:
            for block in stream:
                now = time.monotonic()
                if block.event == "delta":
                    gaps += [now - last] if last else []
                    last = now
        grown = process.memory_info().rss - before
        for each in stalls:
            each.__exit__(None, None, None)
        client.post(f"/api/turns/{turn}/cancel")
    assert sorted(gaps)[len(gaps) * 9 // 10] < 0.2
    assert grown < 60 << 20, f"{grown >> 20} MB"


def test_what_is_held_for_a_stalled_reader_is_bounded(flooding, monkeypatch):
    """The rest of a long turn stays in the database: the connection holds a write and a little more."""
    connections, made = [], BoundedHttp.connection_made

    def remember(protocol, transport):
        connections.append(transport)
        made(protocol, transport)

    monkeypatch.setattr(BoundedHttp, "connection_made", remember)
    with flooding.client() as client:
        _, turn = begin(client, "scripted/flood")
        connections.clear()
        held = []
        with stalled(flooding, f"/api/turns/{turn}/stream"):
            eventually(lambda: connections and connections[0].get_write_buffer_size())
            for _ in range(20):
                time.sleep(0.02)
                held += [transport.get_write_buffer_size() for transport in connections]
        client.post(f"/api/turns/{turn}/cancel")
    assert 0 < max(held) < 200 << 10


# --- readers that vanish ----------------------------------------------------------------------------------------------

VANISHING = int(os.environ.get("VANISHING_READERS", "1000"))


@pytest.mark.parametrize("kind", ["turn", "session", "log", "ended"])
def test_readers_that_vanish_leave_nothing(flooding, tell, kind):
    """They connect, read one byte and are gone, most with a reset: no task, no descriptor and no memory stays."""
    count = VANISHING // 4
    with flooding.client() as client:
        path, turn = begin(client, "scripted/steady")
        if kind == "ended":
            client.post(f"/api/turns/{turn}/cancel")
        where = {"session": f"{path}/events/stream?after=0", "log": "/api/events/stream"}.get(
            kind, f"/api/turns/{turn}/stream"
        )
        vanish(flooding, where, 50)
        eventually(lambda: state_of(flooding)[2] == 0)
        before, rss = state_of(flooding), psutil.Process().memory_info().rss
        vanish(flooding, where, count)
        eventually(lambda: state_of(flooding) <= before, 20)
        after, grown = state_of(flooding), psutil.Process().memory_info().rss - rss
        client.post(f"/api/turns/{turn}/cancel")
    figures = f"tasks {before[0]} and {after[0]}, descriptors {before[1]} and {after[1]}, +{grown >> 10} KiB"
    tell(f"{count} readers, {kind}: {figures}")
    assert after <= before
    assert grown < 16 << 20


def vanish(server, where, count):
    request = f"GET {where} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    for number in range(count):
        with socket.create_connection(server.host) as one:
            one.sendall(request)
            assert one.recv(1)
            if number % 4:  # a reset, as from one whose machine is gone
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def state_of(server):
    """Tasks, descriptors and readers of the server, as it counts them itself."""
    done, found = threading.Event(), []

    def look():
        found.extend(
            (len(asyncio.all_tasks(server.loop)), psutil.Process().num_fds(), server.chat._parts.follower._readers)
        )
        done.set()

    server.loop.call_soon_threadsafe(look)
    assert done.wait(10)
    return tuple(found)


def test_who_leaves_with_requests_in_line_is_let_go(server, client, session):
    """A stream, and a request sent behind it on the same connection: when the client goes, so does the stream."""
    follower = server.chat._parts.follower
    with socket.create_connection(server.host) as one:
        path = f"/api/sessions/{session}/events/stream"
        request = "GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        one.sendall((request.format(path) + request.format("/healthz")).encode())
        eventually(lambda: follower._readers == 1)
    eventually(lambda: follower._readers == 0)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_streams_say_that_the_server_ends(tmp_path):
    """A turn's readers at once, before its end; those who follow a log with the last that they are sent."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        path, turn = begin(client, "scripted/hang")
        got = {}

        def follow(name, where):
            with server.client() as own, opened(own, "GET", where) as stream:
                started.release()
                got[name] = [block.raw if block.event is None else block.event for block in stream]

        started = threading.Semaphore(0)
        wheres = {"turn": f"/api/turns/{turn}/stream", "session": f"{path}/events/stream", "log": "/api/events/stream"}
        threads = [threading.Thread(target=follow, args=each) for each in wheres.items()]
        for thread in threads:
            thread.start()
            assert started.acquire(timeout=10)
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    assert [each for each in got["turn"] if each != b": keep-alive"][-3:] == [
        b": shutting-down",
        "message.appended",
        "turn.interrupted",
    ]
    assert got["session"][-1] == got["log"][-1] == b": shutting-down"
