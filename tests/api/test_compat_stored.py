"""Stored Chat Completions over HTTP: served by their ids, listed, deleted; and what is served no longer."""

import hashlib
import json
import typing

import openai.types.chat as openai_chat
import pytest
from openai.types.chat.completion_list_params import CompletionListParams
from openai.types.chat.completions.message_list_params import MessageListParams

from manent import engine
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, named, opened
from tests.api.test_compat_chat import CHAT, TOOL, ask, asked, assistant, chunks, place, refused, user

KEYS = {"one": ["chat", "erase"], "two": ["chat"], "other": ["chat", "erase"]}
PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream):
    """A server of this file's own: lists show all that is stored."""
    options = {"openai_base_url": f"http://127.0.0.1:{upstream.server_port}/v1"}
    with in_thread(settings_on(tmp_path_factory.mktemp("stored"), **options)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def store(client, *messages, **fields):
    """A completion that is stored."""
    response = ask(client, *messages, store=True, **fields)
    place(response)
    return response.json()


def found(client, completion, below="", **query):
    response = client.get(f"{CHAT}/{completion}{below}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def gone(client, completion, headers=None):
    """It is served in no way, as one that never was."""
    for method, below in (("GET", ""), ("GET", "/messages"), ("DELETE", "")):
        answer = client.request(method, f"{CHAT}/{completion}{below}", headers=headers)
        refused(answer, 404, "completion_not_found", "completion_id")
    listed = client.get(CHAT, headers=headers, params={"limit": 100, "order": "desc"}).json()
    assert completion not in [each["id"] for each in listed["data"]]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_stored_completion_is_served_as_it_was_answered(client):
    """With the metadata and the parameters of its request, also when it was streamed."""
    fields = {"metadata": {"ticket": "7"}, "user": "u-1", "temperature": 0.5, "seed": 3, "tools": [TOOL]}
    told = store(client, user("Hello."), **fields)
    served = found(client, told["id"])
    assert {name: served[name] for name in told} == told
    rest = {name: value for name, value in served.items() if name not in told}
    assert rest.pop("request_id")
    assert rest == {
        "tool_choice": None,
        "seed": 3,
        "top_p": None,
        "temperature": 0.5,
        "presence_penalty": None,
        "frequency_penalty": None,
        "input_user": "u-1",
        "tools": [TOOL],
        "metadata": {"ticket": "7"},
        "response_format": None,
    }
    assert openai_chat.ChatCompletion.model_validate(served).metadata == {"ticket": "7"}
    streamed = chunks(client, user("Streamed."), store=True)
    again = found(client, streamed[0]["id"])
    assert again["choices"][0]["message"]["content"] == "Streamed."
    assert (again["created"], again["metadata"]) == (streamed[0]["created"], {})
    for below in ("", "/messages"):
        answer = client.get(f"{CHAT}/{told['id']}{below}")
        assert told["id"] == "chatcmpl-" + place(answer)[1].replace("-", "")


@pytest.mark.parametrize("fields", [{}, {"store": False}, {"store": None}])
def test_what_is_not_stored_is_on_record_all_the_same(client, fields):
    """It is only not served by its id."""
    response = ask(client, user("unstored"), **fields)
    session, _ = place(response)
    gone(client, response.json()["id"])
    assert client.get(f"/api/sessions/{session}/messages").json()["items"][1]["content"][0]["text"] == "unstored"


def test_the_messages_that_it_was_asked_with(client):
    """All of them, with the system prompt, each as the protocol has it; page by page, in order or back."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    picture = {"type": "image_url", "image_url": {"url": PNG}}
    said = [
        {"role": "developer", "content": "Be brief."},
        user("one"),
        assistant(None) | {"tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "dry"},
        assistant("fine"),
        user([{"type": "text", "text": "two"}, {"type": "text", "text": "parts"}]),
    ]
    name = store(client, *said, tools=[TOOL])["id"]
    page = found(client, name, "/messages")
    assert (page["object"], page["has_more"]) == ("list", False)
    told = page["data"]
    assert [each["id"] for each in told] == [f"{name}-{number}" for number in range(6)]
    assert (page["first_id"], page["last_id"]) == (told[0]["id"], told[-1]["id"])
    assert [(each["role"], each["content"]) for each in told] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", None),
        ("tool", "dry"),
        ("assistant", "fine"),
        ("user", "twoparts"),
    ]
    assert told[2]["tool_calls"] == [call]
    assert told[3]["tool_call_id"] == "c1"
    assert told[1]["content_parts"] is None
    assert [part["text"] for part in told[5]["content_parts"]] == ["two", "parts"]
    seen = store(client, user([{"type": "text", "text": "see"}, picture]), model="openai/gpt-test")["id"]
    (only,) = found(client, seen, "/messages")["data"]
    assert (only["content"], only["content_parts"][1]) == ("see", picture)
    for order, expected in (("asc", told), ("desc", told[::-1])):
        assert paged(client, f"{CHAT}/{name}/messages", limit=2, order=order) == expected
    first = found(client, name, "/messages", limit=1, after=told[4]["id"])
    assert (first["data"], first["has_more"]) == (told[5:], False)
    assert found(client, name, "/messages", after=told[5]["id"])["data"] == []


def paged(client, path, **query):
    """All items of a list, page by page, as OpenAI's clients turn them."""
    items, after = [], {}
    while True:
        page = client.get(path, params=query | after).json()
        items += page["data"]
        assert len(page["data"]) <= query["limit"]
        if not page["has_more"]:
            return items
        after = {"after": page["last_id"]}


def test_results_of_one_message_are_messages_of_their_own(client):
    """A history that another vendor's client began, with two results in one message, is told in this protocol."""
    session = client.post("/api/sessions", json={"model": "echo/echo"}).json()["id"]
    calls = [{"type": "tool_use", "id": name, "name": "look", "input": {}} for name in ("c1", "c2")]
    results = [{"type": "tool_result", "tool_use_id": name, "content": name * 2} for name in ("c1", "c2")]
    for role, content in (("user", "go"), ("assistant", calls), ("tool", results), ("assistant", "so")):
        body = {"role": role, "content": content}
        client.post(f"/api/sessions/{session}/messages", json=body).raise_for_status()
    told = store(client, user("on"), headers={"X-Manent-Session": session})["id"]
    for order, ids in (("asc", ["0", "1", "2", "2.1", "3", "4"]), ("desc", ["4", "3", "2.1", "2", "1", "0"])):
        for limit in (1, 2, 3):
            items = paged(client, f"{CHAT}/{told}/messages", limit=limit, order=order)
            assert [each["id"].removeprefix(f"{told}-") for each in items] == ids
    results = [each for each in items if each["role"] == "tool"]
    assert [(each["tool_call_id"], each["content"]) for each in results] == [("c2", "c2c2"), ("c1", "c1c1")]


def test_they_are_listed(client):
    """In the order in which they were asked for, or back; those with a model, or with metadata, alone."""
    names = [
        store(client, user(f"list {number}"), metadata={"list": "a", "n": str(number % 2)})["id"] for number in range(5)
    ]
    other = store(client, user("list"), model="scripted/late", metadata={"list": "a"})["id"]
    path, mine = CHAT, {"metadata[list]": "a"}

    def listed(**query):
        return [each["id"] for each in paged(client, path, **{"limit": 2} | mine | query)]

    assert listed() == [*names, other]
    assert listed(order="desc") == [other, *names[::-1]]
    assert listed(model="scripted/late") == listed(model="late") == [other]
    assert listed(**{"metadata[n]": "1"}) == names[1::2]
    assert listed(**{"metadata[n]": "1", "metadata[list]": "b"}) == []
    page = client.get(CHAT, params=mine | {"limit": 2, "after": names[1]}).json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert [page["first_id"], page["last_id"]] == [each["id"] for each in page["data"]] == names[2:4]
    assert page["data"][0] == found(client, names[2])
    empty = client.get(CHAT, params={"metadata[list]": "none"}).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_a_page_is_bounded_in_bytes(tmp_path):
    """It ends early where its items are large, after one at least."""
    with in_thread(settings_on(tmp_path, max_page_bytes=4000)) as server, server.client() as client:
        names = [store(client, user("x" * size))["id"] for size in (3000, 3000, 10, 9000)]
        pages, after = [], {}
        while not pages or pages[-1]["has_more"]:
            pages.append(client.get(CHAT, params=after).json())
            after = {"after": pages[-1]["last_id"]}
        assert [each["id"] for page in pages for each in page["data"]] == names
        assert len(pages) > 2
        said = [user("a" * 5000), assistant("b" * 5000), user("c" * 5000), assistant("d"), user("e")]
        path = f"{CHAT}/{store(client, *said)['id']}/messages"
        assert [len(client.get(path, params={"order": order}).json()["data"]) for order in ("asc", "desc")] == [1, 2]
        assert [each["content"][0] for each in paged(client, path, limit=5)] == ["a", "b", "c", "d", "e"]


# --- what is served no longer -----------------------------------------------------------------------------------------


def test_a_deleted_completion_is_gone_and_its_words_with_it(client, server):
    """In the branches that share it, too; what was said before and after stays."""
    first = store(client, user("first words"))
    said = [user("first words"), assistant("first words")]
    second = ask(client, *said, user("Schibboleth"), store=True)
    session, _ = place(second)
    more = [*said, user("Schibboleth"), assistant("Schibboleth"), user("later words")]
    third = store(client, *more)
    name = second.json()["id"]
    answer = client.delete(f"{CHAT}/{name}")
    assert answer.status_code == 200
    assert answer.json() == {"object": "chat.completion.deleted", "id": name, "deleted": True}
    assert openai_chat.ChatCompletionDeleted.model_validate(answer.json())
    gone(client, name)
    recorded = client.get(f"/api/sessions/{session}/messages").json()["items"]
    assert [bool(message["erased"]) for message in recorded] == [False] * 2 + [True] * 2 + [False] * 2
    told = found(client, third["id"], "/messages")["data"]
    assert [each["content"] for each in told] == ["first words"] * 2 + [None] * 2 + ["later words"]
    assert found(client, first["id"])["choices"][0]["message"]["content"] == "first words"
    files = [file for file in server.database.parent.iterdir() if file.is_file()]
    assert not [file.name for file in files if b"Schibboleth" in file.read_bytes()]


def test_its_system_prompt_and_metadata_are_deleted_with_it(client, server):
    """They came with it, as the first of its messages did; a later completion is told without them."""
    system = {"role": "system", "content": "be Schibboleth"}
    first = store(client, system, user("one"), metadata={"a": "Schibboleth"})
    later = store(client, system, user("one"), assistant("one"), user("two"))
    assert client.delete(f"{CHAT}/{first['id']}").status_code == 200
    told = found(client, later["id"], "/messages")["data"]
    assert [each["content"] for each in told] == [None, None, None, "two"]
    files = [file for file in server.database.parent.iterdir() if file.is_file()]
    assert not [file.name for file in files if b"Schibboleth" in file.read_bytes()]


def test_an_erased_completion_is_served_no_longer(client):
    """Whether its words were erased by themselves or with the session."""
    for versions in (None, "answer"):
        response = ask(client, user("to be erased"), store=True)
        session, turn = place(response)
        version = client.get(f"/api/turns/{turn}").json()["message"]["version"]
        body = {"reason": "asked to"} | ({} if versions is None else {"versions": [version]})
        client.post(f"/api/sessions/{session}/erase", json=body).raise_for_status()
        gone(client, response.json()["id"])


def test_an_answer_that_is_not_whole_is_not_served(client):
    """While it runs, and when it has failed or was cancelled."""
    failed = ask(client, user("stored failure"), model="scripted/fails", store=True)
    gone(client, "chatcmpl-" + failed.headers["x-manent-turn"].replace("-", ""))
    body = asked(user("x"), model="scripted/hang", stream=True, store=True)
    with opened(client, "POST", CHAT, json=body) as stream:
        turn = stream.response.headers["x-manent-turn"]
        gone(client, "chatcmpl-" + turn.replace("-", ""))
        client.post(f"/api/turns/{turn}/cancel").raise_for_status()
    gone(client, "chatcmpl-" + turn.replace("-", ""))


def test_a_legal_hold_keeps_it(client):
    """What is refused is neither hidden nor erased."""
    response = ask(client, user("held"), store=True)
    session, _ = place(response)
    name = response.json()["id"]
    client.patch(f"/api/sessions/{session}", json={"legal_hold": True}).raise_for_status()
    held = client.delete(f"{CHAT}/{name}")
    refused(held, 409, "legal_hold")
    assert held.headers["x-should-retry"] == "false"
    assert found(client, name)["choices"][0]["message"]["content"] == "held"
    client.patch(f"/api/sessions/{session}", json={"legal_hold": False}).raise_for_status()
    assert client.delete(f"{CHAT}/{name}").status_code == 200


def test_it_is_there_after_a_restart(tmp_path):
    """And what was deleted stays so."""
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        kept, deleted = (store(client, user(text), metadata={"a": text}) for text in ("kept", "deleted"))
        before = found(client, kept["id"])
        assert client.delete(f"{CHAT}/{deleted['id']}").status_code == 200
    with in_thread(settings_on(tmp_path)) as server, server.client() as client:
        assert found(client, kept["id"]) == before
        gone(client, deleted["id"])
        assert [each["id"] for each in client.get(CHAT).json()["data"]] == [kept["id"]]
    assert engine.verify_database(str(server.database)).problem is None
    assert engine.rebuild_projections(str(server.database)).differed == ()


# --- keys and bad input -----------------------------------------------------------------------------------------------


def test_keys(tmp_path):
    """Deleting needs the scope `erase`, and another tenant's completion is not there."""
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
        name = store(client, user("mine"), headers=one)["id"]
        refused(client.get(f"{CHAT}/{name}"), 401, "invalid_api_key")
        gone(client, name, headers=other)
        refused(client.delete(f"{CHAT}/{name}", headers=two), 403, "scope_missing")
        assert client.get(f"{CHAT}/{name}", headers=two).status_code == 200
        assert client.delete(f"{CHAT}/{name}", headers=one).status_code == 200
        gone(client, name, headers=one)


BAD = [
    ("GET", "?limit=0", 400, "invalid_value", "limit"),
    ("GET", "?limit=101", 400, "invalid_value", "limit"),
    ("GET", "?limit=x", 400, "invalid_value", "limit"),
    ("GET", "?order=up", 400, "invalid_value", "order"),
    ("GET", "?after=resp_1", 400, "invalid_value", "after"),
    ("GET", "?metadata=x", 400, "invalid_value", "metadata"),
    ("GET", "?metadata[a]=1&metadata[a]=2", 400, "invalid_value", "metadata[a]"),
    ("GET", "?mood=bad", 400, "unknown_parameter", "mood"),
    ("GET", "/{id}?mood=bad", 400, "unknown_parameter", "mood"),
    ("GET", "/{id}/messages?after=x", 400, "invalid_value", "after"),
    ("GET", "/{id}/messages?after={id}-01", 400, "invalid_value", "after"),
    ("GET", "/{id}/messages?after=chatcmpl-0-1", 400, "invalid_value", "after"),
    ("GET", "/{id}/messages?limit=0", 400, "invalid_value", "limit"),
    ("GET", "/chatcmpl-", 404, "completion_not_found", "completion_id"),
    ("GET", "/{ID}", 404, "completion_not_found", "completion_id"),
    ("GET", "/chatcmpl-0193fe5a7b5e7c3fa2d0c35f1e0ab111", 404, "completion_not_found", "completion_id"),
    ("POST", "/{id}", 405, "method_not_allowed", None),
    ("DELETE", "", 405, "method_not_allowed", None),
    ("DELETE", "/chatcmpl-x", 404, "completion_not_found", "completion_id"),
]


@pytest.fixture(scope="module")
def one_stored(client):
    return store(client, user("for bad input"))["id"]


@pytest.mark.parametrize(("method", "path", "status", "code", "param"), named(BAD))
def test_bad_input(client, server, one_stored, method, path, status, code, param):
    """Is refused in OpenAI's form, and nothing of it is recorded."""
    before = server.size()
    path = path.replace("{id}", one_stored).replace("{ID}", one_stored.upper())
    body = {"json": {"metadata": {}}} if method == "POST" else {}
    refused(client.request(method, CHAT + path, **body), status, code, param)
    assert server.size() == before


@pytest.mark.parametrize(
    ("below", "kind"), [("", CompletionListParams), ("/{completion_id}/messages", MessageListParams)]
)
def test_what_the_library_can_ask_for_is_taken(client, below, kind):
    """Every parameter of the SDK's own types is one of the route, or is read in brackets."""
    operation = client.get("/schema/openapi.json").json()["paths"][CHAT + below]["get"]
    assert typing.get_type_hints(kind).keys() - {"metadata"} <= {each["name"] for each in operation["parameters"]}
