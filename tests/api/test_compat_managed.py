"""Anthropic's Managed Agents over HTTP: each session is one of Manent's, its events are the log's in other words."""

import base64
import hashlib
import json
import time
from threading import Thread
from uuid import UUID

import pytest
from anthropic.types.beta import BetaManagedAgentsSession, session_create_params, session_list_params
from anthropic.types.beta import session_update_params as update_params
from anthropic.types.beta import sessions as theirs
from anthropic.types.beta.sessions import event_list_params, event_send_params, event_stream_params
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typing_extensions import get_type_hints

from manent import engine
from manent.api.compat import managed_events, managed_forms, managed_input, managed_reading, managed_sessions
from tests.api.conftest import settings_on
from tests.api.harness import Process, in_thread, named, opened
from tests.api.ui_messages import needs_mcp, options_in

PATH = "/v1/sessions"
EVENT = TypeAdapter(theirs.BetaManagedAgentsSessionEvent)
STREAMED = TypeAdapter(theirs.BetaManagedAgentsStreamSessionEvents)
SESSION = TypeAdapter(BetaManagedAgentsSession)
KEYS = {"one": ("a", ["chat", "erase"]), "two": ("a", ["chat"]), "other": ("b", ["chat", "erase"])}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
NOBODY = f"sesn_{'0' * 32}"
TOOL = {"type": "custom", "name": "look", "description": "Looks.", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("managed")
    with in_thread(settings_on(folder, **options_in(folder))) as server:
        yield server
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def told(response):
    """The answer to a request, once it is seen to be one."""
    assert response.status_code == 200, response.text
    return response.json()


def refused(response, status, code, param=None):
    """The error of a refusal, in Anthropic's envelope."""
    assert response.status_code == status, response.text
    body = response.json()
    assert (body["type"], body["error"]["code"], body["error"].get("param")) == ("error", code, param), body
    assert body["request_id"] == response.headers["request-id"]
    return body["error"]


def begin(client, agent="echo/echo", **fields):
    """A session's name."""
    session = told(client.post(PATH, json={"agent": agent, "environment_id": "env_1"} | fields))
    SESSION.validate_python(session)
    return session["id"]


def said(text="Hello."):
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def send(client, session, *events, **options):
    return client.post(f"{PATH}/{session}/events", json={"events": [*events]}, **options)


def events(client, session, **query):
    """The events of a session, page by page."""
    found, page = [], {}
    while True:
        body = told(client.get(f"{PATH}/{session}/events", params=query | page))
        found += body["data"]
        if body["next_page"] is None:
            break
        assert len(body["data"]) <= query.get("limit", 100)
        page = {"page": body["next_page"]}
    for event in found:
        EVENT.validate_python(event)
    return found


def types(found):
    return [event["type"] for event in found]


def idle(client, session):
    """The events of a session that has come to rest."""
    until_s = time.monotonic() + 20
    while True:
        if told(client.get(f"{PATH}/{session}"))["status"] == "idle":
            return events(client, session)
        assert time.monotonic() < until_s
        time.sleep(0.02)


def native(client, session, below=""):
    return client.get(f"/api/sessions/{UUID(session.removeprefix('sesn_'))}{below}").json()


def result(name, text="dry", **more):
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": name,
        "content": [{"type": "text", "text": text}],
    } | more


def uses(found):
    return [event["id"] for event in found if event["type"] in {"agent.custom_tool_use", "agent.tool_use"}]


ROUND = ["user.message", "session.status_running", "span.model_request_start", "span.model_request_end"]


# --- forms ------------------------------------------------------------------------------------------------------------


def fields(kind):
    """The fields of one of the SDK's parameters, as they stand in a body or a query: the rest are headers."""
    return set(kind.__annotations__) - {"betas", "workspace_id"}


def test_each_field_of_the_sdks_is_in_a_table():
    """And there is no other."""
    assert managed_forms.CREATED.keys() == fields(session_create_params.SessionCreateParams)
    assert managed_forms.UPDATED.keys() == fields(update_params.SessionUpdateParams)
    assert managed_forms.SENT.keys() == fields(event_send_params.EventSendParams)
    assert managed_forms.MODEL.keys() == fields(beta_type("BetaManagedAgentsModelConfigParams"))
    assert managed_forms.TOOL.keys() == fields(beta_type("BetaManagedAgentsCustomToolParams"))
    assert managed_forms.AGENT_UPDATED.keys() == fields(beta_type("BetaManagedAgentsSessionAgentUpdateParam"))


def beta_type(name):
    return getattr(__import__("anthropic.types.beta", fromlist=[name]), name)


def test_each_event_that_the_sdk_sends_is_in_a_table():
    """With its fields."""
    sent = event_send_params.BetaManagedAgentsEventParams.__args__
    tables = {get_type_hints(kind)["type"].__args__[0]: fields(kind) for kind in sent}
    assert {name: {*table} for name, table in managed_input.EVENTS.items()} == tables


def test_each_parameter_of_the_sdks_is_known(client):
    """Those of lists: they are honoured, or refused by name."""
    times = {
        name.replace("_at_", "_at[") + "]"
        for name in ("created_at_gt", "created_at_gte", "created_at_lt", "created_at_lte")
    }
    assert times == managed_reading.SINCE.keys()
    spelt = {"created_at_gt", "created_at_gte", "created_at_lt", "created_at_lte"}
    assert fields(event_list_params.EventListParams) - spelt == {"limit", "order", "page", "types"}
    assert fields(event_stream_params.EventStreamParams) == {"event_deltas"}
    listed = fields(session_list_params.SessionListParams) - spelt - managed_sessions.NOT_HERE
    assert listed == {"include_archived", "limit", "order", "page", "statuses"}
    for name in managed_sessions.NOT_HERE:
        refused(client.get(PATH, params={name: "x"}), 400, "parameter_not_supported", name)


def test_the_types_of_events_are_the_sdks():
    """Each that can be told."""
    known = {
        kind.model_fields["type"].annotation.__args__[0]
        for kind in theirs.BetaManagedAgentsSessionEvent.__args__[0].__args__
    }
    assert known >= managed_events.TYPES


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_one_of_manents(client):
    """Its agent is the session's model, prompt and tools; what is set by either door is seen by the other."""
    agent = {"model": {"id": "echo/echo"}, "system": "Be brief.", "name": "Bob", "tools": [TOOL, "calculator"]}
    session = begin(client, agent, title="A talk", metadata={"topic": "sea"})
    here = native(client, session)
    assert (here["model"], here["system"], here["title"]) == ("echo/echo", "Be brief.", "A talk")
    assert here["allowed_tools"] == ["calculator"]
    there = told(client.get(f"{PATH}/{session}"))
    assert (there["environment_id"], there["metadata"], there["status"]) == ("env_1", {"topic": "sea"}, "idle")
    assert (there["agent"]["name"], there["agent"]["system"], there["agent"]["version"]) == ("Bob", "Be brief.", 1)
    assert (there["agent"]["tools"], there["agent"]["registered_tools"]) == ([TOOL], ["calculator"])
    body = {"title": None, "metadata": {"topic": None, "place": "Rome"}, "agent": {"tools": [TOOL | {"name": "see"}]}}
    changed = told(client.post(f"{PATH}/{session}", json=body))
    assert (changed["title"], changed["metadata"]) == (None, {"place": "Rome"})
    assert [tool["name"] for tool in changed["agent"]["tools"]] == ["see"]
    assert native(client, session)["allowed_tools"] == []
    version = native(client, session)["version"]
    assert told(client.post(f"{PATH}/{session}", json={})) == changed
    assert native(client, session)["version"] == version


def test_a_session_that_was_begun_natively(client):
    """Is read and gone on with, with all tools that are registered."""
    here = client.post("/api/sessions", json={"model": "scripted/sum", "metadata": {"n": 1}}).json()["id"]
    session = f"sesn_{UUID(here).hex}"
    assert told(client.get(f"{PATH}/{session}"))["metadata"] == {"n": "1"}
    send(client, session, said("Sum."))
    found = idle(client, session)
    assert types(found) == [
        *ROUND,
        *("agent.message", "agent.tool_use", "agent.tool_result"),
        *ROUND[2:],
        *("agent.message", "session.status_idle"),
    ]
    assert (found[5]["name"], found[5]["evaluated_permission"]) == ("calculator", "allow")
    assert (found[6]["tool_use_id"], found[6]["content"]) == (found[5]["id"], [{"type": "text", "text": "42"}])


def test_the_door_of_conversations(client):
    """Shows of the metadata what a client has given, and leaves the agent as it is."""
    session = begin(client, {"model": "echo/echo", "tools": [TOOL]}, metadata={"topic": "sea"})
    there = f"/v1/conversations/{session.replace('sesn_', 'conv_')}"
    assert told(client.get(there))["metadata"] == {"topic": "sea"}
    assert told(client.post(there, json={"metadata": {"place": "Rome"}}))["metadata"] == {"place": "Rome"}
    here = told(client.get(f"{PATH}/{session}"))
    assert (here["metadata"], here["agent"]["tools"]) == ({"place": "Rome"}, [TOOL])
    for path, metadata in ((there, {"manent.agent": "x"}), (f"{PATH}/{session}", {"manent.agent": None})):
        error = client.post(path, json={"metadata": metadata}).json()["error"]
        assert (error["code"], error["param"]) == ("invalid_value", "metadata.manent.agent")


def test_a_fork_of_a_session(client):
    """Has the agent and the history, with names of calls of its own; either answers a call that both share."""
    session = begin(client, {"model": "scripted/tools", "tools": [TOOL]})
    told(send(client, session, said()))
    first = idle(client, session)
    fork = client.post(f"/api/sessions/{UUID(session.removeprefix('sesn_'))}/fork", json={}).json()["id"]
    fork = f"sesn_{UUID(fork).hex}"
    second = idle(client, fork)
    assert types(second) == types(first)
    assert uses(second) != uses(first)
    for name, calls in ((session, first), (fork, second)):
        refused(
            send(client, name, result(uses(second if calls is first else first)[0])),
            400,
            "tool_call_not_found",
            "events[0].custom_tool_use_id",
        )
        told(send(client, name, result(uses(calls)[0])))
        assert idle(client, name)[-1]["stop_reason"] == {"type": "end_turn"}


def test_sessions_are_listed(tmp_path):
    """The newest first, those that were not archived or deleted, by what is asked for."""
    with in_thread(settings_on(tmp_path, **options_in(tmp_path))) as server, server.client() as client:
        made = [begin(client) for _ in range(4)]
        found, page = [], {}
        while True:
            body = told(client.get(PATH, params={"limit": 3} | page))
            found += [session["id"] for session in body["data"]]
            if body["next_page"] is None:
                break
            page = {"page": body["next_page"]}
        assert found == made[::-1]
        told(client.post(f"{PATH}/{made[0]}/archive"))
        told(client.delete(f"{PATH}/{made[1]}"))
        running = begin(client, "scripted/hang")
        told(send(client, running, said()))

        def listed(**query):
            return [session["id"] for session in told(client.get(PATH, params=query))["data"]]

        assert listed() == [running, *made[:1:-1]]
        assert listed(include_archived="true") == [running, *made[:1:-1], made[0]]
        assert listed(statuses="running") == listed(**{"statuses[]": "running"}) == [running]
        assert listed(**{"created_at[gt]": "2999-01-01"}) == []
        assert listed(**{"created_at[gte]": "2000-01-01T00:00:00Z"}) == listed()
        refused(client.get(PATH, params={"order": "asc"}), 400, "parameter_not_supported", "order")
        refused(client.get(PATH, params={"page": "x"}), 400, "invalid_cursor", "page")
        for name, value in (("limit", 0), ("statuses", "red"), ("created_at[gt]", "x")):
            refused(client.get(PATH, params={name: value}), 400, "invalid_value", name)
        refused(client.get(PATH, params={"created_at[eq]": "x"}), 400, "unknown_parameter", "created_at[eq]")
        refused(client.get(PATH, params={"colour": "x"}), 400, "unknown_parameter", "colour")


def test_archiving(client):
    """Nothing more is said there; to archive again changes nothing."""
    session = begin(client)
    archived = told(client.post(f"{PATH}/{session}/archive"))
    assert archived["archived_at"] == native(client, session)["updated_at"]
    assert told(client.post(f"{PATH}/{session}/archive")) == archived
    refused(send(client, session, said()), 400, "session_archived")


def test_deleting(client):
    """Erases what was said, and hides the session for ever. While a turn is open, or held, it is refused."""
    session = begin(client, "scripted/hang")
    told(send(client, session, said("Secret.")))
    refused(client.delete(f"{PATH}/{session}"), 409, "turn_already_open")
    told(send(client, session, {"type": "user.interrupt"}))
    here = str(UUID(session.removeprefix("sesn_")))
    client.patch(f"/api/sessions/{here}", json={"legal_hold": True})
    refused(client.delete(f"{PATH}/{session}"), 409, "legal_hold")
    client.patch(f"/api/sessions/{here}", json={"legal_hold": False})
    with opened(client, "GET", f"{PATH}/{session}/events/stream") as stream:
        assert told(client.delete(f"{PATH}/{session}")) == {"id": session, "type": "session_deleted"}
        assert STREAMED.validate_python(stream.until("session.deleted")[-1].json).type == "session.deleted"
    for response in (
        client.get(f"{PATH}/{session}"),
        send(client, session, said()),
        client.delete(f"{PATH}/{session}"),
    ):
        refused(response, 404, "session_not_found", "session_id")
    refused(client.get(f"{PATH}/{session}/events"), 404, "session_not_found", "session_id")
    assert all(message["erased"] for message in native(client, session, "/messages")["items"])


def test_words_that_are_erased(client):
    """Are told as such; the rest keeps its ids."""
    session = begin(client)
    told(send(client, session, said("Secret.")))
    before = idle(client, session)
    client.post(f"/api/sessions/{UUID(session.removeprefix('sesn_'))}/erase", json={"reason": "asked for"})
    after = events(client, session)
    assert [event["id"] for event in after] == [event["id"] for event in before]
    assert [event["content"] for event in after if "content" in event] == [[{"type": "redacted"}]] * 2


# --- events -----------------------------------------------------------------------------------------------------------


def test_a_message_is_answered(client):
    """What was sent is told with its id, as the list and the stream tell it; ids and order are the same for all."""
    session = begin(client)
    with opened(client, "GET", f"{PATH}/{session}/events/stream", params={"event_deltas[]": "agent.message"}) as stream:
        response = send(client, session, said())
        seen = stream.until("session.status_idle")
    sent = told(response)["data"]
    found = idle(client, session)
    assert types(found) == [*ROUND, "agent.message", "session.status_idle"]
    assert sent == found[:1]
    assert [block.json for block in seen if block.data] == found
    assert [block.event for block in seen if block.data] == types(found)
    assert all(STREAMED.validate_python(event) for event in found)
    assert len({event["id"] for event in found}) == len(found)
    assert found[4]["content"] == [{"type": "text", "text": "Hello."}]
    assert found[3]["model_request_start_id"] == found[2]["id"]
    assert found[3]["model_usage"]["input_tokens"] == 2
    assert found[-1]["stop_reason"] == {"type": "end_turn"}
    assert response.headers["x-manent-turn"] == native(client, session, "/turns")["items"][0]["id"]
    assert told(client.get(f"{PATH}/{session}"))["usage"]["output_tokens"] == 2


def test_a_stream_is_resumed(client):
    """After any event that has an id, to the byte, also long after."""
    session = begin(client, "scripted/think")
    with opened(client, "GET", f"{PATH}/{session}/events/stream") as stream:
        told(send(client, session, said()))
        seen = [block for block in stream.until("session.status_idle") if block.data]
    for number, block in enumerate(seen):
        if block.id is None or block is seen[-1]:
            continue
        after = {"last-event-id": block.id}
        with opened(client, "GET", f"{PATH}/{session}/events/stream", headers=after) as stream:
            again = [each for each in stream.until("session.status_idle") if each.data]
        assert [each.raw for each in again] == [each.raw for each in seen[number + 1 :]]
    refused(
        client.get(f"{PATH}/{session}/events/stream", headers={"last-event-id": "x"}),
        400,
        "invalid_value",
        "Last-Event-ID",
    )


def test_pages_of_events(client):
    """Of any size, in either order, are the same events; a cursor goes with its order."""
    session = begin(client, {"model": "scripted/tools", "tools": [TOOL]})
    told(send(client, session, said()))
    (name,) = uses(idle(client, session))
    told(send(client, session, result(name)))
    whole = idle(client, session)
    assert len(whole) == 13
    for limit in (1, 2, 5, 13, 14):
        assert events(client, session, limit=limit) == whole
        assert events(client, session, limit=limit, order="desc") == whole[::-1]
    assert types(events(client, session, types="agent.message", limit=1)) == ["agent.message"] * 2
    wanted = {"types[]": ["user.message", "agent.message"]}
    assert types(events(client, session, **wanted)) == ["user.message", "agent.message", "agent.message"]
    at = whole[6]["processed_at"]
    assert events(client, session, **{"created_at[gt]": at}) == [each for each in whole if each["processed_at"] > at]
    assert events(client, session, **{"created_at[lte]": at}) == [each for each in whole if each["processed_at"] <= at]
    page = told(client.get(f"{PATH}/{session}/events", params={"limit": 1}))["next_page"]
    for query in ({"page": page, "order": "desc"}, {"page": "x"}, {"page": "asc-1"}, {"page": f"asc-{'9' * 30}-0"}):
        refused(client.get(f"{PATH}/{session}/events", params=query), 400, "invalid_value", "page")
    refused(client.get(f"{PATH}/{session}/events", params={"types": "x"}), 400, "invalid_value", "types")


def test_images_and_thoughts(client):
    """Come as they were given; of a thought it is told that there was one."""
    session = begin(client, "echo/echo")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    body = {"type": "user.message", "content": [image, {"type": "text", "text": "Two?"}]}
    refused(send(client, session, body), 400, "content_not_supported", "events[0].content[0]")
    here = f"/api/sessions/{UUID(session.removeprefix('sesn_'))}/messages"
    assert client.post(here, json={"role": "user", "content": body["content"]}).status_code == 201
    (event,) = events(client, session)
    assert (event["type"], event["content"]) == ("user.message", body["content"])
    session = begin(client, "scripted/think")
    told(send(client, session, said()))
    assert types(idle(client, session)) == [*ROUND, "agent.thinking", "agent.message", "session.status_idle"]


def test_a_failure(client):
    """Is an error, and then rest; the next message is answered."""
    session = begin(client, "scripted/fails")
    told(send(client, session, said()))
    found = idle(client, session)
    assert types(found)[-3:] == ["agent.message", "session.error", "session.status_idle"]
    assert found[-1]["stop_reason"] == {"type": "retries_exhausted"}
    assert found[3]["is_error"] is True
    told(send(client, session, said("Again?")))
    assert idle(client, session)[-1]["stop_reason"] == {"type": "end_turn"}


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_an_interrupt(client):
    """Stops what runs, and a message after it is answered next. Where nothing runs, it changes nothing."""
    session = begin(client, "scripted/hang")
    told(send(client, session, said()))
    refused(send(client, session, said("More.")), 409, "turn_already_open")
    assert told(client.get(f"{PATH}/{session}"))["status"] == "running"
    (event,) = told(send(client, session, {"type": "user.interrupt"}))["data"]
    found = idle(client, session)
    assert types(found)[-2:] == ["user.interrupt", "session.status_idle"]
    assert found[-2] == event
    version = native(client, session)["version"]
    (nothing,) = told(send(client, session, {"type": "user.interrupt", "session_thread_id": None}))["data"]
    assert (nothing["type"], native(client, session)["version"]) == ("user.interrupt", version)
    told(send(client, session, said()))
    sent = told(send(client, session, {"type": "user.interrupt"}, said("Stop, and then this.")))["data"]
    assert types(sent) == ["user.interrupt", "user.message"]
    assert [turn["status"] for turn in native(client, session, "/turns")["items"]] == [
        "cancelled",
        "cancelled",
        "running",
    ]
    told(send(client, session, {"type": "user.interrupt"}))


@needs_mcp
def test_an_interrupt_of_what_waits(client):
    """Stops it, and its calls are answered as not made; the session goes on."""
    session = begin(client, {"model": "scripted/greet", "tools": ["house_greet"]})
    told(send(client, session, said("Greet them.")))
    idle(client, session)
    told(send(client, session, {"type": "user.interrupt"}))
    found = idle(client, session)
    assert types(found)[-4:] == ["agent.tool_result"] * 2 + ["user.interrupt", "session.status_idle"]
    told(send(client, session, said("Then not.")))
    assert idle(client, session)[-1]["stop_reason"] == {"type": "end_turn"}


def test_who_leaves_stops_nothing(tmp_path):
    """Though the server cancels what nobody reads."""
    options = options_in(tmp_path) | {"cancel_unread_after_s": 1, "disconnect_grace_s": 1}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        session = begin(client, "scripted/hang")
        with opened(client, "GET", f"{PATH}/{session}/events/stream") as stream:
            told(send(client, session, said()))
            stream.until("span.model_request_start")
        time.sleep(2)
        assert told(client.get(f"{PATH}/{session}"))["status"] == "running"
        told(send(client, session, {"type": "user.interrupt"}))


# --- tools ------------------------------------------------------------------------------------------------------------


def pair(client):
    """A session that waits for two results, and the names of the calls."""
    session = begin(client, {"model": "scripted/pair", "tools": [TOOL]})
    told(send(client, session, said("Both?")))
    found = idle(client, session)
    names = uses(found)
    assert found[-1]["stop_reason"] == {"type": "requires_action", "event_ids": names}
    assert [event["input"] for event in found if event["type"] == "agent.custom_tool_use"] == [{"a": 1}, {"a": 2}]
    return session, names


def test_results_of_the_clients_tools(client):
    """Together, they are answered; each names its call."""
    session, (first, second) = pair(client)
    sent = told(send(client, session, result(first), result(second, "wet", is_error=True)))["data"]
    assert [(each["custom_tool_use_id"], each["is_error"]) for each in sent] == [(first, False), (second, True)]
    found = idle(client, session)
    assert [event for event in found if event["type"] == "user.custom_tool_result"] == sent
    assert found[-2]["content"] == [{"type": "text", "text": "Both dry."}]


def test_results_that_come_singly(client):
    """Wait for each other; a message in their stead is refused. The last begins the turn, and what comes twice is told
    as it is on record.
    """
    session, (first, second) = pair(client)
    refused(send(client, session, said("Well?")), 400, "tool_results_missing")
    interrupt, *sent = told(send(client, session, {"type": "user.interrupt"}, result(second)))["data"]
    assert (interrupt["type"], interrupt["processed_at"]) == ("user.interrupt", None)
    assert told(send(client, session, result(second)))["data"] == sent
    refused(send(client, session, result(second, "other")), 400, "tool_call_not_found", "events")
    assert told(client.get(f"{PATH}/{session}"))["status"] == "idle"
    last = told(send(client, session, {"type": "user.tool_result", "tool_use_id": first}))["data"]
    assert last[0]["content"] == []
    found = idle(client, session)
    assert found[-1]["stop_reason"] == {"type": "end_turn"}
    version = native(client, session)["version"]
    assert told(send(client, session, {"type": "user.tool_result", "tool_use_id": first}))["data"] == last
    assert native(client, session)["version"] == version


def test_results_that_come_at_once(client, server):
    """From two clients: one turn answers both."""
    for _ in range(5):
        session, names = pair(client)
        answers = []

        def post(name, session=session, answers=answers):
            with server.client() as each:
                answers.append(send(each, session, result(name)).status_code)

        threads = [Thread(target=post, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200, 200]
        assert idle(client, session)[-1]["stop_reason"] == {"type": "end_turn"}
        assert len(native(client, session, "/turns")["items"]) == 2


@needs_mcp
def test_confirmations(client):
    """A turn waits for a person, who decides on all calls, with a reason where it is no; twice the same is once."""
    session = begin(client, {"model": "scripted/greet", "tools": ["house_greet"]})
    told(send(client, session, said("Greet them.")))
    waiting = idle(client, session)
    names = uses(waiting)
    assert waiting[-1]["stop_reason"] == {"type": "requires_action", "event_ids": names}
    assert [event["evaluated_permission"] for event in waiting if event["type"] == "agent.tool_use"] == ["ask"] * 2
    yes, no = ({"type": "user.tool_confirmation", "tool_use_id": name} for name in names)
    yes, no = yes | {"result": "allow"}, no | {"result": "deny", "deny_message": "Bob is away"}
    before = native(client, session)["version"]
    unknown = yes | {"tool_use_id": "sevt_x"}
    refused(send(client, session, yes, unknown), 400, "tool_call_not_found", "events[1].tool_use_id")
    refused(
        send(client, session, yes, no | {"deny_message": "x" * 10_000}), 400, "invalid_value", "events[1].deny_message"
    )
    for mixed in ((yes, said()), ({"type": "user.interrupt"}, yes)):
        refused(send(client, session, *mixed), 400, "invalid_value", "events")
    assert native(client, session)["version"] == before
    sent = told(send(client, session, yes))["data"]
    assert told(send(client, session, yes))["data"] == sent
    refused(send(client, session, yes | {"result": "deny"}), 409, "no_decision_awaited")
    assert told(send(client, session, yes, no))["data"][0] == sent[0]
    found = idle(client, session)
    results = [event for event in found if event["type"] == "agent.tool_result"]
    assert [(each["tool_use_id"], each["is_error"]) for each in results] == [(names[0], False), (names[1], True)]
    assert found[-1]["stop_reason"] == {"type": "end_turn"}
    refused(send(client, session, no | {"result": "allow"}), 409, "no_decision_awaited")


# --- twice ------------------------------------------------------------------------------------------------------------


def test_an_idempotency_key(client):
    """Gives the first answer again, for ever; with another body it is refused."""
    key = {"idempotency-key": "k1"}
    body = {"agent": "scripted/hang", "environment_id": "e"}
    first = told(client.post(PATH, json=body, headers=key))
    assert told(client.post(PATH, json=body, headers=key))["id"] == first["id"]
    refused(client.post(PATH, json=body | {"title": "x"}, headers=key), 400, "idempotency_mismatch", "Idempotency-Key")
    session = first["id"]
    told(send(client, session, said()))
    both = {"type": "user.interrupt"}, said("And this.")
    sent = told(send(client, session, *both, headers=key))["data"]
    again = told(send(client, session, *both, headers=key))["data"]
    assert again[1] == sent[1]
    assert told(client.get(f"{PATH}/{session}"))["status"] == "running"  # the second has not stopped the first's turn
    assert len(native(client, session, "/turns")["items"]) == 2
    refused(send(client, session, said("Other."), headers=key), 400, "idempotency_mismatch", "Idempotency-Key")
    told(send(client, session, {"type": "user.interrupt"}))


def test_an_automatic_retry(client):
    """Is given the turn that its first try began."""
    session = begin(client, "scripted/hang")
    told(send(client, session, said()))
    both = {"type": "user.interrupt"}, said("And this.")
    sent = told(send(client, session, *both))["data"]
    again = told(send(client, session, *both, headers={"x-stainless-retry-count": "1"}))["data"]
    assert again[1] == sent[1]
    assert len(native(client, session, "/turns")["items"]) == 2
    told(send(client, session, {"type": "user.interrupt"}))


# --- bad input --------------------------------------------------------------------------------------------------------


def body(**fields):
    return {"agent": "echo/echo", "environment_id": "e"} | fields


def agent(**fields):
    return body(agent={"model": "echo/echo"} | fields)


CREATED = [
    ({"environment_id": "e"}, 400, "missing_field", "agent"),
    (body(agent=7), 400, "invalid_type", "agent"),
    (body(agent="nope"), 404, "model_not_found", "agent.model"),
    (body(agent={"type": "agent", "id": "agent_1"}), 404, "resource_not_found", "agent.id"),
    (body(agent={}), 400, "missing_field", "agent.model"),
    (agent(colour=1), 400, "unknown_parameter", "agent.colour"),
    (agent(model={"id": "echo/echo", "speed": "fast"}), 400, "parameter_not_supported", "agent.model.speed"),
    (agent(model={"speed": "standard"}), 400, "missing_field", "agent.model.id"),
    (agent(model={"id": "echo/echo", "x": 1}), 400, "unknown_parameter", "agent.model.x"),
    (agent(tools=[{"type": "agent_toolset_20260401"}]), 400, "parameter_not_supported", "agent.tools[0].type"),
    (agent(tools=["nothing"]), 400, "unknown_tool", "agent.tools"),
    (agent(tools=[7]), 400, "invalid_type", "agent.tools[0]"),
    (agent(tools=[TOOL | {"colour": 1}]), 400, "unknown_parameter", "agent.tools[0].colour"),
    (agent(tools=[TOOL, TOOL]), 400, "invalid_value", "agent.tools"),
    (agent(tools=[TOOL | {"name": "a b"}]), 400, "invalid_value", "agent.tools[0].name"),
    (agent(system=7), 400, "invalid_type", "agent.system"),
    (body(initial_events=[said()]), 400, "parameter_not_supported", "initial_events"),
    (body(resources=[{"type": "file", "file_id": "f"}]), 400, "parameter_not_supported", "resources"),
    (body(vault_ids=["v"]), 400, "parameter_not_supported", "vault_ids"),
    (body(budget={"max_list_cost": {}}), 400, "parameter_not_supported", "budget"),
    (body(metadata={"a": 1}), 400, "invalid_type", "metadata[...]"),
    (body(metadata={"manent.agent": "x"}), 400, "invalid_value", "metadata.manent.agent"),
    (body(metadata={"k" * 65: "x"}), 400, "invalid_value", "metadata"),
    (body(colour=1), 400, "unknown_parameter", "colour"),
]


@pytest.mark.parametrize(("sent", "status", "code", "field"), named(CREATED))
def test_bad_sessions(client, server, sent, status, code, field):
    """Are refused with a code, and the client's name of the field; nothing is recorded."""
    before = server.size()
    error = client.post(PATH, json=sent)
    assert error.status_code == status, error.text
    assert (error.json()["error"]["code"], error.json()["error"].get("param")) == (code, field)
    assert server.size() == before


SENT = [
    ([], "invalid_value", "events"),
    ([{}], "missing_field", "events[0].type"),
    ([{"type": "user.shout"}], "invalid_value", "events[0].type"),
    ([{"type": "user.define_outcome", "description": "x"}], "parameter_not_supported", "events[0].type"),
    ([{"type": "system.message", "content": []}], "parameter_not_supported", "events[0].type"),
    ([{"type": "user.message"}], "missing_field", "events[0].content"),
    ([{"type": "user.message", "content": "hi"}], "invalid_type", "events[0].content"),
    ([{"type": "user.message", "content": []}], "invalid_value", "events[0].content"),
    ([said() | {"colour": 1}], "unknown_parameter", "events[0].colour"),
    ([said(), {"type": "user.interrupt"}], "invalid_value", "events[1].type"),
    ([said(" ") | {"content": [{"type": "document"}]}], "parameter_not_supported", "events[0].content[0].type"),
    ([said() | {"content": [{"type": "text"}]}], "missing_field", "events[0].content[0].text"),
    ([said() | {"content": [{"type": "text", "text": ""}]}], "empty_message", "events"),
    ([said() | {"content": [{"type": "text", "text": "a\0"}]}], "nul_character", "events[0].content[0].text"),
    ([result("sevt_x")], "tool_call_not_found", "events[0].custom_tool_use_id"),
    ([said()] * 21, "array_above_max_length", "events"),
]


@pytest.mark.parametrize(("sent", "code", "field"), named(SENT))
def test_bad_events(client, server, sent, code, field):
    """Are refused with a code, and the place of the event; nothing is recorded."""
    session = begin(client)
    before = server.size()
    refused(send(client, session, *sent), 400, code, field)
    assert server.size() == before


def test_what_there_is_not(client):
    """Is 404 in Anthropic's envelope: agents, environments, vaults and files, and sessions that are none."""
    theirs = {"anthropic-version": "2023-06-01"}
    for path in ("/v1/agents", "/v1/environments", "/v1/vaults", "/v1/files", f"{PATH}/{begin(client)}/resources"):
        assert client.get(path, headers=theirs).json()["error"]["type"] == "not_found_error", path
    for name in (NOBODY, "x", "conv_" + "0" * 32, "sesn_" + "G" * 32):
        refused(client.get(f"{PATH}/{name}"), 404, "session_not_found", "session_id")
        refused(client.get(f"{PATH}/{name}/events/stream"), 404, "session_not_found", "session_id")
        refused(send(client, name, said()), 404, "session_not_found", "session_id")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    kind=st.sampled_from(sorted(managed_input.EVENTS)),
    field=st.sampled_from(["content", "tool_use_id", "x"]),
    value=JSON,
)
@settings(max_examples=40, deadline=None)
def test_no_body_is_the_servers_failure(client, kind, field, value):
    """Whatever stands in an event, or in an agent: it is an answer, or a refusal with a code."""
    session = begin(client)
    for response in (
        send(client, session, {"type": kind, field: value}),
        send(client, session, value),
        client.post(PATH, json={"agent": value}),
        client.post(PATH, json={"agent": {"model": "echo/echo", "tools": value}}),
        client.post(f"{PATH}/{session}", json={"agent": {"tools": value}, "metadata": value}),
    ):
        assert response.status_code < 500, response.text
        assert response.status_code == 200 or response.json()["error"]["code"]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_sessions_are_their_tenants(tmp_path):
    """Another tenant's is 404; deleting needs the scope `erase`."""
    keys = [
        {"id": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": scopes, "tenant": tenant}
        for name, (tenant, scopes) in KEYS.items()
    ]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(file))) as server, server.client() as anyone:
        refused(anyone.post(PATH, json=body()), 401, "unauthorized")
        with (
            server.client(headers={"x-api-key": "other"}) as mine,
            server.client(headers={"x-api-key": "one"}) as same,
            server.client(headers={"x-api-key": "two"}) as theirs,
        ):
            session = begin(theirs)
            assert [each["id"] for each in told(theirs.get(PATH))["data"]] == [session]
            assert told(same.get(f"{PATH}/{session}"))["id"] == session
            assert told(mine.get(PATH))["data"] == []
            refused(theirs.delete(f"{PATH}/{session}"), 403, "scope_missing")
            for path in (f"{PATH}/{session}", f"{PATH}/{session}/events", f"{PATH}/{session}/events/stream"):
                refused(mine.get(path), 404, "session_not_found", "session_id")
            refused(mine.delete(f"{PATH}/{session}"), 404, "session_not_found", "session_id")
            refused(mine.post(f"{PATH}/{session}/archive"), 404, "session_not_found", "session_id")
            refused(send(mine, session, said()), 404, "session_not_found", "session_id")
            assert told(same.delete(f"{PATH}/{session}"))["type"] == "session_deleted"


# --- a process that is killed -----------------------------------------------------------------------------------------


def test_a_session_outlives_the_server(tmp_path):
    """With its events, their ids and its tools; what was cut off is told as failed, and the session goes on."""
    database = tmp_path / "manent.db"
    options = {f"MANENT_{name.upper()}": value for name, value in options_in(tmp_path).items()}
    with Process(str(database), **options) as server, server.client() as client:
        session = begin(client, {"model": "scripted/tools", "tools": [TOOL]})
        told(send(client, session, said()))
        before = idle(client, session)
        other = begin(client, "scripted/hang")
        told(send(client, other, said()))
        server.popen.kill()
    with Process(str(database), **options) as server, server.client() as client:
        assert events(client, session) == before
        told(send(client, session, result(*uses(before))))
        found = idle(client, session)
        assert (found[: len(before)], found[-1]["stop_reason"]) == (before, {"type": "end_turn"})
        assert types(idle(client, other))[-2:] == ["session.error", "session.status_idle"]
        told(send(client, other, said("Again.")))
        assert told(client.get(f"{PATH}/{other}"))["status"] == "running"
        told(send(client, other, {"type": "user.interrupt"}))
        assert server.stop() == 0
    assert engine.verify_database(str(database)).problem is None
    assert engine.rebuild_projections(str(database)).differed == ()
