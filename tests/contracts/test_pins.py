"""Pins: a pinned message stands in every window of its session, and that it does is on record."""

import asyncio

import pytest

from manent import engine
from manent.engine.errors import (
    EmptyMessage,
    Erased,
    EventNotFound,
    SessionArchived,
    SessionFull,
    SessionNotFound,
    TurnAlreadyOpen,
    VersionConflict,
)
from tests.support import assert_rebuilds, audit, begin, chatting, offered, query, says, shown, text_of

ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def settle(path):
    audit(path)
    assert_rebuilds(path, path.with_name("again.db"))
    assert engine.verify_database(str(path)).problem is None


async def spoken(chat, count=12):
    """A session of so many messages that a small window holds but few."""
    session = (await chat.create_session(model=ECHO, budget_tokens=200, max_output_tokens=10)).id
    for number in range(count):
        await chat.append_message(session, f"{number} and more of it " * 8)
    return session


async def window_of(chat, session, **options):
    return [message.version for message in (await chat.window(session, **options)).messages]


async def test_what_is_pinned_is_sent(path):
    """A window shows it first, a model is sent it, and the window of an earlier version is as it was then."""
    async with chatting(path, main=says("Yes.")) as chat:
        session = await spoken(chat)
        before = await window_of(chat, session)
        assert (await chat.pin(session, 3)).pinned
        assert await window_of(chat, session) == [3, *before[1:]]
        await chat.say(session, "So?", model="scripted/main")
        assert "1 and more" in chat.script.requests[-1].decode()
        assert await window_of(chat, session, version=13) == before
        assert not (await chat.unpin(session, 3)).pinned
        assert 3 not in await window_of(chat, session)
        assert await window_of(chat, session, version=14) == [3, *before[1:]]
    settle(path)


async def test_a_pin_is_an_event_and_the_same_pin_is_none(path):
    """Pinning twice writes one event, by whoever asked; and so does pinning no longer."""
    async with chatting(path) as chat:
        session = await spoken(chat, 2)
        for pin in (chat.pin, chat.pin, chat.unpin, chat.unpin, chat.pin):
            await pin(session, 2, caller=engine.Caller("default", "key:me"))
        events = (await chat.events(session, after=3)).items
        assert [(each.type, each.actor, bytes(each.facts)) for each in events] == [
            ("message.pinned", "key:me", b'{"message":2}'),
            ("message.unpinned", "key:me", b'{"message":2}'),
            ("message.pinned", "key:me", b'{"message":2}'),
        ]
        assert [each.pinned for each in (await chat.messages(session)).items] == [True, False]
    assert query(path, "SELECT version, position, kind FROM marks") == [
        (4, 2, "pinned"),
        (5, 2, "unpinned"),
        (6, 2, "pinned"),
    ]
    settle(path)


async def test_a_pinned_call_is_sent_with_its_results(path):
    """The unit is kept whole: an assistant's message that calls tools, and all results of it."""
    calls = says({"tool": {"id": "call_1", "name": "look", "input": {}}})
    async with chatting(path, main=calls) as chat:
        session = (await chat.create_session(model=ECHO, budget_tokens=300, max_output_tokens=10)).id
        turn = await chat.say(session, "Look.", model="scripted/main", client_tools=offered("look"))
        asked = turn.message.version
        result = engine.ToolResultBlock(tool_use_id="call_1", content="Rain.")
        (answer,) = await chat.append_messages(session, [engine.MessageIn([result], "tool")])
        for number in range(12):
            await chat.append_message(session, f"{number} and more of it " * 8)
        assert asked not in await window_of(chat, session)
        for version in (asked, answer.version):
            await chat.pin(session, version)
            assert (await window_of(chat, session))[:2] == [asked, answer.version]
            await chat.unpin(session, version)
        await chat.pin(session, asked)
        assert (await chat.turn(turn.id)).message.pinned
        assert [each.message.pinned for each in (await chat.turns(session)).items] == [True]
        frames = [each async for batch in chat.frames(turn.id) for each in batch]
        assert not any(b'"pinned":true' in frame.data for frame in frames), "frames show what was then"
    settle(path)


async def test_what_cannot_be_pinned(path):
    """What is no message, holds no word, is erased or was answered anew; an archived session; too many."""
    refused = says({"text": "Half"}, {"fail": {"code": "provider_rejected", "detail": "no"}})
    async with chatting(path, main=refused, max_pins=1) as chat:
        session = await spoken(chat, 3)
        other = (await chat.create_session(model="scripted/main")).id
        partial = (await chat.say(other, "x")).message
        for error, target, version in [
            (SessionNotFound, engine.new_id(), 2),
            (EventNotFound, session, 1),
            (EventNotFound, session, 99),
        ]:
            for pin in (chat.pin, chat.unpin):
                with pytest.raises(error):
                    await pin(target, version)
        with pytest.raises(VersionConflict):
            await chat.pin(session, 2, expected=1)
        await chat.pin(session, 2, expected=4)
        with pytest.raises(SessionFull) as full:
            await chat.pin(session, 3)
        assert full.value.extra == {"limit": "max_pins", "maximum": 1}
        await chat.erase(session, "x", versions=[2, 3])
        assert await window_of(chat, session) == [4]
        for version in (2, 3):
            with pytest.raises(Erased):
                await chat.pin(session, version)
        assert not (await chat.unpin(session, 2)).pinned, "an erased message may be let go"
        await chat.update_session(session, status="archived")
        with pytest.raises(SessionArchived):
            await chat.pin(session, 4)
        await chat.ended(await begin(chat, other))
        with pytest.raises(EmptyMessage):
            await chat.pin(other, partial.version)
    settle(path)


async def test_while_a_turn_runs_nothing_is_pinned(path):
    """Its rounds are sent windows of the same choice; what is pinned already is no news."""
    async with chatting(path, main=says("Half", {"hang": True})) as chat:
        session = await spoken(chat, 3)
        await chat.pin(session, 2)
        turn = await begin(chat, session, "x", model="scripted/main")
        await shown(chat, turn, 3)
        assert (await chat.pin(session, 2)).pinned
        for pin, version in ((chat.pin, 3), (chat.unpin, 2)):
            with pytest.raises(TurnAlreadyOpen):
                await pin(session, version)
        await chat.cancel(turn)
        await chat.pin(session, 3)
    settle(path)


async def test_too_many_pins_for_a_budget_are_said(path):
    """What is required does not fit, and figures tell it."""
    async with chatting(path) as chat:
        session = await spoken(chat)
        for version in range(2, 10):
            await chat.pin(session, version)
        with pytest.raises(engine.BudgetTooSmall):
            await chat.window(session)
    settle(path)


def test_the_synchronous_door_pins_too(path):
    """With the same names."""
    with engine.open_sync(path) as chat:
        session = chat.create_session(model=ECHO).id
        message = chat.append_message(session, "x")
        assert chat.pin(session, message.version).pinned
        assert not chat.unpin(session, message.version).pinned
        assert text_of(chat.messages(session).items[0]) == "x"


async def test_pins_of_many_callers_at_once_are_one_event(path):
    """The decision is made where it is written."""
    async with chatting(path) as chat:
        session = await spoken(chat, 1)
        await asyncio.gather(*(chat.pin(session, 2) for _ in range(20)))
        assert (await chat.session(session)).version == 3
    settle(path)
