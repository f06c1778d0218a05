"""Who may call: keys, scopes and tenants; and without keys, this machine only."""

import hashlib
import json

import pytest

from manent.api.http.auth import host_is_loopback, read_keys
from manent.engine import Invalid
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened, problem

KEYS = {  # key -> id, tenant, scopes
    "alice-secret": ("alice", "red", ["chat", "audit"]),
    "amy-secret": ("amy", "red", ["chat"]),
    "bob-secret": ("bob", "blue", ["chat", "audit", "erase", "operate"]),
    "watch-secret": ("watch", "red", ["audit"]),
    "erin-secret": ("erin", "red", ["erase"]),
}
PAGE = "https://app.example:8443"


def keys_file(folder, keys=KEYS):
    path = folder / "keys.json"
    entries = [
        {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant, "scopes": scopes}
        for key, (name, tenant, scopes) in keys.items()
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with keys that pages of one origin may call."""
    folder = tmp_path_factory.mktemp("guarded")
    options = {"api_keys_file": keys_file(folder), "cors_origins": f"{PAGE}, http://other.example"}
    with in_thread(settings_on(folder, **options)) as server:
        yield server


@pytest.fixture(scope="module")
def callers(guarded):
    """A client for each key, and one without."""
    clients = {
        name: guarded.client(headers={"Authorization": f"Bearer {key}"}) for key, (name, _, _) in KEYS.items()
    } | {"nobody": guarded.client()}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(scope="module")
def red(callers):
    """What is in the tenant red: {name: id}."""
    alice = callers["alice"]
    session = alice.post("/api/sessions", json={"title": "red"}).json()["id"]
    turn = alice.post(f"/api/sessions/{session}/turns", json={"content": "red words"}).json()
    return {"session": session, "turn": turn["id"], "message": turn["message"]["id"]}


ROUTES = [  # method, path, body
    ("GET", "/api/sessions/{session}", None),
    ("GET", "/api/sessions/{session}?version=1", None),
    ("PATCH", "/api/sessions/{session}", {"title": "blue"}),
    ("POST", "/api/sessions/{session}/messages", {"content": "blue"}),
    ("GET", "/api/sessions/{session}/messages", None),
    ("GET", "/api/sessions/{session}/window", None),
    ("POST", "/api/sessions/{session}/turns", {"content": "blue"}),
    ("POST", "/api/sessions/{session}/turns", {"content": "blue", "stream": True}),
    ("GET", "/api/sessions/{session}/turns", None),
    ("GET", "/api/sessions/{session}/events", None),
    ("GET", "/api/sessions/{session}/events/stream", None),
    ("GET", "/api/turns/{turn}", None),
    ("GET", "/api/turns/{turn}/prompt", None),
    ("GET", "/api/turns/{turn}/stream", None),
    ("GET", "/api/turns/{turn}/stream?after=99", None),
    ("POST", "/api/turns/{turn}/cancel", None),
    ("POST", "/api/ai/chat", {"message": "blue", "session_id": "{session}"}),
    ("GET", "/api/ai/stream?q=blue&session_id={session}", None),
]
OWN = [("POST", "/api/sessions", {}), ("GET", "/api/sessions", None), ("GET", "/api/events", None)]
OWN += [("GET", "/api/events/stream", None), ("POST", "/api/ai/complete", {"message": "x"})]


def call(client, method, path, body, names, **options):
    if body is not None:
        body = json.loads(json.dumps(body).replace("{session}", names["session"]))
    with client.stream(method, path.format(**names), json=body, **options) as response:
        if not response.headers["content-type"].startswith("text/event-stream"):
            response.read()
        return response


def code_of(response):
    body = response.json()
    return body["code"] if "code" in body else body["error"]["details"]["code"]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES + OWN)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Bearer", "Basic YWxpY2U6c2VjcmV0", "alice-secret", b"Bearer \xff\xfe"]
)
def test_every_route_needs_a_key(callers, guarded, red, method, path, body, authorization):
    """401 with a challenge, and nothing happens."""
    before = guarded.size()
    headers = {"Authorization": authorization} if authorization is not None else {}
    response = call(callers["nobody"], method, path, body, red, headers=headers)
    assert response.status_code == 401
    assert code_of(response) == "unauthorized"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert guarded.size() == before


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_another_tenants_ids_are_unknown(callers, guarded, red, method, path, body):
    """A 404 as for an id that never was, for every route, and nothing happens."""
    before = guarded.size()
    nobody = "01890000-0000-7000-8000-000000000000"
    foreign = call(callers["bob"], method, path, body, red)
    unknown = call(callers["bob"], method, path, body, {"session": nobody, "turn": nobody})
    assert foreign.status_code == unknown.status_code == 404
    assert code_of(foreign) == code_of(unknown)
    assert guarded.size() == before


def test_lists_and_logs_hold_ones_own_only(callers, red):
    """A tenant's positions begin at 1, whatever others have written."""
    bob = callers["bob"]
    session = bob.post("/api/sessions", json={}).json()["id"]
    assert red["session"] not in [each["id"] for each in bob.get("/api/sessions").json()["items"]]
    events = bob.get("/api/events").json()["items"]
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    assert {event["session_id"] for event in events} == {session}
    assert bob.get(f"/api/sessions/{session}/events").json()["items"][0]["actor"] == "key:bob"


def test_two_keys_of_a_tenant_see_the_same(callers, red):
    """The tenant owns what is said; the actor says who said it."""
    amy = callers["amy"]
    amy.post(f"/api/sessions/{red['session']}/messages", json={"content": "and amy's"})
    events = callers["alice"].get(f"/api/sessions/{red['session']}/events").json()["items"]
    assert (events[0]["actor"], events[-1]["actor"]) == ("key:alice", "key:amy")


def test_an_idempotency_key_is_its_owners(callers, red):
    """The same key of another caller is another request."""
    bodies = [
        callers[name].post("/api/sessions", json={}, headers={"Idempotency-Key": "one"}).json()["id"]
        for name in ("alice", "amy", "bob", "alice")
    ]
    assert bodies[0] == bodies[3]
    assert len(set(bodies)) == 3


@pytest.mark.parametrize("path", ["/api/events", "/api/events/stream"])
def test_the_log_needs_the_scope_audit(callers, path):
    """403 with the scope that is missing."""
    body = problem(callers["amy"].get(path), 403, "scope_missing")
    assert body["scope"] == "audit"


EVIDENCE = [
    "/api/log/checkpoint",
    "/api/log/key",
    "/api/log/consistency?from=1",
    "/api/log/tile/0/000.p/1",
    "/api/sessions/{session}/events/1/proof",
    "/api/sessions/{session}/events/1/proof?format=c2sp",
]


@pytest.mark.parametrize("path", EVIDENCE)
def test_either_of_two_scopes_reads_the_evidence(callers, red, path):
    """Whoever may read the words, or the log, may check it; whoever may do neither, may not."""
    path = path.format(**red)
    for name in ("amy", "watch"):
        assert callers[name].get(path).status_code == 200
        assert callers[name].head(path).status_code == 200
    refused = problem(callers["erin"].get(path), 403, "scope_missing")
    assert "'chat' or 'audit'" in refused["detail"]
    assert callers["bob"].get(EVIDENCE[4].format(**red)).status_code == 404


def test_the_scope_audit_alone_makes_no_checkpoint(callers):
    """Reading is all that it allows."""
    assert problem(callers["watch"].post("/api/log/checkpoint"), 403, "scope_missing")["scope"] == "operate"


def test_who_one_is(callers):
    """Every key may ask whose it is and what it may do, whatever its scopes."""
    for name, tenant, scopes in KEYS.values():
        told = callers[name].get("/api/me")
        assert told.json() == {"actor": f"key:{name}", "tenant": tenant, "scopes": sorted(scopes)}
    problem(callers["nobody"].get("/api/me"), 401, "unauthorized")


def test_who_one_is_without_keys(client):
    """Everybody on this machine is one."""
    told = client.get("/api/me").json()
    assert told == {"actor": "local", "tenant": "default", "scopes": ["audit", "chat", "erase", "operate"]}


def test_an_idempotency_key_needs_no_scope_of_its_own(callers):
    """A key that may only erase can say so twice."""
    session = callers["alice"].post("/api/sessions", json={"title": "red"}).headers["location"]
    erased = [
        callers["erin"].post(f"{session}/erase", json={"reason": "x"}, headers={"Idempotency-Key": "gone"})
        for _ in range(2)
    ]
    assert [each.status_code for each in erased] == [200, 200]
    assert erased[0].json() == erased[1].json()


def test_the_scope_audit_reads_the_log(callers, red):
    """From the beginning, and as it goes on; but does not chat."""
    watch = callers["watch"]
    first = watch.get("/api/events").json()["items"][0]
    with opened(watch, "GET", "/api/events/stream?after=0") as stream:
        assert next(iter(stream)).json == first
    assert problem(watch.post("/api/sessions", json={}), 403, "scope_missing")["scope"] == "chat"
    response = watch.post("/api/ai/complete", json={"message": "x"})
    assert (response.status_code, code_of(response)) == (403, "scope_missing")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(callers, scheme):
    """As RFC 7235 has it."""
    response = callers["nobody"].get("/api/sessions", headers={"Authorization": f"{scheme} amy-secret"})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/schema", "/schema/openapi.json"])
def test_health_and_description_are_public(callers, path):
    """Who watches the server or reads about it needs no key."""
    assert callers["nobody"].get(path).status_code == 200


@pytest.mark.parametrize("path", ["//api/sessions", "/api//sessions", "/api/sessions/", "/./api/sessions"])
def test_no_spelling_of_a_path_gets_past(callers, path):
    """Whatever leads to a route needs a key."""
    response = callers["nobody"].get(callers["nobody"].base_url.copy_with(raw_path=path.encode()))
    assert response.status_code == 401


@pytest.mark.parametrize("headers", [{"Host": "chat.example"}, {"Origin": "https://evil.example"}])
def test_with_keys_any_host_and_origin_may_call(callers, headers):
    """The key decides then: a page from elsewhere has none."""
    assert callers["amy"].get("/api/sessions", headers=headers).status_code == 200


# --- keys files -------------------------------------------------------------------------------------------------------

HASH = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[{}]",
        json.dumps([{"id": "a b", "sha256": HASH}]),
        json.dumps([{"id": "a", "sha256": "secret"}]),
        json.dumps([{"id": "a", "sha256": HASH, "key": "secret"}]),
        json.dumps([{"id": "a", "sha256": HASH, "scopes": ["all"]}]),
        json.dumps([{"id": "a", "sha256": HASH, "tenant": "A/B"}]),
        json.dumps([{"id": "a", "sha256": HASH}, {"id": "a", "sha256": "1" * 64}]),
        json.dumps([{"id": "a", "sha256": HASH}, {"id": "b", "sha256": HASH}]),
    ],
)
def test_a_keys_file_that_cannot_be(tmp_path, text):
    """Named as the setting that is wrong; the server does not start without keys instead."""
    path = tmp_path / "keys.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match="api_keys_file"):
        read_keys(str(path))


def test_a_keys_file_that_is_not_there(tmp_path):
    """So is one that cannot be read."""
    with pytest.raises(Invalid, match="api_keys_file"):
        read_keys(str(tmp_path / "none.json"))


# --- pages from elsewhere ---------------------------------------------------------------------------------------------


def test_a_preflight_of_an_allowed_page(callers):
    """Answered without a key, for browsers send none: what may be sent, and for how long that holds."""
    response = callers["nobody"].options(
        "/api/sessions",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == "authorization,content-type,idempotency-key"
    assert int(response.headers["access-control-max-age"]) > 0
    assert "origin" in response.headers["vary"].lower()
    assert "access-control-allow-credentials" not in response.headers


def test_a_preflight_of_another_page(callers):
    """Is told nothing."""
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = callers["nobody"].options("/api/sessions", headers=headers)
    assert response.status_code == 401
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("caller", "path", "status"),
    [
        ("amy", "/api/sessions", 200),
        ("nobody", "/api/sessions", 401),
        ("amy", "/api/x", 404),
        ("amy", "/api/events", 403),
    ],
)
def test_an_allowed_page_can_read_its_answers(callers, caller, path, status):
    """Refusals too, and the headers it needs."""
    response = callers[caller].get(path, headers={"Origin": PAGE})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]


def test_an_allowed_page_can_read_streams(callers, red):
    """Frames come with the same headers."""
    with opened(callers["amy"], "GET", f"/api/turns/{red['turn']}/stream", headers={"Origin": PAGE}) as stream:
        assert stream.response.headers["access-control-allow-origin"] == PAGE
        stream.until("turn.completed")


def test_answers_differ_by_origin_and_say_so(callers):
    """No cache may give one origin's answer to another."""
    response = callers["amy"].get("/api/sessions", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "Origin"


# --- an open server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "foreign_host"),
        ({"Host": "localhost.evil.example"}, "foreign_host"),
        ({"Host": "10.0.0.7:8000"}, "foreign_host"),
        ({"Host": "127.0.0.1.nip.io"}, "foreign_host"),
        ({"Host": ""}, "foreign_host"),
        ({"Origin": "https://evil.example"}, "foreign_origin"),
        ({"Origin": "http://localhost.evil.example"}, "foreign_origin"),
        ({"Origin": "http://localhost@evil.example"}, "foreign_origin"),
        ({"Origin": "null"}, "foreign_origin"),
        ({"Origin": "file://"}, "foreign_origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}, "cross_site"),
    ],
)
@pytest.mark.parametrize("path", ["/api/sessions", "/healthz", "/schema"])
@pytest.mark.usefixtures("unchanged")
def test_without_keys_nothing_from_elsewhere(client, headers, code, path):
    """What a page from elsewhere could make a browser send is a 403."""
    problem(client.get(path, headers=headers), 403, code)
    problem(client.post("/api/sessions", json={}, headers=headers), 403, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost"},
        {"Host": "LOCALHOST:1"},
        {"Host": "127.0.0.1"},
        {"Host": "127.9.9.9:80"},
        {"Host": "[::1]:8000"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:5173", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_without_keys_this_machine(client, headers):
    """Under whichever of its own names."""
    assert client.get("/api/sessions?limit=1", headers=headers).status_code == 200


def test_without_keys_an_allowed_page(tmp_path):
    """MANENT_CORS_ORIGINS lets a page in, and no other."""
    with in_thread(settings_on(tmp_path, cors_origins=PAGE)) as server, server.client() as client:
        headers = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
        assert client.post("/api/sessions", json={}, headers=headers).status_code == 201
        preflight = client.options("/api/sessions", headers=headers | {"Access-Control-Request-Method": "POST"})
        assert preflight.status_code == 204
        problem(client.get("/api/sessions", headers={"Origin": f"{PAGE}0"}), 403, "foreign_origin")


def test_names_of_this_machine():
    """Only whole names and addresses count."""
    assert host_is_loopback("[::1]")
    assert not host_is_loopback("localhost:8000:1")
    assert not host_is_loopback("[localhost")
    assert not host_is_loopback("")


@pytest.mark.parametrize("origins", ["https://a.example/", "a.example", "*", "https://*.a.example"])
def test_an_origin_that_is_none(tmp_path, origins):
    """A slip in the setting is named at start."""
    with pytest.raises(Invalid, match="cors_origins"), in_thread(settings_on(tmp_path, cors_origins=origins)):
        pass
