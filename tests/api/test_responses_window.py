"""``truncation`` of OpenAI's Responses: what is older than the model or the session's budget takes is left out."""

from uuid import UUID

from tests.api.responses_wire import ask, body, post, refused

AUTO = "auto"


def limited(client):
    """A conversation whose session has a small budget."""
    session = client.post("/api/sessions", json={"model": "echo/echo", "budget_tokens": 60}).json()["id"]
    return f"conv_{session.replace('-', '')}"


def test_a_long_chain_is_answered_with_its_newest_messages(client):
    """The response says ``auto``, and its turn says what was left out."""
    place = {"conversation": limited(client)}
    for number in range(12):
        answer = ask(client, f"question {number}", truncation=AUTO, **place)
        place = {"previous_response_id": answer["id"]}
        assert answer["truncation"] == AUTO
    prompt = client.get(f"/api/turns/{UUID(answer['id'].removeprefix('resp_'))}/prompt").json()
    assert prompt["matches"]
    assert prompt["window"]["omitted"]["by_reason"]["budget"]["count"] > 6
    refused(post(client, "and without?", **place), 400, "context_length_exceeded", "input")


def test_it_is_auto_or_disabled(client):
    """Anything else is refused by name, as a count that would leave something out is."""
    refused(post(client, "hello", truncation="some"), 400, "invalid_value", "truncation")
    counted = client.post("/v1/responses/input_tokens", json=body("hello", truncation=AUTO))
    assert counted.status_code == 400
    assert counted.json()["error"]["param"] == "truncation"
