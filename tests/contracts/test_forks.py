"""A fork shares another session's history up to a version: nothing is copied, and each goes on by itself."""

import asyncio
import json

import pytest

from manent import engine
from manent.engine.errors import (
    Invalid,
    SessionArchived,
    SessionExpired,
    SessionFull,
    SessionNotFound,
    TurnAlreadyOpen,
    UnknownModel,
    VersionConflict,
)
from manent.engine.log.base import RequestKey
from tests.support import assert_rebuilds, audit, chatting, offered, query, says

ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def settle(path):
    """What the log and its projections promise holds for a closed file."""
    audit(path)
    assert_rebuilds(path, path.with_name("again.db"))
    assert engine.verify_database(str(path)).problem is None


async def talked(chat, *words, **fields):
    """A session in which this was said, and echoed."""
    session = await chat.create_session(model=ECHO, **fields)
    for each in words:
        await chat.say(session.id, each)
    return await chat.session(session.id)


async def texts(chat, session, **which):
    return [message.text for message in (await chat.messages(session, limit=1000, **which)).items]


async def said_at(chat, session, text):
    """The version of the first message of this text."""
    return next(each.version for each in (await chat.messages(session, limit=1000)).items if each.text == text)


async def test_a_fork_shares_the_history_and_goes_on_by_itself(path):
    """Both have the messages up to the version, under the same ids; what follows belongs to one of them."""
    async with chatting(path) as chat:
        first = await talked(chat, "one", "two", title="first", system="be brief", metadata={"a": 1})
        before = await said_at(chat, first.id, "two") - 1
        fork = await chat.fork(first.id, version=before, title="second")
        assert (fork.parent.session_id, fork.parent.version, fork.version) == (first.id, before, before + 1)
        assert (fork.title, fork.system, fork.metadata, fork.preview) == ("second", "be brief", {"a": 1}, "one")
        assert (fork.message_count, fork.usage.input_tokens, fork.status) == (2, None, "active")
        await chat.say(fork.id, "three")
        assert await texts(chat, first.id) == ["one", "one", "two", "two"]
        assert await texts(chat, fork.id) == ["one", "one", "three", "three"]
        shared, own = (await chat.messages(fork.id)).items[:2], (await chat.messages(first.id)).items[:2]
        assert shared == own
        assert all(message.session_id == first.id for message in shared)
        assert [event.version for event in (await chat.events(fork.id)).items] == [*range(1, before + 8)]
    settle(path)


async def test_forks_of_forks_read_their_whole_lineage(path):
    """At any depth, from either end, in pages or at once, and also behind sixteen segments of a state."""
    async with chatting(path) as chat:
        session = (await talked(chat, "root")).id
        expected = ["root", "root"]
        for number in range(40):
            session = (await chat.fork(session)).id
            await chat.append_message(session, f"step {number}")
            expected.append(f"step {number}")
        assert await texts(chat, session) == expected
        assert await texts(chat, session, descending=True) == expected[::-1]
        paged = [message.text async for message in chat.iter_messages(session, descending=True)]
        assert paged == expected[::-1]
        now = await chat.session(session)
        assert now.message_count == len(expected)
        middle = await said_at(chat, session, "step 20")
        assert await texts(chat, session, version=middle) == expected[:23]
        assert (await chat.session(session, version=middle)).message_count == 23
        window = await chat.window(session, budget_tokens=200)
        assert [message.text for message in window.messages] == expected[-len(window.messages) :]
        events = [event async for event in chat.iter_events(session)]
        assert [event.version for event in events] == [*range(1, now.version + 1)]
        proof = await chat.evidence.inclusion(session, middle)
        assert proof.position == events[middle - 1].position
    settle(path)


async def test_a_turn_from_a_version_edits_a_message_and_answers_it(path):
    """One call forks before the message, appends the new one and runs the model; its prompt is the branch's."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two")
        before = await said_at(chat, session.id, "two") - 1
        started = await chat.start_turn(session.id, "deux", from_version=before)
        turn = await chat.ended(started.turn)
        assert started.session == turn.session_id != session.id
        assert turn.text == "deux"
        assert await texts(chat, turn.session_id) == ["one", "one", "deux", "deux"]
        assert await texts(chat, session.id) == ["one", "one", "two", "two"]
        prompt = await chat.explain(turn.id)
        assert prompt.matches
        assert [item.version for item in prompt.window.included] == [2, 6, before + 2]
        turns = (await chat.turns(turn.session_id)).items
        assert [each.session_id for each in turns] == [session.id, turn.session_id]
    settle(path)


async def test_a_turn_from_a_version_regenerates_an_answer(path):
    """Without new content it answers what stands there again."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        turn = await chat.ended((await chat.start_turn(session.id, from_version=2)).turn)
        assert await texts(chat, turn.session_id) == ["one", "one"]
        assert (await chat.session(turn.session_id)).parent.version == 2
    settle(path)


async def test_a_fork_is_made_while_its_parents_turn_runs(path):
    """The open turn is the parent's: the fork has none, and answers by itself."""
    async with chatting(path) as chat:
        session = await chat.create_session(model="echo/paced")
        running = await chat.start_turn(session.id, "a long answer " * 20)
        with pytest.raises(TurnAlreadyOpen):
            await chat.append_message(session.id, "more")
        fork = await chat.fork(session.id, model=ECHO)
        assert fork.open_turn_id is None
        turn = await chat.say(fork.id, "at once")
        assert turn.text == "at once"
        await chat.cancel(running.turn)
        await chat.ended(running.turn)
    settle(path)


async def test_open_calls_at_the_version_are_anybodys_to_answer(path):
    """A fork at a message that asks for tools takes its results, as its parent does."""
    clerk = says({"tool": {"id": "call_1", "name": "look", "input": {}}})
    result = engine.MessageIn([engine.ToolResultBlock("call_1", [engine.TextBlock("seen")])], "tool")
    async with chatting(path, clerk=clerk) as chat:
        session = await chat.create_session(model="scripted/clerk")
        turn = await chat.say(session.id, "look", client_tools=offered("look"))
        fork = await chat.fork(session.id, version=turn.message.version)
        for each in (fork.id, session.id):
            await chat.append_messages(each, [result])
            assert (await chat.messages(each, descending=True, limit=1)).items[0].role == "tool"
    settle(path)


async def test_marks_are_inherited_up_to_the_version_and_made_apart(path):
    """A fork sees the pins of its ancestors on what it shares, and its own are nobody else's."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two")
        await chat.pin(session.id, 2)
        fork = await chat.fork(session.id)
        child = await chat.fork(fork.id)
        await chat.pin(session.id, 6)
        await chat.unpin(fork.id, 2)

        async def pinned(each):
            return [message.version for message in (await chat.messages(each)).items if message.pinned]

        assert (await pinned(session.id), await pinned(fork.id), await pinned(child.id)) == ([2, 6], [], [2])
        grandchild = await chat.fork(fork.id)
        assert await pinned(grandchild.id) == []
    settle(path)


async def test_what_is_inherited_and_what_is_not(path):
    """Settings are; status, legal hold, expiry and bounds are not; what is given differs, also null."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", system="old", user_id="u-1", max_messages=50, ttl_s=1000)
        await chat.update_session(session.id, budget_tokens=500, legal_hold=True, metadata={"k": 1})
        fork = await chat.fork(session.id, system=None, max_tokens=900)
        assert (fork.budget_tokens, fork.user_id, fork.metadata, fork.model) == (500, "u-1", {"k": 1}, ECHO)
        assert (fork.system, fork.max_tokens, fork.max_messages, fork.expires_at) == (None, 900, None, None)
        assert not fork.legal_hold
        assert (await chat.session(fork.id, version=session.version)).system == "old"
    settle(path)


async def test_a_version_along_the_lineage_names_the_session_where_it_stands(path):
    """A fork at a shared version is a branch of the session that holds it."""
    async with chatting(path) as chat:
        session = await talked(chat, "one", "two")
        fork = await chat.fork(session.id)
        await chat.say(fork.id, "three")
        assert (await chat.fork(fork.id, version=3)).parent.session_id == session.id
        assert (await chat.fork(fork.id, version=fork.version)).parent.session_id == fork.id
    settle(path)


async def test_what_cannot_be_forked_is_refused_and_leaves_nothing(path):
    """A version that is not there, an archived or expired session, a version that moved on, a family that is full."""
    async with chatting(path, max_forks=2) as chat:
        session = await talked(chat, "one")
        with pytest.raises(SessionNotFound) as beyond:
            await chat.fork(session.id, version=99)
        assert beyond.value.extra["last_version"] == session.version
        with pytest.raises(SessionNotFound):
            await chat.start_turn(session.id, "x", from_version=99)
        with pytest.raises(VersionConflict):
            await chat.fork(session.id, expected=1)
        with pytest.raises(VersionConflict):
            await chat.start_turn(session.id, "x", from_version=2, expected=1)
        with pytest.raises(UnknownModel):
            await chat.fork(session.id, model="nobody/none")
        with pytest.raises(Invalid):
            await chat.fork(session.id, budget_tokens=-1)
        expired = await chat.create_session(model=ECHO, expires_at="2020-01-01T00:00:00Z")
        with pytest.raises(SessionExpired):
            await chat.fork(expired.id)
        archived = await talked(chat, "one")
        await chat.update_session(archived.id, status="archived")
        with pytest.raises(SessionArchived):
            await chat.fork(archived.id)
        with pytest.raises(SessionArchived):
            await chat.start_turn(archived.id, "x", from_version=2)
        fork = await chat.fork(session.id)
        await chat.fork(fork.id)
        for attempt in (chat.fork(fork.id), chat.start_turn(session.id, "x", from_version=2)):
            with pytest.raises(SessionFull) as full:
                await attempt
            assert full.value.extra == {"limit": "max_forks", "maximum": 2}
    assert query(path, "SELECT count(*) FROM events WHERE type = 'session.forked'") == [(2,)]
    settle(path)


async def test_a_fork_under_an_idempotency_key_is_made_once(path):
    """The same request again gives the same session, also for a turn from a version."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        key = RequestKey("local", "fork", "k1", b"body")
        forks = await asyncio.gather(*[chat.fork(session.id, version=2, request=key) for _ in range(3)])
        assert len({fork.id for fork in forks}) == 1
        key = RequestKey("local", "turn", "k1", b"body")
        turns = [await chat.start_turn(session.id, "x", from_version=2, request=key) for _ in range(2)]
        assert turns[0].turn == turns[1].turn
        assert turns[0].session == turns[1].session
        await chat.ended(turns[0].turn)
    assert query(path, "SELECT count(*) FROM events WHERE type = 'session.forked'") == [(2,)]
    settle(path)


async def test_the_event_of_a_fork_names_its_parent_and_holds_no_words(path):
    """Facts: parent, version, and which fields differ. What they are is words, and may be erased."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        fork = await chat.fork(session.id, version=2, title="Secret", budget_tokens=700)
        (event,) = (await chat.events(fork.id, after=2)).items
    facts = json.loads(bytes(event.facts))
    assert facts == {
        "parent": str(session.id),
        "parent_version": 2,
        "changed": ["budget_tokens", "title"],
        "budget_tokens": 700,
    }
    assert json.loads(bytes(event.body)) == {"title": "Secret"}


async def test_a_fork_follows_its_own_events(path):
    """A reader of a fork's events gets the shared ones from the beginning, and then its own as they come."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        fork = await chat.fork(session.id, version=4)
        seen = []
        async with asyncio.timeout(20):
            batches = chat.follow(fork.id, after=0)
            async for batch in batches:
                seen += [event.version for event in batch]
                if seen == [1, 2, 3, 4, 5]:
                    await chat.append_message(fork.id, "more")
                if len(seen) == 6:
                    break
            await batches.aclose()
        assert seen == [1, 2, 3, 4, 5, 6]


async def test_a_time_before_a_fork_began_is_not_yet(path):
    """``at`` looks along the fork's own events; before the first there was no such session."""
    async with chatting(path) as chat:
        session = await talked(chat, "one")
        fork = await chat.fork(session.id, version=4)
        await chat.append_message(fork.id, "more")
        began = await chat.session(fork.id, at=fork.created_at)
        assert began.version == 5
        assert began.message_count == 1
        with pytest.raises(engine.EngineError) as early:
            await chat.session(fork.id, at=session.created_at)
        assert early.value.code == "not_yet"
