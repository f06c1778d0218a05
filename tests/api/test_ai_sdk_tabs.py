"""A chat of the Vercel AI SDK in several tabs, and one that is cut: each turn is stopped by its own name, what runs is
found, two who decide at once are both told, and a stopped answer is gone on from in its chat.
"""

from threading import Thread

import pytest

from tests.api.conftest import settings_on
from tests.api.harness import in_thread, opened
from tests.api.ui_messages import CHAT, Ui, fold, needs_mcp, options_in, parts_of, text

LOOK = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object", "properties": {}}}
GONE = {"success": True, "stopped": False}
DONE = {"success": True, "stopped": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tabs")
    with in_thread(settings_on(folder, **options_in(folder))) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def tab(client, request):
    """A tab on a chat of its own."""
    return Ui(client, f"tabs {request.node.name}"[:200])


def begun(tab, model="scripted/hang", words="Go.", seen=b"delta"):
    """A message that is being given; its reader has left. Gives the parts that it saw, up to one that has this."""
    tab.messages = [text(words)]
    with opened(tab.client, "POST", CHAT, json=tab.request(model=model)) as stream:
        blocks = stream.until(lambda block: seen in block.raw)
        tab.headers = stream.response.headers
    return [block.json for block in blocks]


def status(tab, turn=None):
    return tab.client.get(f"/api/turns/{turn or tab.turn}").json()["status"]


def another(tab):
    return Ui(tab.client, tab.name)


def test_each_tabs_turn_is_stopped_by_its_name(tab):
    """Also the one that began before; the other goes on, and is what is stopped without a name."""
    begun(tab)
    second = another(tab)
    begun(second, words="Something else.")
    assert tab.stop(activeStreamId=tab.turn) == DONE
    assert (status(tab), status(second)) == ("cancelled", "running")
    assert tab.stop(activeStreamId=tab.turn) == GONE
    assert status(second) == "running"
    assert second.stop() == DONE
    assert status(second) == "cancelled"
    assert second.stop() == GONE


def test_the_newest_is_stopped_and_then_the_one_before(tab):
    """Without a name; the stream of the chat is that of what runs, from its beginning."""
    seen = begun(tab)
    second = another(tab)
    begun(second, words="Something else.")
    third = another(tab).send("And that?", model="echo/echo")
    with opened(tab.client, "GET", f"{CHAT}/{tab.name}/stream") as stream:
        assert stream.response.headers["x-manent-turn"] == second.turn
    assert third.stop() == DONE
    assert (status(tab), status(second), status(third)) == ("running", "cancelled", "completed")
    with opened(tab.client, "GET", f"{CHAT}/{tab.name}/stream") as stream:
        assert stream.response.headers["x-manent-turn"] == tab.turn
        blocks = stream.until(lambda block: b"delta" in block.raw)
        assert third.stop() == DONE
        told = parts_of([*blocks, *stream])
    assert told[: len(seen)] == seen
    assert told[-1]["type"] == "abort"
    assert tab.client.get(f"{CHAT}/{tab.name}/stream").status_code == 204


def test_a_name_of_another_chat(tab, client):
    """Or of nothing stops nothing, whatever runs in the chat."""
    begun(tab)
    other = Ui(client, f"other {tab.name}")
    begun(other)
    native = client.post("/api/sessions", json={"model": "scripted/hang"}).json()["id"]
    turn = client.post(
        f"/api/sessions/{native}/turns", json={"content": "x"}, headers={"prefer": "respond-async"}
    ).json()["id"]
    for name in (other.turn, turn, "", "x", "\0", "msg_1", tab.session, "0" * 32, "é" * 3000):
        assert tab.stop(activeStreamId=name) == GONE, name
    assert [status(tab, each) for each in (tab.turn, other.turn, turn)] == ["running"] * 3
    assert tab.stop(activeStreamId=None) == DONE
    assert other.stop(activeStreamId=other.turn.upper()) == DONE
    client.post(f"/api/turns/{turn}/cancel")


def test_the_stop_of_what_has_ended(tab):
    """Changes nothing, and not what runs beside it."""
    tab.send("Hi.", model="echo/echo")
    second = another(tab)
    begun(second, words="Something else.")
    assert tab.stop(activeStreamId=tab.turn) == GONE
    assert (status(tab), status(second)) == ("completed", "running")
    assert second.stop(activeStreamId=second.turn) == DONE


@needs_mcp
def test_what_waits_and_was_gone_on_from(tab, client):
    """Is not asked about again, but can be stopped by its name; what runs comes before what waits."""
    begun(tab)
    waiting = another(tab)
    waiting.body = {"model": "scripted/greet", "tools": ["house_greet"]}
    waiting.send("Greet them.")
    with opened(client, "GET", f"{CHAT}/{tab.name}/stream") as stream:
        assert stream.response.headers["x-manent-turn"] == tab.turn
    assert tab.stop() == DONE
    assert (status(tab), status(waiting)) == ("cancelled", "requires_action")
    assert [each["state"] for each in waiting.calls] == ["approval-requested"] * 2
    another(tab).send("Never mind.", model="echo/echo")
    assert client.get(f"{CHAT}/{tab.name}/stream").status_code == 204
    assert tab.stop() == GONE
    assert status(waiting) == "requires_action"
    assert tab.stop(activeStreamId=waiting.turn) == DONE
    assert status(waiting) == "cancelled"


def test_a_message_that_another_turn_came_after(tab, client):
    """Goes on with its results, and is told whole to who comes back: its client says which turn gave it."""
    tab.body = {"model": "scripted/rounds", "tools": [LOOK]}
    tab.send("Is it dry?")
    name, first = tab.last["id"], tab.turn
    another(tab).send("Something else.", model="echo/echo")
    tab.output(state="output-available", output={"rain": False})
    tab.last["metadata"] = {"turn": first, "own": 1}
    tab.send()
    assert (tab.last["id"], [each["state"] for each in tab.calls]) == (name, ["output-available", "input-available"])
    second = tab.turn
    another(tab).send("And that.", model="echo/echo")
    tab.output(state="output-error", errorText="no window")
    tab.last["metadata"] = {"turn": second}
    with opened(client, "POST", CHAT, json=tab.request()) as stream:
        stream.until(lambda block: b"text-delta" in block.raw)
        third = stream.response.headers["x-manent-turn"]
    tab.resume()
    assert (tab.last["id"], tab.turn) == (name, third)
    assert [each["state"] for each in tab.calls] == ["output-available", "output-error"]
    told = [part["messageMetadata"]["turn"] for part in tab.parts if "messageMetadata" in part]
    assert told == [first, second, third, third]


def test_metadata_of_an_applications_own(tab):
    """Are none of a turn's, whatever they are."""
    tab.body = {"model": "scripted/mixed", "tools": [LOOK]}
    for metadata in ({"turn": 7}, {"turn": "x\0"}, {"turn": "0" * 32}, [], "turn", 0, {"turn": [[]]}):
        tab.messages = []
        tab.send("Look.")
        for call in tab.calls:
            call.update(state="output-available", output="dry")
        tab.last["metadata"] = metadata
        assert tab.send().said == "Done."


# --- what was cut -----------------------------------------------------------------------------------------------------


def cut(tab, model, seen):
    """A message that was stopped, as a client that came back to it has it."""
    before = begun(tab, model, seen=seen)
    with opened(tab.client, "GET", f"{CHAT}/{tab.name}/stream") as stream:
        blocks = stream.until(lambda block: seen in block.raw)
        assert [block.json for block in blocks] == before
        assert tab.stop(activeStreamId=tab.turn) == DONE
        told = parts_of([*blocks, *stream])
    assert told[-1]["type"] == "abort"
    assert tab.client.get(f"{CHAT}/{tab.name}/stream").status_code == 204
    tab.messages.append(fold(told))
    return told


def parent(tab):
    return tab.client.get(f"/api/sessions/{tab.session}").json()["parent"]


def test_an_answer_that_is_stopped_within_a_call(tab):
    """Is told up to where it came, and the chat goes on after its words, in the family of its session."""
    tab.body = {"tools": [LOOK]}
    cut(tab, "scripted/half", b"tool-input-delta")
    assert [part.get("state", part.get("text")) for part in tab.last["parts"]] == [None, "Let me.", "input-streaming"]
    first = tab.session
    assert tab.send("Never mind.", model="echo/echo").said == "Never mind."
    assert tab.session != first
    assert parent(tab)["session_id"] == first
    forked = tab.session
    assert tab.send("On.", model="echo/echo").session == forked


def test_an_answer_that_is_stopped_before_a_word(tab):
    """Is no message, and the chat goes on in the family of its session; it can also be answered again."""
    cut(tab, "scripted/mute", b'"start"')
    first = tab.session
    asked = [*tab.messages]
    assert tab.send("Well?", model="echo/echo").said == "Well?"
    assert parent(tab)["session_id"] == first
    tab.messages = asked
    tab.regenerate(model="echo/echo")
    assert tab.said == "Go."


def test_a_chat_begun_anew_in_one_tab(tab):
    """Is another conversation, though an answer of the other tab's was just stopped."""
    cut(tab, "scripted/mute", b'"start"')
    other = another(tab).send("Something else.", model="echo/echo")
    assert parent(other) is None


# --- approvals --------------------------------------------------------------------------------------------------------


def decided(server, body):
    """The responses to the same request, sent by some clients at once."""
    told = []

    def post():
        with server.client() as client:
            told.append(client.post(CHAT, json=body))

    threads = [Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


@needs_mcp
def test_two_who_decide_at_once(tab, server, client):
    """The same way: the decision is on record once, and each is told how it goes on."""
    tab.body = {"model": "scripted/greet", "tools": ["house_greet"]}
    tab.send("Greet them.")
    tab.decide(True, "Bob is away")
    told = decided(server, tab.request())
    assert [each.status_code for each in told] == [200] * 4
    assert {each.text.count("tool-output-denied") for each in told} == {1}
    assert all(each.text.endswith("data: [DONE]\n\n") for each in told)
    events = client.get(f"/api/sessions/{tab.session}/events", params={"types": "tool.approved,tool.refused"}).json()
    assert [event["type"] for event in events["items"]] == ["tool.approved", "tool.refused"]


@needs_mcp
def test_what_a_person_did_not_decide(tab, client, server):
    """Is not gone on from with another message, nor is anything recorded; it still waits, and can be decided."""
    tab.body = {"model": "scripted/greet", "tools": ["house_greet"]}
    tab.send("Greet them.")
    before = server.size()
    refused = client.post(CHAT, json=tab.request(messages=[*tab.messages, text("Forget it.", 9)]))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "tool_results_missing")
    assert server.size() == before
    tab.decide(True, True)
    assert tab.send().said == "Done."


# --- parts ------------------------------------------------------------------------------------------------------------


def test_parts_of_other_servers(tab, client):
    """What the SDK's newest version adds to a message is taken, and what holds words of a person is refused by name."""
    approval = {"id": "x", "approved": False, "reason": "late", "descriptor": {}, "requestReason": "why"}
    call = {"type": "dynamic-tool", "dynamic": False, "toolName": "look", "toolCallId": "a", "input": {"x": 1}}
    parts = [
        {"type": "step-start"},
        {"type": "custom", "kind": "vendor.thing", "providerMetadata": {}},
        {"type": "reasoning", "id": "r", "text": "Hm."},
        {"type": "reasoning-file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
        {"type": "text", "text": "Well.", "citations": [{"type": "url"}]},
        call | {"state": "output-denied", "approval": approval | {"inputSchemaInput": {}, "signature": "s"}},
        call | {"toolCallId": "b", "state": "input-streaming", "rawInput": '{"x', "inputEncoding": "json"},
        {"type": "step-start"},
        {"type": "text", "text": "So."},
    ]
    tab.messages = [text("Hi."), {"id": "a1", "role": "assistant", "parts": parts}]
    tab.send("And?", model="echo/echo")
    roles = [message["role"] for message in client.get(f"/api/sessions/{tab.session}/messages").json()["items"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    steering = {"type": "steering-message", "id": "s", "parts": [{"type": "text", "text": "Hurry."}]}
    tab.messages[1]["parts"].append(steering)
    refused = client.post(CHAT, json=tab.request()).json()["error"]
    assert (refused["code"], refused["param"]) == ("unknown_part", "messages[1].parts[9].type")
