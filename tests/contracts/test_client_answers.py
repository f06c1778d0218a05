"""Clients that go on from an answer, or in a conversation, by name; and the answers that they are served and delete."""

import pytest

from manent import engine
from manent.engine import ClientRequest, MessageIn, PreviousNotCompleted, PreviousNotFound
from manent.engine.errors import LegalHold, SessionNotFound, TurnAlreadyOpen, TurnNotFound
from manent.engine.sessions.envelope import Caller
from tests.support import chatting, query, settle

ECHO = "echo/echo"
OTHER = Caller(actor="key:other")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def begun(chat, text, *, model=ECHO, caller=engine.LOCAL, **more):
    request = {"protocol": "responses", "stored": True} | more
    asked = ClientRequest((MessageIn(text),), {"model": model}, **request)
    return await chat.answer_client(asked, caller=caller)


async def answered(chat, text, **more):
    started = await begun(chat, text, **more)
    return await chat.ended(started.turn, caller=more.get("caller", engine.LOCAL))


async def texts(chat, session):
    return [message.text for message in (await chat.messages(session, limit=1000)).items]


async def test_an_answer_is_gone_on_from_and_twice_from_one_is_a_fork(path):
    """A then B goes on in the session; A then C, when B is there, is a branch of it."""
    async with chatting(path) as chat:
        first = await answered(chat, "A")
        second = await answered(chat, "B", previous=first.id)
        third = await answered(chat, "C", previous=first.id)
        assert second.session_id == first.session_id != third.session_id
        assert await texts(chat, second.session_id) == ["A", "A", "B", "B"]
        assert await texts(chat, third.session_id) == ["A", "A", "C", "C"]
        fourth = await answered(chat, "D", previous=third.id)
        assert fourth.session_id == third.session_id
    settle(path)


async def test_instructions_are_those_of_the_request(path):
    """A system prompt holds for the turn that was asked with it, and for no other."""
    async with chatting(path) as chat:
        first = await answered(chat, "A", system="be brief")
        assert (await chat.session(first.session_id)).system == "be brief"
        await answered(chat, "B", previous=first.id)
        assert (await chat.session(first.session_id)).system is None
    settle(path)


async def test_what_a_client_was_told_is_given_back(path):
    """An answer is served with the messages that it was asked with, and the client's own words beside them."""
    async with chatting(path) as chat:
        first = await answered(chat, "A", told=b'{"user":"u"}')
        second = await answered(chat, "B", previous=first.id)
        answer = await chat.client_answer(second.id, "responses")
        assert [message.text for message in answer.inputs] == ["B"]
        assert (answer.client.previous, answer.told) == (first.id, None)
        assert (await chat.client_answer(first.id, "responses")).told == b'{"user":"u"}'
        for turn, protocol in ((first.id, "chat_completions"), (engine.new_id(), "responses")):
            with pytest.raises(TurnNotFound):
                await chat.client_answer(turn, protocol)


async def test_stored_answers_are_listed_and_no_others(path):
    """In the order in which they were asked for or back, page by page."""
    async with chatting(path) as chat:
        turns = [(await answered(chat, text)).id for text in "ABC"]
        await answered(chat, "unstored", stored=False)
        await answered(chat, "other", protocol="chat_completions")
        page = await chat.client_answers("responses", limit=2)
        assert [each.turn.id for each in page.items] == turns[:2]
        page = await chat.client_answers("responses", after=page.next, limit=2)
        assert ([each.turn.id for each in page.items], page.next) == (turns[2:], None)
        back = await chat.client_answers("responses", descending=True)
        assert [each.turn.id for each in back.items] == turns[::-1]


async def test_a_deleted_answer_is_gone_and_its_words_with_it_in_every_branch(path):
    """Its turn's own messages are erased wherever they are shown; what came before and after stays."""
    async with chatting(path) as chat:
        first = await answered(chat, "first words")
        second = await answered(chat, "second words", previous=first.id, told=b'{"user":"secret"}')
        third = await answered(chat, "third words", previous=second.id)
        branch = await answered(chat, "branch words", previous=second.id)
        await chat.delete_client_answer(second.id, "responses")
        assert await texts(chat, third.session_id) == ["first words"] * 2 + [""] * 2 + ["third words"] * 2
        assert await texts(chat, branch.session_id) == ["first words"] * 2 + [""] * 2 + ["branch words"] * 2
        for refused in (chat.client_answer, chat.delete_client_answer):
            with pytest.raises(TurnNotFound):
                await refused(second.id, "responses")
        with pytest.raises(PreviousNotFound):
            await answered(chat, "more", previous=second.id)
        for after in (third.id, branch.id):
            with pytest.raises(PreviousNotFound):
                await answered(chat, "more", previous=after)
            assert (await chat.client_answer(after, "responses")).turn.text
        assert (await answered(chat, "more", previous=first.id)).session_id != third.session_id
    assert b"second words" not in path.read_bytes()
    settle(path)


async def test_a_hold_or_an_open_turn_keeps_an_answer_whole(path):
    """What is refused is neither hidden nor erased."""
    async with chatting(path) as chat:
        first = await answered(chat, "A")
        branch = await chat.fork(first.session_id)
        await chat.update_session(branch.id, legal_hold=True)
        with pytest.raises(LegalHold):
            await chat.delete_client_answer(first.id, "responses")
        await chat.update_session(branch.id, legal_hold=False)
        running = await begun(chat, "x " * 2000, previous=first.id, model="echo/paced")
        with pytest.raises(TurnAlreadyOpen):
            await chat.delete_client_answer(first.id, "responses")
        with pytest.raises(PreviousNotCompleted):
            await answered(chat, "B", previous=running.turn)
        await chat.cancel(running.turn)
        assert (await chat.client_answer(first.id, "responses")).turn.text == "A"
        with pytest.raises(PreviousNotCompleted):
            await answered(chat, "B", previous=running.turn)
    settle(path)


@pytest.mark.parametrize("versions", [None, "answer"])
async def test_an_erased_answer_cannot_be_gone_on_from(path, versions):
    """Nor can one of another tenant, or one that was not stored."""
    async with chatting(path) as chat:
        first = await answered(chat, "A")
        only = None if versions is None else [message.version for message in first.messages]
        await chat.erase(first.session_id, reason="asked for", versions=only)
        foreign = await answered(chat, "A", caller=Caller(tenant="other"))
        unstored = await answered(chat, "A", stored=False)
        for turn in (first.id, foreign.id, unstored.id, engine.new_id()):
            with pytest.raises(PreviousNotFound):
                await answered(chat, "B", previous=turn)
    settle(path)


async def test_a_conversation_goes_on_at_its_end_until_it_is_deleted(path):
    """An open turn refuses the next; a deleted one is served to clients no longer, and stays on record."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        first = await answered(chat, "A", conversation=session)
        second = await answered(chat, "B", conversation=session)
        assert first.session_id == second.session_id == session
        running = await begun(chat, "x " * 2000, conversation=session, model="echo/paced")
        with pytest.raises(TurnAlreadyOpen):
            await answered(chat, "C", conversation=session)
        await chat.delete_conversation(session)
        await chat.cancel(running.turn)
        for refused in (chat.client_session(session), chat.delete_conversation(session)):
            with pytest.raises(SessionNotFound):
                await refused
        with pytest.raises(SessionNotFound):
            await answered(chat, "C", conversation=session)
        assert (await texts(chat, session))[:4] == ["A", "A", "B", "B"]
        assert (await answered(chat, "C", previous=second.id)).session_id != session
    settle(path)


async def test_a_turn_of_its_own_leaves_the_session_where_it_was(path):
    """It shares the history that it goes on from, and the next answer goes on in the session."""
    async with chatting(path) as chat:
        first = await answered(chat, "A")
        apart = await answered(chat, "secret", previous=first.id, apart=True, stored=False)
        second = await answered(chat, "B", previous=first.id)
        assert apart.session_id != first.session_id == second.session_id
        assert await texts(chat, apart.session_id) == ["A", "A", "secret", "secret"]
    settle(path)


async def test_a_clients_own_name_leads_to_the_newest_turn_until_it_is_erased(path):
    """Each caller has names of their own; only a keyed hash of them stands outside of what erasing reaches."""
    async with chatting(path) as chat:
        first = await answered(chat, "A", alias="my chat", protocol="ai_sdk")
        second = await answered(chat, "B", alias="my chat", protocol="ai_sdk", conversation=first.session_id)
        found = await chat.find_alias("my chat", "ai_sdk")
        assert (found.session, found.turn) == (first.session_id, second.id)
        assert await chat.find_alias("my chat", "responses") is None
        assert await chat.find_alias("my chat", "ai_sdk", caller=OTHER) is None
        named = await chat.find_alias("my chat", "ai_sdk", turn=first.id)
        assert (named.session, named.turn) == (first.session_id, first.id)
        assert await chat.find_alias("my chat", "ai_sdk", turn=first.id, caller=OTHER) is None
        assert await chat.find_alias("another", "ai_sdk", turn=first.id) is None
        assert await chat.find_alias("my chat", "ai_sdk", running=True) is None
        assert not [row for row in query(path, "SELECT * FROM aliases") if b"my chat" in repr(row).encode()]
        await chat.erase(first.session_id, reason="asked for")
        assert await chat.find_alias("my chat", "ai_sdk") is None
    assert b"my chat" not in path.read_bytes()
    settle(path)
