"""The OpenAPI document holds: requests made from it, fitting and not, get answers that it describes, and no failure.

A longer search, another each time: ``SCHEMA_EXAMPLES=500 pytest tests/api/test_schema.py``.
"""

import json
import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

GOLDEN = Path(__file__).parent.parent / "golden" / "openapi.json"
EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "6"))
ENDLESS = {"/api/sessions/{session_id}/events/stream", "/api/events/stream"}
WITHOUT_WRONG_FORMS = {
    "/api/log/tile/{tile}",
    "/api/models/{provider}/{name}",
    "/v1/chat/completions/{completion_id}",
    "/v1/conversations/{conversation_id}",
    "/v1/conversations/{conversation_id}/items/{item_id}",
    "/v1/models/{model_id}",
    "/v1/responses/{response}",
    "/v1/responses/{response}/cancel",
}
"""Of any text in their paths it is said that there is no such thing."""

EXPECTED = {
    "positive_data_acceptance": "what a model is named, where a page began and what may follow what is in no schema",
}
"""Checks that cannot hold here, and why."""

OF_STREAMS = {"response_schema_conformance": "it takes each event for the answer that the schema describes"}

load_all_checks()
DOCUMENT = json.loads(GOLDEN.read_text(encoding="utf-8"))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {
    f"{method.upper()} {path}": (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if path not in ENDLESS
}
WITH_INPUT = {
    name: (method, path)
    for name, (method, path) in OPERATIONS.items()
    if path not in WITHOUT_WRONG_FORMS
    and name not in {"GET /api/suites/{name}", "GET /v1/ai-sdk/chat/{chat_id}/stream"}  # any text may be a name
    and DOCUMENT["paths"][path][method.lower()].keys() & {"parameters", "requestBody"}
}


@pytest.fixture(scope="module")
def names(client):
    """What ids are filled in with, so that more is met than what is not there."""
    session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "x"}).json()["id"]
    return {"session_id": session, "turn_id": turn, "version": 1}


def search(server, operation, mode, names):
    """Send what can be made from the document, and hold each answer against it."""
    method, path = operation

    @settings(
        max_examples=EXAMPLES,
        derandomize="SCHEMA_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=SCHEMA[path][method].as_strategy(generation_mode=mode))
    def run(case):
        if mode is GenerationMode.POSITIVE:
            for name in case.path_parameters:
                case.path_parameters[name] = names.get(name, case.path_parameters[name])
            case.query.pop("wait", None)  # nobody else writes, and it would be waited out
        response = case.call(base_url=server.url, timeout=30)
        streamed = response.headers["content-type"][0].startswith("text/event-stream") if response.content else False
        left_out = EXPECTED.keys() | (OF_STREAMS.keys() if streamed else set())
        case.validate_response(response, excluded_checks=CHECKS.get_by_names(sorted(left_out)))

    run()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_fits_the_document(server, names, operation):
    """Is answered as it says: a status, a media type, headers and a body that it knows; never with a 5xx."""
    search(server, operation, GenerationMode.POSITIVE, names)


@pytest.mark.parametrize("operation", WITH_INPUT.values(), ids=WITH_INPUT)
def test_what_does_not_fit_the_document(server, names, operation):
    """Is refused as a whole."""
    search(server, operation, GenerationMode.NEGATIVE, names)


def test_the_checks_that_are_left_out_are_known():
    """Each has a reason, and exists: all others are made."""
    assert (EXPECTED | OF_STREAMS).keys() <= set(CHECKS.get_all_names())
    assert len(CHECKS.get_all_names()) >= 10


def test_what_was_let_in_can_be_read_again(client, names):
    """Nothing that got on record is a stone in a reader's way."""
    path = f"/api/sessions/{names['session_id']}"
    for below in ("", "/messages", "/turns", "/events", "/export", "/export?format=openai"):
        assert client.get(path + below).status_code == 200
