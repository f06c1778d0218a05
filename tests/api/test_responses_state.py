"""State in OpenAI's Responses: answers that go on from one another, run in the background, are read again, cancelled,
deleted and forgotten, also where the server is killed between two calls.
"""

import hashlib
import json
import signal
import time
from uuid import UUID

import pytest
from openai.types.responses import CompactedResponse

from manent import engine
from tests.api.conftest import SCRIPT, settings_on
from tests.api.harness import Process, in_thread, opened
from tests.api.responses_wire import (
    RESPONSES,
    again,
    ask,
    body,
    check_story,
    checked,
    post,
    refused,
    stream,
    text,
    whole,
)

CHAT_KEY, ERASE_KEY, OTHER_KEY = "sk-chat", "sk-erase", "sk-other"


def until(condition):
    """Wait for what comes soon; what it found."""
    until_s = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    return found


def status(client, answer):
    return client.get(f"{RESPONSES}/{answer}").json()["status"]


def session_of(client, answer):
    return client.get(f"{RESPONSES}/{answer}").headers["x-manent-session"]


def said(client, answer):
    """All that was said up to an answer and after it, in its session."""
    items = client.get(f"/api/sessions/{session_of(client, answer)}/messages?limit=1000").json()["items"]
    return ["".join(block["text"] for block in item["content"] or []) for item in items]


def process(folder, **environment):
    script = folder / "script.json"
    script.write_text(json.dumps({"models": SCRIPT}), encoding="utf-8")
    return Process(folder / "manent.db", MANENT_SCRIPT=str(script), **environment)


def engine_id(answer):
    """The id of an answer's turn."""
    return str(UUID(answer.removeprefix("resp_")))


# --- going on ---------------------------------------------------------------------------------------------------------


def test_answers_go_on_and_fork(client):
    """A then B goes on there; A then C, when there is B, is a branch."""
    first = ask(client, "A")
    second = ask(client, "B", previous_response_id=first["id"])
    third = ask(client, "C", previous_response_id=first["id"])
    assert second["previous_response_id"] == third["previous_response_id"] == first["id"]
    assert session_of(client, second["id"]) == session_of(client, first["id"])
    assert said(client, second["id"]) == ["A", "A", "B", "B"]
    assert said(client, third["id"]) == ["A", "A", "C", "C"]
    assert third["instructions"] is None


def test_a_middle_link_that_is_deleted(client):
    """What comes after it is still served, and is not gone on from: the model would not be sent all that was said."""
    first = ask(client, "A")
    second = ask(client, "B", previous_response_id=first["id"])
    third = ask(client, "C", previous_response_id=second["id"])
    assert client.delete(f"{RESPONSES}/{second['id']}").json() == {
        "id": second["id"],
        "object": "response",
        "deleted": True,
    }
    refused(client.get(f"{RESPONSES}/{second['id']}"), 404, "response_not_found", "response_id")
    refused(client.delete(f"{RESPONSES}/{second['id']}"), 404, "response_not_found", "response_id")
    refused(
        post(client, "x", previous_response_id=second["id"]), 404, "previous_response_not_found", "previous_response_id"
    )
    refused(
        post(client, "x", previous_response_id=third["id"]), 404, "previous_response_not_found", "previous_response_id"
    )
    assert said(client, third["id"]) == ["A", "A", "", "", "C", "C"]
    fork = ask(client, "D", previous_response_id=first["id"])
    assert said(client, fork["id"]) == ["A", "A", "D", "D"]


def test_what_an_answer_was_asked_with_is_deleted_with_it(client, server):
    """Its instructions, metadata and end user, too, where they stand with the session; what others set stays."""
    own = {"metadata": {"k": "own metadata"}, "safety_identifier": "own user"}
    first = ask(client, "A", instructions="own instructions", **own)
    second = ask(client, "B", instructions="other instructions", previous_response_id=first["id"])
    third = ask(client, "C", instructions="own fork", previous_response_id=first["id"])
    conversation = client.post("/v1/conversations", json={"metadata": {"k": "kept"}}).json()["id"]
    fourth = ask(client, "D", instructions="own turn", conversation=conversation)
    for answer in (first, third, fourth):
        assert client.delete(f"{RESPONSES}/{answer['id']}").status_code == 200
    assert client.get(f"/api/sessions/{session_of(client, second['id'])}").json()["system"] == "other instructions"
    assert client.get(f"{RESPONSES}/{second['id']}").json()["instructions"] == "other instructions"
    assert client.get(f"/v1/conversations/{conversation}").json()["metadata"] == {"k": "kept"}
    files = [file for file in server.database.parent.iterdir() if file.is_file()]
    assert not [file.name for file in files if b"own " in file.read_bytes()]
    refused(
        post(client, "E", previous_response_id=second["id"]), 404, "previous_response_not_found", "previous_response_id"
    )


def test_an_answer_that_is_erased_otherwise(client):
    """Is served without its words, and nothing goes on from it."""
    first = ask(client, "A", instructions="private", tools=[])
    session = session_of(client, first["id"])
    assert client.post(f"/api/sessions/{session}/erase", json={"reason": "asked for"}).status_code == 200
    erased = whole(client.get(f"{RESPONSES}/{first['id']}").json())
    assert (erased["output"], erased["instructions"], erased["status"]) == ([], None, "completed")
    events = again(client, first["id"])
    assert events[-1]["type"] == "response.completed"
    refused(
        post(client, "x", previous_response_id=first["id"]), 404, "previous_response_not_found", "previous_response_id"
    )


def test_a_conversation_has_one_response_at_a_time(client):
    """In it the next goes on at its end; while one is made, another is refused with the code that clients know."""
    session = client.post("/api/sessions", json={}).json()["id"]
    name = f"conv_{session.replace('-', '')}"
    first = ask(client, "A", conversation=name)
    assert first["conversation"] == {"id": name}
    ask(client, "B", conversation={"id": name})
    assert said(client, first["id"]) == ["A", "A", "B", "B"]
    running = ask(client, "x", conversation=name, model="scripted/hang", background=True)
    refused(post(client, "C", conversation=name), 400, "conversation_locked", "conversation")
    client.post(f"{RESPONSES}/{running['id']}/cancel")
    ask(client, "C", conversation=name)


# --- in the background ------------------------------------------------------------------------------------------------


def test_a_background_response_is_polled(client):
    """It is answered at once, runs on without a reader, and is whole later."""
    begun = ask(client, "x", model="scripted/slow", background=True)
    assert (begun["status"], begun["output"], begun["usage"], begun["background"]) == ("queued", [], None, True)
    assert status(client, begun["id"]) == "in_progress"
    until(lambda: status(client, begun["id"]) == "completed")
    assert text(client.get(f"{RESPONSES}/{begun['id']}").json()) == "abcdefghijklmnopqrstuvwxyz" * 2


def test_a_background_stream_that_is_cut_is_resumed(client):
    """From the number of the last event that came, with nothing lost and nothing twice; at any later time as well."""
    asked = body("x", model="scripted/slow", background=True, stream=True)
    with opened(client, "POST", RESPONSES, json=asked) as cut:
        blocks = iter(cut)
        first = [next(blocks).json for _ in range(7)]
    answer = first[0]["response"]["id"]
    assert [event["type"] for event in first[:3]] == ["response.created", "response.queued", "response.in_progress"]
    rest = again(client, answer, starting_after=first[-1]["sequence_number"])
    events = first + rest
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    check_story(events)
    assert again(client, answer) == events


def test_cancelling(client):
    """Of a background response, twice if need be; of another it is refused; of one that has ended nothing changes."""
    begun = ask(client, "x", model="scripted/hang", background=True)
    path = f"{RESPONSES}/{begun['id']}"
    refused(
        post(client, "y", previous_response_id=begun["id"]),
        400,
        "previous_response_not_completed",
        "previous_response_id",
    )
    cancelled = whole(client.post(f"{path}/cancel").json())
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)
    assert client.post(f"{path}/cancel").json() == client.get(path).json() == cancelled
    refused(
        post(client, "y", previous_response_id=begun["id"]),
        400,
        "previous_response_not_completed",
        "previous_response_id",
    )
    done = ask(client, "x")
    refused(client.post(f"{RESPONSES}/{done['id']}/cancel"), 400, "response_not_in_background", "response_id")
    whole_one = ask(client, "x", background=True)
    until(lambda: status(client, whole_one["id"]) == "completed")
    assert client.post(f"{RESPONSES}/{whole_one['id']}/cancel").json()["status"] == "completed"


def test_who_leaves(tmp_path):
    """A response is cancelled when its client has left for a while, one in the background never; a retry reads on."""
    options = {"disconnect_grace_s": 1, "cancel_unread_after_s": 1}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        answers = {}
        for background in (False, True):
            asked = body("x", model="scripted/hang", stream=True, background=background)
            with opened(client, "POST", RESPONSES, json=asked) as left:
                answers[background] = next(iter(left)).json["response"]["id"]
        asked = body("y", model="scripted/slow", stream=True)
        with opened(client, "POST", RESPONSES, json=asked) as left:
            first = next(iter(left)).json
        with opened(client, "POST", RESPONSES, json=asked, headers={"x-stainless-retry-count": "1"}) as retried:
            events = checked(list(retried))
        assert events[0]["response"]["id"] == first["response"]["id"]
        assert events[-1]["type"] == "response.completed"
        until(lambda: client.get("/metrics").text.find('outcome="cancelled"') >= 0)
        time.sleep(1.5)
        assert [status(client, answers[background]) for background in (False, True)] == ["cancelled", "in_progress"]


# --- deleting, and not storing ----------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path):
    """A server with keys: one that may chat, one that may erase as well, and one of another tenant."""
    rows = [
        (CHAT_KEY, "default", ["chat"]),
        (ERASE_KEY, "default", ["chat", "erase"]),
        (OTHER_KEY, "other", ["chat", "erase"]),
    ]
    keys = [
        {"id": key, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": tenant, "scopes": scopes}
        for key, tenant, scopes in rows
    ]
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(keys), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(path))) as server:
        yield server


def test_deleting_needs_its_scope_and_no_hold(guarded):
    """Another tenant's answers are not there; one that is held stays, and is served."""
    with guarded.client() as client:

        def using(key):
            client.headers["authorization"] = f"Bearer {key}"
            return client

        first = ask(using(CHAT_KEY), "A")
        answer = first["id"]
        path = f"{RESPONSES}/{answer}"
        refused(using(CHAT_KEY).delete(path), 403, "scope_missing")
        for method, more in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            refused(using(OTHER_KEY).request(method, path + more), 404, "response_not_found", "response_id")
        refused(
            post(using(OTHER_KEY), "x", previous_response_id=answer),
            404,
            "previous_response_not_found",
            "previous_response_id",
        )
        (foreign,) = first["output"]
        refused(
            post(client, [{"id": foreign["id"]}, {"role": "user", "content": "x"}]),
            404,
            "item_not_found",
            "input[0].id",
        )
        session = session_of(using(ERASE_KEY), answer)
        client.patch(f"/api/sessions/{session}", json={"legal_hold": True})
        refused(client.delete(path), 409, "legal_hold")
        assert text(client.get(path).json()) == "A"
        client.patch(f"/api/sessions/{session}", json={"legal_hold": False})
        assert client.delete(path).status_code == 200


def test_what_is_not_to_be_stored(tmp_path):
    """Is answered, is not served, and is erased when it was read; what it went on from stays."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        first = ask(client, "kept words")
        response = post(client, "private words", store=False, previous_response_id=first["id"], instructions="private")
        answer = whole(response.json())
        assert (text(answer), answer["store"]) == ("private words", False)
        assert "x-manent-kept" not in response.headers
        refused(client.get(f"{RESPONSES}/{answer['id']}"), 404, "response_not_found", "response_id")
        refused(
            post(client, "x", previous_response_id=answer["id"]),
            404,
            "previous_response_not_found",
            "previous_response_id",
        )
        streamed = stream(client, "private stream", store=False)
        assert streamed[-1]["type"] == "response.completed"
        for turn in (answer["id"], streamed[-1]["response"]["id"]):
            path = f"/api/turns/{engine_id(turn)}"
            until(lambda path=path: all(each["erased"] for each in client.get(path).json()["messages"]))
        session = response.headers["x-manent-session"]
        messages = client.get(f"/api/sessions/{session}/messages").json()["items"]
        assert [bool(message["erased"]) for message in messages] == [False, False, True, True]
        assert client.get(f"/api/sessions/{session}").json()["system"] is None
        assert text(ask(client, "next", previous_response_id=first["id"])) == "next"
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()
    assert b"private words" not in server.database.read_bytes()


def test_what_must_be_kept_is_kept(tmp_path):
    """A header says so."""
    with in_thread(settings_on(tmp_path, keep_store_false=True)) as server, server.client() as client:
        response = post(client, "words", store=False)
        assert response.headers["x-manent-kept"] == "keep_store_false"
        time.sleep(0.5)
        turn = client.get(f"/api/turns/{response.headers['x-manent-turn']}").json()
        assert not any(message["erased"] for message in turn["messages"])


def test_what_goes_on_from_what_is_held_is_kept(tmp_path):
    """A branch of a held session is held as well, and the header says so."""
    options = {"store_false_erase_after_s": 1}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        first = ask(client, "A")
        client.patch(f"/api/sessions/{session_of(client, first['id'])}", json={"legal_hold": True})
        response = post(client, "B", store=False, previous_response_id=first["id"])
        assert response.headers["x-manent-kept"] == "legal_hold"
        time.sleep(2)
        turn = client.get(f"/api/turns/{response.headers['x-manent-turn']}").json()
        assert not any(message["erased"] for message in turn["messages"])


def test_a_retry_of_what_is_forgotten_is_asked_again(tmp_path):
    """There is nothing left to answer it with."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        first = post(client, "words", store=False)
        path = f"/api/turns/{first.headers['x-manent-turn']}"
        until(lambda: all(message["erased"] for message in client.get(path).json()["messages"]))
        again_asked = post(client, "words", store=False, headers={"x-stainless-retry-count": "1"})
        assert again_asked.headers["x-manent-turn"] != first.headers["x-manent-turn"]
        assert text(again_asked.json()) == "words"


# --- compaction -------------------------------------------------------------------------------------------------------


def compact(client, given=None, **fields):
    response = client.post(f"{RESPONSES}/compact", json=body(given, **fields))
    assert response.status_code == 200, response.text
    told = response.json()
    assert CompactedResponse.model_validate(told).object == "response.compaction"
    (item,) = told["output"]
    assert item.keys() == {"id", "type", "encrypted_content"}
    return told, item


def test_a_compaction_stands_for_what_it_summarises(guarded):
    """The model is told the summary; for another tenant, forged or deleted, there is none."""
    with guarded.client(headers={"authorization": f"Bearer {ERASE_KEY}"}) as client:
        first = ask(client, "A")
        told, item = compact(client, previous_response_id=first["id"])
        assert told["id"] != first["id"]
        assert said(client, first["id"]) == ["A", "A"]
        answer = ask(client, [item, {"role": "user", "content": "go on"}])
        listed = client.get(f"{RESPONSES}/{answer['id']}/input_items?order=asc").json()["data"]
        assert listed[0]["role"] == "system"
        assert listed[0]["content"][0]["text"].startswith("What was said so far, summarised:")
        _, alone = compact(client, [{"role": "user", "content": "B"}])
        given = [item, {"role": "user", "content": "x"}]
        other = {"authorization": f"Bearer {OTHER_KEY}"}
        refused(post(client, given, headers=other), 400, "invalid_value", "input[0].encrypted_content")
        for forged in ("", "x", "gAAAA", alone["encrypted_content"][:-2] + "AA"):
            wrong = [item | {"encrypted_content": forged}, given[1]]
            refused(post(client, wrong), 400, "invalid_value", "input[0].encrypted_content")
        assert client.delete(f"{RESPONSES}/{told['id']}").status_code == 200
        refused(post(client, given), 400, "invalid_value", "input[0].encrypted_content")
        path = f"{RESPONSES}/compact"
        refused(client.post(path, json={"model": "echo/echo"}), 400, "missing_required_parameter", "input")
        refused(client.post(path, json=body("x", tools=[])), 400, "unknown_parameter", "tools")


# --- a server that dies -----------------------------------------------------------------------------------------------


def test_state_survives_a_kill(tmp_path):
    """Between any two calls: an answer is the same object, its events are the same, and the next goes on from it."""
    with process(tmp_path) as server, server.client() as client:
        first = ask(client, "A", instructions="Be brief.", metadata={"a": "b"})
        events = stream(client, "B", previous_response_id=first["id"], model="scripted/think")
        second = events[-1]["response"]
        begun = ask(client, "x", model="scripted/hang", background=True)
        until(lambda: len(client.get(f"/api/turns/{engine_id(begun['id'])}").json()["attempts"]))
        server.popen.send_signal(signal.SIGKILL)
        server.popen.wait()
    with process(tmp_path) as server, server.client() as client:
        assert client.get(f"{RESPONSES}/{first['id']}").json() == first
        assert client.get(f"{RESPONSES}/{second['id']}").json() == second
        assert again(client, second["id"]) == events
        lost = until(lambda: (found := client.get(f"{RESPONSES}/{begun['id']}").json())["status"] == "failed" and found)
        assert lost["error"]["code"] == "server_error"
        assert again(client, begun["id"])[-1]["type"] == "response.failed"
        third = ask(client, "C", previous_response_id=second["id"])
        assert session_of(client, third["id"]) == session_of(client, first["id"])
        fork = ask(client, "D", previous_response_id=first["id"])
        assert said(client, fork["id"]) == ["A", "A", "D", "D"]
