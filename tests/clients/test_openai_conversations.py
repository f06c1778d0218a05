"""Conversations of OpenAI's libraries, unmodified, against a real server process."""

import json
import shutil
import signal
import subprocess

import httpx
import openai
import pytest

from tests.api.harness import Process
from tests.clients.environments import HERE, node_modules

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Process(tmp_path_factory.mktemp("conversations") / "manent.db") as server:
        yield server


@pytest.fixture
def sdk(server):
    with client_of(server) as sdk:
        yield sdk


def client_of(server):
    """The library's client. It asks once."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def user(text):
    return {"type": "message", "role": "user", "content": text}


def session_of(conversation):
    name = conversation.id.removeprefix("conv_")
    return "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def texts(items):
    return ["".join(part.text for part in item.content) for item in items if item.type == "message"]


def test_conversations(server, sdk):
    """Begun, read, described, and deleted; it is a session of the native routes, too."""
    conversation = sdk.conversations.create(metadata={"topic": "demo"}, items=[user("Hello!")])
    assert (conversation.object, conversation.metadata) == ("conversation", {"topic": "demo"})
    assert sdk.conversations.retrieve(conversation.id) == conversation
    assert sdk.conversations.update(conversation.id, metadata={"topic": "x"}).metadata == {"topic": "x"}
    assert sdk.conversations.create().metadata == {}
    native = f"{server.url}/api/sessions/{session_of(conversation)}"
    httpx.post(f"{native}/turns", json={"content": "native", "model": "echo/echo"}).raise_for_status()
    items = list(sdk.conversations.items.list(conversation.id, order="asc"))
    assert texts(items) == ["Hello!", "native", "native"]
    deleted = sdk.conversations.delete(conversation.id)
    assert (deleted.id, deleted.deleted) == (conversation.id, True)
    with pytest.raises(openai.NotFoundError) as refusal:
        sdk.conversations.retrieve(conversation.id)
    assert refusal.value.code == "conversation_not_found"
    assert list(sdk.conversations.items.list(conversation.id, order="asc")) == items


def test_responses_in_a_conversation(sdk):
    """They go on there, and their input and output are its items."""
    conversation = sdk.conversations.create(items=[user("Remember: seven.")], metadata={"topic": "x"})
    first = sdk.responses.create(model="echo/echo", input="One.", conversation=conversation.id, metadata={"n": "1"})
    second = sdk.responses.create(model="echo/echo", input="Two.", conversation={"id": conversation.id})
    assert (first.output_text, second.output_text) == ("One.", "Two.")
    items = list(sdk.conversations.items.list(conversation.id, order="asc"))
    assert texts(items) == ["Remember: seven.", "One.", "One.", "Two.", "Two."]
    assert [item.id for item in (*first.output, *second.output)] == [items[2].id, items[4].id]
    assert sdk.conversations.retrieve(conversation.id) == conversation
    sdk.conversations.delete(conversation.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="echo/echo", input="Three.", conversation=conversation.id)


def test_items(sdk):
    """Added, listed page by page, found by their ids and deleted, with what the library can ask for besides."""
    conversation = sdk.conversations.create()
    added = sdk.conversations.items.create(
        conversation.id,
        items=[
            user([{"type": "input_text", "text": "Rain?"}]),
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "dry"},
            {"type": "message", "role": "assistant", "content": "No."},
        ],
        include=["reasoning.encrypted_content", "message.input_image.image_url"],
    )
    assert [item.type for item in added.data] == ["message", "function_call", "function_call_output", "message"]
    for order, expected in (("asc", added.data), ("desc", added.data[::-1])):
        listed = sdk.conversations.items.list(
            conversation.id, limit=2, order=order, include=["reasoning.encrypted_content"]
        )
        assert list(listed) == expected
    first = sdk.conversations.items.retrieve(added.first_id, conversation_id=conversation.id)
    assert first == added.data[0]
    assert sdk.conversations.items.delete(first.id, conversation_id=conversation.id) == conversation
    for item in sdk.conversations.items.list(conversation.id, limit=1):
        sdk.conversations.items.delete(item.id, conversation_id=conversation.id)
    assert list(sdk.conversations.items.list(conversation.id)) == []
    with pytest.raises(openai.NotFoundError) as refusal:
        sdk.conversations.items.retrieve(first.id, conversation_id=conversation.id)
    assert (refusal.value.code, refusal.value.param) == ("item_not_found", "item_id")
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.conversations.items.create(conversation.id, items=[user(str(number)) for number in range(21)])
    assert (refusal.value.code, refusal.value.param) == ("array_above_max_length", "items")


def test_what_was_answered_is_there_after_kill_9(tmp_path):
    """Between two calls: the conversation, its items, and that one of them is deleted."""
    with Process(tmp_path / "manent.db") as server, client_of(server) as sdk:
        conversation = sdk.conversations.create(metadata={"a": "b"}, items=[user("one"), user("two")])
        first, second = sdk.conversations.items.list(conversation.id, order="asc")
        sdk.conversations.items.delete(first.id, conversation_id=conversation.id)
        deleted = sdk.conversations.create()
        sdk.conversations.delete(deleted.id)
        server.send(signal.SIGKILL)
    with Process(tmp_path / "manent.db") as server, client_of(server) as sdk:
        assert sdk.conversations.retrieve(conversation.id) == conversation
        assert list(sdk.conversations.items.list(conversation.id)) == [second]
        with pytest.raises(openai.NotFoundError):
            sdk.conversations.retrieve(deleted.id)
        sdk.conversations.items.create(conversation.id, items=[user("three")])
        assert texts(sdk.conversations.items.list(conversation.id, order="asc")) == ["two", "three"]


def test_the_library_for_javascript(server):
    """The same of completions that are stored, and of conversations."""
    home = node_modules()
    script = shutil.copy(HERE / "js" / "openai_kept.mjs", home)
    ran = subprocess.run(["node", script, server.url], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "completions": {
            "same": [0, 1, 2],
            "messages": ["one"],
            "deleted": True,
            "gone": "completion_not_found",
        },
        "conversations": {
            "texts": ["one", "two", "three"],
            "item": "item_not_found",
            "metadata": {"topic": "x"},
            "deleted": True,
            "gone": "conversation_not_found",
            "rest": 2,
        },
    }
