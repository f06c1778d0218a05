"""Content that a model cannot take, over HTTP: refused before anything is recorded or sent, by name; and what a vendor
says to one request speaks against no other.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem

TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PICTURE = [TEXT, IMAGE]
TYPES = ["text", "image", "tool_use", "tool_result", "thinking"]
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {}}}
BREAKER_FAILURES = 3


class Upstream(BaseHTTPRequestHandler):
    """Speaks OpenAI's chat completions. A model called by a number refuses with that status; any but ``seeing`` fails
    on an image as llama.cpp does, ``blaming`` with a word that says whose fault it is; ``down`` always fails.
    """

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        model = json.loads(body)["model"]
        self.server.asked.append(model)
        blind = model != "seeing" and b"image_url" in body
        if model.isdigit():
            self._fail(int(model), "some_error")
        elif blind or model == "down":
            self._fail(500, "invalid_request_error" if model == "blaming" else "server_error")
        else:
            self._answer(json.loads(body))

    def _fail(self, status, word):
        self._head(status, "application/json")
        self.wfile.write(json.dumps({"error": {"message": "words of the upstream", "type": word}}).encode())

    def _answer(self, asked):
        self._head(200, "text/event-stream")
        delta, finish = {"content": "Fine."}, "stop"
        if asked.get("tools") and not any(message["role"] == "tool" for message in asked["messages"]):
            function = {"name": "look", "arguments": "{}"}
            delta = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
            finish = "tool_calls"
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.wfile.write(b"data: %s\n\n" % json.dumps({"id": "chatcmpl-1", "choices": [choice]}).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _head(self, status, kind):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="module")
def upstream():
    """The vendor, with the names of the models that it was asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        server.asked = []
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CAPABILITIES = {"reading": ["text", "tools"], "seeing": ["text", "images", "tools"], "down": ["text", "images"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    """It knows of some of the vendor's models what they take."""
    folder = tmp_path_factory.mktemp("content")
    models = [{"provider": "openai", "name": name, "capabilities": each} for name, each in CAPABILITIES.items()]
    (folder / "models.json").write_text(json.dumps({"as_of": "2026-11-22", "models": models}), encoding="utf-8")
    given = {
        "openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1",
        "models_file": str(folder / "models.json"),
        "retry_base_ms": 1,
    }
    with in_thread(settings_on(folder, **given)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(autouse=True)
def forgotten(upstream):
    upstream.asked.clear()


def begin(client, model, **fields):
    return client.post("/api/sessions", json={"model": model, **fields}).headers["location"]


def ask(client, path, content="And now?", **fields):
    response = client.post(f"{path}/turns", json={"content": content, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def said(turn):
    return (turn["status"], turn["message"]["content"][0]["text"] if turn["message"] else turn["error"]["code"])


# --- blocks that there are not ----------------------------------------------------------------------------------------

UNKNOWN = [
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}},
    {"type": "redacted_thinking", "data": "AAAA"},
]


@pytest.mark.parametrize("block", UNKNOWN, ids=lambda block: block["type"])
@pytest.mark.parametrize("route", ["turns", "messages"])
def test_a_block_of_an_unknown_type_is_refused(client, server, upstream, block, route):
    """Whatever a vendor would make of it: it is named, with the types there are, and nothing is recorded or sent."""
    path = begin(client, "openai/anything")
    before = server.size()
    refused = client.post(f"{path}/{route}", json={"content": [TEXT, block]})
    assert problem(refused, 400, "unknown_block", "content[1]")["available"] == TYPES
    assert (server.size(), upstream.asked) == (before, [])


def test_a_result_holds_text_and_images_only(client):
    """A block inside of a result is named as well."""
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": [TEXT, {"type": "document"}]}
    body = {"message": {"role": "tool", "content": [result]}}
    refused = client.post(f"{begin(client, 'echo/echo')}/turns", json=body)
    assert problem(refused, 400, "unknown_block", "content[0].content[1]")["available"] == ["text", "image"]


# --- blocks that a model cannot take ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["openai/reading", "echo/echo", "scripted/tools"])
def test_an_image_to_a_model_of_text_is_refused(client, server, upstream, model):
    """The block is named, and what the model takes; nothing is recorded or sent, and the session goes on in words."""
    path = begin(client, model)
    before = server.size()
    for body in ({"content": PICTURE}, {"message": {"role": "user", "content": PICTURE}, "stream": True}):
        refused = problem(client.post(f"{path}/turns", json=body), 422, "content_not_supported", "message.content[1]")
        assert (refused["takes"], refused["block_type"], refused["model"]) == (["text"], "image", model)
    assert (server.size(), upstream.asked) == (before, [])
    assert ask(client, path)["status"] == "completed"


def test_an_image_said_before_to_a_model_that_sees(client, server, upstream):
    """It is in the window of every later turn: a model of text is refused, with the message's version, until that
    message is erased; one that sees goes on.
    """
    path = begin(client, "openai/seeing")
    assert said(ask(client, path, PICTURE)) == ("completed", "Fine.")
    shown = client.get(f"{path}/messages").json()["items"][0]
    before = server.size()
    for body in ({"content": "And now?", "model": "openai/reading"}, {"content": "x", "model": "echo/echo"}):
        refused = problem(client.post(f"{path}/turns", json=body), 422, "content_not_supported", "model")
        assert (refused["version"], refused["block"], refused["takes"]) == (shown["version"], "content[1]", ["text"])
    assert (server.size(), upstream.asked) == (before, ["seeing"])
    assert said(ask(client, path)) == ("completed", "Fine.")
    erased = client.post(f"{path}/erase", json={"reason": "not for all", "versions": [shown["version"]]})
    assert erased.status_code == 200
    assert said(ask(client, path, model="openai/reading")) == ("completed", "Fine.")


def test_an_image_in_a_callers_result(client, server):
    """It is found inside of the result."""
    path = begin(client, "openai/reading")
    assert ask(client, path, client_tools=[LOOK])["stop_reason"] == "tool_use"
    before = server.size()
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": PICTURE}
    body = {"message": {"role": "tool", "content": [result]}, "client_tools": [LOOK]}
    refused = client.post(f"{path}/turns", json=body)
    problem(refused, 422, "content_not_supported", "message.content[0].content[1]")
    assert server.size() == before
    assert said(ask_with(client, path, body | {"model": "openai/seeing"})) == ("completed", "Fine.")


def ask_with(client, path, body):
    response = client.post(f"{path}/turns", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_an_image_that_nobody_could_say(client, session, role):
    """No protocol lets an assistant or a system message show one: it would be left out without a word."""
    refused = client.post(f"/api/sessions/{session}/messages", json={"role": role, "content": PICTURE})
    problem(refused, 400, "invalid_value", "content[1]")


def test_a_fallback_that_cannot_take_it_is_not_asked(client, upstream):
    """The failure of the model that was asked stands, and says why nobody else was; a question in words goes on to the
    other.
    """
    turn = ask(client, begin(client, "openai/down", fallback_model="openai/reading"), PICTURE)
    assert (turn["status"], turn["error"]["code"]) == ("failed", "provider_unavailable")
    assert turn["error"]["detail"].endswith("the fallback model openai/reading takes no images")
    assert upstream.asked == ["down"] * 3
    plain = ask(client, begin(client, "openai/down", fallback_model="openai/reading"))
    assert said(plain) == ("completed", "Fine.")
    assert upstream.asked[3:] == ["down"] * 3 + ["reading"]


# --- what a vendor says to one request --------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path, upstream):
    """A server whose breaker has seen nothing yet, and that knows nothing of the vendor's models."""
    given = {
        "openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1",
        "retry_base_ms": 1,
        "breaker_failures": BREAKER_FAILURES,
    }
    with in_thread(settings_on(tmp_path, **given)) as server, server.client() as client:
        yield client


@pytest.mark.parametrize("model", ["400", "404", "413", "422", "blaming"])
def test_a_refusal_of_one_request_is_asked_once_and_breaks_nothing(fresh, upstream, model):
    """It is not repeated, however often it comes it does not open the breaker, and others are answered: also where the
    status is a 500 whose words blame the request.
    """
    for _ in range(2 * BREAKER_FAILURES):
        turn = ask(fresh, begin(fresh, f"openai/{model}"), PICTURE)
        assert (turn["error"]["code"], turn["error"]["retryable"]) == ("provider_rejected", False)
    assert upstream.asked == [model] * 2 * BREAKER_FAILURES
    assert said(ask(fresh, begin(fresh, "openai/anything"))) == ("completed", "Fine.")


def test_a_vendors_500_to_an_image_breaks_no_session(fresh, client, upstream):
    """Where the model is known it is not asked at all; where it is not, the session goes on with a model that sees, or
    in words once the image is erased.
    """
    known = begin(client, "openai/reading")
    problem(client.post(f"{known}/turns", json={"content": PICTURE}), 422, "content_not_supported")
    assert upstream.asked == []
    assert said(ask(client, known)) == ("completed", "Fine.")
    unknown = begin(fresh, "openai/anything")
    assert said(ask(fresh, unknown, PICTURE, model="openai/blaming")) == ("failed", "provider_rejected")
    assert said(ask(fresh, unknown, model="openai/seeing")) == ("completed", "Fine.")
    version = fresh.get(f"{unknown}/messages").json()["items"][0]["version"]
    fresh.post(f"{unknown}/erase", json={"reason": "nobody sees it", "versions": [version]})
    assert said(ask(fresh, unknown)) == ("completed", "Fine.")
