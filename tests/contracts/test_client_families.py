"""Clients that say in which conversation they are, edit it from its beginning, and have tools run here."""

import pytest

from manent import engine
from manent.engine import ClientRequest, MessageIn
from tests.support import awaited, chatting, says, settle

ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def said(*texts):
    """A history in which user and assistant take turns."""
    return tuple(MessageIn(text, ("user", "assistant")[number % 2]) for number, text in enumerate(texts))


async def answered(chat, messages, *, model=ECHO, **more):
    options = {"model": model} | more.pop("options", {})
    request = ClientRequest(messages, options, protocol="ai_sdk", **more)
    return await chat.ended((await chat.answer_client(request)).turn)


async def texts(chat, session):
    return [message.text for message in (await chat.messages(session, limit=1000)).items]


def call(name, number, **given):
    return {"tool": {"id": number, "name": name, "input": given}}


@engine.tool(approval=True)
def house_unlock(door: str) -> str:
    """Unlocks a door."""
    return f"the {door} door is open"


async def test_a_conversation_goes_on_in_its_own_session_though_another_holds_the_same(path):
    """Without being told, the newest of the two would be taken."""
    async with chatting(path) as chat:
        first = await answered(chat, said("hi"))
        second = await answered(chat, said("hi"))
        assert first.session_id != second.session_id
        more = await answered(chat, said("hi", "hi", "more"), family=first.session_id)
        assert more.session_id == first.session_id
        fork = await answered(chat, said("hi", "hi", "other"), family=first.session_id)
        assert (await chat.session(fork.session_id)).parent.session_id == first.session_id
    settle(path)


async def test_a_conversation_that_is_edited_from_its_beginning_is_a_fork_of_it(path):
    """It shares no message, and is recognised from then on; one that is not said to be edited begins anew."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"), system="be brief")
        again = await answered(chat, said("one"), system="be brief", family=first.session_id, edited=True)
        parent = (await chat.session(again.session_id)).parent
        assert (parent.session_id, parent.version) == (first.session_id, 1)
        assert await texts(chat, again.session_id) == ["one", "one"]
        third = await answered(chat, said("eins"), system=None, family=again.session_id, edited=True)
        assert (await chat.session(third.session_id)).system is None
        assert (await chat.branches(first.session_id)).root == first.session_id
        assert len((await chat.branches(third.session_id)).nodes) == 3
        on = await answered(chat, said("eins", "eins", "zwei"), family=again.session_id)
        assert on.session_id == third.session_id
        anew = await answered(chat, said("new"), family=first.session_id)
        assert (await chat.session(anew.session_id)).parent is None
        await chat.update_session(first.session_id, status="archived")
        apart = await answered(chat, said("uno"), family=first.session_id, edited=True)
        assert (await chat.session(apart.session_id)).parent is None
    settle(path)


async def test_tools_that_are_registered_here_run_in_rounds_and_every_round_is_sent_all(path):
    """Nothing is left out of a client's conversation in any round; what was sent can be derived again."""
    clerk = says("unused") + says(call("calculator", "c1", expression="6*7")) + says({"text": "It is 42."})
    async with chatting(path, clerk=clerk, budget_tokens=1000) as chat:
        history = said("a " * 600, "b " * 600, "what is 6 times 7?")
        turn = await answered(chat, history, model="scripted/clerk", options={"tools": ["calculator"]})
        assert (turn.status, turn.text) == ("completed", "It is 42.")
        assert [message.role for message in turn.messages] == ["assistant", "tool", "assistant"]
        for attempt in (1, 2):
            prompt = await chat.explain(turn.id, attempt=attempt)
            assert (prompt.matches, prompt.window.policy, prompt.window.omitted.count) == (True, "all/1", 0)
    settle(path)


async def test_a_clients_turn_waits_for_a_person_and_goes_on(path):
    """A decision resumes it, with all of the conversation."""
    clerk = says(call("house_unlock", "d1", door="back")) + says({"text": "Come in."})
    async with chatting(path, tools=[house_unlock], clerk=clerk) as chat:
        turn = await answered(chat, said("doors"), model="scripted/clerk", options={"tools": ["house_unlock"]})
        assert (turn.status, awaited(turn)) == ("requires_action", ("d1",))
        await chat.decide(turn.id, "d1", approve=True)
        turn = await chat.ended(turn.id)
        assert (turn.status, turn.text) == ("completed", "Come in.")
        assert (await chat.explain(turn.id)).window.policy == "all/1"
    settle(path)


async def test_a_client_that_names_no_tools_of_the_servers_has_one_round(path):
    """The call is the client's, though a tool of that name is registered here."""
    async with chatting(path, clerk=says(call("calculator", "c1", expression="1"))) as chat:
        turn = await answered(chat, said("one"), model="scripted/clerk")
        assert (turn.status, turn.stop_reason) == ("completed", "tool_use")
        assert [message.role for message in turn.messages] == ["assistant"]
    settle(path)


async def test_results_of_both_sides_go_on_where_the_tools_here_have_answered(path):
    """The session ends with the result of a tool that ran here; the client sends it again, with that of its own."""
    look = engine.ToolSchema("look", "", {"type": "object", "properties": {}})
    both = [{"steps": [call("look", "c1"), call("calculator", "c2", expression="1+1")]}, {"steps": [{"text": "Done."}]}]
    async with chatting(path, clerk=both) as chat:
        options = {"tools": ["calculator"], "client_tools": [look]}
        first = await answered(chat, said("both"), model="scripted/clerk", options=options)
        assert (first.status, first.stop_reason) == ("completed", "tool_use")
        asking, here = first.messages
        theirs = MessageIn((engine.ToolResultBlock("c1", "dry"),), "tool")
        history = (
            *said("both"),
            MessageIn(asking.blocks(), "assistant"),
            MessageIn(here.blocks(), "tool"),
            theirs,
        )
        second = await answered(chat, history, model="scripted/clerk", options=options)
        assert (second.session_id, second.text) == (first.session_id, "Done.")
        assert (await chat.session(first.session_id)).message_count == 5
    settle(path)
