"""Edges of OpenAI's Responses and Conversations: what a client is told of its own mistakes, by its own names, and what
comes back as it was sent.
"""

import base64

import pytest

from manent import engine
from manent.api.compat.response_forms import ResponseIn, TextOptions
from manent.api.compat.response_request import client_request
from tests.api.chat_upstream import upstream
from tests.api.conftest import settings_on
from tests.api.harness import in_thread
from tests.api.responses_wire import RESPONSES, TOOL, ask, body, post, refused, user
from tests.api.test_responses_state import session_of

CONVERSATIONS = "/v1/conversations"
PNG = b"\x89PNG\r\n\x1a\n"


def picture(size):
    """An image of so many bytes, as a part."""
    data = base64.b64encode(PNG + bytes(size - len(PNG))).decode()
    return {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}


def begin(client, **body):
    response = client.post(CONVERSATIONS, json=body)
    assert response.status_code == 200, response.text
    return response.json()["id"]


# --- names of fields --------------------------------------------------------------------------------------------------


def test_a_missing_result_is_missed_in_the_input(client):
    """And among a conversation's items."""
    fields = {"model": "scripted/tools", "tools": [TOOL]}
    first = ask(client, "Rain?", **fields)
    refused(post(client, "x", previous_response_id=first["id"], **fields), 400, "tool_results_missing", "input")
    conversation = begin(client)
    ask(client, "Rain?", conversation=conversation, **fields)
    refused(post(client, "x", conversation=conversation, **fields), 400, "tool_results_missing", "input")
    added = client.post(f"{CONVERSATIONS}/{conversation}/items", json={"items": [user("x")]})
    refused(added, 400, "tool_results_missing", "items")


def test_a_session_that_there_is_not_is_the_headers(client):
    """The header is named that names it."""
    absent = {"X-Manent-Session": str(engine.new_id())}
    refused(post(client, "x", headers=absent), 404, "session_not_found", "X-Manent-Session")


def test_a_file_is_not_here(client):
    """Images are sent whole, or by a URL; that is said."""
    given = [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]
    path = "input[0].content[0].file_id"
    error = refused(post(client, given), 400, "unsupported_parameter", path)
    assert "image_url" in error["message"]


METADATA = [
    ({"k": 1}, "metadata.k"),
    ({"a": "b", "k": None}, "metadata.k"),
    ({"k": {"x": "y"}}, "metadata.k"),
    ([], "metadata"),
    ("k", "metadata"),
]


@pytest.mark.parametrize(("metadata", "field"), METADATA)
def test_metadata_of_a_wrong_type_is_named_with_its_key(client, metadata, field):
    """Wherever metadata are taken."""
    conversation = begin(client)
    refused(post(client, "x", metadata=metadata), 400, "invalid_type", field)
    refused(client.post(CONVERSATIONS, json={"metadata": metadata}), 400, "invalid_type", field)
    refused(client.post(f"{CONVERSATIONS}/{conversation}", json={"metadata": metadata}), 400, "invalid_type", field)
    chat = {"model": "echo/echo", "messages": [user("x")], "metadata": metadata}
    refused(client.post("/v1/chat/completions", json=chat), 400, "invalid_type", field)


@pytest.mark.parametrize("stop", ["", [""], ["END", ""]])
def test_an_empty_stop_sequence_is_refused(client, stop):
    """It stands nowhere, or everywhere: it is not dropped without a word."""
    chat = {"model": "echo/echo", "messages": [user("x")], "stop": stop}
    response = client.post("/v1/chat/completions", json=chat)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith("stop")


BAD_IMAGES = [
    "data:image/png;base64,%%%",
    "data:image/tiff;base64,AAAA",
    "data:image/png,AAAA",
    "ftp://example.org/x.png",
    "data:image/png;base64,",
]


@pytest.mark.parametrize("url", BAD_IMAGES)
def test_a_bad_image_is_named_as_the_client_names_it(client, url):
    """By the path of its part, whatever the engine calls it, in a request as in a conversation."""
    items = [
        user("see"),
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, picture(9) | {"image_url": url}]},
    ]
    conversation = begin(client)
    for response, field in (
        (post(client, items), "input"),
        (client.post(CONVERSATIONS, json={"items": items}), "items"),
        (client.post(f"{CONVERSATIONS}/{conversation}/items", json={"items": items}), "items"),
    ):
        error = response.json()["error"]
        assert response.status_code == 400, response.text
        assert error["param"].startswith(f"{field}[1].content[1]"), error
        assert "messages[" not in error["message"], error
        assert "source" not in error["param"], error


@pytest.mark.parametrize("url", BAD_IMAGES)
def test_a_bad_image_in_a_result_is_named_too(client, url):
    """By the path of its part in the result's output."""
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    output = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": url}]
    items = [user("see"), call, {"type": "function_call_output", "call_id": "c", "output": output}]
    for response, field in (
        (post(client, items), "input"),
        (client.post(CONVERSATIONS, json={"items": items}), "items"),
    ):
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"].startswith(f"{field}[2].output[1]")


def test_an_image_on_record_is_the_models_matter(client):
    """Where a model that takes none is to go on from it, it is not said to be in the client's own input."""
    conversation = begin(client, items=[user("a"), {"role": "user", "content": [picture(90)]}])
    error = refused(post(client, "go", conversation=conversation), 400, "content_not_supported", "model")
    assert "messages[" not in error["message"]
    counted = client.post(f"{RESPONSES}/input_tokens", json=body("go", conversation=conversation))
    refused(counted, 400, "content_not_supported", "model")
    given = [user("x"), {"role": "user", "content": [{"type": "input_text", "text": "y"}, picture(90)]}]
    refused(post(client, given), 400, "content_not_supported", "input[1].content[1]")
    refused(post(client, given, conversation=begin(client)), 400, "content_not_supported", "input[1].content[1]")


def test_a_text_that_is_the_whole_input_is_the_input(client):
    """It has no content of its own that could be named."""
    refused(post(client, "a\0b"), 400, "nul_character", "input")
    refused(post(client, [user("a\0b")]), 400, "nul_character", "input[0].content")


# --- what comes back --------------------------------------------------------------------------------------------------


def test_a_developers_message_comes_back_as_one(client):
    """From the input of a response, from a conversation, and from a copy of it."""
    given = [{"role": "developer", "content": "Be brief."}, {"role": "system", "content": "Be kind."}, user("Hi.")]
    conversation = begin(client, items=given[:1])
    answer = ask(client, given)
    read = client.get(f"{RESPONSES}/{answer['id']}/input_items?order=asc").json()["data"]
    assert [item["role"] for item in read] == ["developer", "system", "user"]
    (item,) = client.get(f"{CONVERSATIONS}/{conversation}/items").json()["data"]
    assert item["role"] == "developer"
    other = begin(client, items=[{"type": "item_reference", "id": item["id"]}])
    (copy,) = client.get(f"{CONVERSATIONS}/{other}/items").json()["data"]
    assert (copy["role"], copy["content"]) == ("developer", item["content"])


def test_the_form_of_an_answer_is_given_back_with_every_key():
    """What the client has not said of its schema is null, or false."""
    asked = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    told = client_request(ResponseIn(model="m", input="x", text=TextOptions(format=asked)), {}).told
    assert told.text == {"format": {"description": None, "strict": False, **asked}}
    strict = asked | {"strict": True, "description": "d"}
    told = client_request(ResponseIn(model="m", input="x", text=TextOptions(format=strict)), {}).told
    assert told.text == {"format": strict}


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_bound_of_a_block_is_one_of_each(tmp_path):
    """Two images of which each is below it go in one message; one that is above it is named."""
    options = {"drop_in_max_block_bytes": 20_000, "drop_in_max_body_bytes": 100_000, "openai_api_key": "sk-theirs"}
    with (
        upstream() as vendor,
        in_thread(
            settings_on(tmp_path, openai_base_url=f"http://127.0.0.1:{vendor.server_port}/v1", **options)
        ) as server,
        server.client() as client,
    ):
        fits, more = picture(12_000), picture(16_000)
        two = [{"role": "user", "content": [fits, fits, {"type": "input_text", "text": "x"}]}]
        ask(client, two, model="openai/gpt-5")
        assert len(vendor.bodies[0]["messages"][0]["content"]) == 3
        begin(client, items=two)
        over = [{"role": "user", "content": [fits, more]}]
        before = server.size()
        error = refused(post(client, over, model="openai/gpt-5"), 413, "too_large", "input[0].content[1]")
        assert "drop_in_max_block_bytes allows 20000" in error["message"]
        refused(client.post(CONVERSATIONS, json={"items": over}), 413, "too_large", "items[0].content[1]")
        assert server.size() == before


def test_what_a_client_names_is_bounded_like_what_it_sends(tmp_path):
    """A few bytes of references must not become any number on record: neither of many items, nor of one many times."""
    options = {"drop_in_max_block_bytes": 20_000, "drop_in_max_body_bytes": 60_000}
    with in_thread(settings_on(tmp_path, **options)) as server, server.client() as client:
        texts = [user(str(number) * 15_000) for number in range(3)]
        homes = [begin(client, items=texts[:2]) for _ in range(3)]
        ids = [item["id"] for each in homes for item in client.get(f"{CONVERSATIONS}/{each}/items").json()["data"]]
        before = server.size()
        for names in (ids, ids[:1] * 6):
            named = [{"type": "item_reference", "id": each} for each in names]
            error = refused(client.post(CONVERSATIONS, json={"items": named}), 413, "too_large", "items")
            assert "drop_in_max_body_bytes allows 60000" in error["message"]
            refused(post(client, [*named, user("x")]), 413, "too_large", "input")
        assert server.size() == before
        begin(client, items=[{"type": "item_reference", "id": each} for each in ids[:3]])


def test_a_running_answer_is_not_deleted(client):
    """It is cancelled first."""
    begun = ask(client, "x", model="scripted/hang", background=True)["id"]
    refused(client.delete(f"{RESPONSES}/{begun}"), 409, "turn_already_open", "response_id")
    client.post(f"{RESPONSES}/{begun}/cancel", json={})
    assert client.delete(f"{RESPONSES}/{begun}").status_code == 200


# --- a deleted conversation -------------------------------------------------------------------------------------------


def test_nothing_is_added_to_a_deleted_conversation(client):
    """An answer that was given in it is read still, and gone on from in a session of its own, which shows what was
    said before.
    """
    conversation = begin(client)
    first = ask(client, "One.", conversation=conversation)
    home = session_of(client, first["id"])
    version = client.get(f"/api/sessions/{home}").json()["version"]
    assert client.delete(f"{CONVERSATIONS}/{conversation}").status_code == 200
    after = client.get(f"/api/sessions/{home}").json()["version"]
    second = ask(client, "Two.", previous_response_id=first["id"])
    away = session_of(client, second["id"])
    assert away != home
    assert client.get(f"/api/sessions/{home}").json()["version"] == after > version
    parent = client.get(f"/api/sessions/{away}").json()["parent"]
    assert parent["session_id"] == home
    third = ask(client, "Three.", previous_response_id=second["id"])
    assert session_of(client, third["id"]) == away
    said = client.get(f"/api/sessions/{away}/messages").json()["items"]
    assert [item["content"][0]["text"] for item in said if item["role"] == "user"] == ["One.", "Two.", "Three."]
    assert client.get(f"{CONVERSATIONS}/conv_{away.replace('-', '')}").status_code == 200
