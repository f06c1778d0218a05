"""The log lines of the real process: one line an event, in either form, and not a word of anybody."""

import hashlib
import json
import re
import socket
import subprocess

import pytest

from tests.api.harness import MANENT, Process, opened

SECRET = "Geheimnis"
KEY = "manent_Geheimnis_of_the_one_who_calls"
FAILS = {"fail": {"code": "provider_unavailable", "detail": SECRET}}
SCRIPT = {
    "models": {
        "hang": [{"steps": [{"text": SECRET}, {"hang": True}]}],
        "down": [{"steps": [FAILS]}],
        "breaks": [{"steps": [{"text": SECRET}, FAILS]}],
        "calls": [
            {"steps": [{"tool": {"id": SECRET, "name": "calculator", "input": {"expression": SECRET}}}]},
            {"steps": [{"text": SECRET}]},
        ],
    }
}
TEXT = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (DEBUG|INFO|WARNING|ERROR) [a-z_]+"
    r"""( [a-z_]+=([\w./:@+{},%-]+|"([^"\\]|\\.)*"))*"""
)


def start(folder, form, **environment):
    """A server that takes one key."""
    (folder / "script.json").write_text(json.dumps(SCRIPT), encoding="utf-8")
    entry = {"id": "ann", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["chat", "erase", "operate"]}
    (folder / "keys.json").write_text(json.dumps([entry]))
    settings = {
        "MANENT_SCRIPT": str(folder / "script.json"),
        "MANENT_API_KEYS_FILE": str(folder / "keys.json"),
        "MANENT_LOG_FORMAT": form,
        "MANENT_BREAKER_FAILURES": "2",
        "MANENT_BREAKER_OPEN_S": "1",
        "MANENT_DRAIN_S": "0",
        "OPENAI_API_KEY": f"sk-{SECRET}",
        "ANTHROPIC_API_KEY": f"sk-ant-{SECRET}",
    }
    return Process(str(folder / "manent.db"), **settings | environment)


def live(server):
    """A little of everything, with the secret in every place that a client, a model or a failure can fill."""
    headers = {"Authorization": f"Bearer {KEY}", "user-agent": SECRET, "x-request-id": "of-a-client"}
    seen = {}
    with server.client(headers=headers) as client:
        fields = {"title": SECRET, "system": SECRET, "metadata": {SECRET: SECRET}, "model": "scripted/calls"}
        path = client.post("/api/sessions", json=fields, headers={"Idempotency-Key": SECRET}).headers["location"]
        tool = {"name": SECRET, "description": SECRET, "parameters": {"type": "object", "properties": {SECRET: {}}}}
        asked = {"content": SECRET, "tools": ["calculator"], "client_tools": [tool], "stop": [SECRET]}
        client.post(f"{path}/turns", json=asked)
        for model in ("down", "breaks", "down"):
            session = client.post("/api/sessions", json={"model": f"scripted/{model}"}).headers["location"]
            seen[model] = client.post(f"{session}/turns", json={"content": SECRET}).json()
        client.get(f"/api/{SECRET}/{SECRET}?{SECRET}={SECRET}")
        client.get(f"/api/sessions?{SECRET}={SECRET}")
        client.get("/api/ai/stream", params={"q": SECRET, "model": "echo/echo"})
        client.post("/api/ai/chat", json={"message": SECRET, "model": SECRET})
        client.post("/api/sessions", content=f'{{"{SECRET}": ', headers={"content-type": "application/json"})
        client.get("/api/sessions", headers={"Authorization": f"Bearer {SECRET}"})
        seen["erased"] = client.post(f"{path}/erase", json={"reason": SECRET}).json()
        client.post("/api/log/checkpoint")
        raw(server, f"{SECRET} /{SECRET} HTTP/1.1\r\nhost: localhost\r\n\r\n")
        hanging = client.post("/api/sessions", json={"model": "scripted/hang"}).headers["location"]
        turn = client.post(f"{hanging}/turns", json={"content": SECRET}, headers={"Prefer": "respond-async"}).json()
        with opened(client, "GET", f"/api/turns/{turn['id']}/stream") as stream:
            stream.until("delta")
            server.send()
            stream.until("turn.interrupted")
        seen["session"], seen["turn"] = path.rpartition("/")[2], turn["id"]
    assert server.wait() == 0
    return seen


def raw(server, text):
    with socket.create_connection(server.host) as connection:
        connection.sendall(text.encode())
        connection.settimeout(5)
        while connection.recv(999):
            continue


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """What happened in a life of a server that logs JSON, and its lines."""
    with start(tmp_path_factory.mktemp("json"), "json", MANENT_NO_SUCH_SETTING="1") as server:
        seen = live(server)
    seen["lines"] = server.lines
    seen["events"] = [json.loads(line) for line in server.lines]
    return seen


@pytest.fixture
def said(life):
    """Finds the events of a name."""
    return lambda name: [event for event in life["events"] if event["event"] == name]


def test_every_line_is_an_object(life):
    """Each with its time, level and event, in the order in which they happened; also what is said at the start."""
    assert all(event.keys() >= {"time", "level", "event"} for event in life["events"])
    times = [event["time"] for event in life["events"]]
    assert times == sorted(times)
    assert any("MANENT_NO_SUCH_SETTING" in event.get("message", "") for event in life["events"])


def test_no_line_holds_a_word_or_a_key(life):
    """Of a message, a title, a tool, a reason, a query, a path, a header, a vendor; nor an id from a path."""
    text = "\n".join(life["lines"])
    assert SECRET not in text
    assert KEY not in text
    assert life["session"] not in text
    assert "Traceback" not in text


def test_the_start_is_told(said):
    """What is served, by which version, to whom, and where."""
    (start,) = said("start")
    assert start["version"]
    assert start["database"].endswith("manent.db")
    assert start["size_bytes"] > 0
    assert {"echo", "scripted", "openai", "anthropic"} <= set(start["providers"])
    assert start["tools"] == ["echo", "calculator", "timestamp"]
    assert (start["keys"], start["model"]) == (1, "echo/echo")
    assert start["address"].startswith("http://127.0.0.1:")


def test_each_request_is_told(said):
    """By its method, its route's template, its status and its caller; a refusal with its code."""
    told = [(each["method"], each["route"], each["status"], each.get("code")) for each in said("request")]
    for expected in (
        ("POST", "/api/sessions", 201, None),
        ("POST", "/api/sessions/{session_id}/turns", 200, None),
        ("GET", "other", 404, "not_found"),
        ("GET", "/api/sessions", 400, "unknown_parameter"),
        ("GET", "/api/ai/stream", 200, None),
        ("POST", "/api/ai/chat", 400, "unknown_model"),
        ("POST", "/api/sessions", 400, "unknown_field"),
        ("GET", "other", 401, "unauthorized"),
        ("POST", "/api/sessions/{session_id}/erase", 200, None),
        ("other", "other", 400, "bad_request"),
        ("GET", "/api/turns/{turn_id}/stream", 200, None),
    ):
        assert expected in told, expected
    known = [each for each in said("request") if "principal" in each]
    assert {each["principal"] for each in known} == {"key:ann"}
    assert {each["request_id"] for each in known} == {"of-a-client"}
    assert all(each["ms"] >= 0 for each in said("request"))


def test_failed_attempts_and_turns_are_told_with_their_codes(life, said):
    """Each by its turn, request, provider, model and code."""
    failed = {event["turn_id"]: event for event in said("turn_failed")}
    for model in ("down", "breaks"):
        event = failed[life[model]["id"]]
        assert (event["code"], event["model"]) == (life[model]["error"]["code"], f"scripted/{model}")
        assert (event["level"], event["request_id"]) == ("warning", "of-a-client")
    assert {event["turn_id"] for event in said("attempt_failed")} >= {life["down"]["id"], life["breaks"]["id"]}
    (interrupted,) = said("turn_interrupted")
    assert (interrupted["turn_id"], interrupted["code"]) == (life["turn"], "shutdown")


def test_breakers_checkpoints_and_erasures_are_told(life, said):
    """When a provider is left alone; each checkpoint with its size; how much was erased, by whom."""
    assert said("breaker_opened")[0]["provider"] == "scripted"
    assert said("checkpoint")[0]["tenant"] == "default"
    (erasure,) = said("erasure")
    assert (erasure["events"], erasure["principal"]) == (len(life["erased"]["versions"]), "key:ann")


def test_the_end_is_told(life, said):
    """What it waits for, and for how long at most; and that it is over."""
    (shutdown,) = said("shutdown")
    assert (shutdown["turns"], shutdown["streams"], shutdown["drain_s"]) == (1, 1, 0)
    assert life["events"][-1]["event"] == "stopped"


def test_as_text_each_event_is_a_line_too(tmp_path):
    """With the same events and none of the words; what is said to people stands between them."""
    with start(tmp_path, "text") as server:
        seen = live(server)
    text = "\n".join(server.lines)
    assert SECRET not in text
    assert KEY not in text
    assert seen["session"] not in text
    events = [line for line in server.lines if re.match(r"\d{4}-", line)]
    assert all(TEXT.fullmatch(line) for line in events), events
    names = {line.split()[2] for line in events}
    assert names >= {
        *("start", "request", "attempt_failed", "turn_failed", "turn_interrupted", "breaker_opened"),
        *("checkpoint", "erasure", "shutdown", "stopped"),
    }


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", {"request", "start", "turn_completed", "turn_failed"}),
        ("warning", {"turn_failed"}),
    ],
)
def test_the_level_says_how_much_is_told(tmp_path, level, told):
    """Failures at ``warning``, every turn at ``debug``; requests, as above, at ``info``."""
    with start(tmp_path, "json", MANENT_LOG_LEVEL=level, MANENT_MAX_ATTEMPTS="1") as server:
        with server.client(headers={"Authorization": f"Bearer {KEY}"}) as client:
            for model in ("echo/echo", "scripted/down"):
                path = client.post("/api/sessions", json={"model": model}).headers["location"]
                client.post(f"{path}/turns", json={"content": "x"})
        assert server.stop() == 0
    watched = {"request", "start", "turn_completed", "turn_failed"}
    assert {json.loads(line)["event"] for line in server.lines} & watched == told


@pytest.mark.parametrize(("setting", "value"), [("--log-level", "loud"), ("--log-format", "xml")])
def test_a_form_or_level_that_is_none_is_refused(tmp_path, setting, value):
    """At the start, by the name of the setting; nothing is made."""
    command = [MANENT, "serve", "--port", "0", "--database", tmp_path / "manent.db", setting, value]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert setting in done.stderr
    assert list(tmp_path.iterdir()) == []
