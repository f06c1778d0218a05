"""The real process: its first line, its last, and what is there again after the next start."""

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from manent.engine import Invalid
from tests.api.conftest import SCRIPT, settings_on
from tests.api.harness import MANENT, PATIENCE_S, Process, in_thread, opened, problem, read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("process")
    (folder / "script.json").write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    return folder


def start(folder, *options, **environment):
    settings = {"MANENT_SCRIPT": str(folder / "script.json"), "MANENT_DRAIN_S": "2", "MANENT_KEEPALIVE_S": "1"}
    return Process(str(folder / "manent.db"), *options, **settings | environment)


def hanging_turn(client, **options):
    """A turn that will not end by itself: its session's path and its id."""
    path = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"]
    headers = {"Prefer": "respond-async"} | options
    turn = client.post(f"{path}/turns", json={"content": "x"}, headers=headers).json()["id"]
    return path, turn


@pytest.fixture(scope="module")
def life(folder):
    """Two lives of a server on one file, and what the next one found: what was seen in them."""
    seen = {}
    with start(folder) as server, server.client() as client:
        seen["lines"] = list(server.lines)
        seen["health"] = [client.get(path).json() for path in ("/healthz", "/readyz")]
        keyed = [("/api/sessions", {"title": "keyed"}, "s"), ("/api/ai/chat", {"message": "keyed"}, "c")]
        path = client.post("/api/sessions", json={}).headers["location"]
        keyed += [(f"{path}/messages", {"content": "keyed"}, "m"), (f"{path}/turns", {"content": "keyed"}, "t")]
        seen["keyed"] = [(each, post(client, *each)) for each in keyed]
        seen["stopped"] = stop_with_everything_open(server, client)
    with start(folder) as server, server.client() as client:
        seen["keyed again"] = [post(client, *each) for each, _ in seen["keyed"]]
        seen["again"] = again(client, seen["stopped"])
        path, turn = hanging_turn(client)
        with opened(client, "GET", f"/api/turns/{turn}/stream") as stream:
            before = stream.until("delta")
            server.send(signal.SIGINT)
            time.sleep(0.3)
            seen["killed"] = {"exit": server.stop(), "seen": before}
    with in_thread(settings_on(folder)) as server, server.client() as client:
        seen["recovered"] = list(server.lines)
        seen["killed"]["read"] = read(client, f"/api/turns/{turn}/stream")
        seen["killed"]["next"] = client.post(f"{path}/turns", json={"content": "y", "model": "echo/echo"}).json()
    return seen


def post(client, path, body, key):
    response = client.post(path, json=body, headers={"Idempotency-Key": key})
    return response.status_code, {name: value for name, value in response.json().items() if name != "request_id"}


def stop_with_everything_open(server, client):
    """SIGTERM while a turn runs, and is read, waited for and followed."""
    path, turn = hanging_turn(client, **{"Idempotency-Key": "hanging"})
    with (
        opened(client, "GET", f"/api/turns/{turn}/stream") as stream,
        opened(client, "GET", f"{path}/events/stream?after=0") as events,
        opened(client, "GET", "/api/events/stream") as log,
    ):
        blocks = stream.until("delta")
        next(iter(log))
        server.send()
        for _ in range(100):
            ready = client.get("/readyz")
            if ready.status_code == 503:
                break
        refused = client.post("/api/sessions", json={}).headers["location"]
        refused = client.post(f"{refused}/turns", json={"content": "x"})
        list(events)
        list(log)
        blocks += list(stream)
    return {
        "turn": turn,
        "path": path,
        "blocks": [block for block in blocks if block.id],
        "ready": ready,
        "refused": refused,
        "exit": server.wait(),
        "said": server.lines,
        "output": server.output,
    }


def again(client, stopped):
    """The same turn, asked for in the next life."""
    answer = client.post(
        f"{stopped['path']}/turns", json={"content": "x"}, headers={"Idempotency-Key": "hanging", "Prefer": "wait=9"}
    )
    path = f"/api/turns/{stopped['turn']}/stream"
    return {
        "blocks": read(client, path),
        "after": read(client, path, headers={"Last-Event-ID": "2"}),
        "at the end": client.get(path, headers={"Last-Event-ID": stopped["blocks"][-1].id}).status_code,
        "asked again": answer,
        "next": client.post(f"{stopped['path']}/turns", json={"content": "y", "model": "echo/echo"}).json(),
    }


def test_it_says_where_it_listens(life):
    """The only line of its standard output, also after its end; what it made is said on standard error."""
    (line,) = life["stopped"]["output"]
    assert line.startswith("listening on http://127.0.0.1:")
    assert life["lines"][0].endswith("manent.db: created")


def test_it_is_alive_and_ready(life):
    """Two questions, two answers."""
    assert life["health"] == [{"status": "ok"}, {"status": "ready", "damaged": 0}]


def test_a_signal_ends_it_in_order(life):
    """Exit 0, also with streams open: each ends, the turn's with its end."""
    stopped = life["stopped"]
    assert stopped["exit"] == 0
    assert stopped["blocks"][-1].event == "turn.interrupted"
    assert stopped["blocks"][-2].json["content"][0]["text"] == "Wait"
    assert [block.id for block in stopped["blocks"]] == [str(number) for number in range(1, len(stopped["blocks"]) + 1)]
    assert not [line for line in stopped["said"] if "Traceback" in line or "ERROR" in line]


def test_while_it_ends_it_takes_no_turn(life):
    """It says that it is not ready, and when to come again."""
    assert life["stopped"]["ready"].status_code == 503
    problem(life["stopped"]["refused"], 503, "shutting_down")
    assert int(life["stopped"]["refused"].headers["retry-after"]) > 0


def test_after_a_restart_frames_are_the_same(life):
    """All of them, the rest, and nothing after the end."""
    assert life["again"]["blocks"] == life["stopped"]["blocks"]
    assert life["again"]["after"] == life["stopped"]["blocks"][2:]
    assert life["again"]["at the end"] == 204


def test_after_a_restart_a_key_is_remembered(life):
    """Sessions, messages, turns, the guide's answers: the first answer again."""
    assert [answer for _, answer in life["keyed"]] == life["keyed again"]
    assert [status for status, _ in life["keyed again"]] == [201, 200, 201, 200]
    assert life["again"]["asked again"].status_code == 200
    assert life["again"]["asked again"].json()["status"] == "interrupted"
    assert life["again"]["asked again"].json()["id"] == life["stopped"]["turn"]


def test_after_a_restart_the_session_goes_on(life):
    """A turn that was interrupted is no obstacle."""
    assert life["again"]["next"]["status"] == "completed"
    assert life["killed"]["next"]["status"] == "completed"


def test_a_second_signal_ends_it_at_once(life):
    """Of either kind, without a word; the next start ends the turn, and what was seen is on record."""
    killed = life["killed"]
    assert killed["exit"] == 1
    assert any("1 turn" in line for line in life["recovered"])
    assert killed["read"][: len(killed["seen"])] == killed["seen"]
    assert killed["read"][-1].event == "turn.interrupted"


# --- it does not start ------------------------------------------------------------------------------------------------


def refused(folder, *options, **environment):
    """Exit code and words of a start that fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MANENT_")}
    done = subprocess.run(
        [MANENT, "serve", "--port", "0", "--database", str(folder / "refused.db"), *options],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=folder,
    )
    assert "Traceback" not in done.stderr
    assert "listening" not in done.stdout
    return done.returncode, done.stderr


def test_it_does_not_serve_a_network_without_keys(folder):
    """Exit 2, with the setting that would help."""
    code, said = refused(folder, "--host", "0.0.0.0")
    assert code == 2
    assert "MANENT_API_KEYS_FILE" in said
    assert not (folder / "refused.db").exists()


def test_it_does_not_start_without_the_keys_it_is_told_of(tmp_path):
    """A file of keys that is not there does not mean an open server."""
    settings = settings_on(tmp_path, api_keys_file=str(tmp_path / "none.json"))
    with pytest.raises(Invalid, match="api_keys_file"), in_thread(settings):
        pass
    assert not (tmp_path / "manent.db").exists()


def test_a_port_that_is_taken(tmp_path):
    """Named, with the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refusal = pytest.raises(Invalid, match=f"port: cannot listen on 127.0.0.1:{port}")
        with refusal, in_thread(settings_on(tmp_path, port=port)):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "chat.example"])
def test_hosts_that_are_not_this_machine_alone(tmp_path, host):
    """Are not served without keys, whatever they are."""
    with pytest.raises(Invalid, match="MANENT_API_KEYS_FILE"), in_thread(settings_on(tmp_path, host=host)):
        pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.9", "::1"])
def test_hosts_that_are_this_machine_alone(tmp_path, host):
    """Are, and the address that is told leads there."""
    try:
        with in_thread(settings_on(tmp_path, host=host)) as server, server.client() as client:
            assert client.get("/healthz").status_code == 200
    except Invalid:
        assert host == "::1", "this machine has no IPv6"


def test_clients_that_do_not_come_to_an_end(tmp_path, monkeypatch, caplog):
    """A shutdown does not wait for ever for a body that never ends, nor for a reader that never reads."""
    monkeypatch.setattr("manent.api.server.CLOSE_STREAMS_S", 0.3)
    with socket.socket() as half, socket.socket() as slow:
        with in_thread(settings_on(tmp_path)) as server, server.client() as client:
            path = client.post("/api/sessions").headers["location"]
            for _ in range(8):
                client.post(f"{path}/messages", json={"content": "x" * 900_000})
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(server.host)
            slow.sendall(f"GET {path}/events/stream?after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            half.connect(server.host)
            half.sendall(b"POST /api/sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
            half.sendall(b"content-length: 9\r\n\r\n{")
            time.sleep(0.2)
        half.settimeout(PATIENCE_S)
        assert half.recv(9999).startswith(b"HTTP/1.1 503")
    assert not [record for record in caplog.records if record.exc_info]
