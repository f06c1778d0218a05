"""Conversations that clients keep in the engine: begun whole or not at all, added to, and described, until deleted."""

import pytest

from manent import engine
from manent.engine import (
    ClientRequest,
    EmptyMessage,
    IdempotencyMismatch,
    Invalid,
    MessageIn,
    OtherBlock,
    RequestKey,
    SessionNotFound,
    TextBlock,
    TooLarge,
    ToolCallNotFound,
    ToolResultBlock,
    ToolResultsMissing,
    ToolUseBlock,
)
from manent.engine.sessions.envelope import Caller
from tests.support import chatting, query, settle

CALL = MessageIn((ToolUseBlock("c1", "look", {}),), "assistant")
RESULT = MessageIn((ToolResultBlock("c1", "dry"),), "tool")
HIDDEN = OtherBlock("redacted_thinking", b'{"type":"redacted_thinking","data":"x"}')


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def test_one_begins_with_its_messages_in_one_append(path):
    """In order, with those of every role; what a model gave elsewhere has no model and no turn here."""
    given = [
        MessageIn("be brief", "system"),
        MessageIn("q"),
        CALL,
        RESULT,
        MessageIn((TextBlock("a"), HIDDEN), "assistant"),
    ]
    async with chatting(path) as chat:
        session = await chat.create_conversation(given, metadata={"a": "b"})
        assert (session.version, session.message_count, session.metadata) == (6, 5, {"a": "b"})
        found = (await chat.messages(session.id)).items
        assert [message.role for message in found] == ["system", "user", "assistant", "tool", "assistant"]
        assert {(message.turn_id, message.model) for message in found} == {(None, None)}
        assert (await chat.say(session.id, "on", model="echo/echo")).text == "on"
        (again,) = await chat.add_to_conversation(session.id, [MessageIn("more")])
        assert again.text == "more"
        described = await chat.describe_conversation(session.id, {"c": "d"})
        assert described.metadata == (await chat.session(session.id)).metadata == {"c": "d"}
    settle(path)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([MessageIn("q"), MessageIn("")], EmptyMessage),
        ([MessageIn("q"), RESULT], ToolCallNotFound),
        ([CALL, MessageIn("q")], ToolResultsMissing),
        ([MessageIn("q", "nobody")], Invalid),
        ([MessageIn("a\0b")], Invalid),
        ([MessageIn("q")] * 21, TooLarge),
    ],
)
async def test_of_one_that_is_refused_nothing_is_recorded(path, messages, error):
    """Neither the session nor the messages before the one that was wrong; nor where they are added."""
    async with chatting(path) as chat:
        session = await chat.create_conversation()
        before = query(path, "SELECT count(*) FROM events")
        with pytest.raises(error):
            await chat.create_conversation(messages)
        with pytest.raises(error):
            await chat.add_to_conversation(session.id, messages)
        assert query(path, "SELECT count(*) FROM events") == before
    settle(path)


async def test_a_request_that_comes_again(path):
    """Gets the first answer, and another under its key is refused."""

    def request(route, body=b"{}"):
        return RequestKey("local", route, "key", body)

    async with chatting(path) as chat:
        session = await chat.create_conversation([MessageIn("q")], request=request("create"))
        again = await chat.create_conversation([MessageIn("q")], request=request("create"))
        assert (again.id, again.version) == (session.id, session.version)
        for _ in range(2):
            (added,) = await chat.add_to_conversation(session.id, [MessageIn("r")], request=request("add"))
            assert added.version == 3
            described = await chat.describe_conversation(session.id, {"a": "b"}, request=request("describe"))
            assert described.version == 4
        with pytest.raises(IdempotencyMismatch):
            await chat.add_to_conversation(session.id, [MessageIn("r")], request=request("add", b"[]"))
    settle(path)


async def test_a_deleted_one_is_not_added_to_or_described(path):
    """Nor is another tenant's, or one that there is not; natively it goes on."""
    async with chatting(path) as chat:
        deleted = (await chat.create_conversation([MessageIn("q")])).id
        foreign = (await chat.create_conversation(caller=Caller(tenant="other"))).id
        await chat.delete_conversation(deleted)
        for session in (deleted, foreign, engine.new_id()):
            for refused in (
                chat.add_to_conversation(session, [MessageIn("r")]),
                chat.describe_conversation(session, {"a": "b"}),
            ):
                with pytest.raises(SessionNotFound):
                    await refused
        await chat.append_message(deleted, "natively")
        assert [message.text for message in (await chat.messages(deleted)).items] == ["q", "natively"]
    settle(path)


@pytest.mark.parametrize("role", ["assistant", "tool"])
async def test_a_call_and_its_results_are_sent_together_or_not_at_all(path, role):
    """Once the words of one are erased no model is sent the other: vendors take neither alone."""
    async with chatting(path) as chat:
        given = [MessageIn("q"), CALL, RESULT, MessageIn("a", "assistant")]
        session = (await chat.create_conversation(given)).id
        found = (await chat.messages(session)).items
        await chat.erase(session, "asked for", versions=[next(each.version for each in found if each.role == role)])
        asked = ClientRequest((MessageIn("on"),), {"model": "echo/echo"}, protocol="responses", conversation=session)
        turn = await chat.ended((await chat.answer_client(asked)).turn)
        prompt = await chat.explain(turn.id)
        assert prompt.matches is True
        sent = {message.version for message in prompt.window.included}
        assert [message.text for message in found if message.version in sent] == ["q", "a"]
    settle(path)
