"""Branches over HTTP: forking, turns from a version, the family as a tree, in lists, and the siblings of messages."""

import time

import pytest

from tests.api.harness import pages, problem, read, text_of

NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def talked(client, session):
    """The path of a session in which three things were said, at the versions 2 to 4."""
    path = f"/api/sessions/{session}"
    contents = [{"role": "user", "content": content} for content in ("One.", "Two.", "Three.")]
    assert client.post(f"{path}/messages", json={"messages": contents}).status_code == 201
    return path


def fork(client, path, content=None, **body):
    """The path of a fork, in which something was said."""
    answer = client.post(f"{path}/fork", json=body)
    assert answer.status_code == 201, answer.text
    forked = f"/api/sessions/{answer.json()['id']}"
    if content is not None:
        assert client.post(f"{forked}/messages", json={"content": content}).status_code == 201
    return forked


def texts(client, path):
    return ["".join(block["text"] for block in each["content"]) for each in pages(client, f"{path}/messages")[0]]


def expired(client):
    """The path of a session that takes nothing new."""
    path = f"/api/sessions/{client.post('/api/sessions', json={'ttl_s': 1}).json()['id']}"
    client.post(f"{path}/messages", json={"content": "One."})
    time.sleep(1.1)
    return path


# --- forking ----------------------------------------------------------------------------------------------------------


def test_a_fork_is_a_session_of_its_own(client, talked):
    """201 with where it is and its version; it shares what was said, and names where it comes from."""
    answer = client.post(f"{talked}/fork", json={"version": 3, "title": "Mine", "metadata": {"a": 1}})
    made = answer.json()
    path = f"/api/sessions/{made['id']}"
    assert (answer.status_code, answer.headers["location"], answer.headers["etag"]) == (201, path, '"4"')
    assert made["parent"] == {"session_id": talked.rpartition("/")[2], "version": 3}
    assert (made["title"], made["metadata"], made["message_count"]) == ("Mine", {"a": 1}, 2)
    assert made["family"] == {"root": talked.rpartition("/")[2], "size": 2}
    assert client.get(path).json() == made
    assert texts(client, path) == ["One.", "Two."]
    assert client.post(f"{talked}/fork").json()["parent"]["version"] == 4


def test_a_fork_under_a_key_is_made_once(client, server, talked):
    """The same request gives the same session as it was; another body under the key is refused."""
    key = {"idempotency-key": f"fork-{talked}"}
    first = client.post(f"{talked}/fork", json={"version": 2}, headers=key)
    fork(client, talked)
    size = server.size()
    again = client.post(f"{talked}/fork", json={"version": 2}, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    problem(client.post(f"{talked}/fork", json={"version": 3}, headers=key), 422, "idempotency_mismatch")
    assert server.size() == size


def test_a_fork_may_expect_a_version(client, server, talked):
    """`If-Match` names that of the session that is forked."""
    size = server.size()
    refused = problem(client.post(f"{talked}/fork", json={}, headers={"if-match": '"3"'}), 412, "version_conflict")
    assert (refused["current_version"], server.size()) == (4, size)
    assert client.post(f"{talked}/fork", json={}, headers={"if-match": '"4"'}).status_code == 201


@pytest.mark.usefixtures("unchanged")
def test_what_cannot_be_forked(client, session):
    """A version, a field, a model or a session that there is not, and a body that is not JSON."""
    path = f"/api/sessions/{session}"
    beyond = problem(client.post(f"{path}/fork", json={"version": 9}), 404, "session_not_found", "version")
    assert beyond["last_version"] == 1
    problem(client.post(f"{path}/fork", json={"version": 0}), 400, "invalid_value", "version")
    problem(client.post(f"{path}/fork", json={"version": "2"}), 400, "invalid_value", "version")
    problem(client.post(f"{path}/fork", json={"verson": 2}), 400, "unknown_field", "verson")
    problem(client.post(f"{path}/fork", json={"model": "nobody/none"}), 400, "unknown_model")
    problem(client.post(f"/api/sessions/{NOBODY}/fork", json={}), 404, "session_not_found")
    problem(
        client.post(f"{path}/fork", content="{}", headers={"content-type": "text/plain"}), 415, "unsupported_media_type"
    )


def test_an_archived_or_expired_session_is_not_forked(client, server, talked):
    """409, for a fork and for a turn from a version, and nothing is on record."""
    client.patch(talked, json={"status": "archived"})
    for path, code in ((talked, "session_archived"), (expired(client), "session_expired")):
        size = server.size()
        problem(client.post(f"{path}/fork", json={"version": 2}), 409, code)
        problem(client.post(f"{path}/turns", json={"content": "x", "from_version": 2}), 409, code)
        assert server.size() == size


# --- turns from a version ---------------------------------------------------------------------------------------------


def test_a_turn_from_a_version_runs_in_a_fork(client, talked):
    """The answer names the new session; the old one is as it was."""
    turn = client.post(f"{talked}/turns", json={"content": "Deux.", "from_version": 2}).json()
    made = f"/api/sessions/{turn['session_id']}"
    assert (turn["status"], turn["message"]["content"][0]["text"]) == ("completed", "Deux.")
    assert client.get(made).json()["parent"] == {"session_id": talked.rpartition("/")[2], "version": 2}
    assert texts(client, made) == ["One.", "Deux.", "Deux."]
    assert texts(client, talked) == ["One.", "Two.", "Three."]


def test_a_turn_from_a_version_is_streamed(client, talked):
    """Its first frame names the new session; without content what stands there is answered again."""
    frames = read(client, f"{talked}/turns", "POST", json={"from_version": 3}, headers={"accept": "text/event-stream"})
    started, ended = frames[0], frames[-1]
    assert (started.event, ended.event, text_of(frames)) == ("turn.started", "turn.completed", "Two.")
    assert started.json["session_id"] == ended.json["session_id"] != talked.rpartition("/")[2]
    assert texts(client, f"/api/sessions/{started.json['session_id']}") == ["One.", "Two.", "Two."]


def test_a_turn_from_a_version_under_a_key_is_started_once(client, server, talked):
    """The same request gives the same turn, in the same fork."""
    key, body = {"idempotency-key": f"turn-{talked}"}, {"content": "x", "from_version": 2}
    first = client.post(f"{talked}/turns", json=body, headers=key).json()
    size = server.size()
    again = client.post(f"{talked}/turns", json=body, headers=key).json()
    assert (again["id"], again["session_id"]) == (first["id"], first["session_id"])
    assert server.size() == size


@pytest.mark.usefixtures("unchanged")
def test_what_no_turn_can_begin_from(client, session):
    """A version beyond the end, one that is none, and another than was expected: nothing is forked."""
    path = f"/api/sessions/{session}/turns"
    asked = client.post(path, json={"content": "x", "from_version": 7})
    beyond = problem(asked, 404, "session_not_found", "from_version")
    assert beyond["last_version"] == 1
    problem(client.post(path, json={"content": "x", "from_version": 0}), 400, "invalid_value", "from_version")
    problem(client.post(path, json={"content": "x", "from_versions": 1}), 400, "unknown_field", "from_versions")
    body = {"content": "x", "from_version": 1}
    problem(client.post(path, json=body, headers={"if-match": '"9"'}), 412, "version_conflict")
    problem(client.post(path, json={"from_version": 1}), 409, "nothing_to_answer")


# --- the family -------------------------------------------------------------------------------------------------------


def test_the_family_is_a_tree(client, talked):
    """From every member the same: the oldest first, each with its parent, its size and what it begins with."""
    edited = fork(client, talked, "Deux.", version=2, title="Mine")
    deeper = fork(client, edited, "Drei.", version=4)
    tree = client.get(f"{deeper}/branches").json()
    assert client.get(f"{talked}/branches").json() == tree
    root, first, second = (path.rpartition("/")[2] for path in (talked, edited, deeper))
    assert tree["root"] == root
    now = [client.get(path).json() for path in (talked, edited, deeper)]
    assert tree["nodes"] == [
        {
            "session_id": session["id"],
            "parent": parent,
            "version": session["version"],
            "title": title,
            "preview": preview,
            "message_count": count,
            "updated_at": session["updated_at"],
            "kind": "conversation",
        }
        for session, parent, title, preview, count in zip(
            now,
            (None, {"session_id": root, "version": 2}, {"session_id": first, "version": 4}),
            (None, "Mine", "Mine"),
            ("One.", "Deux.", "Drei."),
            (3, 2, 3),
            strict=True,
        )
    ]
    assert [session["family"] for session in now] == [{"root": root, "size": 3}] * 3
    assert second == tree["nodes"][2]["session_id"]


def test_the_family_as_it_was(client, talked):
    """At a time, without those that had not begun; a member that had not is not yet there."""
    before = client.get(talked).json()["updated_at"]
    path = fork(client, talked)
    assert [node["version"] for node in client.get(f"{talked}/branches", params={"at": before}).json()["nodes"]] == [4]
    early = problem(client.get(f"{path}/branches", params={"at": before}), 404, "not_yet", "at")
    assert early["created_at"] == client.get(path).json()["created_at"]
    problem(client.get(f"{path}/branches", params={"at": "now"}), 400, "invalid_value", "at")
    problem(client.get(f"{path}/branches", params={"version": 2}), 400, "unknown_parameter", "version")
    problem(client.get(f"/api/sessions/{NOBODY}/branches"), 404, "session_not_found")


def test_lists_show_families(client, server, talked):
    """Of each the member that was active last, or all of them; every page together holds each family once."""
    owner = {"user_id": talked}
    client.patch(talked, json=owner)
    first, second = fork(client, talked, "x", version=2), fork(client, talked, "y", version=3)
    alone = client.post("/api/sessions", json=owner).json()["id"]
    ids = {path: path.rpartition("/")[2] for path in (talked, first, second)}

    def listed(**which):
        found, _ = pages(client, "/api/sessions", limit=1, **owner, **which)
        return [session["id"] for session in found]

    assert ids[second] not in listed()
    client.patch(first, json=owner)
    client.patch(second, json=owner | {"title": "mine"})
    assert listed() == listed(branches="family", kind="conversation") == [ids[second], alone]
    assert listed(order="created") == [alone, ids[second]]
    assert listed(branches="all") == [ids[second], ids[first], alone, ids[talked]]
    assert listed(title_contains="mine", branches="all") == [ids[second]]
    assert listed(kind="replay") == []
    found = client.get("/api/sessions", params=owner).json()["items"]
    assert [session["family"] for session in found] == [{"root": ids[talked], "size": 3}, None]
    for name in ("branches", "kind"):
        problem(client.get("/api/sessions", params={name: "some"}), 400, "invalid_value", name)


def test_messages_list_their_siblings(client, talked):
    """Where they stand, in order; only if they are asked for."""
    edited = fork(client, talked, "Deux.", version=2)
    again = fork(client, edited, "Zwei.", version=2)
    found, _ = pages(client, f"{talked}/messages", siblings=True, limit=1)
    assert [[each["session_id"] for each in message["siblings"]] for message in found] == [
        [],
        [edited.rpartition("/")[2], again.rpartition("/")[2]],
        [],
    ]
    (mine,) = [each for each in client.get(f"{edited}/messages").json()["items"] if each["version"] == 4]
    assert found[1]["siblings"][0] == {name: mine[name] for name in ("session_id", "id", "version", "position")}
    assert "siblings" not in client.get(f"{talked}/messages").json()["items"][0]
    then = client.get(f"{talked}/messages", params={"siblings": True, "version": 4}).json()["items"]
    assert [message["siblings"] for message in then] == [[], [], []]
    problem(client.get(f"{talked}/messages", params={"siblings": "some"}), 400, "invalid_value", "siblings")


def test_every_view_names_the_family(client, talked):
    """Also those of a change."""
    fork(client, talked)
    family = {"root": talked.rpartition("/")[2], "size": 2}
    assert client.patch(talked, json={"title": "x"}).json()["family"] == family
    assert client.patch(f"{talked}/metadata", json={"a": 1}).json()["family"] == family
    assert client.get(talked, params={"version": 4}).json()["family"] is None
