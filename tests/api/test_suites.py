"""Suites over HTTP: made, changed, emptied, listed, replayed; and what is refused."""

import time
from uuid import uuid4

import pytest

from tests.api.harness import pages, problem

FIELDS = ["id", "name", "items", "version", "created_at", "updated_at"]


@pytest.fixture
def turns(client):
    """The turns of a session, as items of a suite."""
    session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
    answers = [client.post(f"/api/sessions/{session}/turns", json={"content": word}) for word in ("one", "two")]
    return [{"session_id": session, "turn_id": answer.json()["id"]} for answer in answers]


@pytest.fixture
def name():
    """A name that no other test has taken."""
    return f"smoke {uuid4()}"


def ended(client, replay):
    """A replay when it has ended."""
    for _ in range(400):
        found = client.get(f"/api/replays/{replay}").json()
        if found["status"] != "running":
            return found
        time.sleep(0.02)
    raise AssertionError("it did not end")


def test_a_suite_is_made_read_changed_and_emptied(client, turns, name):
    """201 with its place; each change is a version, which is its ETag; empty, it is there still and may be filled."""
    made = client.post("/api/suites", json={"name": name, "items": turns})
    assert (made.status_code, list(made.json())) == (201, FIELDS)
    assert (made.json()["items"], made.headers["etag"]) == (turns, '"1"')
    place = made.headers["location"]
    assert client.get(place).json() == made.json()
    changed = client.put(place, json={"items": [{"turn_id": turns[1]["turn_id"]}]})
    assert (changed.json()["items"], changed.headers["etag"]) == ([turns[1]], '"2"')
    emptied = client.delete(place)
    assert (emptied.status_code, emptied.json()["items"], emptied.json()["version"]) == (200, [], 3)
    assert client.get(place).json() == emptied.json()
    assert client.post("/api/suites", json={"name": name, "items": turns}).json()["version"] == 4
    listed = pages(client, "/api/suites", limit=1)[0]
    assert name in [suite["name"] for suite in listed]


@pytest.mark.parametrize("name", ["träge Tests", "a&b=c?d#e", "100%", "+", "..a"])
def test_a_name_is_found_by_its_address(client, name):
    """Whatever characters it has: the place says where."""
    place = client.post("/api/suites", json={"name": name}).headers["location"]
    assert client.get(place).json()["name"] == name


def test_the_version_is_held_to(client, turns, name):
    """Who has not seen the newest one is told of it."""
    place = client.post("/api/suites", json={"name": name, "items": turns}).headers["location"]
    stale = {"If-Match": '"7"'}
    refused = problem(client.put(place, json={"items": []}, headers=stale), 412, "version_conflict")
    assert refused["current_version"] == 1
    problem(client.delete(place, headers=stale), 412, "version_conflict")
    assert client.delete(place, headers={"If-Match": '"1"'}).status_code == 200


def test_the_same_key_gives_the_same_suite(client, turns, name):
    """Also after a change; another body under it is refused."""
    key, body = {"Idempotency-Key": str(uuid4())}, {"name": name, "items": turns}
    made = client.post("/api/suites", json=body, headers=key)
    client.delete(made.headers["location"])
    again = client.post("/api/suites", json=body, headers=key)
    assert (again.status_code, again.json()) == (201, made.json())
    problem(client.post("/api/suites", json={"name": name}, headers=key), 422, "idempotency_mismatch")


def test_a_suite_is_replayed_and_an_answer_accepted(client, turns, name):
    """The replay names it; what is accepted is the suite's from then on, and compared with later."""
    place = client.post("/api/suites", json={"name": name, "items": turns}).headers["location"]
    asked = {"suite": name, "model": "scripted/think"}
    replay = ended(client, client.post("/api/replays", json=asked).json()["id"])
    assert (replay["suite"], replay["counts"]["different"]) == (name, 2)
    first = replay["results"][0]
    accept = f"/api/replays/{replay['id']}/accept"
    assert client.post(accept, json={"results": [first["turn_id"]]}).json()["suite"] == name
    held = [item["turn_id"] for item in client.get(place).json()["items"]]
    assert (first["new_turn_id"] in held, first["turn_id"] in held) == (True, False)
    again = ended(client, client.post("/api/replays", json=asked).json()["id"])
    assert (again["counts"]["same"], again["counts"]["different"]) == (1, 1)
    problem(client.post(accept, json={"results": [first["turn_id"]]}), 400, "invalid_value", "results")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"name": ""}, 400, "invalid_value", "name"),
        ({"name": "a/b"}, 400, "invalid_value", "name"),
        ({"name": "x" * 201}, 413, "too_large", "name"),
        ({"items": [{"turn_id": "nothing"}]}, 400, "invalid_value", "items[0].turn_id"),
        ({"items": [{"turn_id": str(uuid4())}]}, 404, "turn_not_found", "items"),
        ({"items": [{"session_id": str(uuid4())}]}, 400, "missing_field", "items[0].turn_id"),
        ({"items": [], "turns": []}, 400, "unknown_field", "turns"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(client, server, name, body, status, code, field):
    """Each refusal names what was wrong, and nothing is written."""
    before = server.size()
    problem(client.post("/api/suites", json={"name": name} | body), status, code, field)
    assert server.size() == before


def test_what_is_not_there_is_not_found(client, turns, name):
    """A name that none has, in each route; one that is taken is a conflict; all unknown turns are named."""
    for method, given in (("GET", {}), ("PUT", {"json": {"items": []}}), ("DELETE", {})):
        problem(client.request(method, f"/api/suites/{name}", **given), 404, "suite_not_found")
    problem(client.post("/api/replays", json={"suite": name}), 404, "suite_not_found")
    client.post("/api/suites", json={"name": name, "items": turns})
    problem(client.post("/api/suites", json={"name": name, "items": turns}), 409, "suite_exists")
    unknown = [str(uuid4()), str(uuid4())]
    items = [*turns, *({"turn_id": each} for each in unknown)]
    refused = problem(client.put(f"/api/suites/{name}", json={"items": items}), 404, "turn_not_found", "items")
    assert refused["turn_ids"] == unknown


def test_an_open_turn_is_refused(client, name):
    """With its id: it has no answer yet."""
    session = client.post("/api/sessions", json={"model": "scripted/hang"}).json()["id"]
    headers = {"Prefer": "respond-async"}
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}, headers=headers).json()["id"]
    refused = client.post("/api/suites", json={"name": name, "items": [{"turn_id": turn}]})
    assert problem(refused, 409, "turn_already_open")["turn_id"] == turn
    client.post(f"/api/turns/{turn}/cancel")
