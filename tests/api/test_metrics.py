"""``/metrics`` of the real process: what it says is what happened, in a form that scrapers read, and names nobody."""

import hashlib
import json
import re
import socket
import time

import pytest

from tests import exposition
from tests.api.harness import Process, opened, problem

NAMES = """
manent_requests_total{route,status}
manent_turns_total{provider,model,outcome}
manent_open_turns
manent_readers
manent_first_chunk_seconds
manent_turn_seconds
manent_tokens_total{provider,model,kind}
manent_cost_micros_total{currency}
manent_append_seconds
manent_journal_flush_seconds
manent_queue_writes
manent_log_size{tenant}
manent_checkpoint_age_seconds
manent_breaker_open{provider}
"""
SECRET = "words-of-a-client"
HOUSE = {"provider": "openai", "model": "openai/house"}
CATALOGUE = {
    "as_of": "2026-11-22",
    "currency": "EUR",
    "models": [
        {
            "provider": "openai",
            "name": "house",
            "context_tokens": 9000,
            "prices": [{"input": 2_000_000, "cache_read": 500_000, "output": 8_000_000}],
        }
    ],
}
SCRIPT = {"models": {"hang": [{"steps": [{"text": "Wait"}, {"hang": True}]}]}}


def scrape(client):
    """All metrics, strictly read."""
    response = client.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return exposition.parse(response.text)


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "models.json").write_text(json.dumps(CATALOGUE), encoding="utf-8")
    (folder / "script.json").write_text(json.dumps(SCRIPT), encoding="utf-8")
    environment = {
        "MANENT_OPENAI_BASE_URL": f"http://127.0.0.1:{upstream.server_port}/v1",
        "MANENT_MODELS_FILE": str(folder / "models.json"),
        "MANENT_SCRIPT": str(folder / "script.json"),
        "MANENT_BREAKER_FAILURES": "3",
        "MANENT_CHECKPOINT_EVERY_S": "3600",
    }
    with Process(str(folder / "manent.db"), **environment) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def before(client):
    """What was counted before the test."""
    return scrape(client)


def session(client, model="echo/echo"):
    return client.post("/api/sessions", json={"model": model}).headers["location"]


def ask(client, model, **fields):
    """A turn on a session of its own, and how it ended."""
    path = session(client)
    return client.post(f"{path}/turns", json={"content": "Is it so?", "model": model, **fields}).json()


def grown(before, after, metric, **labels):
    return exposition.total(after, metric, **labels) - exposition.total(before, metric, **labels)


def test_all_metrics_are_there_by_name(client):
    """Those that dashboards count on, with their labels, and no others."""
    ask(client, "openai/house")
    families = scrape(client)
    found = {}
    for name, family in families.items():
        assert family.samples, f"{name} has no sample"
        labels = {tuple(sorted(label for label, _ in each if label != "le")) for _, each in family.samples}
        (found[name],) = labels
    wanted = {}
    for line in NAMES.split():
        name, _, labels = line.partition("{")
        wanted[name] = tuple(sorted(filter(None, labels.rstrip("}").split(","))))
    assert found == wanted


def test_requests_are_counted_by_template_and_status(client, before):
    """A path that no route has, or a method, is ``other``; ids are nowhere."""
    path = session(client)
    for _ in range(3):
        client.get(path)
    client.get("/api/sessions/01890000-0000-7000-8000-000000000000")
    client.get(f"/api/{SECRET}")
    client.get(f"/{SECRET}")
    client.put(path)
    client.get("/api/sessions", params={SECRET: SECRET})
    after = scrape(client)

    def count(route, status):
        return grown(before, after, "manent_requests_total", route=route, status=str(status))

    assert count("/api/sessions", 201) == 1
    assert count("/api/sessions/{session_id}", 200) == 3
    assert count("/api/sessions/{session_id}", 404) == 1
    assert count("other", 404) == 2
    assert count("other", 405) == 1
    assert count("/api/sessions", 400) == 1
    assert count("/metrics", 200) == 1


def test_what_is_no_request_is_counted_too(server, client, before):
    """What the connection refuses reaches no route, and is ``other`` with its status."""
    with socket.create_connection(server.host) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert connection.recv(999).startswith(b"HTTP/1.1 400")
    assert grown(before, scrape(client), "manent_requests_total", route="other", status="400") == 1


def test_turns_tokens_and_costs_are_those_of_the_record(client, before):
    """What the turns say that they used and cost, summed."""
    turns = [ask(client, "openai/house"), ask(client, "openai/house"), ask(client, "echo/echo")]
    after = scrape(client)
    assert [turn["status"] for turn in turns] == ["completed"] * 3
    assert grown(before, after, "manent_turns_total", outcome="completed", **HOUSE) == 2
    assert grown(before, after, "manent_turns_total", outcome="completed", provider="echo", model="echo/echo") == 1
    assert grown(before, after, "manent_turns_total") == 3
    kinds = {"input": "input_tokens", "cache_read": "cache_read_tokens", "output": "output_tokens"}
    for kind, field in kinds.items():
        used = sum(turn["usage"][field] or 0 for turn in turns[:2])
        assert used > 0
        assert grown(before, after, "manent_tokens_total", kind=kind, **HOUSE) == used
    cost = sum(cost["micros"] for turn in turns for cost in turn["costs"])
    assert cost > 0
    assert grown(before, after, "manent_cost_micros_total", currency="EUR") == cost


def test_times_are_counted_once_for_each_turn_and_write(client, before):
    """A turn has one duration and one first chunk; it is two appends, and its session one more."""
    ask(client, "echo/echo")
    after = scrape(client)
    for metric, count in (
        ("manent_turn_seconds", 1),
        ("manent_first_chunk_seconds", 1),
        ("manent_append_seconds", 3),
    ):
        assert exposition.count(after, metric) - exposition.count(before, metric) == count, metric
    assert exposition.count(after, "manent_journal_flush_seconds") > exposition.count(
        before, "manent_journal_flush_seconds"
    )


def test_failed_and_cancelled_turns_are_counted_as_such(client, before):
    """By the model that failed, if it is known; a name that a client made up is ``other``."""
    assert ask(client, "openai/picky")["status"] == "failed"
    assert ask(client, f"openai/{SECRET}")["status"] == "completed"
    path = session(client)
    turn = client.post(
        f"{path}/turns", json={"content": "x", "model": "scripted/hang"}, headers={"Prefer": "respond-async"}
    ).json()["id"]
    assert client.post(f"/api/turns/{turn}/cancel").json()["status"] == "cancelled"
    after = scrape(client)
    unknown = {"provider": "openai", "model": "other"}
    assert grown(before, after, "manent_turns_total", outcome="failed", **unknown) == 1
    assert grown(before, after, "manent_turns_total", outcome="completed", **unknown) == 1
    hanging = {"provider": "scripted", "model": "scripted/hang"}
    assert grown(before, after, "manent_turns_total", outcome="cancelled", **hanging) == 1


def test_what_is_open_is_counted_while_it_is(client, before):
    """A running turn and the stream that reads it."""
    path = session(client)
    turn = client.post(
        f"{path}/turns", json={"content": "x", "model": "scripted/hang"}, headers={"Prefer": "respond-async"}
    ).json()["id"]
    with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
        stream.until("delta")
        during = scrape(client)
        client.post(f"/api/turns/{turn}/cancel")
        stream.until("turn.cancelled")
    for metric in ("manent_open_turns", "manent_readers"):
        assert exposition.value(during, metric) - exposition.value(before, metric) == 1, metric
    assert exposition.value(during, "manent_queue_writes") == 0
    assert exposition.value(scrape(client), "manent_open_turns") == exposition.value(before, "manent_open_turns")


def test_the_log_and_its_checkpoint(server, client):
    """The size is that of the log; the age is of what no checkpoint covers, and 0 once one does."""
    session(client)
    time.sleep(0.05)
    size, _ = server.size()
    families = scrape(client)
    assert exposition.value(families, "manent_log_size", tenant="default") == size
    assert exposition.value(families, "manent_checkpoint_age_seconds") > 0
    assert client.post("/api/log/checkpoint").status_code == 200
    assert exposition.value(scrape(client), "manent_checkpoint_age_seconds") == 0


def test_a_breaker_that_opens_is_seen(client):
    """1 while the provider is left alone; the others go on."""
    assert exposition.value(scrape(client), "manent_breaker_open", provider="openai") == 0
    for _ in range(3):
        ask(client, "openai/broken")
    families = scrape(client)
    assert exposition.value(families, "manent_breaker_open", provider="openai") == 1
    assert exposition.value(families, "manent_breaker_open", provider="echo") == 0


def test_nobody_is_named(client):
    """No word that a client gave, and nothing of the form of an id."""
    path = session(client)
    fields = {"title": SECRET, "system": SECRET, "metadata": {SECRET: SECRET}}
    client.patch(path, json=fields)
    client.post(f"{path}/turns", json={"content": SECRET, "stop": [SECRET]}, headers={"x-request-id": SECRET})
    client.get(f"/api/sessions/{SECRET}?{SECRET}={SECRET}", headers={"user-agent": SECRET})
    text = client.get("/metrics").text
    assert SECRET not in text
    assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}", text)


# --- who may read it --------------------------------------------------------------------------------------------------


def test_with_keys_it_needs_the_scope_operate(tmp_path):
    """Whoever operates the server sees all of it; nobody else sees any."""
    keys = {"red-secret": ("red", ["chat", "audit", "erase"]), "blue-secret": ("blue", ["operate"])}
    entries = [
        {"id": tenant, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant, "scopes": scopes}
        for key, (tenant, scopes) in keys.items()
    ]
    (tmp_path / "keys.json").write_text(json.dumps(entries))
    with Process(str(tmp_path / "manent.db"), MANENT_API_KEYS_FILE="keys.json") as server, server.client() as client:
        red, blue = ({"Authorization": f"Bearer {key}"} for key in keys)
        client.post("/api/sessions", headers=red)
        problem(client.get("/metrics"), 401, "unauthorized")
        problem(client.get("/metrics", headers=red), 403, "scope_missing")
        families = exposition.parse(client.get("/metrics", headers=blue).text)
    assert exposition.value(families, "manent_log_size", tenant="red") == 1
    assert exposition.value(families, "manent_requests_total", route="/metrics", status="403") == 1
    assert exposition.value(families, "manent_requests_total", route="other", status="401") == 1


def test_pages_from_elsewhere_cannot_read_an_open_one(client):
    """As everything else of a server without keys."""
    problem(client.get("/metrics", headers={"Host": "evil.example"}), 403, "foreign_host")
    problem(client.get("/metrics", headers={"Origin": "https://evil.example"}), 403, "foreign_origin")
