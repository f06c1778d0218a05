"""A damaged row over HTTP: 500 ``record_damaged`` with its position from each route that would show or send it, and
nothing of the kind from any other.
"""

import json

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import Process, in_thread, problem, read
from tests.contracts.test_damage import FALSE, damage
from tests.support import query

SYSTEM = "Be brief."
WAY = "other words"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A server on a file in which the answer of a session's first turn is damaged."""
    settings = settings_on(tmp_path_factory.mktemp("damaged"))
    with in_thread(settings) as server, server.client() as client:
        server.session, server.turn, server.position = talk(client)
        server.other, *_ = talk(client)
        damage(settings.database, server.position, WAY)
        yield server


@pytest.fixture(scope="module")
def client(damaged):
    with damaged.client() as client:
        yield client


def talk(client):
    """A session of two turns: its path, that of its first turn, and the position of that one's answer."""
    path = client.post("/api/sessions", json={"system": SYSTEM}).headers["location"]
    first = client.post(f"{path}/turns", json={"content": "Agreed."}).json()
    client.post(f"{path}/turns", json={"content": "Is it?"})
    return path, f"/api/turns/{first['id']}", first["message"]["position"]


def refused(response, position):
    """The refusal of a damaged row, which no client should repeat at once."""
    body = problem(response, 500, "record_damaged")
    assert response.headers["x-should-retry"] == "false"
    assert FALSE not in response.text
    return body["position"] == position


@pytest.mark.parametrize("rest", ["messages", "messages?order=desc", "window", "events", "turns"])
def test_what_would_hold_it_is_refused(damaged, client, rest):
    """Lists and windows of its session."""
    assert refused(client.get(f"{damaged.session}/{rest}"), damaged.position)


@pytest.mark.parametrize("form", ["bundle", "openai", "otel"])
def test_a_bundle_is_refused_before_its_first_byte(damaged, client, form):
    """Of messages for other tools, those before it may have been sent."""
    if form == "bundle":
        assert refused(client.get(f"{damaged.session}/export"), damaged.position)
    else:
        with pytest.raises(Exception, match=r"peer closed|disconnected|incomplete"):
            client.get(f"{damaged.session}/export?format={form}")


def test_its_turn_is_refused(damaged, client):
    """Read as a whole; its stream gives what comes before, and then says the same as an error frame."""
    assert refused(client.get(damaged.turn), damaged.position)
    frames = read(client, f"{damaged.turn}/stream")
    assert frames[0].event == "turn.started"
    assert frames[-1].event == "error"
    assert (frames[-1].json["code"], frames[-1].json["position"]) == ("record_damaged", damaged.position)
    assert FALSE not in repr(frames)


def test_streams_of_events_give_what_comes_before(damaged, client):
    """And end with the refusal."""
    for path in (f"{damaged.session}/events/stream?after=0", "/api/events/stream?after=0"):
        events = read(client, path)
        assert (events[-1].event, events[-1].json["position"]) == ("error", damaged.position)
        assert len(events) > 3


def test_a_turn_is_not_started_on_it(damaged, client):
    """The model would be sent it; nothing is recorded, and the session has no open turn."""
    before = damaged.size()
    assert refused(client.post(f"{damaged.session}/turns", json={"content": "And?"}), damaged.position)
    assert damaged.size() == before
    assert client.get(damaged.session).json()["open_turn_id"] is None


def test_all_else_is_answered(damaged, client):
    """The session itself, its pages without the row, its proofs, and other sessions."""
    version = query(damaged.database, "SELECT version FROM events WHERE position = ?", (damaged.position,))[0][0]
    assert client.get(damaged.session).json()["system"] == SYSTEM
    assert len(client.get(f"{damaged.session}/messages?after={version}").json()["items"]) == 2
    assert client.get(f"{damaged.session}/events/{version}/proof").status_code == 200
    for rest in ("messages", "window", "events", "turns", "export"):
        assert client.get(f"{damaged.other}/{rest}").status_code == 200
    assert client.post(f"{damaged.other}/turns", json={"content": "Go on."}).json()["status"] == "completed"


def test_readiness_counts_it(damaged, client):
    """Once, however often it was read; the server is ready all the same."""
    for _ in range(2):
        client.get(f"{damaged.session}/messages")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "damaged": 1})


@pytest.mark.parametrize("way", ["other words", "no body"])
def test_it_is_logged(tmp_path, way):
    """One line with the log and the position, and not a word."""
    process = Process(tmp_path / "manent.db", "--log-format", "json", MANENT_MODEL="echo/echo")
    with process as server, server.client() as client:
        session, _, position = talk(client)
        damage(server.database, position, way)
        for _ in range(2):
            assert refused(client.get(f"{session}/messages"), position)
        server.stop()
    lines = [json.loads(line) for line in server.lines if "record_damaged" in line]
    told = [line for line in lines if line["event"] == "record_damaged"]
    assert [(line["level"], line["tenant"], line["position"]) for line in told] == [("error", "default", position)]
    assert FALSE not in "".join(server.lines)
