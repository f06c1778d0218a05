"""The guide's three routes: their envelopes, their stream, and the record behind them."""

import json
import threading
import time

import pytest

from manent.api.compat.plumego import split_markers
from tests.api.conftest import STRANGE
from tests.api.harness import opened, read


def ask(client, **parameters):
    """A whole stream: its session and its events."""
    with opened(client, "GET", "/api/ai/stream", params=parameters) as stream:
        blocks = list(stream)
        return stream.response.headers["x-session-id"], [block for block in blocks if block.id or block.data]


def text_of(blocks):
    """What a client shows: all data but the end."""
    return "".join(block.data for block in blocks[:-1] if block.data is not None)


def events_of(client, session):
    return client.get(f"/api/sessions/{session}/events", params={"limit": 1000}).json()["items"]


def test_one_question_one_answer(client):
    """The envelope, and a session of its own that holds the record."""
    response = client.post("/api/ai/complete", json={"model": "echo/echo", "message": "hello"})
    assert response.status_code == 200
    assert response.json() == {"data": {"reply": "hello"}, "request_id": response.headers["x-request-id"]}
    session = client.get(f"/api/sessions/{response.headers['x-session-id']}").json()
    assert (session["model"], session["message_count"]) == ("echo/echo", 2)
    other = client.post("/api/ai/complete", json={"message": "hello"})
    assert other.headers["x-session-id"] != session["id"]


def test_a_conversation(client):
    """``session_id`` resumes it; the model of one answer may differ."""
    first = client.post("/api/ai/chat", json={"message": "one"})
    assert first.status_code == 200
    body = first.json()
    assert body.keys() == {"data", "request_id"}
    assert body["data"].keys() == {"session_id", "reply", "usage"}
    assert body["data"]["reply"] == "one"
    assert body["data"]["usage"]["output_tokens"] > 0
    session = body["data"]["session_id"]
    assert first.headers["x-session-id"] == session
    second = client.post("/api/ai/chat", json={"session_id": session, "message": "two", "model": "echo/paced"})
    assert (second.json()["data"]["session_id"], second.json()["data"]["reply"]) == (session, "two")
    assert second.json()["data"]["usage"]["input_tokens"] > body["data"]["usage"]["input_tokens"]
    assert client.get(f"/api/sessions/{session}").json()["message_count"] == 4


def test_fields_that_are_not_known_here(client):
    """The guide's clients may send more than is read: only native routes are strict about it."""
    response = client.post("/api/ai/chat", json={"message": "x", "temperature": 1})
    assert response.status_code == 200
    assert ask(client, q="x", theme="dark")[1][-1].data == "[DONE]"


def test_strange_text(client):
    """Comes back as it went."""
    for route in ("complete", "chat"):
        assert client.post(f"/api/ai/{route}", json={"message": STRANGE}).json()["data"]["reply"] == STRANGE


def test_a_providers_failure(client):
    """503 in the guide's words, with the reason and the turn in the details, and the session that holds what came."""
    for route in ("complete", "chat"):
        response = client.post(f"/api/ai/{route}", json={"model": "scripted/fails", "message": "x"})
        assert response.status_code == 503
        error = response.json()["error"]
        details = error.pop("details")
        assert error == {
            "code": "SERVICE_UNAVAILABLE",
            "message": "AI provider error",
            "category": "server_error",
            "type": "service_unavailable",
        }
        assert (details["code"], details["reason"]) == ("provider_unavailable", "scripted failed: no")
        assert client.get(f"/api/turns/{details['turn_id']}").json()["status"] == "failed"
        assert events_of(client, response.headers["x-session-id"])[-1]["type"] == "turn.failed"


@pytest.mark.parametrize("route", ["complete", "chat"])
def test_a_providers_delay(client, route):
    """A provider that says when to come again is heard by the client."""
    response = client.post(f"/api/ai/{route}", json={"model": "scripted/busy", "message": "x"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5000")


def test_a_turn_that_somebody_cancelled(server, client):
    """It is no failure of a provider's, and says so."""
    answers = []

    def ask_in_the_background():
        with server.client() as own:
            answers.append(own.post("/api/ai/chat", json={"model": "scripted/hang", "message": "x"}))

    thread = threading.Thread(target=ask_in_the_background)
    known = {session["id"] for session in client.get("/api/sessions").json()["items"]}
    thread.start()
    turn = None
    for _ in range(500):
        new = [each for each in client.get("/api/sessions").json()["items"] if each["id"] not in known]
        turn = new[0]["open_turn_id"] if new else None
        if turn is not None:
            break
        time.sleep(0.01)
    client.post(f"/api/turns/{turn}/cancel")
    thread.join()
    (response,) = answers
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["details"]["code"]) == (
        *(409, "RESOURCE_CONFLICT", "turn_cancelled"),
    )


# --- what the guide asks its provider with ----------------------------------------------------------------------------


def attempt_of(client, session):
    """What the newest request of a session was planned with."""
    events = client.get(f"/api/sessions/{session}/events", params={"types": "attempt.started"}).json()["items"]
    return events[-1]["facts"]


def call(client, route, **fields):
    """A call of one of the three routes: the session that it went to."""
    if route == "stream":
        fields["q"] = fields.pop("message")
        return ask(client, **fields)[0]
    response = client.post(f"/api/ai/{route}", json=fields)
    assert response.status_code == 200, response.text
    return response.headers["x-session-id"]


@pytest.mark.parametrize(("route", "max_tokens"), [("complete", 1024), ("chat", 1024), ("stream", 2048)])
def test_the_guides_defaults(client, route, max_tokens):
    """Its system prompt, its window, and its limit on the answer."""
    session = call(client, route, message="x")
    view = client.get(f"/api/sessions/{session}").json()
    assert (view["system"], view["budget_tokens"]) == ("You are a helpful assistant.", 4096)
    facts = attempt_of(client, session)
    assert (facts["budget_tokens"], facts["max_output_tokens"], facts["system"] > 0) == (4096, max_tokens, True)


@pytest.mark.parametrize("route", ["complete", "chat", "stream"])
def test_empty_means_absent(client, route):
    """As the guide's language has it: a new session, the default model, the default system prompt."""
    fields = {"message": "x", "model": "", "system": ""} | ({"session_id": ""} if route != "complete" else {})
    session = call(client, route, **fields)
    view = client.get(f"/api/sessions/{session}").json()
    assert (view["model"], view["system"], view["message_count"]) == ("echo/echo", "You are a helpful assistant.", 2)


@pytest.mark.parametrize("route", ["complete", "chat", "stream"])
def test_a_system_prompt_of_ones_own(client, route):
    """It is that of the session that is begun."""
    session = call(client, route, message="x", system="Be brief.")
    assert client.get(f"/api/sessions/{session}").json()["system"] == "Be brief."


@pytest.mark.parametrize("route", ["chat", "stream"])
def test_a_system_prompt_for_a_conversation_that_goes_on(client, route):
    """Another one holds from then on, the same one changes nothing, and none leaves it; where the turn is refused, it
    stays as it was.
    """
    session = call(client, route, message="x", system="Be brief.")
    for system, expected in (("Be brief.", "Be brief."), ("Be kind.", "Be kind."), ("", "Be kind.")):
        assert call(client, route, message="x", session_id=session, system=system) == session
        assert client.get(f"/api/sessions/{session}").json()["system"] == expected
    changes = [event for event in events_of(client, session) if event["type"] == "session.updated"]
    assert [change["body"]["system"] for change in changes] == ["Be kind."]
    before = client.get(f"/api/sessions/{session}").json()["version"]
    refused = client.post("/api/ai/chat", json={"message": "y " * 9000, "session_id": session, "system": "No."})
    assert refused.status_code == 422
    assert client.get(f"/api/sessions/{session}").json()["version"] == before


def test_what_a_session_sets_comes_first(client):
    """One that was begun natively with budgets of its own keeps them; one without gets the guide's."""
    own = {"budget_tokens": 500, "max_output_tokens": 77}
    for fields, expected in ((own, (500, 77)), ({}, (4096, 1024))):
        session = client.post("/api/sessions", json=fields).json()["id"]
        call(client, "chat", message="x", session_id=session)
        facts = attempt_of(client, session)
        assert (facts["budget_tokens"], facts["max_output_tokens"]) == expected


def test_a_question_that_does_not_fit_begins_nothing(server, client):
    """It is refused before a session is begun for it."""
    before = server.size()
    for route in ("complete", "chat"):
        assert client.post(f"/api/ai/{route}", json={"message": "word " * 5000}).status_code == 422
    assert server.size() == before


def test_a_key_of_idempotency_does_not_change_the_system_prompt_again(client):
    """A repetition is answered as before, whatever the prompt has become since."""
    session = call(client, "chat", message="x")
    headers = {"Idempotency-Key": "system-1"}
    body = {"message": "y", "session_id": session, "system": "Be brief."}
    first = client.post("/api/ai/chat", json=body, headers=headers)
    call(client, "chat", message="z", session_id=session, system="Be kind.")
    again = client.post("/api/ai/chat", json=body, headers=headers)
    assert again.json()["data"] == first.json()["data"]
    assert client.get(f"/api/sessions/{session}").json()["system"] == "Be kind."


def test_a_key_of_idempotency(server, client):
    """Asked twice with one key, there is one session, one turn, one answer."""
    for route in ("complete", "chat"):
        headers = {"Idempotency-Key": f"guide-{route}"}
        first = client.post(f"/api/ai/{route}", json={"message": "x"}, headers=headers)
        before = server.size()
        second = client.post(f"/api/ai/{route}", json={"message": "x"}, headers=headers)
        assert first.json()["data"] == second.json()["data"]
        assert first.headers["x-session-id"] == second.headers["x-session-id"]
        assert server.size() == before
        other = client.post(f"/api/ai/{route}", json={"message": "y"}, headers=headers)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "INVALID_REQUEST")
        assert other.json()["error"]["details"]["code"] == "idempotency_mismatch"


def test_a_key_of_idempotency_for_a_stream(server, client):
    """Such a client is given its first turn again, from the beginning; another question is a mismatch."""
    headers = {"Idempotency-Key": "guide-stream"}
    first = read(client, "/api/ai/stream?q=x", headers=headers)
    before = server.size()
    assert read(client, "/api/ai/stream?q=x", headers=headers) == first
    other = client.get("/api/ai/stream?q=y", headers=headers)
    assert (other.status_code, other.json()["error"]["details"]["code"]) == (422, "idempotency_mismatch")
    assert server.size() == before


# --- the stream -------------------------------------------------------------------------------------------------------


def test_a_stream(client):
    """Deltas of text, then the end; the session is named in the head, and may be used again."""
    session, blocks = ask(client, q="hello there", model="echo/paced")
    assert blocks[-1].data == "[DONE]"
    assert text_of(blocks) == "hello there"
    assert len(blocks) > 3
    assert {block.event for block in blocks} == {None}
    again, blocks = ask(client, q="and again", session_id=session)
    assert (again, text_of(blocks)) == (session, "and again")
    assert client.get(f"/api/sessions/{session}").json()["message_count"] == 4


def test_text_of_many_lines(client):
    """Each line has its ``data:``; line ends of other kinds become the one there is."""
    text = "one\ntwo\n\n three\n"
    _, blocks = ask(client, q=text)
    assert text_of(blocks) == text
    assert b"data: one\ndata: two\ndata: \ndata:  three\ndata: " in blocks[1].raw
    _, blocks = ask(client, q="a\r\nb\rc\u2028d\x85e")
    assert text_of(blocks) == "a\nb\nc\u2028d\x85e"


def test_only_text_is_streamed(client):
    """Thinking and calls are on record, and not in the guide's stream."""
    assert text_of(ask(client, q="x", model="scripted/think")[1]) == "Two."
    assert text_of(ask(client, q="x", model="scripted/tools")[1]) == "Let me look.Dry."


def test_a_stream_that_fails(client):
    """Ends with the error as data, and without the end marker."""
    session, blocks = ask(client, q="x", model="scripted/fails")
    assert json.loads(blocks[-1].data).keys() == {"error"}
    assert json.loads(blocks[-1].data)["error"]
    assert text_of(blocks) == "I brea"
    assert blocks[-1].id
    assert "[DONE]" not in [block.data for block in blocks]
    assert events_of(client, session)[-1]["type"] == "turn.failed"


def test_a_stream_that_is_cancelled(client):
    """Is told so."""
    with opened(client, "GET", "/api/ai/stream", params={"q": "x", "model": "scripted/hang"}) as stream:
        turn = stream.until(lambda block: block.data == "Wait")[0].id.partition(":")[0]
        client.post(f"/api/turns/{turn}/cancel")
        assert "error" in list(stream)[-1].json


def reads_as_marker(data):
    """Whether a client that looks at data, or at lines of it, would take it for the end or an error."""
    for line in [data, *data.split("\n"), *data.splitlines()]:
        if line.strip().startswith("[DONE]"):
            return True
        try:
            if "error" in json.loads(line):
                return True
        except (ValueError, TypeError):
            pass
    return False


def test_markers_in_text_are_split(client):
    """What a model says is never taken for the end of the stream, or for an error."""
    session, blocks = ask(client, q="x", model="scripted/markers")
    assert not any(reads_as_marker(block.data) for block in blocks[:-1] if block.data)
    said = client.get(f"/api/sessions/{session}/messages").json()["items"][-1]["content"][0]["text"]
    assert text_of(blocks) == said.replace("\r\n", "\n")
    assert len({block.id for block in blocks}) == len(blocks)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "[DONE]",
        " [DONE] ",
        "\t[DONE]\n",
        "a\n[DONE]\nb",
        "[DONE][DONE]",
        "[[DONE]",
        "{[DONE]",
        '{"error": 1}',
        '{{"error": 1}',
        '\u2028{ \n"error": 1}',
        '{\n"error": 1\n}',
        '{"a": 1, "\\u0065rror": 1}',
        "{",
        "x {",
        "{}",
        "[DONE",
        "\r[DONE]\r{\r",
        "\x0b[DONE]",
    ],
)
def test_no_part_reads_as_a_marker(text):
    """However it is looked at; and nothing is lost."""
    parts = split_markers(text)
    assert "".join(parts) == text.replace("\r\n", "\n").replace("\r", "\n")
    assert not any(reads_as_marker(part) for part in parts)
    assert all(parts) or parts == [""]


def test_plain_text_is_not_split():
    """One delta stays one event."""
    assert split_markers("say [DONE], or { or\n  x {}\n") == ["say [DONE], or { or\n  x {}\n"]


@pytest.mark.parametrize("model", ["echo/paced", "scripted/markers", "scripted/think", "scripted/fails"])
def test_a_stream_is_resumed_anywhere(server, client, model):
    """With every id exactly the rest comes, without a second turn; after the end 204, so that EventSource stops."""
    session, blocks = ask(client, q="{and so\non and on and on", model=model)
    assert all(block.id for block in blocks)
    before = server.size()
    for number, block in enumerate(blocks):
        headers = {"Last-Event-ID": block.id}
        with client.stream("GET", "/api/ai/stream", params={"q": "x"}, headers=headers) as response:
            if number == len(blocks) - 1:
                assert response.status_code == 204
                continue
            assert response.status_code == 200
            assert response.headers["x-session-id"] == session
        assert read(client, "/api/ai/stream?q=x", headers=headers) == blocks[number + 1 :]
    assert server.size() == before


def test_a_stream_can_be_resumed_before_its_first_word(client):
    """An id comes at once: an EventSource that loses its connection early does not ask - and pay - again."""
    parameters = {"q": "x", "model": "scripted/late"}
    with opened(client, "GET", "/api/ai/stream", params=parameters) as stream:
        first = next(iter(stream))
        session = stream.response.headers["x-session-id"]
    assert first.data is None
    blocks = read(client, "/api/ai/stream", params=parameters, headers={"Last-Event-ID": first.id})
    assert [block.data for block in blocks] == ["late", "[DONE]"]
    assert [event["type"] for event in events_of(client, session)].count("turn.started") == 1


def test_silence_is_broken(client):
    """As in native streams."""
    with opened(client, "GET", "/api/ai/stream", params={"q": "x", "model": "scripted/silent"}) as stream:
        assert b": keep-alive" in [block.raw for block in stream]


def test_the_head_of_the_stream(client):
    """As native streams have it."""
    with opened(client, "GET", "/api/ai/stream?q=x") as stream:
        list(stream)
        assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.response.headers["cache-control"] == "no-cache, no-transform"


def test_a_parameter_that_comes_twice_is_named(client):
    """Nobody can tell which of the two is meant."""
    assert client.get("/api/ai/stream?q=a&q=b").status_code == 400
