"""Models over HTTP: what there is, what answers where another cannot, and what it all cost, on the real process."""

import json

import pytest

from manent.engine import Invalid
from manent.engine.tools.mcp.config import mcp_available
from tests.api.conftest import settings_on
from tests.api.harness import Process, in_thread, named, problem, read

KEY = "sk-this-is-nobodys-key"
FIELDS = {"name", "provider", "context_tokens", "max_output_tokens", "capabilities", "price"}


def price(**rates):
    """Of a model called ``house``, in micro-euros for a million tokens; ``silent`` and ``cut`` cost the same."""
    models = [
        {"provider": "openai", "name": name, "context_tokens": 9000, "prices": [rates]}
        for name in ("house", "silent", "cut")
    ]
    return {"as_of": "2026-11-22", "currency": "EUR", "models": models}


def settings_for(folder, upstream, catalogue):
    """Of a server that knows the upstream, and what its models cost."""
    (folder / "models.json").write_text(json.dumps(catalogue), encoding="utf-8")
    address = f"http://127.0.0.1:{upstream.server_port}/v1"
    return {"openai_base_url": address, "models_file": str(folder / "models.json")}


@pytest.fixture(scope="module")
def client(tmp_path_factory, upstream):
    folder = tmp_path_factory.mktemp("models")
    given = settings_for(folder, upstream, price(input=2_000_000, cache_read=500_000, output=8_000_000))
    environment = {f"MANENT_{name.upper()}": value for name, value in given.items()}
    with Process(str(folder / "manent.db"), **environment) as server, server.client() as client:
        yield client


def begin(client, **fields):
    response = client.post("/api/sessions", json=fields)
    assert response.status_code == 201, response.text
    return response.headers["location"]


def ask(client, path, **fields):
    response = client.post(f"{path}/turns", json={"content": "Is it so?", **fields})
    assert response.status_code == 200, response.text
    return response.json()


# --- what there is ----------------------------------------------------------------------------------------------------


def test_the_models_there_are(client):
    """Those that are known to be served, with what is known of them; null is not known."""
    models = client.get("/api/models").json()
    assert models["next_cursor"] is None
    by_name = {model["name"]: model for model in models["items"]}
    assert all(model.keys() == FIELDS for model in models["items"])
    assert all(name.startswith(f"{model['provider']}/") for name, model in by_name.items())
    assert {"echo/echo", "echo/paced", "openai/house"} <= by_name.keys()
    assert by_name["echo/echo"]["price"] is None
    assert by_name["openai/house"]["context_tokens"] == 9000
    assert by_name["openai/house"]["price"] == {
        "currency": "EUR",
        "input": 2_000_000,
        "cache_read": 500_000,
        "output": 8_000_000,
    }
    assert not {name for name in by_name if name.startswith("openai/gpt-")}, "at another address they are others"


def test_with_keys_the_vendors_models_are_there(tmp_path):
    """Claude and OpenAI come with the sizes and dated prices of the catalogue; no key is shown or kept anywhere."""
    keys = {"openai_api_key": f"{KEY}-openai", "anthropic_api_key": f"{KEY}-anthropic"}
    with in_thread(settings_on(tmp_path, **keys)) as server, server.client() as client:
        response = client.get("/api/models")
        by_name = {model["name"]: model for model in response.json()["items"]}
        session = client.post("/api/sessions", json={"model": "claude-sonnet-4-6", "fallback_model": "gpt-5"}).json()
        texts = [response.text, "\n".join(server.lines)]
    claude = by_name["anthropic/claude-sonnet-4-6"]
    assert claude["context_tokens"] >= 200_000
    assert "tools" in claude["capabilities"]
    assert (claude["price"]["currency"], claude["price"]["input"]) == ("USD", 3_000_000)
    assert by_name["openai/gpt-5"]["price"]["output"] > 0
    assert (session["model"], session["fallback_model"]) == ("anthropic/claude-sonnet-4-6", "openai/gpt-5")
    assert all(KEY not in text for text in texts)
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.glob("manent.db*"))


@pytest.mark.parametrize("query", ["offset=1", "provider=echo", "session_id=x"])
def test_the_list_takes_no_parameters(client, query):
    """One that it does not know is refused, not passed over."""
    problem(client.get(f"/api/models?{query}"), 400, "unknown_parameter", query.partition("=")[0])


def test_a_model_that_nobody_serves_is_refused_with_those_there_are(client):
    """Never guessed; the list is that of the models."""
    refused = problem(client.post("/api/sessions", json={"model": "claude-sonnet-4-6"}), 400, "unknown_model", "model")
    assert refused["available"] == [model["name"] for model in client.get("/api/models").json()["items"]]


# --- what it costs ----------------------------------------------------------------------------------------------------

COST = {"currency": "EUR", "micros": 600 * 2 + 400 // 2 + 500 * 8}
"""Of 600 tokens, 400 cached ones and 500 of the answer."""


def test_a_turn_says_what_it_cost(client):
    """Cached tokens are part of the input and cost what they cost; a session sums up its turns."""
    path = begin(client, model="openai/house")
    turns = [ask(client, path), ask(client, path)]
    for turn in turns:
        assert turn["usage"] == {
            "input_tokens": 1000,
            "cache_read_tokens": 400,
            "cache_write_tokens": None,
            "output_tokens": 500,
            "reasoning_tokens": None,
            "estimated": False,
        }
        assert turn["costs"] == turn["attempts"][0]["costs"] == [COST]
    session = client.get(path).json()
    assert session["costs"] == [COST | {"micros": 2 * COST["micros"]}]
    assert client.get(path, params={"version": turns[0]["message"]["version"]}).json()["costs"] == [COST]
    listed = client.get("/api/sessions").json()["items"]
    assert next(each for each in listed if each["id"] == session["id"])["costs"] == session["costs"]


def test_what_was_counted_here_is_marked(client):
    """A vendor that is silent about its usage, or breaks off, still costs: an estimate, which says that it is one."""
    path = begin(client, model="openai/silent")
    for model, status in (("silent", "completed"), ("cut", "failed")):
        turn = ask(client, path, model=f"openai/{model}")
        assert (turn["status"], turn["usage"]["estimated"]) == (status, True)
        (cost,) = turn["costs"]
        assert (cost["currency"], cost["estimated"]) == ("EUR", True)
        assert cost["micros"] > 0
    (total,) = client.get(path).json()["costs"]
    assert total["estimated"]


def test_without_a_price_there_is_no_cost(client):
    """Nothing is guessed: not for a model that costs nothing, and not for one whose price is not known."""
    path = begin(client)
    for model in ("echo/echo", "openai/unheard-of"):
        turn = ask(client, path, model=model)
        assert (turn["costs"], turn["attempts"][0]["costs"]) == ([], [])
    assert client.get(path).json()["costs"] == []


def test_a_price_is_recorded_with_the_turn(tmp_path, upstream):
    """What a turn cost stays what it cost when the prices change; other currencies are summed by themselves."""

    def serving(catalogue):
        return in_thread(settings_on(tmp_path, **settings_for(tmp_path, upstream, catalogue)))

    with serving(price(input=1_000_000, output=0)) as server, server.client() as client:
        path = begin(client, model="openai/house")
        first = ask(client, path)
        (started,) = client.get(f"{path}/events", params={"types": "attempt.started"}).json()["items"]
        assert started["facts"]["price"] == {"currency": "EUR", "input": 1_000_000, "output": 0}
    dearer = price(input=5_000_000, output=0) | {"currency": "USD"}
    with serving(dearer) as server, server.client() as client:
        assert client.get(f"/api/turns/{first['id']}").json() == first
        second = ask(client, path)
        assert (first["costs"], second["costs"]) == (
            [{"currency": "EUR", "micros": 1000}],
            [{"currency": "USD", "micros": 5000}],
        )
        assert client.get(path).json()["costs"] == first["costs"] + second["costs"]


# --- another model where one cannot -----------------------------------------------------------------------------------


def test_another_model_answers_where_one_cannot(client, upstream):
    """The session's fallback; readers are told of the failure, and the record says who answered, and what each cost."""
    path = begin(client, model="openai/broken", fallback_model="openai/house")
    frames = read(client, f"{path}/turns", "POST", json={"content": "Is it so?", "stream": True})
    assert [frame.event for frame in frames] == [
        *("turn.started", "attempt.failed", "block.started", "delta", "message.appended", "turn.completed")
    ]
    assert frames[1].json == {"round": 1, "attempt": 1, "code": "provider_unavailable"}
    turn = client.get(f"/api/turns/{frames[-1].json['id']}").json()
    assert [(each["attempt"], each["model"], each["outcome"]) for each in turn["attempts"]] == [
        (1, "broken", "provider_unavailable"),
        (2, "house", "completed"),
    ]
    assert turn["costs"] == [COST]
    assert upstream.asked[-2:] == ["broken", "house"]
    assert "words of the upstream" not in "".join(frame.data for frame in frames)


def test_without_a_fallback_the_failure_stands(client):
    """With its code, and nothing of what the upstream said; the session can name one then, and go on."""
    path = begin(client, model="openai/broken")
    turn = ask(client, path)
    assert (turn["status"], turn["error"]["code"], turn["error"]["retryable"]) == (
        *("failed", "provider_unavailable", True),
    )
    assert "words of the upstream" not in json.dumps(turn)
    assert client.patch(path, json={"fallback_model": "echo/echo"}).json()["fallback_model"] == "echo/echo"
    again = client.post(f"{path}/turns", json={}).json()
    assert (again["status"], again["message"]["content"][0]["text"]) == ("completed", "Is it so?")


def test_a_request_that_is_refused_goes_to_nobody_else(client, upstream):
    """What speaks against the request would be refused by another model too."""
    path = begin(client, model="openai/picky", fallback_model="openai/house")
    turn = ask(client, path)
    assert (turn["status"], turn["error"]["code"]) == ("failed", "provider_rejected")
    assert upstream.asked[-1] == "picky"


# --- files that are none ----------------------------------------------------------------------------------------------

FILES = [  # setting, what stands in the file, what is said
    ("models_file", "{", "models_file"),
    ("models_file", '{"models": []}', "as_of"),
    ("models_file", '{"as_of": "2026-11-22", "models": [{"name": "x"}]}', "needs provider and name"),
    ("models_file", json.dumps(price(input=-1, output=0)), "openai/house"),
    ("models_file", json.dumps(price(inputs=1)), "openai/house"),
    ("models_file", None, "cannot be read"),
    ("mcp_servers_file", "{", "is not JSON"),
    ("mcp_servers_file", '{"servers": {}}', "mcpServers"),
    ("mcp_servers_file", '{"mcpServers": {"a": {}}}', "needs a command or a url"),
    ("mcp_servers_file", '{"mcpServers": {"a": {"url": "ftp://x"}}}', "not an http or https address"),
    ("mcp_servers_file", '{"mcpServers": {"a b": {"command": "x"}}}', "must be 1 to 32 characters"),
    ("mcp_servers_file", '{"mcpServers": {"a": {"command": "x", "aproval": true}}}', "aproval"),
    ("mcp_servers_file", None, "cannot be read"),
    ("script", '{"models": {"a": []}}', "script"),
    ("script", None, "cannot be read"),
]


@pytest.mark.parametrize(("setting", "text", "words"), named(FILES))
def test_a_file_that_is_none_is_named_before_anything_listens(tmp_path, setting, text, words):
    """The server does not start, and says which setting, which entry and why; it never shows what it read."""
    if setting == "mcp_servers_file" and not mcp_available():
        pytest.skip("MCP IS NOT TESTED: no extra `mcp`")
    file = tmp_path / "file.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    settings = settings_on(tmp_path, **{setting: str(file)}, openai_api_key=KEY)
    with pytest.raises(Invalid) as refused, in_thread(settings):
        pass
    assert words in refused.value.detail
    assert setting in refused.value.detail
    assert str(tmp_path) not in refused.value.detail


@pytest.mark.parametrize("route", ["/api/models", "/api/tools"])
def test_what_there_is_comes_in_pages(client, route):
    """As every list does: pages joined are the whole, and the last names no next."""
    whole, pages, cursor = client.get(route).json()["items"], [], None
    while cursor is not None or not pages:
        page = client.get(route, params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) == 1
        pages += page["items"]
        cursor = page["next_cursor"]
    assert pages == whole
    assert len(pages) > 1
    assert client.get(route, params={"limit": 0}).status_code == 400
