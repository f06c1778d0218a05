"""One model, and how many tokens a text or blocks are for it."""

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, problem

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
FIELDS = {"name", "provider", "context_tokens", "max_output_tokens", "capabilities", "price"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """It could ask OpenAI, and never does here."""
    with in_thread(settings_on(tmp_path_factory.mktemp("tokens"), openai_api_key="sk-nobodys")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def test_each_listed_model_is_found_by_its_name(client):
    """As it stands in the list."""
    listed = client.get("/api/models").json()["items"]
    assert len(listed) > 10
    for model in listed:
        assert client.get(f"/api/models/{model['name']}").json() == model


def test_a_model_that_is_served_and_not_listed(client):
    """A snapshot has what is known of its model; of a name that nobody knows nothing is said but that it is served."""
    snapshot = client.get("/api/models/openai/gpt-4o-2024-08-06").json()
    known = client.get("/api/models/openai/gpt-4o").json()
    assert snapshot == known | {"name": "openai/gpt-4o-2024-08-06"}
    unknown = client.get("/api/models/openai/meta-llama/llama-9").json()
    assert (unknown.keys(), unknown["name"]) == (FIELDS, "openai/meta-llama/llama-9")
    assert {unknown[name] for name in FIELDS - {"name", "provider"}} == {None}


@pytest.mark.parametrize("name", ["echo/none", "nobody/gpt-5", "openai/a b", "openai/%00", "openai/" + "x" * 200])
def test_a_model_that_is_not_served(client, name):
    """404, with what there is."""
    assert "echo/echo" in problem(client.get(f"/api/models/{name}"), 404, "unknown_model", "model")["available"]


def test_no_parameter_is_passed_over(client):
    """A misspelt one is refused here, too."""
    problem(client.get("/api/models/echo/echo?verbose=1"), 400, "unknown_parameter", "verbose")


COUNTS = [
    ("openai/gpt-4o", "Hello there, all of you.", 7 + 4),
    ("gpt-4o", "Hello there, all of you.", 7 + 4),
    ("echo/echo", [{"type": "text", "text": "Hello there,"}, {"type": "text", "text": " all of you."}], 7),
    ("openai/gpt-4o", [{"type": "text", "text": "Hello there, all of you."}, IMAGE], 7 + 1600 + 4),
    ("openai/gpt-4o", [{"type": "tool_result", "tool_use_id": "a", "content": "Hello there, all of you."}], 7 + 8 + 4),
]


@pytest.mark.parametrize(("model", "content", "tokens"), named(COUNTS))
def test_tokens_are_estimated_where_no_vendor_counts(client, server, model, content, tokens):
    """By the rules that windows are chosen by, named and marked as no exact count; nothing is recorded."""
    before = server.size()
    response = client.post("/api/tokens", json={"model": model, "content": content})
    assert response.status_code == 200
    full = model if "/" in model else f"openai/{model}"
    assert response.json() == {"model": full, "tokens": tokens, "counter": "o200k_base/1", "exact": False}
    assert server.size() == before


BAD = [
    ({"model": "x/y", "content": "x"}, 400, "unknown_model", "model"),
    ({"model": "", "content": "x"}, 400, "invalid_value", "model"),
    ({"content": "x"}, 400, "missing_field", "model"),
    ({"model": "echo/echo"}, 400, "missing_field", "content"),
    ({"model": "echo/echo", "content": ""}, 400, "empty_message", "content"),
    ({"model": "echo/echo", "content": []}, 400, "empty_message", "content"),
    ({"model": "echo/echo", "content": "a\0b"}, 400, "nul_character", "content"),
    ({"model": "echo/echo", "content": 5}, 400, "invalid_value", "content"),
    ({"model": "echo/echo", "content": [{"type": "document"}]}, 400, "unknown_block", "content[0]"),
    ({"model": "echo/echo", "content": [IMAGE]}, 422, "content_not_supported", "content[0]"),
    ({"model": "echo/echo", "content": "x", "role": "user"}, 400, "unknown_field", "role"),
    ({"model": "echo/echo", "content": "x" * ((1 << 20) + 1)}, 413, "too_large", "content"),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), named(BAD))
def test_what_cannot_be_counted(client, body, status, code, field):
    """Refused with the field's name, as in a turn."""
    problem(client.post("/api/tokens", json=body), status, code, field)
