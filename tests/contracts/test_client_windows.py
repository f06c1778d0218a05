"""Clients that have said more than their model takes: refused, or sent the newest of it where they ask for that."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent.engine import ClientRequest, MessageIn, ModelInfo, ReplayQuery
from manent.engine.errors import BudgetTooSmall
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.support import Dictated, assert_adds_up, chatting, settle

CALL = {"type": "tool_use", "id": "call_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "nothing there"}


class Small(Dictated):
    """A model of little context, which says one thing."""

    name = "small"

    def __init__(self):
        super().__init__(BlockStarted(0, "text"), Delta(0, "Yes."), BlockStopped(0), Ended("end_turn"))

    def model(self, name):
        return ModelInfo(name, family="echo", context_tokens=60)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def answered(chat, *messages, **more):
    asked = [MessageIn(each) if isinstance(each, str) else each for each in messages]
    request = ClientRequest(tuple(asked), {"model": "small/model"}, protocol="responses", stored=True, **more)
    return await chat.ended((await chat.answer_client(request)).turn)


async def chain(chat, length):
    """The last turn of so many questions, each of which goes on from the answer before."""
    previous = None
    for number in range(length):
        turn = await answered(chat, f"question number {number}", previous=previous, trims=True)
        previous = turn.id
    return turn


async def sent(chat, turn):
    """The places in the log of what the model was sent, without the system prompt."""
    prompt = await chat.explain(turn.id)
    assert prompt.matches
    return [item.position for item in prompt.window.included if item.role != "system"]


async def test_a_chain_outgrows_its_model_only_where_it_asks_for_that(path):
    """Its twentieth answer is given, and says what was left out for the budget; without asking it is refused."""
    async with chatting(path, providers=[Small()]) as chat:
        turn = await chain(chat, 20)
        prompt = await chat.explain(turn.id)
        assert_adds_up(prompt)
        assert prompt.window.policy == "newest-units/1"
        assert prompt.window.omitted.by_reason["budget"].count > 20
        assert prompt.matches
        with pytest.raises(BudgetTooSmall):
            await answered(chat, "and now?", previous=turn.id)
    settle(path)


async def test_a_history_that_is_sent_whole_is_trimmed_too(path):
    """Its oldest messages are recorded and not sent; what follows a last answer always is."""
    said = [MessageIn(f"message number {number}", "assistant" if number % 2 else "user") for number in range(21)]
    async with chatting(path, providers=[Small()]) as chat:
        turn = await answered(chat, *said, trims=True)
        recorded = (await chat.messages(turn.session_id, limit=100)).items
        places = await sent(chat, turn)
        assert [each.text for each in recorded] == [*(each.content for each in said), "Yes."]
        assert places == [each.position for each in recorded[:-1]][-len(places) :]
        assert 0 < len(places) < len(said)
    settle(path)


async def test_a_result_is_not_sent_without_its_call(path):
    """Calls and results are left out together, also where they come in one request."""
    turned = (MessageIn("look there"), MessageIn([CALL], "assistant"), MessageIn([RESULT], "tool"))
    async with chatting(path, providers=[Small()]) as chat:
        for extra in range(12):
            turn = await answered(chat, *turned, MessageIn("and " + "so " * extra, "user"), trims=True)
            roles = [item.role for item in (await chat.explain(turn.id)).window.included]
            assert roles.count("tool") == roles.count("assistant")
            assert roles[-1] == "user"
    settle(path)


async def test_what_alone_is_too_long_is_refused(path):
    """The message to be answered is never cut, and nothing of what is refused is recorded."""
    async with chatting(path, providers=[Small()]) as chat:
        with pytest.raises(BudgetTooSmall):
            await answered(chat, "word " * 100, trims=True)
        assert not (await chat.sessions()).items
    settle(path)


async def test_a_pinned_message_stays_in_the_window(path):
    """However far back it stands."""
    async with chatting(path, providers=[Small()]) as chat:
        turn = await answered(chat, "remember this", trims=True)
        first = (await chat.messages(turn.session_id)).items[0]
        await chat.pin(turn.session_id, first.version)
        for number in range(12):
            turn = await answered(chat, f"question number {number}", previous=turn.id, trims=True)
        assert (await sent(chat, turn))[0] == first.position
    settle(path)


@settings(max_examples=25)
@given(st.lists(st.integers(min_value=0, max_value=8), min_size=1, max_size=12))
def test_the_window_is_the_one_that_a_sessions_own_turn_has(lengths):
    """Whatever was said, the same messages are sent as to a turn of a session with all of the model's budget."""

    async def windows(path):
        async with chatting(path, providers=[Small()]) as chat:
            session = (await chat.create_session(model="small/model", budget_tokens=60)).id
            previous = None
            for length in lengths:
                said = "well " * length + "now?"
                turn = await answered(chat, said, previous=previous, trims=True)
                own = await chat.ended((await chat.start_turn(session, said)).turn)
                previous = turn.id
                assert len(await sent(chat, turn)) == len(await sent(chat, own))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(windows(Path(folder) / "chat.db"))


async def test_it_is_done_again_as_it_was(path):
    """A replay of the record chooses the same windows, and sends the same requests."""
    async with chatting(path, providers=[Small()]) as chat:
        turn = await chain(chat, 12)
        results = [each async for each in chat.replay(ReplayQuery((turn.session_id,)), mode="recorded")]
        assert {each.verdict for each in results} == {"same"}
        assert len(results) == 12
