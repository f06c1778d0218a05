"""The Vercel AI SDK's stream protocol over HTTP: parts, histories on record, resuming and stopping, approvals, and bad
input, of which nothing is recorded.
"""

import base64
import hashlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.api.compat import ai_sdk_forms
from tests.api import chat_upstream
from tests.api.conftest import settings_on
from tests.api.harness import Process, in_thread, named, opened, read
from tests.api.ui_messages import CHAT, MODELS, Ui, fold, needs_mcp, options_in, parts_of, text

KEY, OTHER = "sk-one", "sk-two"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
NOBODY = "0" * 32
LOOK = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ui")
    with in_thread(settings_on(folder, **options_in(folder))) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def ui(client, request):
    """A chat of its own."""
    return Ui(client, f"chat {request.node.name}"[:200].replace("/", " "))


def messages(client, session):
    return client.get(f"/api/sessions/{session}/messages").json()["items"]


def roles(client, session):
    return [message["role"] for message in messages(client, session)]


def parent(client, session):
    return client.get(f"/api/sessions/{session}").json()["parent"]


def matches(client, turn):
    """The prompts of a turn's attempts can be derived again, and nothing was left out of them."""
    for number in range(1, len(client.get(f"/api/turns/{turn}").json()["attempts"]) + 1):
        prompt = client.get(f"/api/turns/{turn}/prompt", params={"attempt": number}).json()
        assert prompt["matches"] is True
        assert prompt["window"]["omitted"]["count"] == 0
    return True


def refused(response, status, code, param=None):
    """The error of a refusal; the SDK shows its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    return error


# --- streams ----------------------------------------------------------------------------------------------------------


def test_an_answer(ui):
    """Is a step of a message, which says where it is on record."""
    ui.send("Hello.")
    place = {"model": "echo/echo", "session": ui.session, "turn": ui.turn}
    usage = {"inputTokens": 2, "outputTokens": 2, "totalTokens": 4, "reasoningTokens": None, "cachedInputTokens": None}
    assert ui.parts == [
        {"type": "start", "messageId": f"msg_{ui.turn.replace('-', '')}", "messageMetadata": place},
        {"type": "start-step"},
        {"type": "text-start", "id": "text-1-0"},
        {"type": "text-delta", "id": "text-1-0", "delta": "Hello."},
        {"type": "text-end", "id": "text-1-0"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop", "messageMetadata": place | {"usage": usage}},
    ]
    assert ui.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert ui.headers["x-vercel-ai-ui-message-stream"] == "v1"


def test_reasoning_and_strange_text(ui):
    """Each block is told to the byte under a name of its own."""
    ui.send("Two?", model="scripted/think")
    assert [part["type"] for part in ui.last["parts"]] == ["step-start", "reasoning", "text"]
    assert [part.get("text") for part in ui.last["parts"][1:]] == ["Hm, two.", "Two."]
    ui.send("More.", model="scripted/strange")
    assert ui.said == MODELS["strange"][0]["steps"][0]["text"]
    ui.send("Again.", model="scripted/long")
    assert ui.parts[-1]["finishReason"] == "length"


def test_an_error_comes_as_a_part(ui, client):
    """After what was said; the next message goes on after that."""
    ui.send("Well?", model="scripted/fails")
    assert [part["type"] for part in ui.parts[-3:]] == ["text-delta", "text-end", "error"]
    assert (ui.parts[-1].keys(), ui.said) == ({"type", "errorText"}, "I brea")
    assert "no" in ui.parts[-1]["errorText"]
    first = ui.session
    ui.send("And now?", model="scripted/fails")
    assert (ui.session, ui.said) == (first, "Now.")
    assert roles(client, first) == ["user", "assistant"] * 2


def test_a_failure_before_a_word(tmp_path):
    """Is a part too: the turn is on record, and the client is told of it."""
    with chat_upstream.upstream() as upstream:
        options = {"openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1", "max_attempts": 1}
        with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
            ui = Ui(client, "failing").send("Hi.", model="openai/broken")
            assert [part["type"] for part in ui.parts] == ["start", "error"]
            assert client.get(f"/api/turns/{ui.turn}").json()["status"] == "failed"
            ui.send("Again?", model="openai/gpt-5")
            assert ui.said == "Yes."


def test_sources_and_images(tmp_path):
    """What a vendor cites is told as sources; a client's image reaches the model as one, and its text as text."""
    with chat_upstream.upstream() as upstream:
        options = {"openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1"}
        with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
            ui = Ui(client, "cited", model="openai/cited").send("Sure?")
            told = [part for part in ui.parts if part["type"] == "source-url"]
            assert told == [
                {"type": "source-url", "sourceId": "source-1", "url": "https://example.org/yes", "title": "Yes"}
            ]
            files = [
                {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{PNG}", "filename": "a.png"},
                {"type": "file", "mediaType": "image", "url": "https://example.org/b.png"},
                {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;charset=utf-8;base64,w6lh"},
                {"type": "file", "mediaType": "text/*", "url": "data:text/csv,a%2Cb"},
                {"type": "text", "text": "What are these?"},
            ]
            ui.send(text("") | {"parts": files}, model="openai/gpt-5")
            content = messages(client, ui.session)[2]["content"]
            assert content == [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/b.png"}},
                {"type": "text", "text": "éa"},
                {"type": "text", "text": "\n\n"},
                {"type": "text", "text": "a,b"},
                {"type": "text", "text": "\n\n"},
                {"type": "text", "text": "What are these?"},
            ]
            sent = upstream.bodies[-1]["messages"][-1]["content"]
            assert [part["type"] for part in sent] == ["image_url", "image_url", "text"]
            assert sent[-1]["text"] == "éa\n\na,b\n\nWhat are these?"


# --- histories --------------------------------------------------------------------------------------------------------


def test_a_chat_goes_on_in_its_session(ui, client):
    """Nothing is recorded twice; the model is sent all of it, and the system prompts."""
    ui.body = {"system": "Be brief."}
    ui.messages = [{"id": "s", "role": "system", "parts": [{"type": "text", "text": "Be kind."}]}]
    ui.send("one").send("two").send("three")
    assert ui.said == "three"
    assert roles(client, ui.session) == ["user", "assistant"] * 3
    assert client.get(f"/api/sessions/{ui.session}").json()["system"] == "Be brief.\n\nBe kind."
    assert matches(client, ui.turn)


def test_two_chats_that_say_the_same(ui, client):
    """Each goes on in its own session."""
    other = Ui(client, f"other {ui.name}").send("The same words.")
    ui.send("The same words.")
    first, second = other.session, ui.session
    assert other.send("More.").session == first != second
    assert ui.send("More.").session == second


def test_an_answer_is_given_again(ui, client):
    """In a fork, which shares the session up to before the message that is answered again; also of the first."""
    ui.send("one", model="scripted/think").send("two")
    first = ui.session
    ui.regenerate(model="scripted/think")
    assert parent(client, ui.session)["session_id"] == first
    shared = parent(client, ui.session)["version"]
    assert [message["version"] for message in messages(client, first)][1] == shared
    ui.messages = ui.messages[:2]
    ui.regenerate(model="echo/echo")
    assert parent(client, ui.session)["version"] == 1
    assert (roles(client, ui.session), ui.said) == (["user", "assistant"], "one")
    forked = ui.session
    assert ui.send("on").session == forked
    tree = client.get(f"/api/sessions/{first}/branches").json()
    assert len(tree["nodes"]) == 3


def test_a_message_is_edited(ui, client):
    """Is a fork; the earlier way stays as it was."""
    ui.send("one").send("two").send("three")
    first = ui.session
    ui.edit(2, "zwei")
    assert (parent(client, ui.session)["session_id"], ui.said) == (first, "zwei")
    assert [message["content"][0]["text"] for message in messages(client, ui.session)] == ["one", "one", "zwei", "zwei"]
    ui.edit(0, "eins")
    assert parent(client, ui.session)["version"] == 1
    assert roles(client, first) == ["user", "assistant"] * 3


def test_a_chat_whose_name_is_used_anew_begins_anew(ui, client):
    """It is no edit of what was said under that name before."""
    ui.send("one")
    first = ui.session
    ui.messages = []
    assert ui.send("another thing").session != first
    assert parent(client, ui.session) is None


def test_a_named_session(ui, client):
    """A header names the session to go on in, as with the other protocols."""
    session = client.post("/api/sessions", json={"model": "echo/echo", "system": "Be brief."}).json()["id"]
    named = {"x-manent-session": session}
    read(client, CHAT, "POST", json=ui.request(messages=[text("hi")]), headers=named)
    assert roles(client, session) == ["user", "assistant"]
    with opened(
        client, "POST", CHAT, json=ui.request("regenerate-message", messages=[text("hi")]), headers=named
    ) as it:
        assert parent(client, it.response.headers["x-manent-session"]) == {"session_id": session, "version": 1}
    unknown = {"x-manent-session": "01890000-0000-7000-8000-000000000000"}
    for trigger in ("submit-message", "regenerate-message"):
        refused(
            client.post(CHAT, json=ui.request(trigger, messages=[text("hi")]), headers=unknown),
            404,
            "session_not_found",
            "X-Manent-Session",
        )


def test_a_history_of_another_server(ui, client):
    """Is recorded as the client's own words: calls, results, and what was refused."""
    step = {"type": "step-start"}
    done = {
        "type": "tool-look",
        "toolCallId": "a",
        "state": "output-available",
        "input": {"x": 1},
        "output": {"y": [2]},
    }
    failed = {"type": "dynamic-tool", "toolName": "see", "toolCallId": "b", "state": "output-error", "input": {}}
    no = {"type": "tool-look", "toolCallId": "c", "state": "output-denied", "input": {}}
    ui.messages = [
        text("Look."),
        {
            "id": "a1",
            "role": "assistant",
            "metadata": {"any": "thing"},
            "parts": [
                step,
                {"type": "reasoning", "text": "Hm.", "state": "done", "providerMetadata": {"x": {}}},
                {"type": "text", "text": "Let me.", "state": "done"},
                done,
                failed | {"errorText": "blind", "providerExecuted": False},
                no | {"approval": {"id": "x", "approved": False, "reason": "late"}},
                step,
                {"type": "source-url", "sourceId": "s", "url": "https://example.org"},
                {"type": "data-weather", "id": "w", "data": {"rain": False}},
                {"type": "text", "text": "There."},
            ],
        },
        {"id": "a2", "role": "assistant", "parts": []},
    ]
    ui.send("Thanks.")
    said = [(message["role"], message["content"], message["actor"]) for message in messages(client, ui.session)]
    assert [role for role, _, _ in said] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert [content for role, content, _ in said if role == "tool"] == [
        [{"type": "tool_result", "tool_use_id": "a", "content": '{"y":[2]}'}],
        [{"type": "tool_result", "tool_use_id": "b", "content": "blind", "is_error": True}],
        [
            {
                "type": "tool_result",
                "tool_use_id": "c",
                "content": "Not called: a person refused this call (late).",
                "is_error": True,
            }
        ],
    ]
    assert {actor for _, _, actor in said[:7]} == {"local"}
    first = ui.session
    assert ui.send("More.").session == first


# --- tools ------------------------------------------------------------------------------------------------------------


def test_tools_that_the_client_runs(ui, client):
    """A result goes on with the same message, in a turn of its own, and is told with it to who comes back."""
    ui.body = {"model": "scripted/rounds", "tools": [LOOK], "toolChoice": "auto"}
    ui.send("Is it dry?")
    assert (ui.parts[-1]["finishReason"], ui.calls[0]["input"]) == ("tool-calls", {"city": "Rome"})
    name, turns = ui.last["id"], [ui.turn]
    ui.output(state="output-available", output={"rain": False})
    ui.send(messageId=name)
    turns.append(ui.turn)
    assert [each["state"] for each in ui.calls] == ["output-available", "input-available"]
    ui.output(state="output-error", errorText="no window")
    with opened(client, "POST", CHAT, json=ui.request()) as stream:
        stream.until(lambda block: b"text-delta" in block.raw)
    assert ui.resume().last["id"] == name
    turns.append(ui.turn)
    assert len(set(turns)) == 3
    assert [each["state"] for each in ui.calls] == ["output-available", "output-error"]
    assert [each.get("output", each.get("errorText")) for each in ui.calls] == ['{"rain":false}', "no window"]
    assert ui.said == "abcdefghijklmnopqrstuvwxyz" * 2
    assert len(ui.messages) == 2
    recorded = ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert roles(client, ui.session) == recorded
    session = ui.session
    ui.send("Thanks.", model="echo/echo")
    assert (ui.session, roles(client, session)) == (session, [*recorded, "user", "assistant"])
    assert matches(client, ui.turn)


def test_tools_as_assistant_ui_sends_them(ui):
    """By their names, with parameters; and the fields that it sends beside them."""
    tools = {"look": {"description": "Looks.", "parameters": {"type": "object", "properties": {}}}}
    more = {"callSettings": {}, "config": {}, "metadata": {"x": 1}, "system": ""}
    ui.send("Is it dry?", model="scripted/tools", tools=tools, **more)
    assert ui.calls[0]["state"] == "input-available"


def test_tools_that_run_here(ui, client):
    """In one turn of several steps; what came of them is told, and recognised when it is sent again."""
    ui.body = {"model": "scripted/sum", "tools": ["calculator"]}
    ui.send("What is 6 times 7?")
    assert [part["type"] for part in ui.last["parts"]] == [
        *("step-start", "text", "tool-calculator"),
        *("step-start", "text"),
    ]
    (made,) = ui.calls
    assert (made["state"], made["output"], ui.parts[-1]["finishReason"]) == ("output-available", "42", "stop")
    session, turn = ui.session, ui.turn
    assert matches(client, turn)
    ui.send("Thanks.", model="echo/echo")
    assert (ui.session, roles(client, session)) == (
        session,
        ["user", "assistant", "tool", "assistant", "user", "assistant"],
    )
    ui.messages = []
    ui.send("And nothing?", model="scripted/zero", tools=["calculator"])
    assert (ui.calls[0]["state"], ui.said) == ("output-error", "Done.")


def test_a_tool_here_and_one_of_the_clients(ui, client):
    """What runs here has run when the client is asked for its part; both are recognised in their order."""
    ui.send("Both.", model="scripted/mixed", tools=[LOOK, "calculator"])
    assert [each["state"] for each in ui.calls] == ["input-available", "output-available"]
    ui.calls[0].update(state="output-available", output="dry")
    session = ui.session
    ui.send(model="scripted/mixed", tools=[LOOK, "calculator"])
    assert (ui.said, ui.session) == ("Done.", session)
    assert roles(client, session) == ["user", "assistant", "tool", "tool", "assistant"]


def test_an_input_that_is_none(ui, client):
    """A call whose input is no object is told as an error, and goes back as the model wrote it."""
    ui.send("Look.", model="scripted/broken", tools=[LOOK])
    assert (ui.calls[0]["state"], ui.calls[0]["rawInput"]) == ("output-error", '{"city": "half')
    session = ui.session
    ui.send(model="scripted/broken", tools=[LOOK])
    assert (ui.said, ui.session) == ("Done.", session)


# --- approvals --------------------------------------------------------------------------------------------------------


def greeting(ui):
    ui.body = {"model": "scripted/greet", "tools": ["house_greet"]}
    return ui.send("Greet them.")


@needs_mcp
def test_a_person_decides_and_the_same_turn_goes_on(ui, client):
    """The stream ends with what is asked; the next request brings the answers, and the rest of the message."""
    greeting(ui)
    assert [each["state"] for each in ui.calls] == ["approval-requested"] * 2
    assert [part["type"] for part in ui.parts[-4:]] == [*["tool-approval-request"] * 2, "finish-step", "finish"]
    assert ui.parts[-1]["finishReason"] == "tool-calls"
    turn, session, name = ui.turn, ui.session, ui.last["id"]
    asked = ui.last["parts"]
    assert ui.resume().last["parts"] == asked  # who comes back to it is asked again
    ui.decide(True, "Bob is away")
    ui.send(messageId=name)
    assert (ui.turn, ui.session, ui.last["id"]) == (turn, session, name)
    assert ui.parts[0]["messageId"] == name
    assert [part["type"] for part in ui.parts[1:3]] == ["tool-output-available", "tool-output-denied"]
    assert [each["state"] for each in ui.calls] == ["output-available", "output-denied"]
    assert (ui.calls[0]["output"], ui.said) == ("hello Ann", "Done.")
    decided = client.get(f"/api/sessions/{session}/events", params={"types": "tool.approved,tool.refused"}).json()
    assert [(event["type"], event["body"]) for event in decided["items"]] == [
        ("tool.approved", None),
        ("tool.refused", {"reason": "Bob is away"}),
    ]
    assert ui.send("Thanks.", model="echo/echo").session == session
    assert matches(client, turn)


@needs_mcp
def test_decisions_that_come_twice_or_from_elsewhere(ui, client):
    """What is on record is taken as it is; a decision that was made otherwise is refused."""
    greeting(ui)
    turn = ui.turn
    decided = client.post(f"/api/turns/{turn}/decisions", json={"tool_use_id": "call_1", "approve": True})
    assert decided.status_code == 200
    ui.decide(True, True)
    asked = json.loads(json.dumps(ui.messages))
    ui.send()
    assert (ui.turn, ui.said) == (turn, "Done.")
    ui.messages = asked
    again = json.loads(json.dumps(asked))
    ui.send()
    assert (ui.turn, ui.said) == (turn, "Done.")
    again[-1]["parts"][-1]["approval"]["approved"] = False
    body = ui.request(messages=again)
    refused(client.post(CHAT, json=body), 409, "no_decision_awaited", "messages[1].parts[2].approval")


@needs_mcp
def test_decisions_that_cannot_be(ui, client, server):
    """A missing one, one on nothing, and one with too long a reason: nothing is recorded, and the turn still waits."""
    greeting(ui)
    before = server.size()
    base = json.loads(json.dumps(ui.messages))
    first = {"state": "approval-responded"}

    def posted(*approvals):
        ui.messages = json.loads(json.dumps(base))
        for made, approval in zip(ui.calls, approvals, strict=False):
            made.update(first)
            made["approval"] |= approval
        return client.post(CHAT, json=ui.request())

    yes = {"approved": True}
    refused(posted(yes), 400, "approval_missing", "messages")
    where = "messages[1].parts[1].approval"
    refused(posted(yes | {"id": "x"}, yes), 400, "approval_not_found", f"{where}.id")
    refused(posted({"id": f"approval_{NOBODY}_call_1"} | yes), 400, "approval_not_found", f"{where}.id")
    refused(posted({}, yes), 400, "missing_required_parameter", f"{where}.approved")
    refused(posted(yes | {"reason": "x" * 10_000}, yes), 400, "invalid_value", f"{where}.reason")
    turn = ui.turn.replace("-", "")
    refused(
        posted(yes, yes | {"id": f"approval_{turn}_call_9"}),
        409,
        "no_decision_awaited",
        "messages[1].parts[2].approval",
    )
    refused(posted(yes, yes | {"id": f"approval_{turn}_call_1"}), 400, "approval_missing", "messages")
    assert server.size() == before
    assert ui.stop() == {"success": True, "stopped": True}
    refused(posted(yes, yes), 409, "no_decision_awaited", where)


@needs_mcp
def test_results_with_images(ui, client):
    """Come back as they were given."""
    ui.send("Pieces.", model="scripted/pieces", tools=["house_pieces"])
    ui.decide(True)
    ui.send()
    output = ui.calls[0]["output"]
    kinds = [each["type"] for each in output["value"]] if isinstance(output, dict) else ["text"]
    assert kinds[0] == "text"
    session = ui.session
    assert ui.send("Thanks.", model="echo/echo").session == session


# --- resuming and stopping --------------------------------------------------------------------------------------------


def started(client, ui, model="scripted/slow", words="Go.", parts=3):
    """A message that is being given, whose client has left after some pieces of its text."""
    left = iter(range(parts, 0, -1))
    ui.messages.append(text(words, len(ui.messages) + 1))
    with opened(client, "POST", CHAT, json=ui.request(model=model)) as stream:
        blocks = stream.until(lambda block: block.data and '"text-1-0","delta"' in block.data and next(left) <= 1)
        ui.headers = stream.response.headers
    return [block.json for block in blocks]


def test_who_comes_back_is_told_all(ui, client):
    """From the beginning, under the same name; when it has ended there is nothing."""
    seen = started(client, ui)
    turn = ui.turn
    ui.resume()
    assert (ui.turn, ui.said) == (turn, "abcdefghijklmnopqrstuvwxyz" * 2)
    assert ui.parts[: len(seen)] == seen
    assert client.get(f"{CHAT}/{ui.name}/stream").status_code == 204
    assert client.get(f"{CHAT}/{ui.name}/stream").content == b""
    assert client.get(f"{CHAT}/nothing of mine/stream").status_code == 204
    assert client.get(f"/api/turns/{turn}").json()["status"] == "completed"


def test_a_client_that_leaves_cancels_nothing(tmp_path):
    """Though the server cancels what nobody reads any more, and what other protocols' clients have left."""
    options = {"disconnect_grace_s": 1, "cancel_unread_after_s": 1}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        ui = Ui(client, "left")
        started(client, ui, "scripted/hang", parts=1)
        time.sleep(2)
        assert client.get(f"/api/turns/{ui.turn}").json()["status"] == "running"
        assert ui.stop() == {"success": True, "stopped": True}


def test_an_automatic_retry(ui, client):
    """Is given the turn that its first try has started, from its beginning on."""
    seen = started(client, ui)
    ui.messages = ui.messages[:1]
    body = ui.request(model="scripted/slow")
    with opened(client, "POST", CHAT, json=body, headers={"x-stainless-retry-count": "1"}) as stream:
        assert stream.response.headers["x-manent-turn"] == ui.turn
        assert parts_of([*stream])[: len(seen)] == seen


def test_silence_is_broken(ui, client):
    """By comments, which are no parts."""
    with opened(client, "POST", CHAT, json=ui.request(messages=[text("x")], model="scripted/silent")) as stream:
        blocks = [*stream]
    assert any(block.data is None for block in blocks)
    assert fold(parts_of(blocks))["parts"][-1]["text"] == "before after"


def test_a_message_is_stopped(ui, client):
    """What was given stays on record, and the chat goes on after it; to stop again changes nothing."""
    started(client, ui, "scripted/hang", parts=1)
    turn = ui.turn
    assert ui.stop(activeStreamId=NOBODY) == {"success": True, "stopped": False}
    with opened(client, "GET", f"{CHAT}/{ui.name}/stream") as stream:
        blocks = stream.until(lambda block: b"text-delta" in block.raw)
        assert ui.stop(activeStreamId=turn, assistantMessage={"id": "x"}) == {"success": True, "stopped": True}
        parts = parts_of([*blocks, *stream])
    assert parts[-1] == {"type": "abort", "reason": "the turn was cancelled"}
    assert client.get(f"/api/turns/{turn}").json()["status"] == "cancelled"
    assert ui.stop() == {"success": True, "stopped": False}
    assert client.post(f"{CHAT}/nothing of mine/stop").json() == {"success": True, "stopped": False}
    ui.messages.append(fold(parts))
    session = ui.session
    assert ui.send("And now?", model="echo/echo").session == session


def test_a_new_message_while_one_is_given(ui, client):
    """Is a fork: what is being given goes on."""
    started(client, ui, "scripted/hang", parts=1)
    first, turn = ui.session, ui.turn
    ui.messages = []
    ui.send("Something else.")
    assert ui.session != first
    assert client.get(f"/api/turns/{turn}").json()["status"] == "running"
    assert ui.stop(activeStreamId=turn) == {"success": True, "stopped": True}
    assert client.get(f"{CHAT}/{ui.name}/stream").status_code == 204


def test_a_chat_outlives_the_server(tmp_path):
    """A process that is killed: the chat goes on in its session, and the message that was cut off is not running."""
    database = tmp_path / "manent.db"
    options = {f"MANENT_{name.upper()}": value for name, value in options_in(tmp_path).items()}
    with Process(str(database), **options) as server, server.client() as client:
        ui = Ui(client, "lasting").send("one")
        session = ui.session
        seen = started(client, ui, "scripted/hang", "two", parts=1)
        server.popen.kill()
    with Process(str(database), **options) as server, server.client() as client:
        ui.client = client
        assert client.get(f"{CHAT}/lasting/stream").status_code == 204
        assert ui.stop() == {"success": True, "stopped": False}
        ui.messages.append(fold(seen))
        ui.send("three")
        assert (ui.session, ui.said) == (session, "three")
        assert server.stop() == 0
    assert engine.verify_database(str(database)).problem is None
    assert engine.rebuild_projections(str(database)).differed == ()


# --- bad input --------------------------------------------------------------------------------------------------------


def body(*said, **more):
    return {"id": "bad", "messages": list(said), **more}


def one(**part):
    return body(text("x") | {"parts": [part]})


def of_assistant(*parts):
    return body(text("x"), {"id": "a", "role": "assistant", "parts": list(parts)})


HI = text("hi")
MADE = {"type": "tool-look", "toolCallId": "c", "state": "output-available", "input": {}, "output": "x"}
BAD = [
    ({"messages": [HI]}, "missing_required_parameter", "id"),
    (body(HI) | {"id": ""}, "invalid_value", "id"),
    (body(HI) | {"id": 7}, "invalid_type", "id"),
    (body(HI) | {"id": "x" * 257}, "invalid_value", "id"),
    (body(HI) | {"id": "a\n"}, "invalid_value", "id"),
    (body(HI) | {"id": "a\0"}, "invalid_value", "id"),
    ({"id": "x"}, "missing_required_parameter", "messages"),
    (body(), "invalid_value", "messages"),
    (body(HI) | {"messages": "hi"}, "invalid_type", "messages"),
    (body(HI, trigger="resume-stream"), "invalid_value", "trigger"),
    (body(HI, colour="red"), "unknown_parameter", "colour"),
    (body(HI, callSettings={"maxTokens": 1}), "unsupported_parameter", "callSettings"),
    (body(HI | {"role": "tool"}), "invalid_value", "messages[0].role"),
    (body({"role": "user", "parts": []}), "missing_required_parameter", "messages[0].id"),
    (body({"id": "x", "role": "user", "content": "hi"}), "unknown_parameter", "messages[0].content"),
    (body(text("x") | {"parts": []}), "empty_message", "messages[0].parts"),
    (one(type="data-only", data=1), "empty_message", "messages[0].parts"),
    (one(type="hologram"), "unknown_part", "messages[0].parts[0].type"),
    (one(text="no type"), "missing_required_parameter", "messages[0].parts[0].type"),
    (one(type="text"), "missing_required_parameter", "messages[0].parts[0].text"),
    (one(type="text", text=5), "invalid_type", "messages[0].parts[0].text"),
    (one(type="text", text="a\0"), "nul_character", "messages[0].parts[0]"),
    (one(type="text", text="x", colour=1), "unknown_parameter", "messages[0].parts[0].colour"),
    (one(type="step-start"), "unknown_part", "messages[0].parts[0].type"),
    (
        one(type="file", mediaType="application/pdf", url="data:application/pdf;base64,AAAA"),
        "unsupported_parameter",
        "messages[0].parts[0].mediaType",
    ),
    (
        one(type="file", mediaType="audio/mpeg", url="https://x.example/a.mp3"),
        "unsupported_parameter",
        "messages[0].parts[0].mediaType",
    ),
    (
        one(type="file", mediaType="text/plain", url="https://x.example/a.txt"),
        "unsupported_parameter",
        "messages[0].parts[0].url",
    ),
    (
        one(type="file", mediaType="text/plain", url="data:text/plain;base64,/w=="),
        "invalid_value",
        "messages[0].parts[0].url",
    ),
    (one(type="file", mediaType="image/png", url="data:image/png,xx"), "invalid_value", "messages[0].parts[0].url"),
    (one(type="file", mediaType="image/png", url="data:oops"), "invalid_value", "messages[0].parts[0].url"),
    (one(type="file", mediaType="image/png", url="ftp://x/y.png"), "invalid_value", "messages[0].parts[0].url"),
    (
        one(type="file", mediaType="image/tiff", url="data:image/tiff;base64,AAAA"),
        "invalid_value",
        "messages[0].parts[0].mediaType",
    ),
    (
        one(type="file", mediaType="image/png", url="x", providerReference={"openai": "file-1"}),
        "invalid_type",
        "messages[0].parts[0].providerReference",
    ),
    (of_assistant({"type": "text", "text": "done"}), "invalid_value", "messages"),
    (of_assistant({"type": "file", "mediaType": "image/png", "url": "x"}), "unknown_part", "messages[1].parts[0].type"),
    (
        of_assistant({"type": "tool-", "toolCallId": "c", "state": "input-available"}),
        "missing_required_parameter",
        "messages[1].parts[0].type",
    ),
    (of_assistant(MADE | {"type": "dynamic-tool"}), "missing_required_parameter", "messages[1].parts[0].toolName"),
    (of_assistant(MADE | {"state": "half"}), "invalid_value", "messages[1].parts[0].state"),
    (
        of_assistant({name: value for name, value in MADE.items() if name != "input"}),
        "missing_required_parameter",
        "messages[1].parts[0].input",
    ),
    (of_assistant(MADE | {"state": "output-error"}), "missing_required_parameter", "messages[1].parts[0].errorText"),
    (of_assistant(MADE | {"toolCallId": "no good"}), "invalid_value", "messages[1].parts[0].toolCallId"),
    (of_assistant(MADE, MADE), "invalid_value", "messages"),
    (of_assistant(MADE | {"state": "input-available"}), "invalid_value", "messages"),
    (body(HI, of_assistant(MADE | {"state": "input-available"})["messages"][1], HI), "tool_results_missing", None),
    (
        of_assistant(MADE | {"state": "approval-responded", "approval": {"id": "y", "approved": True}}),
        "approval_not_found",
        "messages[1].parts[0].approval.id",
    ),
    (body({"id": "s", "role": "system", "parts": [{"type": "text", "text": "s"}]}), "invalid_value", "messages"),
    (body({"id": "a", "role": "assistant", "parts": []}, trigger="regenerate-message"), "invalid_value", "messages"),
    (body(HI, model="nothing"), "model_not_found", "model"),
    (body(HI, model=""), "invalid_value", "model"),
    (body(HI, tools="calculator"), "invalid_type", "tools"),
    (body(HI, tools=["nothing"]), "unknown_tool", "tools"),
    (body(HI, tools=[7]), "invalid_type", "tools[0]"),
    (body(HI, tools=[{"inputSchema": {}}]), "missing_required_parameter", "tools[0].name"),
    (body(HI, tools=[LOOK, LOOK]), "invalid_value", "tools"),
    (body(HI, tools=["echo", LOOK | {"name": "a b"}]), "invalid_value", "tools[1].name"),
    (body(HI, tools=["echo", LOOK | {"inputSchema": {"type": "array"}}]), "invalid_value", "tools[1].inputSchema"),
    (body(HI, tools=[LOOK | {"colour": 1}]), "unknown_parameter", "tools[0].colour"),
    (body(HI, tools={"look": "calculator"}), "invalid_value", "tools"),
    (body(HI, toolChoice="maybe"), "invalid_value", "toolChoice"),
    (body(HI, toolChoice={"type": "tool", "toolName": "x"}), "invalid_value", "toolChoice.toolName"),
    (body(HI, temperature=9), "invalid_value", "temperature"),
    (body(HI, topP=9), "invalid_value", "topP"),
    (body(HI, topK=0), "invalid_value", "topK"),
    (body(HI, maxOutputTokens=0), "invalid_value", "maxOutputTokens"),
    (body(HI, stopSequences=["x"] * 99), "invalid_value", "stopSequences"),
    (body(HI, reasoning="some"), "invalid_value", "reasoning"),
    (body(HI, messageId=7), "invalid_type", "messageId"),
]


@pytest.mark.parametrize(("sent", "code", "field"), named(BAD))
def test_bad_input(client, server, sent, code, field):
    """Is refused with a code, and the client's name of the field; nothing is recorded."""
    before = server.size()
    response = client.post(CHAT, json=sent)
    refused(response, 404 if code == "model_not_found" else 400, code, field)
    assert server.size() == before


def test_bad_bodies_and_paths(client):
    """Those that cannot be read at all, a stop's too."""
    as_json = {"content-type": "application/json"}
    for path in (CHAT, f"{CHAT}/x/stop"):
        refused(client.post(path, content=b"{", headers=as_json), 400, "invalid_json", "body")
        refused(
            client.post(path, content=b"x", headers={"content-type": "text/plain"}),
            415,
            "unsupported_media_type",
            "Content-Type",
        )
    refused(client.post(f"{CHAT}/x/stop", json={"colour": 1}), 400, "unknown_parameter", "colour")
    refused(client.get(f"{CHAT}/x/stream?after=1"), 400, "unknown_parameter", "after")
    half = json.dumps(body(HI)).replace("bad", "\\ud800")
    refused(client.post(CHAT, content=half, headers=as_json), 400, "invalid_json", "body")
    refused(client.get(CHAT), 405, "method_not_allowed")
    assert client.get(f"{CHAT}/{'x' * 3000}/stream").status_code == 204


def test_limits_of_size(tmp_path):
    """On the messages, and on one of them."""
    options = {"drop_in_max_messages": 3, "drop_in_max_block_bytes": 5000}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        before = server.size()
        refused(client.post(CHAT, json=body(*[HI] * 4)), 413, "too_large", "messages")
        refused(client.post(CHAT, json=body(text("x" * 6000))), 413, "too_large", "messages[0].parts[0]")
        assert server.size() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    field=st.sampled_from(sorted(ai_sdk_forms.FIELDS.keys() - {"model"})),
    value=JSON,
    inner=st.sampled_from(["id", "role", "parts", "metadata", "createdAt"]),
    kind=st.sampled_from(["text", "file", "tool-look", "dynamic-tool", "step-start", "reasoning", "data-x", "x"]),
    name=st.sampled_from(
        ["text", "state", "toolCallId", "input", "output", "approval", "errorText", "url", "mediaType"]
    ),
)
@settings(max_examples=60, deadline=None)
def test_no_body_is_the_servers_failure(client, field, value, inner, kind, name):
    """Whatever stands in a field: it is an answer, or a refusal that names a field."""
    whole = {"type": kind, "text": "x", "url": "https://x.example/y.png", "mediaType": "image/png"}
    bare = {"type": kind, "toolCallId": "c", "toolName": "look", "state": "output-available", "input": {}, "output": 1}
    parts = [part | {name: value} for part in (whole, bare)]
    said = [{"id": "a", "role": role, "parts": [part]} for part in parts for role in ("user", "assistant")]
    for sent in (body(HI) | {field: value}, body(HI | {inner: value}), *(body(HI, each, HI) for each in said)):
        response = client.post(CHAT, json=sent)
        assert response.status_code < 500, response.text
        if response.status_code != 200:
            assert response.json()["error"]["code"]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_chats_are_their_callers(tmp_path):
    """Another key's chat of the same name is another one, and can be neither resumed nor stopped."""
    keys = [
        {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": ["chat"]}
        for name, key in (("one", KEY), ("two", OTHER))
    ]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(file))) as server, server.client() as anyone:
        refused(anyone.post(CHAT, json=body(HI)), 401, "invalid_api_key")
        refused(anyone.post(CHAT, json=body(HI), headers={"x-api-key": "no"}), 401, "invalid_api_key")
        with (
            server.client(headers={"authorization": f"Bearer {KEY}"}) as mine,
            server.client(headers={"authorization": f"Bearer {OTHER}"}) as theirs,
        ):
            ui = Ui(mine, "secret")
            started(mine, ui, "scripted/hang", parts=1)
            assert theirs.get(f"{CHAT}/secret/stream").status_code == 204
            assert theirs.post(f"{CHAT}/secret/stop").json()["stopped"] is False
            other = Ui(theirs, "secret").send("Go.")
            assert other.session != ui.session
            with opened(mine, "GET", f"{CHAT}/secret/stream") as stream:
                blocks = stream.until(lambda block: b"text-delta" in block.raw)
                file.write_text(json.dumps(keys[1:]), encoding="utf-8")
                parts = parts_of([*blocks, *stream])
            assert parts[-1] == {"type": "error", "errorText": "the API key of this request is no longer valid"}
            refused(mine.get(f"{CHAT}/secret/stream"), 401, "invalid_api_key")


def replayed(client, sessions):
    """The verdicts on the turns of sessions, done once more with the log as the model."""
    begun = client.post("/api/replays", json={"sessions": sessions, "mode": "recorded"}).json()
    with client.stream("GET", f"/api/replays/{begun['id']}/stream") as stream:
        stream.read()
    return {result["verdict"] for result in client.get(f"/api/replays/{begun['id']}").json()["results"]}


def test_the_record_verifies(tmp_path):
    """After chats of every kind the log is whole, and projections are as they would be rebuilt."""
    with in_thread(settings_on(tmp_path, **options_in(tmp_path))) as server, server.client() as client:
        ui = Ui(client, "a").send("one").send("two")
        ui.regenerate()
        ui.edit(0, "eins")
        tooled = Ui(client, "b").send("Sum.", model="scripted/sum", tools=["calculator"])
        assert replayed(client, [ui.session, tooled.session]) == {"same"}
        client.post(f"/api/sessions/{tooled.session}/erase", json={"reason": "asked for"})
        assert client.get(f"{CHAT}/b/stream").status_code == 204
        tooled.messages = []
        assert tooled.send("Anew.").said == "Anew."
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()
