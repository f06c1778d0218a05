"""An upstream that says more than is taken: its own code, named figures, no second attempt, and the session goes on."""

import json

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A client of a server that takes small answers only, though it would ask three times."""
    folder = tmp_path_factory.mktemp("answers")
    settings = settings_on(folder, max_answer_bytes=1000, max_attempts=3, retry_base_ms=1)
    models = {
        "long": [{"steps": [{"text": "x" * 2000}]}],
        "refused": [{"steps": [{"fail": {"code": "provider_too_large", "detail": "a line without end"}}]}],
    }
    (folder / "script.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    with in_thread(settings) as server, server.client() as client:
        yield client


def test_an_answer_over_the_bound(small):
    """The turn names the setting and its value; what was shown is kept; the next turn of the session runs."""
    path = small.post("/api/sessions", json={"model": "scripted/long"}).headers["location"] + "/turns"
    turn = small.post(path, json={"content": "x"}).json()
    assert turn["status"] == "failed"
    error = turn["error"]
    assert (error["code"], error["retryable"]) == ("provider_too_large", False)
    assert (error["limit"], error["maximum"]) == ("max_answer_bytes", 1000)
    assert [attempt["outcome"] for attempt in turn["attempts"]] == ["provider_too_large"]
    assert turn["message"]["complete"] is False
    assert small.post(path, json={"content": "x", "model": "echo/echo"}).json()["status"] == "completed"


def test_it_is_not_asked_for_again(small):
    """Also where nothing of it was shown."""
    path = small.post("/api/sessions", json={"model": "scripted/refused"}).headers["location"] + "/turns"
    turn = small.post(path, json={"content": "x"}).json()
    assert [attempt["outcome"] for attempt in turn["attempts"]] == ["provider_too_large"]


def test_the_guides_routes_say_so_too(small):
    """As a failure of the provider, and not of the request."""
    told = small.post("/api/ai/complete", json={"message": "x", "model": "scripted/long"})
    assert (told.status_code, told.json()["error"]["details"]["code"]) == (503, "provider_too_large")
