"""API keys that change while a server runs: added, revoked, expired, and files that are none."""

import hashlib
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.api.conftest import SCRIPT
from tests.api.harness import MANENT, Process, opened, problem

BOUND_S = 10
"""Far longer than it takes; a busy machine may be slow."""
SCOPES = ["chat", "audit"]


def entry(key, **fields):
    return {"id": key, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": SCOPES} | fields


def in_s(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


class Keyed:
    """A server, its file of keys, and the lines that it has logged since the test began."""

    def __init__(self, server, path):
        self.server = server
        self.path = path
        self.since = len(server.lines)

    def write(self, *entries, text=None):
        """Replace the file as a whole, as ``manent key`` does."""
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(entries) if text is None else text)
        new.replace(self.path)

    def client(self, key):
        return self.server.client(headers={"Authorization": f"Bearer {key}"})

    def status(self, key):
        with self.client(key) as client:
            return client.get("/api/sessions").status_code

    def status_of_nobody(self):
        with self.server.client() as client:
            return client.get("/api/sessions").status_code

    def until(self, key, status):
        """Wait until a key is answered so."""
        begun_s = time.monotonic()
        while (found := self.status(key)) != status:
            assert time.monotonic() - begun_s < BOUND_S, f"{key} is still answered with {found}"
            time.sleep(0.02)

    def events(self, name):
        lines = [line for line in list(self.server.lines[self.since :]) if f'"event":"{name}"' in line]
        return [json.loads(line) for line in lines]

    def event(self, name):
        """The newest event of a name, as soon as there is one."""
        begun_s = time.monotonic()
        while not (found := self.events(name)):
            assert time.monotonic() - begun_s < BOUND_S, f"no {name} was logged"
            time.sleep(0.02)
        return found[-1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys.json").write_text(json.dumps([entry("ann"), entry("bob")]))
    (folder / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    settings = {
        "MANENT_API_KEYS_FILE": str(folder / "keys.json"),
        "MANENT_SCRIPT": str(folder / "script.json"),
        "MANENT_LOG_FORMAT": "json",
        "MANENT_KEEPALIVE_S": "1",
        "MANENT_DRAIN_S": "0",
    }
    with Process(str(folder / "manent.db"), **settings) as server:
        yield server
        assert server.stop() == 0
        assert not any("exception" in json.loads(line) for line in server.lines)


@pytest.fixture
def keyed(server):
    """The server with the keys of Ann and Bob, as every test begins."""
    keyed = Keyed(server, server.database.with_name("keys.json"))
    probe = f"probe{time.monotonic_ns()}"  # a key that no test before has used
    keyed.write(entry("ann"), entry("bob"), entry(probe))
    keyed.until(probe, 200)
    keyed.write(entry("ann"), entry("bob"))
    keyed.until(probe, 401)
    keyed.since = len(server.lines)
    return keyed


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_key_that_is_added_is_let_in(keyed):
    """Within a moment, without a restart; the others stay."""
    assert keyed.status("eve") == 401
    keyed.write(entry("ann"), entry("bob"), entry("eve", tenant="other"))
    keyed.until("eve", 200)
    assert keyed.status("ann") == 200
    told = keyed.event("api_keys_read")
    assert (told["keys"], told["added"], told["gone"]) == (3, ["eve"], [])


def test_a_key_that_is_revoked_is_refused(keyed):
    """Within a moment; the others stay."""
    keyed.write(entry("bob"))
    keyed.until("ann", 401)
    assert keyed.status("bob") == 200
    assert keyed.event("api_keys_read")["gone"] == ["ann"]


def test_what_a_key_may_do_changes(keyed):
    """Scopes and tenants are those of the file as it is now."""
    with keyed.client("ann") as client:
        session = client.post("/api/sessions", json={}).headers["location"]
        assert client.get("/api/events").status_code == 200
        keyed.write(entry("ann", scopes=["chat"], tenant="other"), entry("bob"))
        begun_s = time.monotonic()
        while client.get("/api/events").status_code != 403:
            assert time.monotonic() - begun_s < BOUND_S
        problem(client.get(session), 404, "session_not_found")


def test_a_key_expires(keyed):
    """After its time it is refused, and told why; until then, and without a time, it is let in."""
    keyed.write(entry("ann", expires_at=in_s(3600)), entry("bob", expires_at=in_s(-1)))
    keyed.until("bob", 401)
    with keyed.client("bob") as client:
        assert "expired" in problem(client.get("/api/sessions"), 401, "unauthorized")["detail"]
    assert keyed.status("ann") == 200
    keyed.write(entry("ann", expires_at=in_s(2)), entry("bob", expires_at=None))
    keyed.until("bob", 200)
    keyed.until("ann", 401)


def test_a_time_without_a_zone_is_none(keyed):
    """Nobody could say when such a key expires: the file is refused."""
    keyed.write(entry("ann", expires_at="2030-01-01T00:00:00"))
    assert keyed.event("api_keys_refused")["reason"] == "is not a list of keys"
    assert keyed.status("bob") == 200


def test_manent_key_is_heard_by_a_running_server(keyed, tmp_path):
    """The command's key is let in as soon as the server looks; when it expires stands in the file."""
    command = [MANENT, "key", "carl", "--file", keyed.path, "--expires-at", in_s(3600)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    keyed.until(done.stdout.strip(), 200)
    assert {each["id"]: "expires_at" in each for each in json.loads(keyed.path.read_text())}["carl"]


# --- files that are none ----------------------------------------------------------------------------------------------

BROKEN = {
    "nothing": "",
    "half of it": '[{"id": "ann", "sha256": "',
    "an object": "{}",
    "no keys": '[{"name": "ann"}]',
    "a key in clear": json.dumps([{"id": "ann", "key": "manent_in_clear"}]),
    "one id twice": json.dumps([entry("ann"), entry("ann", sha256="0" * 64)]),
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_changes_nothing(keyed, text):
    """The keys stay as they were, nobody else is let in, and it is logged as an error, without what the file holds."""
    keyed.write(text=text)
    told = keyed.event("api_keys_refused")
    assert (told["level"], told["keys"]) == ("error", 2)
    assert (keyed.status("ann"), keyed.status("bob"), keyed.status("eve")) == (200, 200, 401)
    assert keyed.status_of_nobody() == 401
    assert "in_clear" not in "\n".join(keyed.server.lines)
    keyed.write(entry("eve"))
    keyed.until("eve", 200)
    keyed.until("ann", 401)


def test_a_file_that_goes_away_opens_nothing(keyed):
    """The keys stay as they were; when the file is back it counts again; each is logged once."""
    keyed.path.unlink()
    assert keyed.event("api_keys_refused")["reason"].startswith("cannot be read")
    assert (keyed.status("ann"), keyed.status("eve")) == (200, 401)
    assert keyed.status_of_nobody() == 401
    time.sleep(1.5)
    keyed.write(entry("eve"))
    keyed.until("eve", 200)
    assert keyed.status("ann") == 401
    assert len(keyed.events("api_keys_refused")) == 1


def test_an_empty_list_lets_nobody_in(keyed):
    """Who takes out the last key means it; and no server becomes an open one by that."""
    keyed.write()
    keyed.until("ann", 401)
    assert keyed.status_of_nobody() == 401
    assert keyed.event("api_keys_read")["level"] == "warning"
    keyed.write(entry("ann"))
    keyed.until("ann", 200)


def test_a_change_that_keeps_size_time_and_place_is_seen(keyed):
    """A file that is written again within the same tick of its clock is not overlooked."""
    keyed.write(entry("eve"))
    keyed.until("eve", 200)
    before = keyed.path.stat()
    with keyed.path.open("r+") as file:
        file.write(json.dumps([entry("zoe")]))
    os.utime(keyed.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = keyed.path.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    keyed.until("zoe", 200)


def test_a_file_that_appears_closes_no_open_server(tmp_path):
    """Whether keys are needed is decided at the start: without the setting a file of that name means nothing."""
    with Process(str(tmp_path / "manent.db")) as server, server.client() as client:
        (tmp_path / "keys.json").write_text(json.dumps([entry("ann")]))
        time.sleep(1)
        assert client.get("/api/sessions").status_code == 200


# --- streams and waits ------------------------------------------------------------------------------------------------


def hanging(client):
    """A session's path, and a turn in it that will not end by itself."""
    path = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"]
    turn = client.post(f"{path}/turns", json={"content": "x"}, headers={"Prefer": "respond-async"}).json()["id"]
    return path, turn


@pytest.mark.parametrize("how", ["revoked", "expired", "changed"])
def test_streams_under_a_key_that_holds_no_more_end(keyed, how):
    """A turn's frames, a session's events and the log end in order, with a comment that says why; those of another key
    go on, and so does the turn.
    """
    with keyed.client("ann") as ann, keyed.client("bob") as bob:
        path, turn = hanging(ann)
        with (
            opened(ann, "GET", f"/api/turns/{turn}/stream") as frames,
            opened(ann, "GET", f"{path}/events/stream?after=0") as events,
            opened(ann, "GET", "/api/events/stream?after=0") as log,
            opened(bob, "GET", f"/api/turns/{turn}/stream") as others,
        ):
            frames.until("delta")
            others.until("delta")
            changed = {
                "revoked": [],
                "expired": [entry("ann", expires_at=in_s(1))],
                "changed": [entry("ann", tenant="other")],
            }
            begun_s = time.monotonic()
            keyed.write(*changed[how], entry("bob"))
            for stream in (frames, events, log):
                *_, last = list(stream)
                assert last.raw == b": the API key is no longer valid"
            assert time.monotonic() - begun_s < BOUND_S + 1
            assert bob.post(f"/api/turns/{turn}/cancel").json()["status"] == "cancelled"
            others.until("turn.cancelled")


def test_who_waits_under_a_key_that_holds_no_more_is_told(keyed):
    """A request that waits for a turn, or for events, is answered with 401 instead of what came meanwhile."""
    with keyed.client("ann") as ann, keyed.client("ann") as also, keyed.client("bob") as bob:
        path, turn = hanging(ann)
        size = bob.get(path).json()["version"]
        waits = (
            lambda: also.post(
                also.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"] + "/turns",
                json={"content": "x"},
                headers={"Prefer": "wait=60"},
            ),
            lambda: ann.get(f"{path}/events?after={size}&wait=60"),
        )
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(wait) for wait in waits]
            time.sleep(1)
            keyed.write(entry("bob"))
            for answer in answers:
                problem(answer.result(BOUND_S), 401, "unauthorized")
        assert bob.post(f"/api/turns/{turn}/cancel").status_code == 200


def test_an_unchanged_key_keeps_its_streams(keyed):
    """A file that is written again, or broken, ends nothing of those whose keys stay as they are."""
    with keyed.client("ann") as ann:
        _, turn = hanging(ann)
        with opened(ann, "GET", f"/api/turns/{turn}/stream") as stream:
            stream.until("delta")
            keyed.write(entry("ann"), entry("eve"))
            keyed.until("eve", 200)
            keyed.write(text="broken")
            keyed.event("api_keys_refused")
            time.sleep(1)
            with keyed.client("ann") as other:
                other.post(f"/api/turns/{turn}/cancel")
            stream.until("turn.cancelled")
