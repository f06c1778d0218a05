"""Erasing over HTTP: who may, what is answered, what is refused, and what readers see afterwards."""

import hashlib
import json

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem, read

WORD = "Schibboleth"


@pytest.fixture
def spoken(client, session):
    """A session in which the word was said and answered."""
    client.post(f"/api/sessions/{session}/turns", json={"content": f"What is {WORD}?"}).raise_for_status()
    return f"/api/sessions/{session}"


def erase(client, path, **fields):
    headers = fields.pop("headers", {})
    return client.post(f"{path}/erase", json={"reason": "asked to"} | fields, headers=headers)


def test_a_session_is_erased(client, server, spoken):
    """All its words go, the answer says which and what is out of reach, and no file of the server has the word."""
    answer = erase(client, spoken)
    assert answer.status_code == 200
    body = answer.json()
    assert body["purged"] is True
    assert body["out_of_reach"] == ["backups", "earlier exports"]
    assert answer.headers["etag"] == f'"{body["version"]}"'
    events = client.get(f"{spoken}/events").json()["items"]
    assert [event["version"] for event in events if event["erased"]] == body["versions"]
    assert events[-1]["type"] == "body.erased"
    assert events[-1]["body"] == {"reason": "asked to"}
    assert WORD not in json.dumps(events)
    files = [file for file in server.database.parent.iterdir() if file.is_file()]
    assert not [file.name for file in files if WORD.encode() in file.read_bytes()]


def test_erased_messages_say_so(client, spoken):
    """Lists, windows and turns show what is gone as gone."""
    erase(client, spoken, versions=[2])
    question, answer = client.get(f"{spoken}/messages").json()["items"]
    last = client.get(f"{spoken}/events?types=body.erased").json()["items"][-1]
    by = {"by_position": last["position"], "actor": "local", "at": last["recorded_at"], "reason": "asked to"}
    assert (question["erased"], question["content"]) == (by, [])
    assert answer["erased"] is None
    assert [event["erased"] for event in client.get(f"{spoken}/events").json()["items"]][:3] == [None, by, None]
    window = client.get(f"{spoken}/window").json()
    assert [message["version"] for message in window["messages"]] == [answer["version"]]


def test_streams_keep_their_numbers(client, spoken):
    """A turn's stream loses its deltas and no other frame; followers of the session see the erasure."""
    turn = client.get(f"{spoken}/turns").json()["items"][0]
    before = read(client, f"/api/turns/{turn['id']}/stream")
    erase(client, spoken, versions=[turn["message"]["version"]])
    after = read(client, f"/api/turns/{turn['id']}/stream")
    assert [(f.id, f.event) for f in after] == [(f.id, f.event) for f in before if f.event != "delta"]
    with opened(client, "GET", f"{spoken}/events/stream", params={"after": turn["message"]["version"]}) as stream:
        assert stream.until("body.erased")[-1].json["facts"]["targets"]


def test_the_same_key_erases_once(client, spoken):
    """An idempotent erasure gives the first answer again; with another body it is refused."""
    first = erase(client, spoken, headers={"idempotency-key": "once"})
    client.post(f"{spoken}/messages", json={"content": "later"})
    again = erase(client, spoken, headers={"idempotency-key": "once"})
    assert again.json() == first.json()
    problem(erase(client, spoken, versions=[2], headers={"idempotency-key": "once"}), 422, "idempotency_mismatch")


def test_a_dry_run_says_it_first(client, spoken):
    """It answers with what would be erased, by whom else it is held and what is out of reach, and erases nothing."""
    said = client.post(f"{spoken}/erase", params={"dry_run": "true"}, json={"reason": "asked to"}).json()
    assert (said["dry_run"], said["purged"], said["sessions"]) == (True, False, [])
    assert not any(event["erased"] for event in client.get(f"{spoken}/events").json()["items"])
    done = erase(client, spoken).json()
    assert done["erased"] == done["versions"] == said["erased"]
    assert (done["dry_run"], done["out_of_reach"]) == (False, said["out_of_reach"])


def test_legal_hold(client, spoken):
    """A held session refuses erasure, and shows that it is held."""
    assert client.get(spoken).json()["legal_hold"] is False
    assert client.patch(spoken, json={"legal_hold": True}).json()["legal_hold"] is True
    problem(erase(client, spoken), 409, "legal_hold")
    client.patch(spoken, json={"legal_hold": False})
    assert erase(client, spoken).status_code == 200


def test_an_open_turn_refuses(client, spoken):
    """Words that are on their way cannot be erased."""
    running = {"content": "x", "model": "scripted/hang"}
    turn = client.post(f"{spoken}/turns", json=running, headers={"prefer": "respond-async"}).json()
    assert problem(erase(client, spoken), 409, "turn_already_open")["turn_id"] == turn["id"]
    client.post(f"/api/turns/{turn['id']}/cancel", json={})
    assert erase(client, spoken).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"reason": ""}, 400, "invalid_value"),
        ({"reason": "x" * 1001}, 400, "invalid_value"),
        ({"reason": "a\0b"}, 400, "nul_character"),
        ({"reason": None}, 400, "invalid_value"),
        ({"versions": []}, 400, "invalid_value"),
        ({"versions": [0]}, 400, "invalid_value"),
        ({"versions": ["2"]}, 400, "invalid_value"),
        ({"versions": [99]}, 404, "event_not_found"),
        ({"versions": [3]}, 400, "invalid_value"),
        ({"all": True}, 400, "unknown_field"),
    ],
)
def test_what_is_refused(client, spoken, fields, status, code):
    """Bad input is named, and nothing is erased."""
    problem(erase(client, spoken, **fields), status, code)
    assert not any(event["erased"] for event in client.get(f"{spoken}/events").json()["items"])


def test_another_version_is_refused(client, spoken):
    """With If-Match the session must be where the caller thinks."""
    problem(erase(client, spoken, headers={"if-match": '"1"'}), 412, "version_conflict")
    problem(erase(client, "/api/sessions/0190b2a0-0000-7000-8000-000000000000"), 404, "session_not_found")


def test_only_a_key_that_may_erase_does(tmp_path):
    """Erasing, and holding or letting go, need the scope `erase`."""
    keys = tmp_path / "keys.json"
    secrets = {"chat": ["chat"], "dpo": ["chat", "erase"]}
    rows = [{"id": name, "sha256": _sha256(name), "scopes": scopes} for name, scopes in secrets.items()]
    keys.write_text(json.dumps(rows), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(keys))) as server, server.client() as client:
        chat, dpo = ({"authorization": f"Bearer {name}"} for name in secrets)
        path = f"/api/sessions/{client.post('/api/sessions', json={}, headers=chat).json()['id']}"
        client.post(f"{path}/messages", json={"content": WORD}, headers=chat)
        problem(erase(client, path, headers=chat), 403, "scope_missing")
        problem(client.patch(path, json={"legal_hold": True}, headers=chat), 403, "scope_missing")
        assert client.patch(path, json={"legal_hold": False}, headers=dpo).status_code == 200
        assert erase(client, path, headers=dpo).json()["versions"] == [2]
        last = client.get(f"{path}/events", headers=dpo).json()["items"][-1]
        assert last["actor"] == "key:dpo"


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()
