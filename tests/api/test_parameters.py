"""Parameters of turns over HTTP: each reaches the request that is sent, and what cannot be honoured is refused."""

import pytest

SCHEMA = {"type": "object", "properties": {"town": {"type": "string"}}}
GIVEN = {
    "top_p": 0.5,
    "top_k": 40,
    "seed": -7,
    "presence_penalty": 1,
    "frequency_penalty": -1.5,
    "logit_bias": {"15": -100},
    "reasoning": {"effort": "high"},
}
FORMATS = {
    "flat": {"type": "json_schema", "name": "town", "schema": SCHEMA, "strict": True},
    "in OpenAI's form": {"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA, "strict": True}},
}


def request_of(client, session, body):
    """The request that a turn with this body was sent with, and its parameters."""
    turn = client.post(f"/api/sessions/{session}/turns", json={"content": "Hi."} | body)
    assert turn.status_code == 200, turn.text
    prompt = client.get(f"/api/turns/{turn.json()['id']}/prompt").json()
    assert prompt["matches"]
    return prompt["request"]["parameters"], prompt["parameters"]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_every_parameter_reaches_the_request(client, session, form):
    """And stands in the explanation of it."""
    sent, shown = request_of(client, session, GIVEN | {"response_format": form})
    assert sent == GIVEN | {"response_format": FORMATS["flat"]}
    assert {name: shown[name] for name in sent} == sent


def test_what_the_model_does_not_have_is_refused(client, session):
    """With a code of its own, and the field; a task needs a route."""
    answer = client.post(f"/api/sessions/{session}/turns", json={"content": "Hi.", "task": "law"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
        400,
        "parameter_not_supported",
        "task",
    )


def test_a_schema_is_given_once(client, session):
    """In one form or the other."""
    both = FORMATS["flat"] | {"json_schema": {"schema": SCHEMA}}
    answer = client.post(f"/api/sessions/{session}/turns", json={"content": "Hi.", "response_format": both})
    assert (answer.status_code, answer.json()["field"]) == (400, "response_format.json_schema")
