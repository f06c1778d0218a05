"""Turns: asked for, waited for, cancelled, listed; and who asks twice."""

import threading
import time

import httpx
import pytest

from manent.api.schemas.parameters import wait_of
from tests.api.harness import opened, pages, problem, read

FIELDS = [
    "id",
    "session_id",
    "status",
    "model",
    "provider",
    "started_at",
    "ended_at",
    "first_chunk_ms",
    "duration_ms",
    "stop_reason",
    "vendor_stop_reason",
    "usage",
    "attempts",
    "error",
    "messages",
    "message",
    "costs",
    "pending_approvals",
]


def begin(client, model="echo/echo", **fields):
    """The path of a new session's turns."""
    session = client.post("/api/sessions", json={"model": model, **fields}).json()["id"]
    return f"/api/sessions/{session}/turns"


def started(client, path, **body):
    """A turn that goes on by itself."""
    response = client.post(path, json=body or {"content": "x"}, headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return response.json()["id"]


def types(client, path):
    """The types of a session's events, from the path of its turns."""
    return [
        event["type"] for event in client.get(path.replace("/turns", "/events"), params={"limit": 1000}).json()["items"]
    ]


def eventually(check):
    """Waits for something that takes its time."""
    for _ in range(400):
        if value := check():
            return value
        time.sleep(0.025)
    raise AssertionError("it did not happen")


def test_a_turn_is_waited_for(client):
    """200 with the ended turn, whose message is the answer."""
    path = begin(client)
    response = client.post(path, json={"content": "hello"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    turn = response.json()
    assert list(turn) == FIELDS
    assert (turn["status"], turn["stop_reason"], turn["error"]) == ("completed", "end_turn", None)
    assert (turn["model"], turn["provider"]) == ("echo/echo", "echo")
    assert turn["message"]["content"] == [{"type": "text", "text": "hello"}]
    assert turn["messages"] == [turn["message"]]
    assert turn["message"]["turn_id"] == turn["id"]
    assert turn["usage"]["input_tokens"] > 0
    assert turn["duration_ms"] >= 0
    assert response.headers["location"] == f"/api/turns/{turn['id']}"
    assert client.get(response.headers["location"]).json() == turn
    assert "preference-applied" not in response.headers


def test_what_a_turn_may_be_asked_with(client):
    """Content or a message, of text or blocks; or what is there already."""
    path = begin(client)
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    for body, answer in (
        ({"content": blocks}, "ab"),
        ({"message": {"content": "c"}}, "c"),
        ({"message": {"content": blocks, "role": "user"}, "temperature": 0, "stop": "x", "max_output_tokens": 9}, "ab"),
        ({"content": "d", "stop": ["x", "y"], "model": "echo/paced", "budget_tokens": 500, "stream": None}, "d"),
    ):
        turn = client.post(path, json=body).json()
        assert turn["message"]["content"] == [{"type": "text", "text": answer}]
    client.post(path.replace("/turns", "/messages"), json={"content": "e"})
    assert client.post(path).json()["message"]["content"][0]["text"] == "e"


@pytest.mark.parametrize("prefer", ["respond-async", "wait=1"])
def test_a_turn_is_not_waited_for(client, prefer):
    """202 with the turn as it is and where it is; it goes on."""
    path = begin(client, "scripted/hang")
    response = client.post(path, json={"content": "x"}, headers={"Prefer": prefer})
    assert response.status_code == 202
    turn = response.json()
    assert turn["status"] == "running"
    assert response.headers["location"] == f"/api/turns/{turn['id']}"
    assert response.headers["preference-applied"] == prefer
    assert client.get(path.replace("/turns", "")).json()["open_turn_id"] == turn["id"]
    client.post(f"/api/turns/{turn['id']}/cancel")


def test_a_turn_that_ends_in_time(client):
    """200, and the preference was heeded."""
    response = client.post(begin(client, "scripted/late"), json={"content": "x"}, headers={"Prefer": "wait=20"})
    assert (response.status_code, response.json()["status"]) == (200, "completed")
    assert response.headers["preference-applied"] == "wait=20"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=7", 7),
        ('Wait="7"', 7),
        ("return=minimal, wait=7", 7),
        ("wait=7, respond-async", 0),
        ("Respond-Async, wait=7", 0),
        ("wait=0", 0),
        ("wait=601", 600),
        ("wait=999999999999", 600),
        *((nonsense, None) for nonsense in ("", None, "wait", "wait=", "wait=x", "wait=-1", ";;", "wait=" + "9" * 99)),
    ],
)
def test_how_long_a_caller_waits(prefer, seconds):
    """At most ten minutes, a minute if they do not say; a preference that cannot be read is passed over (RFC 7240)."""
    wait = wait_of(prefer)
    assert (wait.seconds, wait.asked) == ((60, False) if seconds is None else (seconds, True))


@pytest.mark.parametrize(
    ("accept", "stream", "streamed"),
    [
        ("text/event-stream", None, True),
        ("text/event-stream", False, False),
        ("application/json", True, True),
        ("application/json", None, False),
        ("application/json, text/event-stream;q=0.9", None, True),
        ("*/*", None, False),
    ],
)
def test_a_turn_is_streamed_if_it_is_asked_for(client, accept, stream, streamed):
    """By ``Accept``, or by the body, which wins."""
    body = {"content": "x", "stream": stream}
    response = client.post(begin(client), json=body, headers={"Accept": accept})
    assert response.status_code == 200
    kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
    assert response.headers["content-type"] == kind
    assert response.headers["location"].startswith("/api/turns/")


def test_one_turn_at_a_time(client):
    """A second one is a 409 with the id of the first, as is an append; afterwards it runs."""
    path = begin(client, "scripted/hang")
    turn = started(client, path)
    for response in (client.post(path, json={"content": "y"}), client.post(path, json={})):
        assert problem(response, 409, "turn_already_open")["turn_id"] == turn
        assert response.headers["x-should-retry"] == "false"
    assert client.post(f"/api/turns/{turn}/cancel").json()["status"] == "cancelled"
    assert client.post(path, json={"content": "z", "model": "echo/echo"}).json()["status"] == "completed"


def test_a_title_may_change_during_a_turn(client):
    """What the turn does not hang on is not closed."""
    path = begin(client, "scripted/hang")
    turn = started(client, path)
    changed = client.patch(path.replace("/turns", ""), json={"title": "now", "metadata": {"a": 1}})
    assert (changed.status_code, changed.json()["open_turn_id"]) == (200, turn)
    client.post(f"/api/turns/{turn}/cancel")


def test_a_turn_is_cancelled_once(client):
    """Cancelling is idempotent: the same answer, one event; what came is kept, and marked incomplete."""
    path = begin(client, "scripted/hang")
    turn = started(client, path)
    with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
        stream.until("delta")
    answers = [client.post(f"/api/turns/{turn}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json() == client.get(f"/api/turns/{turn}").json()
    ended = answers[0].json()
    assert ended["status"] == "cancelled"
    assert ended["message"]["complete"] is False
    assert ended["message"]["content"] == [{"type": "text", "text": "Wait"}]
    assert types(client, path).count("turn.cancelled") == 1


def test_a_cancel_ends_the_streams_and_the_waiting(client):
    """Whoever reads along or waits is told."""
    path = begin(client, "scripted/hang")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(client.post(path, json={"content": "x"})))
    waiting.start()
    turn = eventually(lambda: client.get(path.replace("/turns", "")).json()["open_turn_id"])
    with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
        stream.until("delta")
        client.post(f"/api/turns/{turn}/cancel")
        assert list(stream)[-1].event == "turn.cancelled"
    waiting.join()
    assert (answers[0].status_code, answers[0].json()["status"]) == (200, "cancelled")


def test_cancelling_what_has_ended(client):
    """Changes nothing."""
    turn = client.post(begin(client), json={"content": "x"}).json()
    assert client.post(f"/api/turns/{turn['id']}/cancel").json() == turn


def test_a_turn_that_fails(client):
    """200 with the turn and its error: the request was done. What came is kept, and a new turn may answer again."""
    path = begin(client, "scripted/fails")
    response = client.post(path, json={"content": "x"})
    turn = response.json()
    assert response.status_code == 200
    assert turn["status"] == "failed"
    assert turn["error"]["code"] == "provider_unavailable"
    assert turn["error"]["retryable"] is True
    assert turn["message"]["content"] == [{"type": "text", "text": "I brea"}]
    assert turn["message"]["complete"] is False
    again = client.post(path, json={}).json()
    assert again["status"] in {"completed", "failed"}
    assert again["id"] != turn["id"]


def test_tools_that_the_caller_runs(client):
    """The turn completes with ``tool_use``, and their results are the input of the next."""
    path = begin(client, "scripted/tools")
    turn = client.post(path, json={"content": "weather?", "client_tools": [{"name": "look"}]}).json()
    assert turn["stop_reason"] == "tool_use"
    call = turn["message"]["content"][1]
    assert (call["type"], call["id"], call["name"], call["input"]) == ("tool_use", "call_1", "look", {"city": "Rome"})
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "dry"}
    turn = client.post(path, json={"message": {"role": "tool", "content": [result]}}).json()
    assert (turn["status"], turn["message"]["content"][0]["text"]) == ("completed", "Dry.")


def test_turns_are_listed(client):
    """In the order they started, or the other, to the end."""
    path = begin(client)
    turns = [client.post(path, json={"content": f"{number}"}).json() for number in range(5)]
    for limit in (1, 2, 5, 1000):
        items, count = pages(client, path, limit=limit)
        assert items == turns
        assert count == -(-5 // limit)
        assert pages(client, path, limit=limit, order="desc")[0] == turns[::-1]


# --- clients that come and go -----------------------------------------------------------------------------------------


def test_a_client_that_leaves_does_not_end_its_turn(client):
    """Who comes back finds the whole answer."""
    path = begin(client, "scripted/slow")
    with opened(client, "POST", path, json={"content": "x", "stream": True}) as stream:
        turn = stream.until("delta")[0].json["id"]
    ended = eventually(lambda: (view := client.get(f"/api/turns/{turn}").json())["status"] != "running" and view)
    assert ended["status"] == "completed"
    assert ended["message"]["content"][0]["text"] == "abcdefghijklmnopqrstuvwxyz" * 2


@pytest.mark.parametrize("streaming", [True, False])
def test_a_turn_may_end_with_its_client(server, client, streaming):
    """``on_disconnect: cancel``: once nobody reads or waits any more."""
    path = begin(client, "scripted/hang")
    body = {"content": "x", "stream": streaming, "on_disconnect": "cancel"}
    with server.client() as own, own.stream("POST", path, json=body) if streaming else Waiting(server, path, body):
        turn = eventually(lambda: client.get(path.replace("/turns", "")).json()["open_turn_id"])
        if streaming:
            with opened(client, "GET", f"/api/turns/{turn}/stream") as second:
                second.until("delta")
        time.sleep(0.2)
        assert client.get(f"/api/turns/{turn}").json()["status"] == "running"
    eventually(lambda: client.get(f"/api/turns/{turn}").json()["status"] == "cancelled")


class Waiting:
    """A client that waits for an answer, and gives up."""

    def __init__(self, server, path, body):
        self.client = server.client()
        self.thread = threading.Thread(target=self._post, args=(path, body))

    def _post(self, path, body):
        try:
            self.client.post(path, json=body)
        except httpx.HTTPError as error:
            self.error = error

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        for connection in self.client._transport._pool.connections:
            connection._connection._network_stream._sock.shutdown(2)
        self.thread.join()
        self.client.close()


def test_many_watch_one_turn(server, client):
    """All see the same bytes, whenever they come, and the provider is asked once."""
    path = begin(client, "scripted/slow")
    turn = started(client, path)
    raws = []

    def watch(pause_s):
        time.sleep(pause_s)
        with server.client() as own, opened(own, "GET", f"/api/turns/{turn}/stream") as stream:
            list(stream)
            raws.append(stream.raw.replace(b": keep-alive\n\n", b""))

    threads = [threading.Thread(target=watch, args=(number * 0.05,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(raws) == 10
    assert len(set(raws)) == 1
    assert types(client, path).count("attempt.started") == 1


# --- idempotency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"), [('"k-1"', "k-1"), ("k-1", '"k-1"'), ("k 2", "k 2"), ("x" * 256, "x" * 256)]
)
def test_a_key_is_the_same_quoted_and_bare(server, client, first, second):
    """The first answer again, to the byte, on every POST that writes."""
    path = begin(client)
    for route, body in (
        ("/api/sessions", {"title": first}),
        (path.replace("/turns", "/messages"), {"content": "x"}),
        (path.replace("/turns", "/messages"), {"messages": [{"content": "x"}, {"content": "y"}]}),
        (path, {"content": "x"}),
    ):
        key = f"{first[:-1]}{len(str(body))}{first[-1]}" if first[0] == '"' else first[:250] + f"{len(str(body))}"
        same = f'"{key}"' if second[0] == '"' and key[0] != '"' else key.strip('"') if second[0] != '"' else key
        once = client.post(route, json=body, headers={"Idempotency-Key": key})
        before = server.size()
        again = client.post(route, json=body, headers={"Idempotency-Key": same})
        assert again.status_code == once.status_code < 300
        assert again.content == once.content
        assert again.headers.get("etag") == once.headers.get("etag")
        assert server.size() == before


def test_a_key_with_another_body(client):
    """422, and nothing is done."""
    path = begin(client)
    for route, bodies in (
        ("/api/sessions", ({"title": "a"}, {"title": "b"})),
        (path.replace("/turns", "/messages"), ({"content": "a"}, {"content": "b"})),
        (path, ({"content": "a"}, {"content": "b"})),
    ):
        answers = [client.post(route, json=body, headers={"Idempotency-Key": "other-body" + route}) for body in bodies]
        assert answers[0].is_success
        problem(answers[1], 422, "idempotency_mismatch", "Idempotency-Key")


def test_a_key_on_another_route(client):
    """Is another request; the spelling of the path does not make it another route."""
    paths = [begin(client).replace("/turns", "/messages") for _ in range(2)]
    headers = {"Idempotency-Key": "by-route"}
    ids = [client.post(path, json={"content": "x"}, headers=headers).json()["id"] for path in paths]
    assert ids[0] != ids[1]
    spelled = paths[0].replace("/api/sessions/", "/api//sessions/") + "/"
    assert client.post(spelled, json={"content": "x"}, headers=headers).json()["id"] == ids[0]


def test_an_answer_of_then(client):
    """A session's first answer is that of its first version, whatever has become of it."""
    headers = {"Idempotency-Key": "of-then"}
    first = client.post("/api/sessions", json={"title": "then"}, headers=headers)
    path = first.headers["location"]
    client.patch(path, json={"title": "now"})
    assert client.post("/api/sessions", json={"title": "then"}, headers=headers).json() == first.json()
    assert client.get(path).json()["title"] == "now"


def test_an_answer_of_before_the_session_moved_on(client):
    """A repeated request is not held to the version that its first was made at."""
    path = begin(client)
    for route in (path.replace("/turns", "/messages"), path):
        etag = client.get(path.replace("/turns", "")).headers["etag"]
        headers = {"Idempotency-Key": "moved-on", "If-Match": etag}
        first = client.post(route, json={"content": "x"}, headers=headers)
        assert first.is_success
        assert client.post(route, json={"content": "x"}, headers=headers).json() == first.json()


def test_refusals_are_not_remembered(client):
    """A key whose request was refused is free."""
    path = begin(client, "scripted/hang")
    headers = {"Idempotency-Key": "refused-once"}
    turn = started(client, path)
    problem(client.post(path, json={"content": "x"}, headers=headers), 409, "turn_already_open")
    client.post(f"/api/turns/{turn}/cancel")
    body = {"content": "other", "model": "echo/echo"}
    assert client.post(path, json=body, headers=headers).json()["status"] == "completed"


def test_a_second_request_attaches_to_the_first(client):
    """While the turn runs, the same key gets the same frames, never a second call to the provider."""
    path = begin(client, "scripted/slow")
    body, headers = {"content": "x", "stream": True}, {"Idempotency-Key": "attach"}
    with opened(client, "POST", path, json=body, headers=headers) as first:
        blocks = first.until("delta")
        with opened(client, "POST", path, json=body, headers=headers) as second:
            again = [block for block in second if block.id]
        blocks += list(first)
    assert [block for block in blocks if block.id] == again
    after = read(client, path, "POST", json=body, headers=headers)
    assert after == again
    rest = read(client, path, "POST", json=body, headers=headers | {"Last-Event-ID": "7"})
    assert rest == again[7:]
    assert types(client, path).count("attempt.started") == 1


def test_waiting_attaches_too(client):
    """Who asks again and waits gets the one turn, ended."""
    path = begin(client, "scripted/slow")
    body, headers = {"content": "x"}, {"Idempotency-Key": "attach-waiting"}
    first = client.post(path, json=body, headers=headers | {"Prefer": "respond-async"})
    second = client.post(path, json=body, headers=headers)
    third = client.post(path, json=body, headers=headers | {"Prefer": "respond-async"})
    assert [first.status_code, second.status_code, third.status_code] == [202, 200, 202]
    assert first.json()["id"] == second.json()["id"] == third.json()["id"]
    assert second.json() == third.json()
    assert types(client, path).count("turn.started") == 1


@pytest.mark.parametrize("model", ["echo/echo", "scripted/late"])
def test_many_at_once_with_one_key(server, client, model):
    """However they race, there is one turn, and everybody gets it."""
    for attempt in range(4):
        path = begin(client, model)
        gate, answers = threading.Barrier(6), []

        def ask(path=path, gate=gate, answers=answers, attempt=attempt):
            with server.client() as own:
                own.get("/healthz")
                gate.wait()
                answers.append(own.post(path, json={"content": "x"}, headers={"Idempotency-Key": f"race{attempt}"}))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert types(client, path).count("turn.started") == 1
