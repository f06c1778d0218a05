"""OpenAI's Conversations over HTTP: each is a session; its items are parts of recorded messages."""

import hashlib
import json
import random
import time
import typing
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import conversations as openai_conversations
from openai.types.conversations import conversation_item
from openai.types.responses import ResponseIncludable
from pydantic import TypeAdapter

from manent import engine
from manent.api.compat import conversation_forms
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named
from tests.api.test_compat_chat import refused

PATH = "/v1/conversations"
ITEM = TypeAdapter(conversation_item.ConversationItem)
KEYS = {"one": ["chat", "erase"], "two": ["chat"], "other": ["chat", "erase"]}
HI = [{"role": "user", "content": "hi"}]
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "dry"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}


def said(role, text):
    return {"type": "message", "role": role, "content": text}


def told(response):
    """The answer to a request, once it is seen to be one."""
    assert response.status_code == 200, response.text
    return response.json()


def begin(client, *items, **fields):
    """A conversation's id."""
    body = told(client.post(PATH, json={"items": list(items)} | fields if items else fields))
    return body["id"]


def session_of(conversation):
    return str(UUID(conversation.removeprefix("conv_")))


def native(client, conversation, below=""):
    return client.get(f"/api/sessions/{session_of(conversation)}{below}").json()


def items(client, conversation, **query):
    """The items of a conversation, page by page, the oldest first unless it is said otherwise."""
    found, after = [], {}
    query = {"order": "asc", "limit": 100} | query
    while True:
        page = told(client.get(f"{PATH}/{conversation}/items", params=query | after))
        assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
        assert len(page["data"]) <= query["limit"]
        found += page["data"]
        if not page["has_more"]:
            return found
        assert page["last_id"] == page["data"][-1]["id"]
        after = {"after": page["last_id"]}


def texts(found):
    return ["".join(part["text"] for part in item["content"]) for item in found if item["type"] == "message"]


def replies(client, conversation, text):
    """A turn of a native client in the same session."""
    body = {"content": text, "model": "echo/echo"}
    return told(client.post(f"/api/sessions/{session_of(conversation)}/turns", json=body))


# --- conversations ----------------------------------------------------------------------------------------------------


def test_a_conversation_is_a_session(client):
    """It begins with items and metadata in one append, and is read and described; all of it is on record."""
    before = int(time.time())
    response = client.post(PATH, json={"items": [said("user", "one")], "metadata": {"topic": "x"}})
    body = told(response)
    assert response.headers["x-manent-session"] == session_of(body["id"])
    assert before <= body.pop("created_at") <= time.time()
    assert body == {"id": body["id"], "object": "conversation", "metadata": {"topic": "x"}}
    recorded = native(client, body["id"])
    assert (recorded["metadata"], recorded["message_count"], recorded["version"]) == ({"topic": "x"}, 1, 2)
    read = told(client.get(f"{PATH}/{body['id']}"))
    assert read["metadata"] == {"topic": "x"}
    assert openai_conversations.Conversation.model_validate(read)
    (item,) = items(client, body["id"])
    for below in ("", "/items", f"/items/{item['id']}"):
        answer = client.get(f"{PATH}/{body['id']}{below}")
        assert answer.headers["x-manent-session"] == session_of(body["id"])
    changed = told(client.post(f"{PATH}/{body['id']}", json={"metadata": {"other": "y"}}))
    assert changed == read | {"metadata": {"other": "y"}}
    assert native(client, body["id"])["metadata"] == {"other": "y"}
    assert told(client.post(f"{PATH}/{body['id']}", json={"metadata": None}))["metadata"] == {}


def test_a_session_is_a_conversation(client):
    """One that a native client began is read, added to and gone on in; both clients see the same."""
    session = client.post("/api/sessions", json={"model": "echo/echo", "metadata": {"n": 1}}).json()["id"]
    conversation = "conv_" + session.replace("-", "")
    assert told(client.get(f"{PATH}/{conversation}"))["metadata"] == {"n": 1}
    replies(client, conversation, "native")
    told(client.post(f"{PATH}/{conversation}/items", json={"items": [said("user", "a"), said("assistant", "b")]}))
    replies(client, conversation, "again")
    found = items(client, conversation)
    assert texts(found) == ["native", "native", "a", "b", "again", "again"]
    recorded = native(client, conversation, "/messages")["items"]
    assert [item["id"] for item in found] == ["msg_" + message["id"].replace("-", "") for message in recorded]
    assert [message["turn_id"] is None for message in recorded] == [True, False, True, True, True, False]


def test_a_deleted_conversation_is_gone_and_its_items_stay(client):
    """Nothing goes on there; what was said is readable by its route, and natively. What runs goes on to its end."""
    conversation = begin(client, said("user", "kept"))
    path = f"{PATH}/{conversation}"
    (item,) = items(client, conversation)
    started = client.post(
        f"/api/sessions/{session_of(conversation)}/turns",
        json={"content": "go", "model": "scripted/late"},
        headers={"prefer": "respond-async"},
    ).json()
    answer = told(client.delete(path))
    assert answer == {"id": conversation, "object": "conversation.deleted", "deleted": True}
    assert openai_conversations.ConversationDeletedResource.model_validate(answer)
    for method, below, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "", {"metadata": {"a": "b"}}),
        ("POST", "/items", {"items": HI}),
        ("DELETE", f"/items/{item['id']}", None),
    ):
        gone = client.request(method, path + below, **({} if body is None else {"json": body}))
        error = refused(gone, 404, "conversation_not_found", "conversation_id")
        assert error["message"] == f"Conversation with id {conversation!r} not found."
    ended = client.get(f"/api/sessions/{session_of(conversation)}/events?types=turn.completed&wait=20").json()
    assert [event["facts"]["turn"] for event in ended["items"]] == [started["id"]]
    assert texts(items(client, conversation)) == ["kept", "go", "late"]
    assert told(client.get(f"{path}/items/{item['id']}")) == item
    assert [message["erased"] for message in native(client, conversation, "/messages")["items"]] == [None] * 3


def responds(client, conversation, text, **fields):
    """A response in a conversation."""
    body = {"model": "echo/echo", "input": text, "conversation": conversation} | fields
    return client.post("/v1/responses", json=body)


def test_a_response_goes_on_in_a_conversation(client):
    """What it was asked with and its output are items there, the same as it tells of; a deleted one is gone from both.
    The metadata of a response are not the conversation's.
    """
    conversation = begin(client, said("user", "before"), metadata={"topic": "x"})
    answer = told(responds(client, conversation, "Hello.", metadata={"step": "1"}))
    found = items(client, conversation)
    assert texts(found) == ["before", "Hello.", "Hello."]
    assert answer["output"] == found[2:]
    assert (answer["conversation"], answer["metadata"]) == ({"id": conversation}, {"step": "1"})
    assert told(client.get(f"{PATH}/{conversation}"))["metadata"] == {"topic": "x"}
    told(client.delete(f"{PATH}/{conversation}/items/{found[2]['id']}"))
    assert told(client.get(f"/v1/responses/{answer['id']}"))["output"] == []
    told(responds(client, {"id": conversation}, "More."))
    assert texts(items(client, conversation)) == ["before", "Hello.", "More.", "More."]


def test_a_conversation_deleted_under_a_running_response(client):
    """The response ends, and is read; the next has nowhere to go on, and nothing of it is recorded."""
    conversation = begin(client, said("user", "before"))
    running = told(responds(client, conversation, "go", model="scripted/slow", background=True))
    locked = client.post(f"{PATH}/{conversation}/items", json={"items": HI})
    refused(locked, 400, "conversation_locked", "conversation_id")
    told(client.delete(f"{PATH}/{conversation}"))
    refusal = responds(client, conversation, "later")
    assert (refusal.status_code, refusal.json()["error"]["param"]) == (404, "conversation")
    until_s = time.monotonic() + 30
    while (ended := told(client.get(f"/v1/responses/{running['id']}")))["status"] == "in_progress":
        assert time.monotonic() < until_s, "it never ended"
        time.sleep(0.05)
    assert ended["status"] == "completed"
    assert items(client, conversation)[2:] == ended["output"]
    assert native(client, conversation)["message_count"] == 3


# --- items ------------------------------------------------------------------------------------------------------------


def test_items_of_every_kind(client):
    """What is given is given back as OpenAI's library reads it, each under an id by which it is found."""
    given = [
        said("developer", "Be brief."),
        said("user", [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]),
        THOUGHT,
        said("assistant", [{"type": "output_text", "text": "Let me look.", "annotations": []}]),
        CALL,
        CALL | {"call_id": "c2"},
        RESULT,
        RESULT | {"call_id": "c2", "output": [{"type": "input_text", "text": "wet"}]},
        said("assistant", "Dry."),
    ]
    conversation = begin(client)
    path = f"{PATH}/{conversation}/items"
    page = told(client.post(path, json={"items": given}))
    assert openai_conversations.ConversationItemList.model_validate(page).object == "list"
    added = page["data"]
    assert added == items(client, conversation)
    kinds = [(item["type"], item.get("role")) for item in added]
    assert kinds == [(item["type"], item.get("role")) for item in given]
    assert [part["text"] for part in added[1]["content"]] == ["one", "two"]
    assert [added[4]["arguments"], added[6]["output"]] == ['{"a":1}', "dry"]
    for item in added:
        assert ITEM.validate_python(item).id == item["id"]
        assert told(client.get(f"{path}/{item['id']}")) == item
    replies(client, conversation, "more")
    assert len(items(client, conversation)) == len(given) + 2


def test_pages(client):
    """The newest first unless it is said otherwise; each page begins after the last, also where that was deleted."""
    conversation = begin(client, *[said("user", str(number)) for number in range(5)])
    told(client.post(f"{PATH}/{conversation}/items", json={"items": [THOUGHT, CALL, RESULT]}))
    found = items(client, conversation)
    first = told(client.get(f"{PATH}/{conversation}/items"))
    assert (first["data"], first["has_more"]) == (found[::-1], False)
    assert (first["first_id"], first["last_id"]) == (found[-1]["id"], found[0]["id"])
    for limit in (1, 2, 3):
        assert items(client, conversation, limit=limit) == found
        assert items(client, conversation, limit=limit, order="desc") == found[::-1]
    assert items(client, conversation, after=found[-1]["id"]) == []
    many = begin(client, *[said("user", str(number)) for number in range(7)])
    for order in ("asc", "desc"):
        page = told(client.get(f"{PATH}/{many}/items", params={"limit": 2, "order": order}))
        for item in page["data"]:
            told(client.delete(f"{PATH}/{many}/items/{item['id']}"))
        rest = items(client, many, order=order, limit=2, after=page["last_id"])
        assert texts(rest) == (["2", "3", "4", "5", "6"] if order == "asc" else ["4", "3", "2"])
    empty = told(client.get(f"{PATH}/{begin(client)}/items"))
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_a_page_is_bounded_in_bytes(tmp_path):
    """It ends early where its items are large, after one at least."""
    with in_thread(settings_on(tmp_path, max_page_bytes=4000)) as server, server.client() as client:
        conversation = begin(
            client, *[said("user", letter * size) for letter, size in (("a", 3000), ("b", 3000), ("c", 9000))]
        )
        page = told(client.get(f"{PATH}/{conversation}/items?order=asc"))
        assert (len(page["data"]), page["has_more"]) == (1, True)
        assert [text[0] for text in texts(items(client, conversation))] == ["a", "b", "c"]


def test_thoughts_are_told_in_full_to_who_asks(client):
    """The vendor's form of a thought comes with `include`, in either way to write it, and goes back to the vendor."""
    sealed = THOUGHT | {"encrypted_content": "opaque"}
    conversation = begin(client, said("user", "q"), sealed, said("assistant", "a"))
    path = f"{PATH}/{conversation}/items"
    assert ["encrypted_content" in item for item in items(client, conversation)] == [False] * 3
    for name in ("include", "include[]"):
        query = [(name, "reasoning.encrypted_content"), (name, "message.input_image.image_url"), ("order", "asc")]
        thought = told(client.get(path, params=query))["data"][1]
        assert thought["encrypted_content"]
        alone = told(client.get(f"{path}/{thought['id']}", params=query[:2]))
        assert alone == thought
    copied = told(client.post(path, json={"items": [said("user", "q"), thought, said("assistant", "a")]}))["data"]
    again = told(client.get(f"{path}/{copied[1]['id']}?include=reasoning.encrypted_content"))
    assert again["encrypted_content"] == thought["encrypted_content"]


def test_an_item_that_is_named_is_taken_from_the_record(client):
    """Whichever conversation of the tenant it is in."""
    conversation = begin(client, said("user", "original"))
    (item,) = items(client, conversation)
    other = begin(client, {"type": "item_reference", "id": item["id"]})
    assert texts(items(client, other)) == ["original"]
    refused(
        client.post(PATH, json={"items": [{"type": "item_reference", "id": f"msg_{engine.new_id().hex}"}]}),
        404,
        "item_not_found",
        "items[0].id",
    )


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_calls(client, seed):
    """Whatever is added, answered, deleted and paged through, the items are those of a list that is kept beside."""
    chance, kept = random.Random(seed), []
    conversation = begin(client)
    for number in range(40):
        match chance.choice(["add", "add", "answer", "delete", "list"]):
            case "add":
                given = [said(chance.choice(["user", "assistant", "system"]), f"{number}.{n}") for n in range(1, 4)]
                added = told(client.post(f"{PATH}/{conversation}/items", json={"items": given}))["data"]
                assert texts(added) == [item["content"] for item in given]
                kept += added
            case "answer":
                answer = told(responds(client, conversation, f"asked {number}"))
                asked = told(client.get(f"/v1/responses/{answer['id']}/input_items"))["data"]
                kept += [*asked, *answer["output"]]
            case "delete" if kept:
                gone = kept.pop(chance.randrange(len(kept)))
                told(client.delete(f"{PATH}/{conversation}/items/{gone['id']}"))
            case _:
                limit, order = chance.randint(1, 5), chance.choice(["asc", "desc"])
                assert items(client, conversation, limit=limit, order=order) == kept[:: 1 if order == "asc" else -1]
    assert items(client, conversation) == kept


def test_a_summary_stands_in_a_conversation(client):
    """A reference that was given here is what it stands for; one that was not is refused, and nothing is begun."""
    body = {"model": "echo/echo", "input": "what was said"}
    compacted = told(client.post("/v1/responses/compact", json=body))
    (summary,) = compacted["output"]
    (item,) = items(client, begin(client, summary))
    assert item["role"] == "system"
    assert "Summarise the conversation" in item["content"][0]["text"]  # an echo of what was asked for
    forged = summary | {"encrypted_content": "AAAA"}
    refused(client.post(PATH, json={"items": [forged]}), 400, "invalid_value", "items[0].encrypted_content")


# --- deleting items ---------------------------------------------------------------------------------------------------


def test_a_deleted_item_is_erased(client, server):
    """Its words go from the record, in all branches; the answer is the conversation."""
    conversation = begin(client, said("user", "first"), said("user", "Schibboleth"), said("user", "last"))
    session = session_of(conversation)
    fork = client.post(f"/api/sessions/{session}/fork", json={}).json()["id"]
    secret = items(client, conversation)[1]
    answer = told(client.delete(f"{PATH}/{conversation}/items/{secret['id']}"))
    assert answer == told(client.get(f"{PATH}/{conversation}"))
    for name in (conversation, "conv_" + fork.replace("-", "")):
        assert texts(items(client, name)) == ["first", "last"]
        for method in ("GET", "DELETE"):
            gone = client.request(method, f"{PATH}/{name}/items/{secret['id']}")
            refused(gone, 404, "item_not_found", "item_id")
    assert [bool(message["erased"]) for message in native(client, conversation, "/messages")["items"]] == [
        *(False, True, False)
    ]
    files = [file for file in server.database.parent.iterdir() if file.is_file()]
    assert not [file.name for file in files if b"Schibboleth" in file.read_bytes()]
    replies(client, conversation, "on")


def test_what_stands_in_one_message_goes_together_or_stays(client):
    """An answer's thoughts go with it; one of several calls, or a thought alone, is refused and stays."""
    conversation = begin(client, said("user", "q"), THOUGHT, said("assistant", "a"), said("user", "r"))
    thought, answer = items(client, conversation)[1:3]
    path = f"{PATH}/{conversation}/items"
    error = refused(client.delete(f"{path}/{thought['id']}"), 400, "item_not_alone", "item_id")
    assert answer["id"] in error["message"]
    told(client.delete(f"{path}/{answer['id']}"))
    assert texts(items(client, conversation)) == ["q", "r"]
    calls = [CALL, CALL | {"call_id": "c2"}, RESULT, RESULT | {"call_id": "c2"}]
    added = told(client.post(path, json={"items": calls}))["data"]
    refused(client.delete(f"{path}/{added[0]['id']}"), 400, "item_not_alone", "item_id")
    told(client.delete(f"{path}/{added[3]['id']}"))
    assert [item["id"] for item in items(client, conversation)][2:] == [item["id"] for item in added[:3]]


def test_every_item_of_a_conversation_can_be_deleted_while_it_is_listed(client):
    """As a client does that clears it: calls and their results are gone, too, and the conversation goes on."""
    given = [said("user", "q"), CALL, RESULT, said("assistant", "a"), said("assistant", "b"), said("user", "z")]
    conversation = begin(client, *given)
    assert len(items(client, conversation)) == len(given)
    after = {}
    while True:
        page = told(client.get(f"{PATH}/{conversation}/items", params={"limit": 2} | after))
        for item in page["data"]:
            told(client.delete(f"{PATH}/{conversation}/items/{item['id']}"))
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert items(client, conversation) == []
    replies(client, conversation, "on")
    assert texts(items(client, conversation)) == ["on", "on"]


def test_a_call_whose_result_stays(client):
    """Once it is deleted the conversation goes on without both: a result alone is an item still, and no vendor's."""
    conversation = begin(client, said("user", "q"), CALL, RESULT, said("assistant", "a"))
    call, result = items(client, conversation)[1:3]
    told(client.delete(f"{PATH}/{conversation}/items/{call['id']}"))
    assert result in items(client, conversation)
    turn = responds(client, conversation, "on").headers["x-manent-turn"]
    prompt = client.get(f"/api/turns/{turn}/prompt").json()
    assert [message["text"] for message in prompt["request"]["messages"]] == ["q", "a", "on"]
    assert prompt["matches"] is True


def test_a_legal_hold_keeps_items(client):
    """What is refused is not erased; a deleted conversation keeps its items, so a hold is no hindrance there."""
    conversation = begin(client, said("user", "held"))
    session = f"/api/sessions/{session_of(conversation)}"
    client.patch(session, json={"legal_hold": True}).raise_for_status()
    (item,) = items(client, conversation)
    refused(client.delete(f"{PATH}/{conversation}/items/{item['id']}"), 409, "legal_hold")
    assert texts(items(client, conversation)) == ["held"]
    told(client.delete(f"{PATH}/{conversation}"))
    assert texts(items(client, conversation)) == ["held"]


def test_while_a_response_runs_a_conversation_is_locked(client):
    """Nothing is added or erased meanwhile: OpenAI's own code says so. Its metadata may change."""
    conversation = begin(client, said("user", "q"))
    (item,) = items(client, conversation)
    turn = client.post(
        f"/api/sessions/{session_of(conversation)}/turns",
        json={"content": "go", "model": "scripted/hang"},
        headers={"prefer": "respond-async"},
    ).json()["id"]
    path = f"{PATH}/{conversation}"
    refused(client.post(f"{path}/items", json={"items": HI}), 400, "conversation_locked", "conversation_id")
    refused(client.delete(f"{path}/items/{item['id']}"), 400, "conversation_locked", "conversation_id")
    told(client.post(path, json={"metadata": {"a": "b"}}))
    client.post(f"/api/turns/{turn}/cancel").raise_for_status()
    told(client.post(f"{path}/items", json={"items": HI}))


# --- the record -------------------------------------------------------------------------------------------------------


def test_it_is_there_after_a_restart(tmp_path):
    """And what was deleted stays so; the log verifies, and its projections are as they would be rebuilt."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        kept, deleted = (begin(client, said("user", text), metadata={"a": text}) for text in ("kept", "deleted"))
        before, found = told(client.get(f"{PATH}/{kept}")), items(client, kept)
        told(client.delete(f"{PATH}/{deleted}"))
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        assert (told(client.get(f"{PATH}/{kept}")), items(client, kept)) == (before, found)
        refused(client.get(f"{PATH}/{deleted}"), 404, "conversation_not_found", "conversation_id")
        assert texts(items(client, deleted)) == ["deleted"]
        told(client.delete(f"{PATH}/{kept}/items/{found[0]['id']}"))
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


def test_a_request_that_comes_again_with_its_key_gets_the_first_answer(client, server):
    """Nothing is begun, added or set twice."""
    key = {"Idempotency-Key": "once"}
    first = told(client.post(PATH, json={"items": HI}, headers=key))
    size = server.size()
    assert told(client.post(PATH, json={"items": HI}, headers=key)) == first
    assert server.size() == size
    path = f"{PATH}/{first['id']}"
    for below, body in (("/items", {"items": HI}), ("", {"metadata": {"a": "1"}})):
        answer = told(client.post(path + below, json=body, headers=key))
        size = server.size()
        assert told(client.post(path + below, json=body, headers=key)) == answer
        assert server.size() == size
    mismatch = client.post(f"{path}/items", json={"items": [said("user", "other")]}, headers=key)
    refused(mismatch, 400, "idempotency_mismatch", "Idempotency-Key")
    assert texts(items(client, first["id"])) == ["hi", "hi"]


# --- keys and bad input -----------------------------------------------------------------------------------------------


def test_keys(tmp_path):
    """Deleting needs the scope `erase`, and another tenant's conversation is not there; its items are no reference."""
    keys = [
        {
            "id": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "scopes": scopes,
            "tenant": "other" if name == "other" else "default",
        }
        for name, scopes in KEYS.items()
    ]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    with in_thread(settings_on(tmp_path, api_keys_file=str(file))) as server, server.client() as client:
        one, two, other = ({"authorization": f"Bearer {name}"} for name in KEYS)
        conversation = told(client.post(PATH, json={"items": HI}, headers=one))["id"]
        path = f"{PATH}/{conversation}"
        (item,) = told(client.get(f"{path}/items", headers=two))["data"]
        refused(client.get(path), 401, "invalid_api_key")
        for method, below, body in (
            *(("GET", "", None), ("GET", "/items", None), ("GET", f"/items/{item['id']}", None)),
            *(("DELETE", "", None), ("DELETE", f"/items/{item['id']}", None)),
            *(("POST", "", {"metadata": {}}), ("POST", "/items", {"items": HI})),
        ):
            options = {} if body is None else {"json": body}
            foreign = client.request(method, path + below, headers=other, **options)
            refused(foreign, 404, "conversation_not_found", "conversation_id")
            if method == "DELETE":
                refused(client.request(method, path + below, headers=two), 403, "scope_missing")
        named_one = {"items": [{"type": "item_reference", "id": item["id"]}]}
        refused(client.post(PATH, json=named_one, headers=other), 404, "item_not_found", "items[0].id")
        told(client.delete(f"{path}/items/{item['id']}", headers=one))
        told(client.delete(path, headers=one))


CREATE = [
    ({"items": 7}, "invalid_type", "items"),
    ({"items": [{"role": "user", "content": str(n)} for n in range(21)]}, "array_above_max_length", "items"),
    ({"items": ["x"]}, "invalid_type", "items[0]"),
    ({"items": [{"role": "user"}]}, "missing_required_parameter", "items[0].content"),
    ({"items": [{"role": "user", "content": ""}]}, "empty_message", "items"),
    (
        {"items": [*HI, said("user", [{"type": "input_text", "text": "a\0b"}])]},
        "nul_character",
        "items[1].content[0].text",
    ),
    ({"items": [*HI, {"type": "web_search_call"}]}, "unsupported_parameter", "items[1].type"),
    ({"items": [{"type": "item_reference", "id": "msg_x"}]}, "item_not_found", "items[0].id"),
    ({"items": [RESULT]}, "tool_call_not_found", "items"),
    ({"items": [CALL, *HI]}, "tool_results_missing", "items"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
    ({"metadata": {str(n): "" for n in range(17)}}, "invalid_value", "metadata"),
    ({"metadata": {"k" * 65: ""}}, "invalid_value", "metadata"),
    ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
    ({"name": "x"}, "unknown_parameter", "name"),
]


@pytest.mark.parametrize(("body", "code", "param"), named(CREATE))
def test_bad_items(client, server, body, code, param):
    """Are refused with the name of what was wrong, and nothing is begun or added."""
    conversation = begin(client)
    before = server.size()
    status = 404 if code == "item_not_found" else 400
    refused(client.post(PATH, json=body), status, code, param)
    if "items" in body:
        refused(client.post(f"{PATH}/{conversation}/items", json=body), status, code, param)
    elif "metadata" in body:
        refused(client.post(f"{PATH}/{conversation}", json=body), status, code, param)
    assert server.size() == before


NOBODY = "01a22e5561807dd7919cd02c6a732706"
ABSENT = f"msg_{NOBODY}"

BAD = [
    ("GET", "/conv_x", None, 404, "conversation_not_found", "conversation_id"),
    ("GET", f"/conv_{NOBODY}", None, 404, "conversation_not_found", "conversation_id"),
    ("GET", f"/conv_{NOBODY}/items", None, 404, "conversation_not_found", "conversation_id"),
    ("GET", f"/conv_{NOBODY}/items/{ABSENT}", None, 404, "conversation_not_found", "conversation_id"),
    ("DELETE", f"/conv_{NOBODY}", None, 404, "conversation_not_found", "conversation_id"),
    ("GET", "/{id}/items/x", None, 404, "item_not_found", "item_id"),
    ("GET", f"/{{id}}/items/{ABSENT}", None, 404, "item_not_found", "item_id"),
    ("GET", "/{id}/items/{elsewhere}", None, 404, "item_not_found", "item_id"),
    ("GET", "/{id}/items/{item}_7", None, 404, "item_not_found", "item_id"),
    ("DELETE", "/{id}/items/{elsewhere}", None, 404, "item_not_found", "item_id"),
    ("GET", "/{id}/items?after=x", None, 400, "invalid_value", "after"),
    ("GET", "/{id}/items?after={elsewhere}", None, 400, "invalid_value", "after"),
    ("GET", "/{id}/items?after={item}_7", None, 400, "invalid_value", "after"),
    ("GET", "/{id}/items?limit=0", None, 400, "invalid_value", "limit"),
    ("GET", "/{id}/items?limit=101", None, 400, "invalid_value", "limit"),
    ("GET", "/{id}/items?order=up", None, 400, "invalid_value", "order"),
    ("GET", "/{id}/items?include=x", None, 400, "invalid_value", "include[0]"),
    ("GET", "/{id}/items?include[]=x", None, 400, "invalid_value", "include[0]"),
    ("GET", "/{id}?mood=bad", None, 400, "unknown_parameter", "mood"),
    ("POST", "/{id}", {}, 400, "missing_required_parameter", "metadata"),
    ("POST", "/{id}", {"metadata": {}, "items": []}, 400, "unknown_parameter", "items"),
    ("POST", "/{id}/items", {}, 400, "missing_required_parameter", "items"),
    ("POST", "/{id}/items", {"items": []}, 400, "invalid_value", "items"),
    ("POST", "/{id}/items?include=x", {"items": HI}, 400, "invalid_value", "include[0]"),
    ("POST", "/{id}/items/{item}", {}, 405, "method_not_allowed", None),
    ("GET", "", None, 405, "method_not_allowed", None),
]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    kind=st.sampled_from(
        ["message", "function_call", "function_call_output", "reasoning", "item_reference", "compaction", None]
    ),
    field=st.sampled_from(["id", "role", "content", "status", "call_id", "name", "arguments", "output", "summary"]),
    value=JSON,
)
@settings(max_examples=60)
def test_no_item_is_the_servers_failure(client, kind, field, value):
    """Whatever stands in a field: it is taken, and told as OpenAI's library reads it, or it is refused."""
    item = {
        "message": said("user", "x"),
        "function_call": CALL,
        "function_call_output": RESULT,
        "reasoning": THOUGHT,
        "item_reference": {"type": "item_reference", "id": ABSENT},
        "compaction": {"type": "compaction", "encrypted_content": "AAAA"},
        None: {"role": "user", "content": "x"},
    }[kind]
    response = client.post(PATH, json={"items": [item | {field: value}], "metadata": {}})
    assert response.status_code < 500, response.text
    if response.status_code == 200:
        for each in items(client, response.json()["id"]):
            assert ITEM.validate_python(each)
    else:
        refused(response, response.status_code, *[response.json()["error"][name] for name in ("code", "param")])


@pytest.fixture(scope="module")
def names(client):
    """Names to fill in: a conversation, its item, and an item that is elsewhere."""
    conversation, other = begin(client, *HI), begin(client, *HI)
    (item,), (elsewhere,) = items(client, conversation), items(client, other)
    return {"{id}": conversation, "{item}": item["id"], "{elsewhere}": elsewhere["id"]}


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "param"), named(BAD))
def test_bad_input(client, server, names, method, path, body, status, code, param):
    """Is refused in OpenAI's form, and nothing of it is recorded."""
    before = server.size()
    for name, value in names.items():
        path = path.replace(name, value)
    options = {} if body is None else {"json": body}
    refused(client.request(method, PATH + path, **options), status, code, param)
    assert server.size() == before


def test_the_number_of_items_is_a_setting(tmp_path):
    """Its name stands in the refusal."""
    with in_thread(settings_on(tmp_path, max_conversation_items=1)) as server, server.client() as client:
        error = refused(client.post(PATH, json={"items": HI * 2}), 400, "array_above_max_length", "items")
        assert "max_conversation_items" in error["message"]
        begin(client, *HI)


# --- the tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "form", "kind", "beside"),
    [
        ("CREATED", "ConversationIn", openai_conversations.ConversationCreateParams, set()),
        ("UPDATED", "MetadataIn", openai_conversations.ConversationUpdateParams, set()),
        ("ADDED", "ItemsIn", openai_conversations.ItemCreateParams, {"include"}),
    ],
)
def test_the_tables_hold_what_the_library_can_send(table, form, kind, beside):
    """Every field of the SDK's own request types has its row, and its place in the form; what is ``beside`` stands in
    the address.
    """
    known = typing.get_type_hints(kind, include_extras=True).keys() - beside
    assert getattr(conversation_forms, table).keys() == known
    assert set(getattr(conversation_forms, form).__struct_fields__) == known


def test_what_the_library_can_ask_for_is_taken(client):
    """All that it can name has its parameters, and is taken; but for what is not on record here."""
    document = client.get("/schema/openapi.json").json()
    for path, kind in (
        ("/items", openai_conversations.ItemListParams),
        ("/items/{item_id}", openai_conversations.ItemRetrieveParams),
    ):
        operation = document["paths"]["/v1/conversations/{conversation_id}" + path]["get"]
        taken = {parameter["name"].removesuffix("[]") for parameter in operation["parameters"]}
        assert typing.get_type_hints(kind).keys() <= taken
    path = f"{PATH}/{begin(client)}/items"
    for name in typing.get_args(ResponseIncludable):
        answer = client.get(path, params={"include[]": name})
        if name == "message.output_text.logprobs":
            refused(answer, 400, "unsupported_parameter", "include[0]")
        else:
            told(answer)
