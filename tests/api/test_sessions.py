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
