"""Exports over HTTP: the bundle of a session, and its messages for other tools."""

import hashlib
import io
import json

import pytest

from manent.engine.audit.bundle import verify_bundle
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem


@pytest.fixture
def spoken(client, session):
    client.post(f"/api/sessions/{session}/turns", json={"content": "Grüße, 世界 <b>"}).raise_for_status()
    return f"/api/sessions/{session}"


def test_a_bundle_that_verifies(client, session, spoken):
    """The verifier accepts it under the key that the server tells, and the answer says where that is."""
    response = client.get(f"{spoken}/export")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == f'attachment; filename="{session}.zip"'
    place, *_, title = response.headers["link"].split("; ")
    assert "verify_bundle.py BUNDLE.zip --key KEY" in title
    key = verify_bundle.Key(client.get(place.strip("<>")).text.split()[0])
    bundle = verify_bundle.verify(io.BytesIO(response.content), [key])
    assert bundle.manifest["session"] == session
    assert bundle.manifest["events"] == client.get(spoken).json()["version"]


def test_it_covers_what_was_just_said(client, spoken):
    """A checkpoint is made where none covers the newest event."""
    for number in range(3):
        client.post(f"{spoken}/messages", json={"content": f"{number}"}).raise_for_status()
        bundle = verify_bundle.verify(io.BytesIO(client.get(f"{spoken}/export").content), [])
        assert bundle.manifest["events"] == client.get(spoken).json()["version"]


@pytest.mark.parametrize(("style", "key"), [("openai", "messages"), ("otel", "gen_ai.input.messages")])
def test_messages_for_other_tools(client, spoken, style, key):
    """One line of JSON."""
    response = client.get(f"{spoken}/export", params={"format": style})
    assert response.headers["content-type"].startswith("application/jsonl")
    assert response.text.count("\n") == 1
    messages = json.loads(response.text)[key]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert "Grüße, 世界 <b>" in response.text


def test_erased_words_are_not_exported(client, spoken):
    """The bundle verifies without them; other tools get what is left."""
    client.post(f"{spoken}/erase", json={"reason": "asked to", "versions": [2]}).raise_for_status()
    bundle = verify_bundle.verify(io.BytesIO(client.get(f"{spoken}/export").content), [])
    assert {reason for *_, reason in bundle.erased.values()} == {"asked to"}
    text = client.get(f"{spoken}/export", params={"format": "openai"}).text
    assert [message["role"] for message in json.loads(text)["messages"]] == ["assistant"]


def test_a_fork_is_exported_with_what_it_shares(client, session, spoken):
    """In every form: the bundle names its lineage and verifies, other tools get the whole history, without what was
    erased of it in the parent since.
    """
    fork = client.post(f"{spoken}/fork", json={}).json()
    at, place = fork["parent"]["version"], f"/api/sessions/{fork['id']}"
    client.post(f"{place}/messages", json={"content": "The fork's own."}).raise_for_status()
    client.post(f"{spoken}/messages", json={"content": "Not the fork's."}).raise_for_status()
    client.post(f"{spoken}/erase", json={"reason": "asked to", "versions": [2]}).raise_for_status()
    bundle = verify_bundle.verify(io.BytesIO(client.get(f"{place}/export").content), [])
    assert bundle.lineage == [{"session": session, "up_to": at}]
    assert bundle.manifest["events"] == at + 3
    assert {reason for *_, reason in bundle.erased.values()} == {"asked to"}
    for style, key in (("openai", "messages"), ("otel", "gen_ai.input.messages")):
        text = client.get(f"{place}/export", params={"format": style}).text
        assert [message["role"] for message in json.loads(text)[key]] == ["assistant", "user"]
        assert "The fork's own." in text
        assert "Not the fork's." not in text


def test_what_is_refused(client, spoken):
    """No session, no such format."""
    for style in ("bundle", "openai"):
        missing = client.get("/api/sessions/0190b2a0-0000-7000-8000-000000000000/export", params={"format": style})
        problem(missing, 404, "session_not_found")
    problem(client.get(f"{spoken}/export", params={"format": "pdf"}), 400, "invalid_value")


def test_another_tenants_session_is_not_there(tmp_path):
    """Every look-up is by tenant and id."""
    rows = [
        {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "tenant": name} for name in ("one", "two")
    ]
    (tmp_path / "keys.json").write_text(json.dumps(rows), encoding="utf-8")
    with (
        in_thread(settings_on(tmp_path, api_keys_file=str(tmp_path / "keys.json"))) as server,
        server.client() as client,
    ):
        one, two = ({"authorization": f"Bearer {name}"} for name in ("one", "two"))
        path = f"/api/sessions/{client.post('/api/sessions', json={}, headers=one).json()['id']}/export"
        assert client.get(path, headers=one).status_code == 200
        problem(client.get(path, headers=two), 404, "session_not_found")
        assert client.get(path).status_code == 401
