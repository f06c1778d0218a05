"""Tickets, with which a browser's EventSource is let in: for one path, for a minute, and never a key in a URL."""

import json
import logging
from urllib.parse import quote

import pytest

from manent.api.http import tickets
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem, read
from tests.api.test_access import KEYS, keys_file

GUIDE = "/api/ai/stream"
KEY_OF = {name: key for key, (name, _, _) in KEYS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tickets")


@pytest.fixture(scope="module")
def server(folder):
    with in_thread(settings_on(folder, api_keys_file=keys_file(folder))) as server:
        yield server


@pytest.fixture(scope="module")
def alice(server):
    with server.client(headers={"Authorization": f"Bearer {KEY_OF['alice']}"}) as client:
        yield client


@pytest.fixture(scope="module")
def browser(server):
    """It sends no key."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def session(alice):
    return alice.post("/api/sessions").json()["id"]


def ticket_for(client, path):
    response = client.post("/api/tickets", json={"path": path})
    assert response.status_code == 201, response.text
    return response.json()["ticket"]


def refused(response, status=401, code="unauthorized"):
    """In the words of the path."""
    body = response.json()
    found = body["error"]["details"]["code"] if "error" in body else body["code"]
    assert (response.status_code, found) == (status, code)


def test_a_browser_streams_with_a_ticket(alice, browser):
    """What it is answered is the key's: its tenant and its actor; the query may be any."""
    ticket = ticket_for(alice, GUIDE)
    for q in ("Hello", "and again"):
        with opened(browser, "GET", f"{GUIDE}?q={quote(q)}&ticket={ticket}") as stream:
            session = stream.response.headers["x-session-id"]
            assert [event.data for event in stream if event.data][-1] == "[DONE]"
        page = alice.get(f"/api/sessions/{session}/messages").json()["items"]
        assert page[0]["content"][0]["text"] == q
        assert page[0]["actor"] == "key:alice"


def test_it_is_for_any_path_that_is_read(alice, browser, session):
    """Also where an unknown parameter is refused: nothing behind the gate sees the ticket."""
    for path in (f"/api/sessions/{session}", "/api/sessions", f"/api/sessions/{session}/messages"):
        ticket = ticket_for(alice, path)
        assert browser.get(path, params={"ticket": ticket}).json() == alice.get(path).json()
    ticket = ticket_for(alice, "/api/sessions")
    problem(
        browser.get("/api/sessions", params={"ticket": ticket, "tickets": "1"}), 400, "unknown_parameter", "tickets"
    )


def test_it_is_for_exactly_one_path(alice, browser, session):
    """Neither what is below, nor above, nor what is written in another way."""
    ticket = ticket_for(alice, f"/api/sessions/{session}")
    others = [
        "/api/sessions",
        f"/api/sessions/{session}/",
        f"/api/sessions/{session}/messages",
        f"//api/sessions/{session}",
    ]
    for other in [*others, f"/api/%73essions/{session}", GUIDE, "/api/me", "/metrics", "/api/nothing"]:
        refused(browser.get(f"{other}?ticket={ticket}"))


def test_it_reads_and_never_writes(alice, browser, session):
    """Only GET takes it."""
    for method, path in (("POST", "/api/sessions"), ("POST", "/api/tickets"), ("PATCH", f"/api/sessions/{session}")):
        refused(browser.request(method, f"{path}?ticket={ticket_for(alice, path)}", json={}))
    path = f"/api/sessions/{session}"
    assert browser.head(f"{path}?ticket={ticket_for(alice, path)}").status_code == 401


def test_it_is_good_for_a_minute(alice, browser, monkeypatch):
    """Then it is not, and says when that is."""
    response = alice.post("/api/tickets", json={"path": "/api/me"}).json()
    assert response["expires_at"].endswith("Z")
    assert int(response["ticket"].partition(".")[0]) / 1e6 == pytest.approx(tickets.time.time() + 60, abs=5)
    monkeypatch.setattr(tickets, "LIFE_S", 0)
    refused(browser.get("/api/me", params={"ticket": ticket_for(alice, "/api/me")}))
    assert browser.get("/api/me", params={"ticket": response["ticket"]}).json()["actor"] == "key:alice"


def forged(ticket):
    """Tickets that nobody issued, made from one that somebody did."""
    expires, rest = ticket.split(".", 1)
    name, signature = rest.rsplit(".", 1)
    yield f"{int(expires) + 1}.{rest}"
    yield f"{expires}.bob.{signature}"
    yield f"{expires}..{signature}"
    yield f"{expires}.{name}.{signature[:-1]}"
    yield f"{expires}.{name}.{signature.upper()}"
    yield f"{expires}.{name}."
    yield f"{'9' * 5000}.{name}.{signature}"
    yield f"{expires}.{name}.%FF"
    yield from ("", ".", "..", "x", "%00", KEY_OF["alice"], f" {ticket}", f"{ticket}x")


def test_nobody_makes_one_up(alice, browser):
    """Whatever is changed of a ticket, it is none; a key is none either."""
    for ticket in forged(ticket_for(alice, "/api/me")):
        refused(browser.get(f"/api/me?ticket={ticket}"))


def test_a_ticket_twice(alice, browser):
    """Refused: nobody could say which one counts."""
    ticket = ticket_for(alice, "/api/me")
    for name in ("ticket", "%74icket"):
        problem(browser.get(f"/api/me?ticket={ticket}&{name}={ticket}"), 400, "duplicate_field", "ticket")


def test_a_key_comes_before_a_ticket(server, alice):
    """Who sends both is who the key says; a wrong key is not made good."""
    ticket = ticket_for(alice, "/api/me")
    for key, status in ((KEY_OF["bob"], 200), ("wrong", 401)):
        with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
            response = client.get("/api/me", params={"ticket": ticket})
            assert response.status_code == status
            assert status != 200 or response.json()["actor"] == "key:bob"


def test_who_may_have_one(alice, browser):
    """Whoever has a key, for a path without its query."""
    refused(browser.post("/api/tickets", json={"path": "/api/me"}))
    for path in ("api/me", "/api/me?x=1", "/api/me#x", "/api/ü", "/a b", "/a\n"):
        problem(alice.post("/api/tickets", json={"path": path}), 400, "invalid_value", "path")
    problem(alice.post("/api/tickets", json={}), 400, "missing_field", "path")


def test_another_ticket_is_the_same_request(server, alice, browser):
    """A ticket is no part of what is asked, so that a repetition under its key is answered again."""
    headers = {"Idempotency-Key": "with a ticket"}
    first = read(browser, f"{GUIDE}?q=x&ticket={ticket_for(alice, GUIDE)}", headers=headers)
    assert read(browser, f"{GUIDE}?q=x&ticket={ticket_for(alice, GUIDE)}", headers=headers) == first


def test_without_keys_none_is_needed(tmp_path):
    """A page may ask for one all the same, and show it."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        ticket = ticket_for(client, "/api/me")
        assert client.get("/api/me", params={"ticket": ticket}).json()["actor"] == "local"


def test_no_line_of_the_log_has_one(alice, browser, caplog):
    """Neither of a request that was served, nor of one that was refused."""
    caplog.set_level(logging.DEBUG)
    ticket = ticket_for(alice, GUIDE)
    read(browser, f"{GUIDE}?q=x&ticket={ticket}")
    browser.get(f"/api/me?ticket={ticket}")
    browser.get(f"{GUIDE}?ticket={ticket}")
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert len(ours) >= 3
    assert not [line for line in ours if ticket in line or ticket.rpartition(".")[2] in line]


def test_a_ticket_falls_with_its_key(folder, server, alice, browser):
    """One that was taken out lets nobody in, nor does another key under its name."""
    ticket, path = ticket_for(alice, "/api/me"), folder / "keys.json"
    before = path.read_text("utf-8")
    entries = json.loads(before)
    try:
        for changed in (
            [entry for entry in entries if entry["id"] != "alice"],
            [entry | ({"sha256": "0" * 64} if entry["id"] == "alice" else {}) for entry in entries],
        ):
            path.write_text(json.dumps(changed), "utf-8")
            wait_until(lambda: browser.get("/api/me", params={"ticket": ticket}).status_code == 401)
    finally:
        path.write_text(before, "utf-8")
    wait_until(lambda: browser.get("/api/me", params={"ticket": ticket}).status_code == 200)


def wait_until(holds):
    ends = tickets.time.monotonic() + 10
    while not holds():
        assert tickets.time.monotonic() < ends
        tickets.time.sleep(0.05)
