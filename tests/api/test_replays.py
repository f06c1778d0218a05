"""Replays over HTTP: started, followed, cancelled, listed, reported; and what is refused."""

import re
import time
from uuid import uuid4

import pytest

from manent.engine import report_policy
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, pages, problem, read

FIELDS = [
    *("id", "status", "mode", "model", "suite", "repeat", "turns", "counts", "started_at", "ended_at", "error"),
    *("results", "next_cursor"),
]
RESULT = [
    *("session_id", "turn_id", "new_session_id", "new_turn_id", "verdict", "first_difference", "layers", "reason"),
    *("repeated", "noise", "diverges"),
]


@pytest.fixture
def talk(client):
    """A session of three answered turns; its id."""
    session = client.post("/api/sessions", json={"model": "echo/echo", "title": "<b>A talk</b>"}).json()["id"]
    for word in ("one", "two <script>alert(1)</script>", "three"):
        client.post(f"/api/sessions/{session}/turns", json={"content": word})
    return session


def started(client, **body):
    """A replay that was started; its path."""
    response = client.post("/api/replays", json=body)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/api/replays/{response.json()['id']}"
    return response.headers["location"]


def ended(client, path):
    """A replay when it has ended, with its results."""
    for _ in range(400):
        replay = client.get(path).json()
        if replay["status"] != "running":
            return replay
        time.sleep(0.02)
    raise AssertionError("it did not end")


def test_a_replay_is_started_and_read(client, talk):
    """202 with its place; when it has ended, each result says how the answer compares and where it differs first."""
    replay = ended(client, started(client, sessions=[talk], model="scripted/think"))
    assert list(replay) == FIELDS
    assert (replay["status"], replay["mode"], replay["model"], replay["turns"]) == (
        *("completed", "forced"),
        "scripted/think",
        3,
    )
    assert replay["counts"] == {"same": 0, "different": 3, "skipped": 0, "failed": 0, "noise": 0}
    first = replay["results"][0]
    assert list(first) == RESULT
    assert first["session_id"] == talk
    assert first["first_difference"]["layer"] == "structure"
    assert first["layers"]["text"] is False
    fork = client.get(f"/api/sessions/{first['new_session_id']}").json()
    assert fork["parent"]["session_id"] == talk


def test_results_come_as_frames_and_are_resumed(client, talk):
    """Ids increase, the end is a frame of its own; who comes back gets what follows, and 204 after the end."""
    path = started(client, sessions=[talk], mode="forced", jobs=1)
    frames = read(client, f"{path}/stream")
    assert [frame.event for frame in frames] == [*["replay.compared"] * 3, "replay.completed"]
    numbers = [int(frame.id) for frame in frames]
    assert numbers == [2, 3, 4, 5]
    assert frames[-1].json["counts"]["same"] == 3
    again = read(client, f"{path}/stream", headers={"Last-Event-ID": "3"})
    assert [(frame.id, frame.data) for frame in again] == [(frame.id, frame.data) for frame in frames[2:]]
    assert client.get(f"{path}/stream", params={"after": 5}).status_code == 204


def test_results_are_read_page_by_page(client, talk):
    """A page has as many as it may, and its cursor gives the next."""
    path = started(client, sessions=[talk], mode="forced")
    everything = ended(client, path)["results"]
    first = client.get(path, params={"limit": 2}).json()
    rest = client.get(path, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert first["results"] + rest["results"] == everything
    assert rest["next_cursor"] is None
    listed = [replay["id"] for replay in pages(client, "/api/replays", limit=1)[0]]
    assert listed[0] == path.rpartition("/")[2]
    assert len(set(listed)) == len(listed)


def test_the_report_is_a_page_without_scripts(client, talk):
    """It is sent under a policy that lets no script run, and what was said is escaped on it."""
    path = started(client, sessions=[talk], model="scripted/think", repeat=1)
    ended(client, path)
    response = client.get(f"{path}/report")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy == report_policy()
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "<script" not in response.text
    assert re.search(r"&lt;b&gt;A talk", response.text)
    assert "Noise floor" in response.text


def test_a_replay_is_cancelled(client, talk):
    """Its turns are, too; again it changes nothing, and the stream ends with it."""
    path = started(client, sessions=[talk], model="scripted/hang", jobs=2)
    time.sleep(0.1)
    cancelled = client.post(f"{path}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert client.post(f"{path}/cancel", json={}).json()["ended_at"] == cancelled["ended_at"]
    assert [frame.event for frame in read(client, f"{path}/stream")] == ["replay.cancelled"]


def test_the_same_key_gives_the_same_replay(client, talk):
    """Under an idempotency key a replay is started once; another body under it is refused."""
    key, body = {"Idempotency-Key": str(uuid4())}, {"sessions": [talk], "mode": "forced"}
    one, two = [client.post("/api/replays", json=body, headers=key) for _ in range(2)]
    assert (one.status_code, one.json()["id"]) == (202, two.json()["id"])
    problem(client.post("/api/replays", json=body | {"jobs": 2}, headers=key), 422, "idempotency_mismatch")


def test_a_replay_is_no_session_and_its_events_are_in_the_log(client, talk):
    """Nothing below /api/sessions knows it; the whole log does."""
    replay = ended(client, started(client, sessions=[talk], mode="forced"))["id"]
    for path in ("", "/messages", "/events", "/window", "/turns", "/export"):
        problem(client.get(f"/api/sessions/{replay}{path}"), 404, "session_not_found")
    assert replay not in [item["id"] for item in pages(client, "/api/sessions")[0]]
    events = list(pages(client, "/api/events", limit=1000)[0])
    assert [event["type"] for event in events if event["session_id"] == replay] == [
        "replay.started",
        *["replay.compared"] * 3,
        "replay.completed",
    ]


def test_conditions_find_sessions(client, talk):
    """By title, of whatever case; the times choose the turns."""
    where = {"title_contains": "a TALK", "since": "2020-01-01T00:00:00Z"}
    replay = ended(client, started(client, where=where, mode="forced"))
    assert talk in {result["session_id"] for result in replay["results"]}
    nothing = client.post("/api/replays", json={"where": {"until": "2020-01-01T00:00:00Z"}, "mode": "forced"})
    problem(nothing, 400, "nothing_to_replay")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"model": "echo/none"}, 400, "unknown_model", "model"),
        ({"mode": "loose"}, 400, "invalid_value", "mode"),
        ({"mode": "recorded", "model": "echo/echo"}, 400, "invalid_value", "model"),
        ({"mode": "forced", "jobs": 1000}, 400, "invalid_value", "jobs"),
        ({"mode": "forced", "max_turns": 1}, 413, "too_large", "max_turns"),
        ({"mode": "forced", "tools": {"live": ["nothing"]}}, 400, "unknown_tool", "tools"),
        ({"mode": "forced", "repeat": 21}, 400, "invalid_value", "repeat"),
        ({"mode": "forced", "suite": "nightly"}, 400, "invalid_value", "sessions"),
        ({"mode": "forced", "pace": 1}, 400, "unknown_field", "pace"),
        ({"sessions": [str(uuid4())], "mode": "forced"}, 404, "session_not_found", None),
        ({"sessions": [], "suite": "nightly", "mode": "forced"}, 404, "suite_not_found", "suite"),
        ({"sessions": [], "turns": [str(uuid4())], "mode": "forced"}, 404, "turn_not_found", None),
        ({"sessions": ["nothing"], "mode": "forced"}, 400, "invalid_value", "sessions[0]"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name(client, server, talk, body, status, code, field):
    """Each refusal names what was wrong, and nothing is written."""
    before = server.size()
    problem(client.post("/api/replays", json={"sessions": [talk]} | body), status, code, field)
    assert server.size() == before


def test_an_open_turn_that_is_named_is_refused(client):
    """With its id; it cannot be done again before it has ended."""
    session = client.post("/api/sessions", json={"model": "scripted/hang"}).json()["id"]
    headers = {"Prefer": "respond-async"}
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}, headers=headers).json()["id"]
    refused = client.post("/api/replays", json={"turns": [turn], "mode": "forced"})
    problem(refused, 409, "turn_already_open")
    assert refused.json()["turn_id"] == turn
    client.post(f"/api/turns/{turn}/cancel")


def test_what_is_not_there_is_not_found(client, talk):
    """A replay that there is not, an id that is none, and accepting for a suite that there is not."""
    for path in ("", "/stream", "/report"):
        problem(client.get(f"/api/replays/{uuid4()}{path}"), 404, "replay_not_found")
        problem(client.get(f"/api/replays/nothing{path}"), 400, "invalid_id", "replay_id")
    problem(client.post(f"/api/replays/{uuid4()}/cancel"), 404, "replay_not_found")
    path = started(client, sessions=[talk], mode="forced")
    turn = ended(client, path)["results"][0]["turn_id"]
    problem(client.post(f"{path}/accept", json={"results": [turn]}), 400, "invalid_value", "results")


def test_a_server_goes_on_with_a_replay_at_its_next_start(tmp_path):
    """It says so, asks only what has no answer yet, and ends the replay."""
    settings = settings_on(tmp_path, drain_s=0)
    with in_thread(settings) as server, server.client() as client:
        session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
        for number in range(5):
            client.post(f"/api/sessions/{session}/turns", json={"content": f"number {number}"})
        path = started(client, sessions=[session], model="scripted/slow", jobs=1)
        while not client.get(path).json()["results"]:
            time.sleep(0.02)
    with in_thread(settings) as server, server.client() as client:
        assert any("going on with 1 replay(s)" in line for line in server.lines)
        replay = ended(client, path)
        assert (replay["status"], len(replay["results"])) == ("completed", 5)
        assert sum(result["repeated"] for result in replay["results"]) <= 1
        assert len({result["turn_id"] for result in replay["results"]}) == 5
