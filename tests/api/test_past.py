"""``?version=`` and ``?at=``: a session, its messages and its window as they were."""

import pytest

from tests.api.harness import problem

BELOW = ("", "/messages", "/window")
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def told(client, session):
    """The path of a session to which things have happened, and what it was after each."""
    path = f"/api/sessions/{session}"
    seen = [look(client, path)]
    for content in ("One.", "Two.", "Three."):
        client.post(f"{path}/messages", json={"content": content})
        seen.append(look(client, path))
    client.put(f"{path}/messages/3/pin")
    seen.append(look(client, path))
    client.patch(path, json={"title": "Later", "system": "Be brief."})
    seen.append(look(client, path))
    return path, seen


def look(client, path, **then):
    """All three, without where the next page begins."""
    return [client.get(path + below, params=then).json() for below in BELOW]


def test_the_past_by_version_and_by_time(client, told):
    """Each answer is what it was when that version was the newest; a time means the last version recorded by then."""
    path, seen = told
    for then in seen:
        assert look(client, path, version=then[0]["version"]) == then
        assert look(client, path, at=then[0]["updated_at"]) == then
    assert look(client, path, at="2200-01-01T00:00:00+01:00") == seen[-1]
    assert client.get(path, params={"version": 2}).headers["etag"] == '"2"'


def test_pages_of_the_past(client, told):
    """A cursor goes on in the same past; what came later is on no page."""
    path, _ = told
    query = {"version": 3, "limit": 1, "order": "desc"}
    first = client.get(f"{path}/messages", params=query).json()
    rest = client.get(f"{path}/messages", params=query | {"cursor": first["next_cursor"]}).json()
    assert [page["items"][0]["content"][0]["text"] for page in (first, rest)] == ["Two.", "One."]
    assert rest["next_cursor"] is None


def test_what_was_erased_since(client, told):
    """Its words are null or gone, in every past, and the message says so."""
    path, _ = told
    assert client.post(f"{path}/erase", json={"reason": "x", "versions": [2, 6]}).status_code == 200
    then = client.get(path, params={"version": 6}).json()
    assert (then["title"], then["system"], then["version"]) == (None, None, 6)
    message = client.get(f"{path}/messages", params={"version": 2}).json()["items"][0]
    assert (message["content"], message["erased"]["reason"]) == ([], "x")


@pytest.mark.parametrize("below", BELOW)
def test_what_cannot_be_asked(client, told, below):
    """Each refusal names the field, and says what there is."""
    path, seen = told
    where = path + below
    beyond = problem(client.get(where, params={"version": 7}), 404, "session_not_found", "version")
    assert (beyond["last_version"], seen[-1][0]["version"]) == (6, 6)
    problem(client.get(where, params={"version": 0}), 404, "session_not_found", "version")
    problem(client.get(where, params={"version": -1}), 400, "invalid_value", "version")
    early = problem(client.get(where, params={"at": "2020-02-02T02:02:02Z"}), 404, "not_yet", "at")
    assert early["created_at"] == seen[0][0]["created_at"]
    for at in ("now", "", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05 02:00", "1767323045"):
        problem(client.get(where, params={"at": at}), 400, "invalid_value", "at")
    both = {"at": "2200-01-01T00:00:00Z", "version": 1}
    problem(client.get(where, params=both), 400, "invalid_value", "at")
    for then in ({"version": 1}, {"at": "2200-01-01T00:00:00Z"}):
        problem(client.get(f"/api/sessions/{NOBODY}{below}", params=then), 404, "session_not_found")
