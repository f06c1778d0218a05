"""A request that comes again is known by what it says, not by how its client's library wrote it this time."""

import json

import pytest

from tests.api.harness import problem

JSON_TYPE = {"Content-Type": "application/json"}


def send(client, method, path, body, key, **headers):
    return client.request(method, path, content=body.encode(), headers=JSON_TYPE | {"Idempotency-Key": key} | headers)


@pytest.fixture
def names(client, session):
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    return {"session": session, "turn": turn}


AT = "/api/sessions/{session}"
SAME = {  # method, path, and bodies that say the same
    "a session": (
        "POST",
        "/api/sessions",
        '{"title":"é","metadata":{"b":[1,2.50],"a":null},"budget_tokens":100}',
        '{ "budget_tokens" : 100, "metadata": {"a": null, "b": [1.0, 25e-1]}, "title": "\\u00e9" }',
        '{"title":"\\u00E9","budget_tokens":100,"metadata":{"b":[10e-1,2.5],"a":null}}',
    ),
    "changes": ("PATCH", AT, '{"title":"x","system":null}', '{"system": null, "title": "\\u0078"}'),
    "a message": ("POST", AT + "/messages", '{"content":"x","role":"user"}', '{"role":"user","content":"\\u0078"}'),
    "blocks": (
        "POST",
        AT + "/messages",
        '{"role":"assistant","content":[{"type":"text","text":"a/b"},{"type":"tool_use","id":"a","name":"b","input":{"y":2.50}}]}',
        '{"content":[{"text":"a\\/b","type":"text"},\n{"input":{"y":25e-1},"name":"b","id":"a","type":"tool_use"}],"role":"assistant"}',
    ),
    "a turn": ("POST", AT + "/turns", '{"content":"x","temperature":1}', '{"temperature":1.0,"content":"x"}'),
    "an end": ("POST", "/api/turns/{turn}/cancel", "{}", " { } "),
    "an erasure": ("POST", AT + "/erase", '{"reason":"x","versions":[2]}', '{"versions":[ 2 ],"reason":"x"}'),
    "the guide's": (
        "POST",
        "/api/ai/complete",
        '{"message":"x","model":"echo/echo"}',
        '{"model":"echo/echo", "message":"x"}',
    ),
}


@pytest.mark.parametrize(
    ("method", "path", "first", "others"), [(a, b, c, d) for a, b, c, *d in SAME.values()], ids=SAME
)
def test_the_same_request_written_anew(server, client, names, method, path, first, others):
    """The first answer again, and nothing is done."""
    path = path.format(**names)
    key = f"anew {path} {first}".encode("ascii", "replace").decode()
    once = send(client, method, path, first, key)
    assert once.is_success, once.text
    before = server.size()
    for other in others:
        again = send(client, method, path, other, key)
        assert again.status_code == once.status_code, again.text
        assert {**again.json(), "request_id": 0} == {**once.json(), "request_id": 0}
    assert server.size() == before


ANOTHER = {
    "a null that was absent": ('{"title":"x"}', '{"title":"x","system":null}'),
    "a value": ('{"metadata":{"a":1}}', '{"metadata":{"a":2}}'),
    "a text for a number": ('{"metadata":{"a":1}}', '{"metadata":{"a":"1"}}'),
    "true for one": ('{"metadata":{"a":1}}', '{"metadata":{"a":true}}'),
    "an order": ('{"metadata":{"a":[1,2]}}', '{"metadata":{"a":[2,1]}}'),
    "a letter": ('{"title":"\\u00e9"}', '{"title":"e\\u0301"}'),
    "a number that floats cannot tell": ('{"metadata":{"a":9007199254740993}}', '{"metadata":{"a":9007199254740992}}'),
    "nothing": ('{"title":"x"}', "{}"),
}


@pytest.mark.parametrize(("first", "other"), ANOTHER.values(), ids=ANOTHER)
def test_a_request_that_says_something_else(server, client, first, other):
    """422, in whichever order the two come; nothing is done."""
    for number, (one, two) in enumerate([(first, other), (other, first)]):
        key = f"else {number} {first} {other}"
        assert send(client, "POST", "/api/sessions", one, key).status_code == 201
        before = server.size()
        problem(send(client, "POST", "/api/sessions", two, key), 422, "idempotency_mismatch", "Idempotency-Key")
        assert server.size() == before


def test_a_field_given_twice_has_no_meaning(client, unchanged):
    """It is refused, with a key or without."""
    for headers in ({}, {"Idempotency-Key": "twice"}):
        sent = client.post("/api/sessions", content=b'{"title":"x","title":"x"}', headers=JSON_TYPE | headers)
        problem(sent, 400, "duplicate_field", "title")


@pytest.mark.parametrize("number", ["1e9999999999999999999", "1e-9999999999999999999"])
def test_a_number_beyond_all_bounds(client, session, unchanged, number):
    """Refused where it would have to be compared."""
    body = f'{{"content":[{{"type":"x","y":{number}}}]}}'
    path = f"/api/sessions/{session}/messages"
    problem(send(client, "POST", path, body, "beyond"), 400, "malformed_json")


def test_a_librarys_repetition_written_anew(client):
    """What an SDK sends again without a key attaches to the turn that runs, though its JSON has another order."""
    path = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"] + "/turns"
    first = client.post(path, json={"content": "x", "temperature": 1}, headers={"Prefer": "respond-async"})
    again = {"Prefer": "respond-async", "x-stainless-retry-count": "1"} | JSON_TYPE
    body = json.dumps({"temperature": 1.0, "content": "x"}, indent=1)
    assert client.post(path, content=body, headers=again).json()["id"] == first.json()["id"]
    problem(client.post(path, content=body.replace("x", "y"), headers=again), 409, "turn_already_open")
    client.post(f"/api/turns/{first.json()['id']}/cancel")


def test_a_query_written_anew(server, client):
    """The guide's stream has its request in the query: the order of its parameters and their escapes do not matter."""
    headers = {"Idempotency-Key": "query anew"}
    first = client.get("/api/ai/stream?q=a+%C3%A9&model=echo/echo", headers=headers)
    before = server.size()
    again = client.get("/api/ai/stream?model=echo%2Fecho&q=a%20%c3%a9", headers=headers)
    assert (again.content, server.size()) == (first.content, before)
    assert client.get("/api/ai/stream?q=b&model=echo/echo", headers=headers).status_code == 422


SAID = [{"role": "user", "content": "pay once"}]
PARTS = [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "pay once"}]}]
DOORS = {
    "/v1/chat/completions": {"model": "echo/echo", "messages": SAID},
    "/v1/messages": {"model": "echo/echo", "max_tokens": 9, "messages": SAID},
    "/v1/responses": {"model": "echo/echo", "input": "pay once"},
    "/v1/ai-sdk/chat": {"model": "echo/echo", "id": "c", "trigger": "submit-message", "messages": PARTS},
}


@pytest.mark.parametrize("path", DOORS)
def test_a_clients_key_gives_the_first_turn_again(client, path):
    """Behind each vendor's door; another body with the key is refused in the vendor's form, and nothing is recorded."""
    key = {"Idempotency-Key": f"once {path}"}
    first, again = (client.post(path, json=DOORS[path], headers=key) for _ in range(2))
    assert first.status_code == again.status_code == 200, again.text
    assert first.headers["x-manent-turn"] == again.headers["x-manent-turn"]
    assert first.content == again.content
    size = len(client.get("/api/events", params={"limit": 1000}).json()["items"])
    other = client.post(path, json=DOORS[path] | {"model": "echo/paced"}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_mismatch")
    assert len(client.get("/api/events", params={"limit": 1000}).json()["items"]) == size
