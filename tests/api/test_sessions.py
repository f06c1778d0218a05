"""Sessions: what they are made of, how they change, how they are listed, what they were."""

import re
from uuid import UUID

import pytest

from tests.api.conftest import STRANGE
from tests.api.harness import REQUEST_ID, pages, problem

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
FIELDS = [
    "id",
    "title",
    "model",
    "system",
    "metadata",
    "budget_tokens",
    "max_output_tokens",
    "status",
    "version",
    "message_count",
    "token_count",
    "usage",
    "parent",
    "open_turn_id",
    "created_at",
    "updated_at",
    "costs",
    "fallback_model",
    "allowed_tools",
    "legal_hold",
    "expires_at",
    "user_id",
    "agent_id",
    "max_messages",
    "max_tokens",
    "preview",
    "turn_count",
    "failed_count",
    "family",
]


def test_a_session_of_defaults(client):
    """201, with all its fields, an ETag and where it is; a body is not needed."""
    response = client.post("/api/sessions")
    assert response.status_code == 201
    session = response.json()
    assert list(session) == FIELDS
    assert session["model"] == "echo/echo"
    assert (session["status"], session["version"], session["message_count"]) == ("active", 1, 0)
    assert UUID(session["id"]).version == 7
    assert TIME.fullmatch(session["created_at"])
    assert response.headers["etag"] == '"1"'
    assert client.get(response.headers["location"]).json() == session


def test_a_session_of_everything(client):
    """What was given comes back, whatever characters it holds."""
    fields = {
        "title": STRANGE[:400],
        "system": STRANGE,
        "metadata": {STRANGE: [STRANGE, 1, -1.5e-7, 2**60, True, None, {"": []}]},
        "budget_tokens": 100_000,
        "max_output_tokens": 7,
        "model": "echo/paced",
    }
    created = client.post("/api/sessions", json=fields).json()
    assert {name: created[name] for name in fields} == fields
    assert client.get(f"/api/sessions/{created['id']}").json() == created
    (event,) = client.get(f"/api/sessions/{created['id']}/events").json()["items"]
    assert event["body"] == {name: fields[name] for name in ("title", "system", "metadata")}


def test_a_patch_changes_what_it_names(client, session):
    """Other fields stay; null sets null; the ETag follows the version."""
    path = f"/api/sessions/{session}"
    first = client.patch(path, json={"title": "a", "system": "b", "metadata": {"c": 1}, "budget_tokens": 9})
    assert first.headers["etag"] == f'"{first.json()["version"]}"'
    second = client.patch(path, json={"title": None, "budget_tokens": None}).json()
    assert (second["title"], second["system"], second["budget_tokens"]) == (None, "b", None)
    assert second["metadata"] == {"c": 1}
    third = client.patch(path, json={"system": None, "metadata": None, "model": "echo/paced"}).json()
    assert (third["system"], third["metadata"], third["model"]) == (None, None, "echo/paced")
    assert client.get(path).json() == third


def test_a_patch_of_nothing(server, client, session):
    """An empty object changes nothing and is fine."""
    before = server.size()
    response = client.patch(f"/api/sessions/{session}", json={})
    assert response.status_code == 200
    assert response.json()["version"] == 1
    assert server.size() == before


def test_archived_and_back(client, session):
    """An archived session takes nothing but being restored, also together with other changes."""
    path = f"/api/sessions/{session}"
    assert client.patch(path, json={"status": "archived", "title": "last words"}).json()["status"] == "archived"
    problem(client.post(f"{path}/messages", json={"content": "x"}), 409, "session_archived")
    assert client.patch(path, json={"status": "archived"}).status_code == 200
    restored = client.patch(path, json={"status": "active", "title": "again"}).json()
    assert (restored["status"], restored["title"]) == ("active", "again")
    assert client.post(f"{path}/messages", json={"content": "x"}).status_code == 201


def test_every_version_can_be_seen_again(client, session):
    """``?version=N`` is the session as it was then, for every N."""
    path = f"/api/sessions/{session}"
    seen = [client.get(path).json()]
    seen.append(client.patch(path, json={"title": "one", "metadata": {"a": 1}}).json())
    client.post(f"{path}/messages", json={"content": "hello"})
    seen.append(client.get(path).json())
    seen.append(client.patch(path, json={"title": None, "system": "s"}).json())
    seen.append(client.patch(path, json={"status": "archived"}).json())
    for expected in seen:
        response = client.get(path, params={"version": expected["version"]})
        assert response.json() == expected
        assert response.headers["etag"] == f'"{expected["version"]}"'


def test_a_write_at_the_expected_version(client, session):
    """If-Match with the ETag as it was given, weak or ``*``, lets a write through."""
    path = f"/api/sessions/{session}"
    for number, tag in enumerate((client.get(path).headers["etag"], 'W/"2"', "*")):
        response = client.patch(path, json={"title": f"t{number}"}, headers={"If-Match": tag})
        assert response.status_code == 200
    etag = response.headers["etag"]
    appended = client.post(f"{path}/messages", json={"content": "x"}, headers={"If-Match": etag})
    assert appended.status_code == 201
    turn = client.post(f"{path}/turns", json={"content": "y"}, headers={"If-Match": appended.headers["etag"]})
    assert turn.status_code == 200
    late = client.post(f"{path}/turns", json={"content": "y"}, headers={"If-Match": appended.headers["etag"]})
    assert problem(late, 412, "version_conflict")["current_version"] == client.get(path).json()["version"]


@pytest.fixture(scope="module")
def many(client):
    """Sessions in the order they began; then some of them were used again."""
    ids = [client.post("/api/sessions", json={"title": f"listed {number}"}).json()["id"] for number in range(9)]
    for number in (3, 0, 7):
        client.post(f"/api/sessions/{ids[number]}/messages", json={"content": "x"})
    client.patch(f"/api/sessions/{ids[5]}", json={"status": "archived"})
    return ids


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_lists_by_creation_and_by_activity(client, many, limit):
    """To the end, nothing twice, whatever the size of the pages."""
    items, count = pages(client, "/api/sessions", order="created", limit=limit)
    assert count == -(-len(items) // limit)
    found = [each["id"] for each in items if each["id"] in many]
    assert found == many[::-1]
    items, _ = pages(client, "/api/sessions", limit=limit)
    assert sorted(items, key=lambda each: (each["updated_at"], each["id"]), reverse=True) == items
    found = [many.index(each["id"]) for each in items if each["id"] in many]
    assert found == [5, 7, 0, 3, 8, 6, 4, 2, 1]


def test_a_list_of_one_status(client, many):
    """Archived ones, and the others."""
    archived, _ = pages(client, "/api/sessions", status="archived", limit=2)
    active, _ = pages(client, "/api/sessions", status="active", limit=100)
    assert many[5] in [each["id"] for each in archived]
    assert {each["status"] for each in archived} == {"archived"}
    assert {each["status"] for each in active} == {"active"}


def test_a_stable_list_while_sessions_begin(client, many):
    """By creation, a page is followed by the one that followed it when it was read."""
    first = client.get("/api/sessions", params={"order": "created", "limit": 3}).json()
    client.post("/api/sessions")
    after = client.get("/api/sessions", params={"order": "created", "limit": 3, "cursor": first["next_cursor"]}).json()
    ids = [each["id"] for each in first["items"] + after["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 6


# --- request ids ------------------------------------------------------------------------------------------------------


def test_a_request_id_is_taken_and_recorded(client):
    """The caller's own, in the answer and in every event written for it, the turn's too."""
    headers = {"x-request-id": "trace.me_1-A"}
    created = client.post("/api/sessions", headers=headers)
    assert created.headers["x-request-id"] == "trace.me_1-A"
    path = f"/api/sessions/{created.json()['id']}"
    client.post(f"{path}/turns", json={"content": "x"}, headers={"x-request-id": "the-turn"})
    client.patch(path, json={"title": "x"})
    events = client.get(f"{path}/events").json()["items"]
    ids = [event["correlation_id"] for event in events]
    assert ids[0] == "trace.me_1-A"
    assert set(ids[1:-1]) == {"the-turn"}
    assert UUID(ids[-1]).version == 7


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é".encode(), 'a"b', "a,b"])
def test_a_request_id_that_may_not_be_recorded(client, given):
    """Another one is made."""
    taken = client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
    assert taken.encode() != given
    assert REQUEST_ID.fullmatch(taken)


@pytest.mark.parametrize("path", ["/healthz", "/api/sessions", "/nothing", "/schema", "/api/ai/chat"])
def test_every_answer_has_a_request_id(client, path):
    """Once, and never the same."""
    values = [client.get(path).headers.get_list("x-request-id") for _ in range(2)]
    assert [len(value) for value in values] == [1, 1]
    assert values[0] != values[1]


# --- an end, an owner, bounds, metadata by key ------------------------------------------------------------------------


def test_an_expired_session_refuses_what_is_new(client):
    """409 with the time, for messages and turns, until a later one is set; it can be read all the while."""
    given = {"expires_at": "2020-01-01T01:00:00+01:00", "max_messages": 2, "max_tokens": 50}
    session = client.post("/api/sessions", json=given).json()
    path = f"/api/sessions/{session['id']}"
    assert (session["expires_at"], session["status"]) == ("2020-01-01T00:00:00.000000Z", "active")
    for late in ("messages", "turns"):
        refused = problem(client.post(f"{path}/{late}", json={"content": "x"}), 409, "session_expired")
        assert refused["expires_at"] == session["expires_at"]
    assert client.get(f"{path}/messages").json()["items"] == []
    assert client.patch(path, json={"ttl_s": 3600}).json()["expires_at"] > "2026"
    assert client.post(f"{path}/messages", json={"content": "x"}).status_code == 201
    assert client.patch(path, json={"expires_at": None}).json()["expires_at"] is None
    problem(client.patch(path, json={"expires_at": "2099-01-01T00:00:00Z", "ttl_s": 1}), 400, "invalid_value")
    for wrong in ("2099-01-01T00:00:00", "soon", 7):
        problem(client.patch(path, json={"expires_at": wrong}), 400, "invalid_value")


def test_a_full_session_says_what_is_full(client):
    """409 with the limit and its value."""
    path = f"/api/sessions/{client.post('/api/sessions', json={'max_messages': 2, 'max_tokens': 50}).json()['id']}"
    client.post(f"{path}/messages", json={"content": "x"}).raise_for_status()
    full = problem(client.post(f"{path}/turns", json={"content": "x"}), 409, "session_full")
    assert (full["limit"], full["maximum"]) == ("max_messages", 2)
    full = problem(client.post(f"{path}/messages", json={"content": "word " * 60}), 409, "session_full")
    assert (full["limit"], full["maximum"]) == ("max_tokens", 50)


def test_sessions_are_found_by_what_they_are(client):
    """Each parameter of the list, alone and with others; what cannot be is refused."""
    user = "user-of-this-test"
    fields = {"user_id": user, "agent_id": "bot", "title": "A 100% Title"}
    one = client.post("/api/sessions", json=fields).json()
    client.post("/api/sessions", json={"user_id": user, "model": "echo/paced"}).raise_for_status()
    for which, count in (
        ({"agent_id": "bot"}, 1),
        ({"model": "echo/echo"}, 1),
        ({"title_contains": "0% t"}, 1),
        ({"has_failed": "true"}, 0),
        ({"has_failed": "false", "waiting": "false", "status": "active"}, 2),
        ({"waiting": "true"}, 0),
    ):
        items = client.get("/api/sessions", params={"user_id": user} | which).json()["items"]
        assert len(items) == count, which
    (found,) = client.get("/api/sessions", params={"agent_id": "bot"}).json()["items"]
    assert found == one
    for wrong in ({"user_id": ""}, {"has_failed": "maybe"}, {"status": "expired"}, {"owner": "x"}):
        assert client.get("/api/sessions", params=wrong).status_code == 400
    client.post(f"/api/sessions/{one['id']}/erase", json={"reason": "x"}).raise_for_status()
    assert client.get(f"/api/sessions/{one['id']}").json()["user_id"] is None
    assert client.get("/api/sessions", params={"agent_id": "bot"}).json()["items"] == []


def test_metadata_is_merged(client):
    """A merge patch: null removes, objects are merged; If-Match is honoured, and what is no object refused."""
    session = client.post("/api/sessions", json={"metadata": {"a": {"b": 1}, "c": 2}}).json()
    path = f"/api/sessions/{session['id']}/metadata"
    answer = client.patch(path, json={"a": {"d": None, "e": [1]}, "c": None}, headers={"if-match": '"1"'})
    assert answer.json()["metadata"] == {"a": {"b": 1, "e": [1]}}
    assert answer.headers["etag"] == '"2"'
    assert client.patch(path, json={}).headers["etag"] == '"2"'
    keyed = {"idempotency-key": "k-merge"}
    first = client.patch(path, json={"f": 1}, headers=keyed)
    client.patch(path, json={"f": 2}).raise_for_status()
    assert client.patch(path, json={"f": 1}, headers=keyed).json() == first.json()
    problem(client.patch(path, json={"f": 3}, headers=keyed), 422, "idempotency_mismatch")
    assert client.get(path.removesuffix("/metadata")).json()["metadata"]["f"] == 2
    problem(client.patch(path, json={"x": 1}, headers={"if-match": '"1"'}), 412, "version_conflict")
    for wrong in ([], "x", None, 7):
        assert client.patch(path, json=wrong).status_code == 400
    problem(client.patch(path, json={"x": "y" * 20_000}), 413, "too_large")
    assert client.patch(path, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
