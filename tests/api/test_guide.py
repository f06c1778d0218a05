"""The guide's three routes: their envelopes, their stream, and the record behind them."""

import json

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


def test_a_failure(client):
    """502 in the envelope, with the session that holds what came."""
    for route in ("complete", "chat"):
        response = client.post(f"/api/ai/{route}", json={"model": "scripted/fails", "message": "x"})
        assert response.status_code == 502
        error = response.json()["error"]
        assert error["code"] == "provider_unavailable"
        assert error["category"] == "server_error"
        assert client.get(f"/api/turns/{error['details']['turn_id']}").json()["status"] == "failed"
        assert events_of(client, response.headers["x-session-id"])[-1]["type"] == "turn.failed"


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
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


def test_a_key_of_idempotency_for_a_stream(server, client):
    """Such a client is given its first turn again, from the beginning; another question is a mismatch."""
    headers = {"Idempotency-Key": "guide-stream"}
    first = read(client, "/api/ai/stream?q=x", headers=headers)
    before = server.size()
    assert read(client, "/api/ai/stream?q=x", headers=headers) == first
    other = client.get("/api/ai/stream?q=y", headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
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
