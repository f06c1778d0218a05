"""Streams: a turn's frames and a log's events, live and later, from any place, the same every time."""

import re
import socket
import threading
import time

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from manent.engine import EVENT_TYPES
from tests.api.conftest import STRANGE, settings_on
from tests.api.harness import END_FRAMES, in_thread, opened, pages, problem, read, text_of
from tests.support import alive

FINISHED = ["echo/echo", "scripted/slow", "scripted/tools", "scripted/think", "scripted/fails", "scripted/strange"]


def stream_turn(client, model, content="hello"):
    """A turn read live, from its beginning: its id and its blocks. ``look`` is the caller's tool."""
    session = client.post("/api/sessions", json={"model": model}).json()["id"]
    body = {"content": content, "stream": True, "client_tools": [{"name": "look"}]}
    blocks = read(client, f"/api/sessions/{session}/turns", "POST", json=body)
    return blocks[0].json["id"], blocks


@pytest.fixture(scope="module")
def turns(client):
    """By model: the turn's id, and its blocks as they were read live."""
    return {model: stream_turn(client, model) for model in FINISHED}


@pytest.mark.parametrize("model", FINISHED)
def test_frames_are_numbered_densely(turns, model):
    """From 1, beginning with the turn, ending with exactly one end."""
    _, blocks = turns[model]
    assert [block.id for block in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    assert blocks[0].event == "turn.started"
    assert [block.event in END_FRAMES for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert blocks[0].json["status"] == "running"


@pytest.mark.usefixtures("no_collector")
def test_a_stream_leaves_nothing_behind(client):
    """Of a request and its answer nothing stays in memory until somebody looks for circles."""
    before = alive(RequestResponseCycle)
    for _ in range(5):
        stream_turn(client, "echo/echo")
    assert alive(RequestResponseCycle) <= before + 1  # a connection that is open keeps its last one


@pytest.mark.parametrize("model", FINISHED)
def test_deltas_joined_are_the_recorded_blocks(client, turns, model):
    """To the byte; each block is announced before its first delta, under the message's later id."""
    turn, blocks = turns[model]
    (message,) = [block.json for block in blocks if block.event == "message.appended"]
    assert message == client.get(f"/api/turns/{turn}").json()["message"]
    started = [block.json for block in blocks if block.event == "block.started"]
    assert [each["block"] for each in started] == list(range(len(message["content"])))
    for number, block in enumerate(message["content"]):
        assert started[number]["type"] == block["type"]
        assert {each.json["message_id"] for each in blocks if each.event in {"block.started", "delta"}} == {
            message["id"]
        }
        kinds = {each.json["type"] for each in blocks if each.event == "delta" and each.json["block"] == number}
        assert kinds <= {{"tool_use": "tool_input"}.get(block["type"], block["type"])}
        expected = block.get("text", block.get("input_text"))
        assert text_of(blocks, number) == expected
        order = [each.event for each in blocks if each.data and each.json.get("block") == number]
        assert order == ["block.started"] + ["delta"] * (len(order) - 1)


def test_a_tool_call_is_announced_by_name(turns):
    """So that a reader can show it before its input is whole; its ``tool.called`` comes after the message."""
    _, blocks = turns["scripted/tools"]
    (start,) = [block.json for block in blocks if block.event == "block.started" and block.json["type"] == "tool_use"]
    assert (start["id"], start["name"]) == ("call_1", "look")
    events = [block.event for block in blocks]
    assert events.index("message.appended") < events.index("tool.called") < events.index("turn.completed")


@pytest.mark.parametrize("model", FINISHED)
def test_it_is_the_same_after_the_end(client, turns, model):
    """The same bytes from the record as live."""
    turn, blocks = turns[model]
    assert read(client, f"/api/turns/{turn}/stream") == blocks


@pytest.mark.parametrize("model", FINISHED)
def test_it_is_taken_up_anywhere(client, turns, model):
    """After every id exactly the rest; 204 when it was read to its end, also by a cursor beyond it."""
    turn, blocks = turns[model]
    path = f"/api/turns/{turn}/stream"
    for number in range(len(blocks)):
        if number % 2:
            assert read(client, path, headers={"Last-Event-ID": str(number)}) == blocks[number:]
        else:
            assert read(client, f"{path}?after={number}") == blocks[number:]
    for cursor in (len(blocks), len(blocks) + 1, 1 << 53):
        response = client.get(path, headers={"Last-Event-ID": str(cursor)})
        assert (response.status_code, response.content) == (204, b"")
        assert client.get(f"{path}?after={cursor}").status_code == 204
    assert read(client, f"{path}?after=1", headers={"Last-Event-ID": str(len(blocks) - 1)}) == blocks[-1:]


def test_it_is_taken_up_while_it_runs(server, client):
    """A reader that comes back at any moment misses nothing and sees nothing twice."""
    session = client.post("/api/sessions", json={"model": "scripted/slow"}).json()["id"]
    path = f"/api/sessions/{session}/turns"
    turn = client.post(path, json={"content": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    blocks = []
    while not blocks or blocks[-1].event not in END_FRAMES:
        headers = {"Last-Event-ID": blocks[-1].id} if blocks else {}
        with server.client() as own, opened(own, "GET", f"/api/turns/{turn}/stream", headers=headers) as stream:
            for _ in range(5):
                block = next(iter(stream))
                blocks.append(block)
                if block.event in END_FRAMES:
                    break
    assert blocks == read(client, f"/api/turns/{turn}/stream")


def test_a_tail_that_is_too_short(tmp_path):
    """Who lies further behind than memory reaches reads from the record, and sees the same."""
    with in_thread(settings_on(tmp_path, tail_frames=4)) as server, server.client() as client:
        session = client.post("/api/sessions", json={"model": "scripted/slow"}).json()["id"]
        path = f"/api/sessions/{session}/turns"
        with opened(client, "POST", path, json={"content": "x", "stream": True}) as first:
            blocks = first.until(lambda block: block.id == "20")
            turn = blocks[0].json["id"]
            late = read(client, f"/api/turns/{turn}/stream")
            blocks += [block for block in first if block.id]
        assert late == blocks == read(client, f"/api/turns/{turn}/stream")


def test_it_is_the_same_after_a_restart(tmp_path):
    """Read live, after the end, and by the next server: the same ids, types and data."""
    settings = settings_on(tmp_path)
    with in_thread(settings) as server, server.client() as client:
        live = {model: stream_turn(client, model, STRANGE) for model in [*FINISHED, "echo/paced"]}
        for turn, blocks in live.values():
            assert read(client, f"/api/turns/{turn}/stream") == blocks
    with in_thread(settings) as server, server.client() as client:
        for turn, blocks in live.values():
            assert read(client, f"/api/turns/{turn}/stream") == blocks
            assert read(client, f"/api/turns/{turn}/stream?after=3") == blocks[3:]


@pytest.mark.parametrize("model", ["echo/echo", "echo/paced", "scripted/strange"])
def test_strange_text_survives(client, model):
    """Whatever has come to harm elsewhere arrives whole, live and later, in JSON and in the lines of a stream."""
    turn, blocks = stream_turn(client, model, STRANGE)
    assert text_of(blocks) == STRANGE
    assert text_of(read(client, f"/api/turns/{turn}/stream")) == STRANGE
    assert client.get(f"/api/turns/{turn}").json()["message"]["content"] == [{"type": "text", "text": STRANGE}]


def test_every_character_survives_alone(client):
    """In a delta of its own, also one that ends a line somewhere."""
    for text in (
        "\n",
        "\r",
        "\r\n",
        "\x00".replace("\x00", "\x01"),
        "\x1f",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "\ufeff",
        " ",
    ):
        _, blocks = stream_turn(client, "echo/echo", text)
        assert text_of(blocks) == text


def test_the_head_of_a_stream(client, turns):
    """No proxy may keep, change or hold it back."""
    turn, _ = turns["echo/echo"]
    with opened(client, "GET", f"/api/turns/{turn}/stream", headers={"x-request-id": "a-stream"}) as stream:
        headers = stream.response.headers
        list(stream)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-request-id"] == "a-stream"
    assert headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/api/turns/{turn}/stream", "/api/turns/{turn}", "/healthz", "/nowhere"])
def test_clients_of_http_1_0_are_sent_no_chunks(server, client, turns, path, method):
    """Old proxies speak it: what has no length ends with the connection, and the rest is what others get."""
    turn, _ = turns["scripted/slow"]
    path = path.format(turn=turn)
    with socket.create_connection(server.host, timeout=20) as connection:
        connection.sendall(f"{method} {path} HTTP/1.0\r\nhost: localhost\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    same = client.request(method, path)
    assert int(head.split()[1]) == same.status_code
    assert b"transfer-encoding" not in head.lower()
    assert re.sub(rb'"request_id":"[^"]*"', b"", body) == re.sub(rb'"request_id":"[^"]*"', b"", same.content)


def test_silence_is_broken(client):
    """By a comment, every ``keepalive_s``, that changes nothing else."""
    session = client.post("/api/sessions", json={"model": "scripted/silent"}).json()["id"]
    path = f"/api/sessions/{session}/turns"
    with opened(client, "POST", path, json={"content": "x", "stream": True}) as stream:
        blocks = list(stream)
    comments = [block.raw for block in blocks if block.data is None]
    assert comments
    assert set(comments) == {b": keep-alive"}
    assert text_of(blocks) == "before after"


def test_too_many_readers(tmp_path):
    """503 with Retry-After, before a turn is started; who reads already is not disturbed."""
    with in_thread(settings_on(tmp_path, max_readers=1)) as server, server.client() as client:
        session = client.post("/api/sessions", json={"model": "scripted/hang"}).json()["id"]
        path = f"/api/sessions/{session}"
        with opened(client, "GET", f"{path}/events/stream") as stream:
            next(iter(stream))
            before = server.size()
            for method, where, options in (
                ("GET", f"{path}/events/stream", {}),
                ("GET", "/api/events/stream", {}),
                ("POST", f"{path}/turns", {"json": {"content": "x", "stream": True}}),
                ("POST", f"{path}/turns", {"json": {"content": "x"}}),
            ):
                response = client.request(method, where, **options)
                assert problem(response, 503, "overloaded")["limit"] == "max_readers"
                assert int(response.headers["retry-after"]) > 0
            assert client.post("/api/ai/chat", json={"message": "x"}).status_code == 503
            assert client.get("/api/ai/stream?q=x").status_code == 503
            assert server.size() == before
            turn = client.post(f"{path}/turns", json={"content": "x"}, headers={"Prefer": "respond-async"})
            assert turn.status_code == 202
            stream.until("turn.started")


# --- events -----------------------------------------------------------------------------------------------------------

EVENT = [
    "id",
    "position",
    "session_id",
    "version",
    "type",
    "schema",
    "actor",
    "recorded_at",
    "causation_id",
    "correlation_id",
    "facts",
    "body",
    "commitment",
    "leaf_hash",
    "erased",
]


@pytest.fixture(scope="module")
def talked(client):
    """A session with a few turns."""
    session = client.post("/api/sessions", json={"title": "t"}).json()["id"]
    for number in range(3):
        client.post(f"/api/sessions/{session}/turns", json={"content": f"{number}"})
    return session


def test_events_are_listed(client, talked):
    """To the end, whatever the size of the pages, dense from version 1."""
    path = f"/api/sessions/{talked}/events"
    events, _ = pages(client, path, limit=1000)
    assert [list(event) for event in events] == [EVENT] * len(events)
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events[:3]] == ["session.started", "message.appended", "turn.started"]
    assert events[2]["causation_id"] == events[1]["id"]
    assert all(isinstance(event["facts"], dict) for event in events)
    assert {len(event["leaf_hash"]) for event in events} == {64}
    for limit in (1, 4):
        assert pages(client, path, limit=limit)[0] == events
    assert client.get(f"{path}?after=3&limit=2").json()["items"] == events[3:5]


def test_events_of_some_types_are_listed(client, talked):
    """Only those, and the cursor leads on to the next of them."""
    path = f"/api/sessions/{talked}/events"
    everything, _ = pages(client, path)
    wanted = [event for event in everything if event["type"] in {"turn.started", "turn.completed"}]
    assert len(wanted) == 6
    for limit in (1, 2, 100):
        assert pages(client, path, types="turn.started, turn.completed,turn.started", limit=limit)[0] == wanted
    assert client.get(path, params={"types": "body.erased"}).json() == {"items": [], "next_cursor": None}
    assert pages(client, path, types=",".join([*EVENT_TYPES] * 30))[0] == everything


def test_the_log_is_listed(client, talked):
    """The whole of it, by position."""
    events, _ = pages(client, "/api/events", limit=1000)
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    own = [event for event in events if event["session_id"] == talked]
    assert own == pages(client, f"/api/sessions/{talked}/events")[0]


def test_events_are_followed_from_the_newest(client, session):
    """A comment says when all that is there was given; then what is committed comes, with versions as ids."""
    path = f"/api/sessions/{session}"
    with opened(client, "GET", f"{path}/events/stream") as stream:
        blocks = iter(stream)
        assert next(blocks).raw == b": caught-up"
        client.patch(path, json={"title": "now"})
        client.post(f"{path}/messages", json={"content": "x"})
        got = [block for block in stream.until("message.appended") if block.data]
    assert [(block.id, block.event) for block in got] == [("2", "session.updated"), ("3", "message.appended")]
    assert [block.json for block in got] == client.get(f"{path}/events?after=1").json()["items"]


@pytest.mark.parametrize("place", ["query", "header"])
def test_events_are_followed_from_a_version(client, talked, place):
    """All that follows it, then the comment."""
    events = client.get(f"/api/sessions/{talked}/events").json()["items"]
    for after in (0, 2, len(events)):
        options = {"headers": {"Last-Event-ID": str(after)}} if place == "header" else {"params": {"after": after}}
        with opened(client, "GET", f"/api/sessions/{talked}/events/stream", **options) as stream:
            blocks = stream.until(lambda block: block.data is None)
        assert [block.json for block in blocks[:-1]] == events[after:]
        assert [block.id for block in blocks[:-1]] == [str(event["version"]) for event in events[after:]]
        assert blocks[-1].raw == b": caught-up"


def test_the_log_is_followed(client, session):
    """Ids are positions; who comes back with one gets what follows."""
    with opened(client, "GET", "/api/events/stream") as stream:
        next(iter(stream))
        client.post(f"/api/sessions/{session}/turns", json={"content": "x"})
        got = [block for block in stream.until("turn.completed") if block.data]
    assert [int(block.id) for block in got] == [block.json["position"] for block in got]
    assert got[0].event == "message.appended"
    with opened(client, "GET", "/api/events/stream", headers={"Last-Event-ID": got[2].id}) as stream:
        assert next(iter(stream)) == got[3]


def test_silence_of_a_log_is_broken(client, session):
    """``caught-up`` once, then ``keep-alive``."""
    with opened(client, "GET", f"/api/sessions/{session}/events/stream") as stream:
        blocks = iter(stream)
        assert [next(blocks).raw for _ in range(2)] == [b": caught-up", b": keep-alive"]


def test_a_long_log_is_followed_to_its_end(client):
    """More events than fit one read come in order, none left out."""
    session = client.post("/api/sessions").json()["id"]
    for _ in range(7):
        messages = [{"content": "x"}] * 100
        client.post(f"/api/sessions/{session}/messages", json={"messages": messages})
    with opened(client, "GET", f"/api/sessions/{session}/events/stream?after=0") as stream:
        blocks = stream.until(lambda block: block.data is None)
    assert [block.id for block in blocks[:-1]] == [str(number) for number in range(1, 702)]


def test_readers_who_leave_are_let_go(server, client, session):
    """Nothing is held for those who have gone, fast or slow."""

    def readers():
        return server.chat._parts.follower._readers

    path = f"/api/sessions/{session}/events/stream"
    before = readers()
    for _ in range(3):
        with opened(client, "GET", path) as stream:
            next(iter(stream))
    with opened(client, "GET", "/api/events/stream?after=0"):
        pass
    for _ in range(200):
        if readers() == before:
            break
        time.sleep(0.02)
    assert readers() == before


def test_writers_and_followers_at_once(server, client, session):
    """Four write, one follows: what it sees is the record."""
    path = f"/api/sessions/{session}"

    def write():
        with server.client() as own:
            for _ in range(25):
                own.post(f"{path}/messages", json={"content": "x"})

    threads = [threading.Thread(target=write) for _ in range(4)]
    with opened(client, "GET", f"{path}/events/stream?after=0") as stream:
        for thread in threads:
            thread.start()
        blocks = stream.until(lambda block: block.id == "101")
    for thread in threads:
        thread.join()
    ids = [block.id for block in blocks if block.id]
    assert ids == [str(number) for number in range(1, 102)]
