"""Clients that keep their own history: it is recognised, gone on with, forked where it was edited, and sent whole."""

import asyncio
import json

import pytest

from manent import engine
from manent.engine import ClientRequest, MessageIn, Retry
from manent.engine.errors import (
    BudgetTooSmall,
    EngineError,
    Invalid,
    SessionNotFound,
    TooLarge,
    ToolCallNotFound,
    UnknownModel,
)
from manent.engine.sessions.envelope import Caller
from tests.support import ManualClock, chatting, offered, query, says, settle

ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def said(*texts):
    """A history in which user and assistant take turns."""
    return tuple(MessageIn(text, ("user", "assistant")[number % 2]) for number, text in enumerate(texts))


async def answered(chat, messages, *, caller=engine.LOCAL, retry=None, model=ECHO, **more):
    """The ended turn that answers a history."""
    options = {"model": model} | more.pop("options", {})
    started = await chat.answer_client(ClientRequest(messages, options, **more), retry=retry, caller=caller)
    return await chat.ended(started.turn, caller=caller)


async def texts(chat, session):
    return [message.text for message in (await chat.messages(session, limit=1000)).items]


async def test_a_history_that_is_sent_again_goes_on_in_its_session(path):
    """Nothing is recorded twice, and the model is sent all of it."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"), system="be brief", end_user="anna")
        second = await answered(chat, said("one", "one", "two"), system="be brief", end_user="anna")
        third = await answered(chat, said("one", "one", "two", "two", "three"), system="be brief", end_user="anna")
        assert first.session_id == second.session_id == third.session_id
        assert await texts(chat, first.session_id) == ["one", "one", "two", "two", "three", "three"]
        session = await chat.session(first.session_id)
        assert (session.system, session.user_id) == ("be brief", "anna")
        prompt = await chat.explain(third.id)
        assert prompt.matches
        assert prompt.window.policy == "all/1"
        assert prompt.window.omitted.count == 0
        assert len(prompt.window.included) == 6
    settle(path)


async def test_an_edited_history_forks_where_it_was_edited(path):
    """Both ways stay; the edited one goes on in its own session from then on."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"))
        await answered(chat, said("one", "one", "two"))
        edited = await answered(chat, said("one", "one", "deux"))
        assert edited.session_id != first.session_id
        assert (await chat.session(edited.session_id)).parent.session_id == first.session_id
        assert await texts(chat, edited.session_id) == ["one", "one", "deux", "deux"]
        again = await answered(chat, said("one", "one", "deux", "deux", "trois"))
        assert again.session_id == edited.session_id
    settle(path)


async def test_the_longest_known_beginning_counts(path):
    """A history cut short and gone on with otherwise forks at its last known answer."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"))
        await answered(chat, said("one", "one", "two"))
        other = await answered(chat, said("one", "one", "two", "another answer", "three"))
        assert (await chat.session(other.session_id)).parent.session_id == first.session_id
        messages = (await chat.messages(other.session_id)).items
        assert [(each.role, each.text) for each in messages[2:4]] == [("user", "two"), ("assistant", "another answer")]
        assert messages[3].turn_id is None
    settle(path)


async def test_what_no_model_said_here_does_not_look_as_if_one_had(path):
    """A client's own history is recorded with the key as actor, and without turn, model and stop reason."""
    caller = Caller("default", "key:phone")
    async with chatting(path) as chat:
        turn = await answered(chat, said("one", "asserted", "two"), caller=caller)
        asserted = (await chat.messages(turn.session_id, caller=caller)).items[1]
        assert (asserted.actor, asserted.turn_id, asserted.model, asserted.stop_reason) == (
            "key:phone",
            None,
            None,
            None,
        )
        goes_on = await answered(chat, said("one", "asserted", "two", "two", "three"), caller=caller)
        assert goes_on.session_id == turn.session_id
    settle(path)


async def test_histories_of_others_are_not_recognised(path):
    """Of another key, another end user, another tenant: each has its own session."""
    async with chatting(path) as chat:
        one = await answered(chat, said("one"), caller=Caller("default", "key:a"))
        for caller, user in [("default", "key:b"), None], [("default", "key:a"), "anna"], [("other", "key:a"), None]:
            turn = await answered(chat, said("one", "one", "two"), caller=Caller(*caller), end_user=user)
            assert turn.session_id != one.session_id
            assert (await chat.session(turn.session_id, caller=Caller(*caller))).parent is None
    settle(path)


async def test_a_changed_system_prompt_is_recorded_with_the_turn(path):
    """It is compared apart: the same history under another prompt goes on in the same session."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"), system="old")
        second = await answered(chat, said("one", "one", "two"), system="new")
        third = await answered(chat, said("one", "one", "two", "two", "three"))
        assert first.session_id == second.session_id == third.session_id
        assert (await chat.session(first.session_id)).system is None
        assert [(await chat.explain(turn.id)).matches for turn in (first, second, third)] == [True, True, True]
        kinds = [event.type async for event in chat.iter_events(first.session_id)]
        assert kinds.count("session.updated") == 2
    settle(path)


async def test_an_open_turn_is_a_fork_and_never_a_refusal(path):
    """A client that asks again before it was answered is answered in a branch."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"))
        running = await chat.answer_client(ClientRequest(said("one", "one", "x " * 300), {"model": "echo/paced"}))
        assert running.session == first.session_id
        other = await answered(chat, said("one", "one", "two"))
        assert (await chat.session(other.session_id)).parent.session_id == first.session_id
        await chat.cancel(running.turn)
        await chat.ended(running.turn)
        many = await asyncio.gather(*[answered(chat, said("one", "one", "two", "two", f"{n}")) for n in range(8)])
        assert len({turn.session_id for turn in many}) == 8
    settle(path)


async def test_calls_and_results_are_recognised(path):
    """A client that runs tools sends the call and its result back, and goes on in the session."""
    clerk = [*says({"tool": {"id": "call_1", "name": "look", "input": {"at": 1}}}), *says("seen")]
    async with chatting(path, clerk=clerk) as chat:
        tools = {"client_tools": offered("look")}
        first = await answered(chat, said("look"), model="scripted/clerk", options=tools)
        call = engine.ToolUseBlock("call_1", "look", {"at": 1.0})
        result = MessageIn([engine.ToolResultBlock("call_1", "a house")], "tool")
        history = (*said("look"), MessageIn([call], "assistant"), result)
        second = await answered(chat, history, model="scripted/clerk", options=tools)
        assert (second.session_id, second.text) == (first.session_id, "seen")
        wrong = MessageIn([engine.ToolResultBlock("call_9", "a house")], "tool")
        before = query(path, "SELECT size FROM heads")
        with pytest.raises(ToolCallNotFound):
            await answered(chat, (*said("look"), MessageIn([call], "assistant"), wrong), model="scripted/clerk")
        assert query(path, "SELECT size FROM heads") == before
    settle(path)


async def test_an_erased_history_is_not_recognised_any_more(path):
    """From the erased message on, in every branch; what came before it still is."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"))
        second = await answered(chat, said("one", "one", "two"))
        await answered(chat, said("one", "one", "other"))
        version = next(each.version for each in (await chat.messages(second.session_id)).items if each.text == "two")
        await chat.erase(second.session_id, "asked", versions=[version])
        forked = await answered(chat, said("one", "one", "two", "two", "three"))
        assert (await chat.session(forked.session_id)).parent.session_id == first.session_id
        await chat.erase(first.session_id, "asked", versions=[2])
        new = await answered(chat, said("one", "one", "other", "other", "three"))
        assert (await chat.session(new.session_id)).parent is None
    settle(path)


async def test_a_session_can_be_named_outright(path):
    """It goes on there, whatever is recognised; one that is not there is named."""
    async with chatting(path) as chat:
        native = (await chat.create_session(model=ECHO)).id
        await chat.say(native, "one")
        turn = await answered(chat, said("two"), session=native)
        assert turn.session_id == native
        assert await texts(chat, native) == ["one", "one", "two", "two"]
        with pytest.raises(SessionNotFound):
            await answered(chat, said("two"), session=engine.new_id())
    settle(path)


async def test_archived_and_expired_sessions_are_not_gone_on_with(path):
    """Their histories begin anew."""
    async with chatting(path) as chat:
        first = await answered(chat, said("one"))
        await chat.update_session(first.session_id, status="archived")
        second = await answered(chat, said("one", "one", "two"))
        assert second.session_id != first.session_id
        assert (await chat.session(second.session_id)).parent is None


async def test_a_retry_is_given_the_turn_that_it_has_started(path):
    """While it runs, and for a while after its end; the same words sent later ask anew."""
    clock = ManualClock()
    async with chatting(path, clock, retry_attach_s=60) as chat:
        one = Retry("chat", b"body", repeated=False)
        again = Retry("chat", b"body", repeated=True)
        first = await answered(chat, said("one"), retry=one)
        assert (await answered(chat, said("one"), retry=again)).id == first.id
        assert (await answered(chat, said("one"), retry=Retry("chat", b"other", repeated=True))).id != first.id
        assert (await answered(chat, said("one"), retry=again, caller=Caller("default", "key:b"))).id != first.id
        fresh = await answered(chat, said("one"), retry=one)
        assert fresh.id != first.id
        clock.time_us += 61_000_000
        assert (await answered(chat, said("one"), retry=again)).id != fresh.id
    async with chatting(path, clock) as chat:
        last = await answered(chat, said("two"), retry=Retry("chat", b"two", repeated=False))
    async with chatting(path, clock) as chat:
        assert (await answered(chat, said("two"), retry=Retry("chat", b"two", repeated=True))).id == last.id


async def test_a_turn_that_nobody_reads_is_cancelled_after_its_grace(path):
    """The client has gone, and nothing more is paid for it."""
    async with chatting(path) as chat:
        request = ClientRequest(said("x " * 2000), {"model": "echo/paced"})
        started = await chat.answer_client(request, grace_s=1)
        ended = await chat.events(started.session, types=["turn.cancelled"], wait_s=20)
        assert [event.type for event in ended.items] == ["turn.cancelled"]


async def test_a_request_is_forgotten_with_its_words(path):
    """After an erasure of what it said, or of all of its session, not even its keyed hash is there."""
    async with chatting(path) as chat:
        turns = [await answered(chat, said(text), retry=Retry("chat", text.encode(), False)) for text in ("one", "two")]
        (asked,) = [each for each in (await chat.messages(turns[0].session_id)).items if each.role == "user"]
        await chat.erase(turns[0].session_id, reason="asked for", versions=[asked.version])
        assert query(path, "SELECT turn FROM retries") == [(turns[1].id.bytes,)]
        await chat.erase(turns[1].session_id, reason="asked for")
        assert query(path, "SELECT turn FROM retries") == []
    settle(path)


async def test_nothing_of_a_refused_request_is_recorded(path):
    """Unknown models, roles, histories without an end to answer, too many messages, more than the model takes."""
    async with chatting(path, drop_in_max_messages=5) as chat:
        refused = [
            (said("one"), {"model": "nobody/none"}, UnknownModel),
            ((MessageIn("one", "wizard"),), {}, Invalid),
            (said("one", "prefill"), {}, Invalid),
            ((), {}, Invalid),
            (said(*"123456"), {}, TooLarge),
            (said("word " * 50), {"options": {"budget_tokens": 20}}, BudgetTooSmall),
        ]
        for messages, more, error in refused:
            with pytest.raises(error):
                await answered(chat, messages, **more)
    assert query(path, "SELECT count(*) FROM events") == [(0,)]


async def test_what_a_client_says_otherwise_is_sent_as_it_says_it(path):
    """Verbatim, with the difference in the attempt's words: the request is derived again to the byte."""
    async with chatting(path) as chat:
        first = await answered(chat, said("ab"))
        split = MessageIn([engine.TextBlock("a"), engine.TextBlock("b")], "user")
        history = (split, MessageIn("ab", "assistant"), MessageIn("two"))
        second = await answered(chat, history, verbatim=True)
        assert second.session_id == first.session_id
        prompt = await chat.explain(second.id)
        assert prompt.matches
        (attempt,) = (await chat.events(second.session_id, types=["attempt.started"], after=6)).items
        assert json.loads(bytes(attempt.body))["contents"] == [
            [0, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]]
        ]
        await chat.erase(first.session_id, "asked", versions=[2])
        with pytest.raises(EngineError):
            await chat.explain(second.id)
    settle(path)
