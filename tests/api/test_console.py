"""What the console needs of the server: its files under their policy, a pass in place of a key, and tickets."""

import base64
import gzip
import hashlib
import json
from contextlib import contextmanager

import pytest

from manent.api.http import files
from manent.api.http.errors import Problem
from manent.api.http.key_ring import KeyRing
from manent.api.http.passes import (
    FAILURES_WITHIN_S,
    MAX_ADDRESSES,
    MAX_ENDED,
    MAX_FAILURES,
    PASS_S,
    TOKEN_HEADER,
    Failures,
    Pass,
    Passes,
)
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem
from tests.api.test_access import keys_file

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
FILES = sorted(path for path in files.read_files() if path)


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_root_leads_to_the_console(client):
    """``/`` and ``/console`` redirect to the page, which is HTML."""
    for path in ("/", "/console"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, "/console/")
    page = client.get("/", follow_redirects=True)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")


@pytest.mark.parametrize("path", ["", *FILES])
def test_every_file_has_its_type_and_the_policy(client, path):
    """No file of the console may run or load what is not its own, and none may be taken for another type."""
    answer = client.get(f"/console/{path}", headers={"accept-encoding": "identity"})
    assert answer.status_code == 200
    assert answer.content == (files.FOLDER / (path or "index.html")).read_bytes()
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["referrer-policy"] == "no-referrer"
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}.get(
        path.rpartition(".")[2], "text/html"
    )
    assert answer.headers["content-type"].split(";")[0] == kind


def test_a_file_is_sent_packed_to_whoever_unpacks(client):
    """With ``Accept-Encoding: gzip`` it is smaller, and the same when it is unpacked."""
    plain = client.get("/console/", headers={"accept-encoding": "identity"})
    with client.stream("GET", "/console/", headers={"accept-encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    for refused in ("gzip;q=0", "br, GZIP; q=0.0", "notgzip"):
        assert "content-encoding" not in client.get("/console/", headers={"accept-encoding": refused}).headers
    assert client.get("/console/", headers={"accept-encoding": "br, gzip;q=0.5"}).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_file_that_one_has_is_not_sent_again(client, encoding):
    """304 without a body for its ``ETag``, under the same policy; another tag gets the file."""
    headers = {"accept-encoding": encoding}
    etag = client.get("/console/", headers=headers).headers["etag"]
    same = client.get("/console/", headers=headers | {"if-none-match": f'"other", W/{etag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert same.headers["content-security-policy"] == POLICY
    for other in ('"other"', etag.strip('"'), f'{etag[:-1]}x"'):
        assert client.get("/console/", headers=headers | {"if-none-match": other}).status_code == 200
    assert client.get("/console/", headers=headers | {"if-none-match": "*"}).status_code == 304


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/console/nosuch.js"), ("POST", "/console/")])
def test_what_is_no_file_is_told_under_the_same_policy(client, method, path):
    """A redirect and a refusal, too."""
    answer = client.request(method, path, follow_redirects=False)
    assert answer.status_code in {307, 404, 405}
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_head_tells_what_get_would(client):
    """The same headers, and no body."""
    got, head = client.get("/console/"), client.head("/console/")
    volatile = {"date", "x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in got.headers.items() if k not in volatile
    }
    assert head.content == b""


@pytest.mark.parametrize(
    "path",
    ["nosuch.js", "%2e%2e/app.py", "x/%2e%2e/index.html", "pictures/", "index.html/", "/index.html", "%2e/index.html"],
)
def test_nothing_but_its_files_is_served(server, path):
    """Another path below ``/console/`` is a 404, however it is spelt, and never a file of the server."""
    with server.client() as client:
        answer = client.get(client.base_url.copy_with(raw_path=f"/console/{path}".encode()))
    problem(answer, 404, "not_found")


def test_files_are_read_and_not_written(client):
    """Other methods are refused, with those that there are."""
    answer = client.post("/console/", json={})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_link_from_elsewhere_leads_to_the_console(client):
    """Without keys a page from elsewhere may lead to the console, which is only code; to nothing behind it."""
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/console/", headers=headers).status_code == 200
    problem(client.get("/api/me", headers=headers), 403, "cross_site")
    problem(client.get("/console/", headers={"host": "evil.example"}), 403, "foreign_host")


# --- who one is -------------------------------------------------------------------------------------------------------

KEYS = {
    "alice-secret": ("alice", "red", ["chat", "audit"]),
    "bob-secret": ("bob", "blue", ["chat", "audit", "erase", "operate"]),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with keys."""
    folder = tmp_path_factory.mktemp("guarded")
    with in_thread(settings_on(folder, api_keys_file=keys_file(folder, KEYS))) as server:
        yield server


@contextmanager
def log_in(server, key="alice-secret"):
    """A client with the cookie and the token of a key."""
    with server.client() as client:
        answer = client.post("/api/console/session", json={"key": key})
        assert answer.status_code == 200, answer.text
        client.headers[TOKEN_HEADER] = answer.json()["token"]
        yield client


def test_without_keys_everybody_here_is_local(client):
    """They may do everything, and there is nothing to trade a key for."""
    assert client.get("/api/me").json() == {
        "actor": "local",
        "tenant": "default",
        "scopes": ["audit", "chat", "erase", "operate"],
    }
    problem(client.post("/api/console/session", json={"key": "x"}), 409, "no_keys")


def test_a_key_tells_who_one_is(guarded):
    """With a key: its actor, tenant and scopes; without: 401."""
    with guarded.client() as client:
        me = client.get("/api/me", headers={"authorization": "Bearer bob-secret"}).json()
        assert me == {"actor": "key:bob", "tenant": "blue", "scopes": ["audit", "chat", "erase", "operate"]}
        problem(client.get("/api/me"), 401, "unauthorized")


def test_a_cookie_and_its_token_stand_for_a_key(guarded):
    """What is done with them is done by the key; it stands in neither."""
    with log_in(guarded) as client:
        assert client.get("/api/me").json()["actor"] == "key:alice"
        session = client.post("/api/sessions", json={"title": "from a browser"}).json()["id"]
        assert client.get(f"/api/sessions/{session}/events").json()["items"][0]["actor"] == "key:alice"
        problem(client.post("/api/log/checkpoint"), 403, "scope_missing")
        (cookie,) = client.cookies.jar
        assert cookie.name == f"manent_console_{guarded.host[1]}"
        hashed = hashlib.sha256(b"alice-secret").hexdigest()
        for secret in ("alice-secret", hashed, hashed[:16]):
            assert secret not in cookie.value + client.headers[TOKEN_HEADER]


def test_the_cookie_is_kept_from_scripts_and_other_sites(guarded):
    """It goes back to this host only, unseen by scripts, never from another site, and over TLS where the page did."""
    with guarded.client() as client:
        answer = client.post("/api/console/session", json={"key": "alice-secret"})
        _, *attributes = answer.headers["set-cookie"].split("; ")
        assert attributes == [f"Max-Age={PASS_S}", "Path=/", "HttpOnly", "SameSite=Strict"]
        headers = {"origin": "https://chat.example"}
        answer = client.post("/api/console/session", json={"key": "alice-secret"}, headers=headers)
        assert answer.headers["set-cookie"].endswith("; Secure")


def test_neither_counts_without_the_other(guarded):
    """The cookie alone, the token alone, and those of two logins are nobody."""
    with log_in(guarded) as one, log_in(guarded) as other, guarded.client() as bare:
        token = one.headers.pop(TOKEN_HEADER)
        problem(one.get("/api/me"), 401, "unauthorized")
        problem(bare.get("/api/me", headers={TOKEN_HEADER: token}), 401, "unauthorized")
        problem(one.get("/api/me", headers={TOKEN_HEADER: other.headers[TOKEN_HEADER]}), 401, "unauthorized")
        assert one.get("/api/me", headers={TOKEN_HEADER: token}).status_code == 200


def test_a_page_on_another_port_can_do_nothing(guarded):
    """It is sent along with the cookie, may not read an answer, and knows no token."""
    with log_in(guarded) as client:
        del client.headers[TOKEN_HEADER]
        headers = {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site"}
        problem(client.post("/api/sessions", json={}, headers=headers), 401, "unauthorized")
        asked = {"access-control-request-method": "POST", "access-control-request-headers": TOKEN_HEADER}
        answer = client.options("/api/sessions", headers=headers | asked)
        assert answer.status_code == 401
        assert "access-control-allow-origin" not in answer.headers


def test_a_pass_is_given_back(guarded):
    """Afterwards the cookie is gone, and a copy of it is void."""
    with log_in(guarded) as client:
        (cookie,) = client.cookies.jar
        copied = {"cookie": f"{cookie.name}={cookie.value}"}
        answer = client.delete("/api/console/session")
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert not list(client.cookies.jar)
        problem(client.get("/api/me", headers=copied), 401, "unauthorized")
        assert client.delete("/api/console/session").status_code == 204


def test_a_wrong_key_gets_nothing(guarded):
    """401 and no cookie; what is no key at all is refused by its form."""
    with guarded.client() as client:
        answer = client.post("/api/console/session", json={"key": "wrong"})
        problem(answer, 401, "unauthorized")
        assert "set-cookie" not in answer.headers
        problem(client.post("/api/console/session", json={"key": ""}), 400, "invalid_value", "key")
        problem(client.post("/api/console/session", json={"key": "x", "id": "y"}), 400, "unknown_field", "id")


def test_failed_logins_are_limited(tmp_path):
    """After some wrong keys a right one waits too, and is told how long; other routes do not."""
    with in_thread(settings_on(tmp_path, api_keys_file=keys_file(tmp_path, KEYS))) as server, server.client() as client:
        for _ in range(MAX_FAILURES):
            problem(client.post("/api/console/session", json={"key": "wrong"}), 401, "unauthorized")
        answer = client.post("/api/console/session", json={"key": "alice-secret"})
        body = problem(answer, 429, "rate_limited")
        assert 0 < int(answer.headers["retry-after"]) == body["retry_after_s"] <= FAILURES_WITHIN_S
        assert client.get("/api/me", headers={"authorization": "Bearer alice-secret"}).status_code == 200


# --- passes, by the clock ---------------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.5

    def __call__(self):
        return self.now


def ring_of(folder, *secrets):
    """The keys of a server: ``id:secret``."""
    pairs = [each.split(":") for each in secrets]
    return KeyRing(keys_file(folder, {secret: (name, "default", ["chat"]) for name, secret in pairs}))


def headers_of(issued, host="127.0.0.1:8000"):
    return {"host": host, "cookie": f"a=b; manent_console_8000={issued.cookie}", TOKEN_HEADER: issued.token}


def test_a_pass_ends_after_twelve_hours(tmp_path):
    """Up to then it is good, and from then on void."""
    clock = Clock()
    passes = Passes(ring_of(tmp_path, "ann:k1"), clock)
    headers = headers_of(passes.open("k1"))
    clock.now += PASS_S - 1
    assert passes.identify(headers).actor == "key:ann"
    clock.now += 2
    assert passes.identify(headers) is None


@pytest.mark.parametrize("later", [["bob:k2"], ["ann:k9", "bob:k2"]])
def test_a_revoked_key_takes_its_passes_along(tmp_path, later):
    """Also where another key has its id now; those of other keys stay."""
    ring = ring_of(tmp_path, "ann:k1", "bob:k2")
    passes = Passes(ring)
    anns, bobs = headers_of(passes.open("k1")), headers_of(passes.open("k2"))
    assert passes.identify(anns).actor == "key:ann"
    ring._take(ring_of(tmp_path, *later)._keys)
    assert passes.identify(anns) is None
    assert passes.identify(bobs).actor == "key:bob"


def test_another_secret_voids_all(tmp_path):
    """What one server signed is nothing to another, nor to itself after a restart."""
    ring = ring_of(tmp_path, "ann:k1")
    headers = headers_of(Passes(ring).open("k1"))
    assert Passes(ring).identify(headers) is None


@pytest.mark.parametrize("part", range(4))
def test_a_changed_cookie_is_void(tmp_path, part):
    """Another id, a later end, another number or another signature."""
    passes = Passes(ring_of(tmp_path, "ann:k1", "amy:k2"))
    issued = passes.open("k1")
    parts = issued.cookie.split("~")
    parts[part] = ["amy", str(int(parts[1]) + 1), parts[2][::-1], parts[3][::-1]][part]
    assert passes.identify(headers_of(Pass("~".join(parts), issued.token))) is None


@pytest.mark.parametrize("cookie", ["", "~", "~~~", "ann~x~y~z", "ann~1~y~z", "ann", "\xe9~\xff~~", "~" * 4000])
def test_a_cookie_that_is_none_is_nobodys(tmp_path, cookie):
    """Whatever stands in it, nothing goes wrong but the login."""
    passes = Passes(ring_of(tmp_path, "ann:k1"))
    assert passes.identify(headers_of(Pass(cookie, passes.open("k1").token))) is None


def test_a_cookie_is_for_one_port(tmp_path):
    """Two servers of one host do not take each other's."""
    passes = Passes(ring_of(tmp_path, "ann:k1"))
    assert passes.identify(headers_of(passes.open("k1"), host="127.0.0.1:9000")) is None


def test_a_key_comes_before_a_cookie(guarded):
    """Who sends a wrong key is not let in by what else they send."""
    with log_in(guarded) as client:
        problem(client.get("/api/me", headers={"authorization": "Bearer wrong"}), 401, "unauthorized")


def test_ended_passes_are_remembered_until_they_would_end(tmp_path):
    """And no longer: what is remembered is bounded."""
    clock = Clock()
    passes = Passes(ring_of(tmp_path, "ann:k1"), clock)
    headers = headers_of(passes.open("k1"))
    passes.end(headers)
    assert passes.identify(headers) is None
    passes.end(headers)
    assert len(passes._ended) == 1
    clock.now += PASS_S + 1
    passes.end(headers_of(passes.open("k1")))
    assert len(passes._ended) == 1 <= MAX_ENDED


def test_failures_are_forgotten_after_a_minute():
    """Each address for itself, and of many addresses the oldest first."""
    clock = Clock()
    failures = Failures(clock)
    for _ in range(MAX_FAILURES):
        failures.check("one")
        failures.add("one")
    failures.check("two")
    with pytest.raises(Problem) as refused:
        failures.check("one")
    assert refused.value.status == 429
    clock.now += FAILURES_WITHIN_S + 1
    failures.check("one")
    for number in range(2 * MAX_ADDRESSES):
        failures.add(str(number))
    assert len(failures._times) == MAX_ADDRESSES


# --- what waits for a person, and words beside a proof ----------------------------------------------------------------


def test_turns_of_all_sessions_are_listed(client):
    """Newest first, a page at a time, by status."""
    sessions = [client.post("/api/sessions", json={}).json()["id"] for _ in range(2)]
    turns = [
        client.post(f"/api/sessions/{session}/turns", json={"content": "Hello."}).json()["id"]
        for session in (*sessions, *sessions)
    ]
    listed = client.get("/api/turns", params={"limit": 4, "status": "completed"}).json()
    assert [turn["id"] for turn in listed["items"]] == turns[::-1]
    first = client.get("/api/turns", params={"limit": 3}).json()
    more = client.get("/api/turns", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [turn["id"] for turn in first["items"] + more["items"]] == turns[::-1]
    assert client.get("/api/turns", params={"status": "requires_action"}).json() == {"items": [], "next_cursor": None}
    problem(client.get("/api/turns", params={"status": "waiting"}), 400, "invalid_value", "status")


def test_turns_are_ones_own(guarded):
    """Another tenant's are not listed."""
    with log_in(guarded) as alice, log_in(guarded, "bob-secret") as bob:
        session = alice.post("/api/sessions", json={}).json()["id"]
        turn = alice.post(f"/api/sessions/{session}/turns", json={"content": "Hello."}).json()["id"]
        assert alice.get("/api/turns").json()["items"][0]["id"] == turn
        assert turn not in [each["id"] for each in bob.get("/api/turns").json()["items"]]


def test_a_proof_brings_what_ties_words_to_the_leaf(client, session):
    """Salt and body give the commitment in the leaf; after an erasure both are null, and the rest proves as before."""
    client.post(f"/api/sessions/{session}/messages", json={"content": "Grüße, 世界"})
    path = f"/api/sessions/{session}/events/2/proof"
    proof = client.get(path).json()
    body = base64.b64decode(proof["body_base64"])
    leaf = json.loads(proof["leaf"])
    assert json.loads(body)["content"] == [{"type": "text", "text": "Grüße, 世界"}]
    assert hashlib.sha256(bytes.fromhex(proof["salt"]) + body).hexdigest() == leaf["commitment"]
    client.post(f"/api/sessions/{session}/erase", json={"reason": "test"})
    after = client.get(path).json()
    assert after["salt"] is after["body_base64"] is None
    assert after["leaf"] == proof["leaf"]


def test_a_proof_without_the_words_scope(tmp_path):
    """A key that may only audit gets the proof, and not the words."""
    keys = {"k1": ("ann", "default", ["chat"]), "k2": ("aud", "default", ["audit"])}
    with in_thread(settings_on(tmp_path, api_keys_file=keys_file(tmp_path, keys))) as server:
        with server.client(headers={"authorization": "Bearer k1"}) as ann:
            session = ann.post("/api/sessions", json={"title": "mine"}).json()["id"]
            path = f"/api/sessions/{session}/events/1/proof"
            mine = ann.get(path).json()
        with server.client(headers={"authorization": "Bearer k2"}) as auditor:
            told = auditor.get(path).json()
    assert mine["body_base64"] is not None
    assert told["salt"] is told["body_base64"] is None
    assert told["leaf"] == mine["leaf"]


def test_a_list_of_turns_goes_on_where_it_ended(client):
    """And refuses a cursor that no page gave."""
    problem(client.get("/api/turns", params={"cursor": "nosuch"}), 400, "invalid_cursor", "cursor")
