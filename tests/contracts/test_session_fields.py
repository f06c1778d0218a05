"""What a session can be given: an end, an owner, bounds, metadata by key; and how sessions are found by it."""

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from manent import engine
from manent.engine.errors import Invalid, SessionArchived, SessionExpired, SessionFull, TooLarge, VersionConflict
from manent.engine.log.base import RequestKey
from manent.engine.service.metadata import merged
from manent.engine.sessions.listing import _listing
from tests.support import ManualClock, assert_rebuilds, audit, begin, chatting, execute, query, says, shown

ECHO = "echo/echo"
SECOND_US = 1_000_000
NAME = "Schibboleth"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def settle(path):
    audit(path)
    assert_rebuilds(path, path.with_name("again.db"))
    assert engine.verify_database(str(path)).problem is None


async def found(chat, **which):
    """Titles of the sessions that are listed, in the order of their names."""
    return sorted([session.title async for session in chat.iter_sessions(**which)])


# --- an end -----------------------------------------------------------------------------------------------------------


async def test_an_expired_session_takes_nothing_and_can_be_read(path):
    """After its time neither messages nor turns, with the time said; all that reads goes on."""
    clock = ManualClock()
    async with chatting(path, clock) as chat:
        session = (await chat.create_session(model=ECHO, ttl_s=60)).id
        await chat.append_message(session, "in time")
        clock.time_us += 59 * SECOND_US
        await chat.say(session, "still in time")
        clock.time_us += SECOND_US
        for late in (chat.append_message(session, "late"), chat.say(session, "late"), chat.start_turn(session)):
            with pytest.raises(SessionExpired) as refused:
                await late
            assert refused.value.extra == {"expires_at": (await chat.session(session)).expires_at}
        assert len((await chat.messages(session)).items) == 3
        assert (await chat.window(session)).messages
        await chat.pin(session, 2)
        await chat.update_session(session, title="can be changed")
    settle(path)


@pytest.mark.parametrize("later", [{"expires_at": None}, {"ttl_s": 10}, {"expires_at": "2099-01-01T00:00:00+01:00"}])
async def test_a_later_end_revives_it(path, later):
    """Or none at all."""
    clock = ManualClock()
    async with chatting(path, clock) as chat:
        session = (await chat.create_session(model=ECHO, expires_at=datetime.now(UTC) - timedelta(days=3650))).id
        with pytest.raises(SessionExpired):
            await chat.append_message(session, "late")
        await chat.update_session(session, **later)
        await chat.append_message(session, "in time")
    settle(path)


async def test_a_turn_that_began_in_time_is_ended(path):
    """What runs is not cut off, also where the end is set while it runs."""
    clock = ManualClock()
    async with chatting(path, clock, main=says("Half", {"hang": True})) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await begin(chat, session, "x")
        await shown(chat, turn, 3)
        await chat.update_session(session, ttl_s=1, max_messages=1, max_tokens=1)
        clock.time_us += 5 * SECOND_US
        await chat.cancel(turn)
        assert (await chat.turn(turn)).message.text == "Half"
    settle(path)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"expires_at": "2099-01-01T00:00:00Z", "ttl_s": 5}, "ttl_s"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": datetime(2099, 1, 1)}, "expires_at"),  # noqa: DTZ001 - that is what is refused
        ({"expires_at": "2300-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "1969-01-01T00:00:00Z"}, "expires_at"),
        ({"ttl_s": 1 << 50}, "ttl_s"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"max_messages": 0}, "max_messages"),
        ({"max_messages": 2**53}, "max_messages"),  # RFC 8785 takes no more as exact, and facts are hashed by it
        ({"max_tokens": 2**53}, "max_tokens"),
        ({"max_tokens": 1 << 60}, "max_tokens"),
        ({"user_id": ""}, "user_id"),
        ({"agent_id": "a\0"}, "agent_id"),
    ],
)
async def test_what_cannot_be_is_refused(path, fields, field):
    """With the field's name; when a session begins and when it is changed."""
    async with chatting(path) as chat:
        session = await chat.create_session(model=ECHO)
        for attempt in (chat.create_session(**fields), chat.update_session(session.id, **fields)):
            with pytest.raises(Invalid) as refused:
                await attempt
            assert refused.value.extra["field"] == field


async def test_retention_can_be_by_the_end(path):
    """All of what expired so many days ago is erased, and nothing of what did not."""
    clock = ManualClock()
    async with chatting(path, clock) as chat:
        old = await chat.create_session(model=ECHO, title="old", ttl_s=1)
        new = await chat.create_session(model=ECHO, title="new", ttl_s=10 * 86_400)
        never = await chat.create_session(model=ECHO, title="never")
        for session in (old, new, never):
            await chat.append_message(session.id, NAME)
        clock.time_us += 9 * 86_400 * SECOND_US
        for dry_run in (True, False):
            erased = [each async for each in chat.retain(7, expired=True, dry_run=dry_run)]
            assert erased == [engine.Retained(old.id, (1, 2))]
        assert await found(chat, status="active", title_contains="e") == ["never", "new"]
    settle(path)


# --- an owner ---------------------------------------------------------------------------------------------------------


async def test_a_users_sessions_are_found_until_it_is_erased(path):
    """User and agent are words: they stand in bodies and in columns beside, and go with an erasure."""
    async with chatting(path) as chat:
        mine = await chat.create_session(model=ECHO, title="mine", user_id=NAME, agent_id="bot")
        await chat.create_session(model=ECHO, title="nobody's")
        other = await chat.create_session(model=ECHO, title="other", user_id="b")
        assert (mine.user_id, mine.agent_id) == (NAME, "bot")
        assert await found(chat, user_id=NAME) == await found(chat, agent_id="bot") == ["mine"]
        assert await found(chat, user_id=NAME, agent_id="b") == await found(chat, user_id="x") == []
        await chat.update_session(other.id, user_id=NAME)
        assert await found(chat, user_id=NAME) == ["mine", "other"]
        assert await found(chat, user_id="b") == []
        assert (await chat.session(other.id, version=1)).user_id == "b"
        await chat.erase(mine.id, "asked to")
        now = await chat.session(mine.id)
        assert (now.user_id, now.agent_id, now.title) == (None, None, None)
        assert await found(chat, user_id=NAME) == ["other"]
    assert not any(NAME.encode() in facts for (facts,) in query(path, "SELECT facts FROM events"))
    assert query(path, "SELECT count(*) FROM session_words WHERE user_id IS NOT NULL") == [(1,)]
    settle(path)


async def test_a_column_that_says_another_owner_is_found(path):
    """``verify`` compares it with the bodies."""
    async with chatting(path) as chat:
        await chat.create_session(model=ECHO, user_id=NAME)
    execute(path, "UPDATE session_words SET user_id = 'mallory'")
    assert "session_words" in engine.verify_database(str(path)).problem


async def test_an_owners_sessions_are_found_through_an_index(path):
    """A list of one user's sessions does not look at everybody's."""
    async with chatting(path) as chat:
        await chat.create_session(model=ECHO, user_id=NAME)
        for number in range(3):
            await chat.create_session(model=ECHO, user_id="x", title=str(number))
        first = await chat.sessions(user_id="x", limit=1)
        assert (await chat.sessions(user_id="x", limit=1, after=first.next)).items[0].title == "1"
    for goes_on, more in ((False, ()), (True, (1, 1, b""))):
        text = _listing("activity", ("user_id",), goes_on=goes_on)._texts["sqlite"]
        with closing(sqlite3.connect(path)) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", ("default", "default", "x", *more, 1)).fetchall()
        assert any("sessions_by_user" in step for *_, step in plan), plan
        assert not any(step.startswith("SCAN") for *_, step in plan), plan


# --- what lists can ask for -------------------------------------------------------------------------------------------


TITLES = {"title": 2, "TITLE": 2, "0%": 1, "n_T": 1, "%": 1, "_": 1, "!": 0, "l t": 0, "d t": 1}
"""Parts of titles, and how many of the two have them."""


async def test_lists_can_be_asked_for_what_is_true(path):
    """By model, title, failed turns and what waits for a person, and by all of it together."""
    fails = says({"text": "I"}, {"fail": {"code": "provider_rejected", "detail": "no"}})
    async with chatting(path, fails=fails) as chat:
        plain = await chat.create_session(model=ECHO, title="100% plain_Title")
        bad = await chat.create_session(model="scripted/fails", title="Bad title")
        await chat.say(plain.id, "x")
        await chat.say(bad.id, "x")
        assert await found(chat, model=ECHO) == ["100% plain_Title"]
        assert await found(chat, has_failed=True) == await found(chat, model="scripted/fails") == ["Bad title"]
        assert await found(chat, has_failed=False, waiting=False) == ["100% plain_Title"]
        assert await found(chat, waiting=True) == []
        for text, count in {
            "title": 2,
            "TITLE": 2,
            "0%": 1,
            "n_T": 1,
            "%": 1,
            "_": 1,
            "!": 0,
            "l t": 0,
            "d t": 1,
        }.items():
            assert len(await found(chat, title_contains=text)) == count, text
        assert await found(chat, title_contains="title", has_failed=True, status="active") == ["Bad title"]
        assert await found(chat, title_contains="title", has_failed=True, status="archived") == []
        now = await chat.session(bad.id)
        assert (now.turn_count, now.failed_count, now.preview) == (1, 1, "x")
    settle(path)


async def test_what_waits_for_a_person_is_found(path):
    """As long as it waits."""

    @engine.tool(approval=True)
    async def ask(text: str) -> str:
        """Ask."""
        return text

    calls = says({"tool": {"id": "call_1", "name": "ask", "input": {"text": "x"}}}) + says("Done.")
    async with chatting(path, tools=[ask], main=calls) as chat:
        session = await chat.create_session(model="scripted/main", title="waits")
        turn = await chat.say(session.id, "x", tools=["ask"])
        assert turn.status == "requires_action"
        assert await found(chat, waiting=True) == ["waits"]
        await chat.cancel(turn.id)
        assert await found(chat, waiting=True) == []
    settle(path)


async def test_pages_of_what_is_asked_for_are_whole(path):
    """Page by page, in both orders, nothing is missing and nothing comes twice."""
    async with chatting(path) as chat:
        for number in range(9):
            await chat.create_session(model=ECHO, title=str(number), user_id="ab"[number % 2], metadata={"n": number})
        for order in ("activity", "created"):
            titles, after = [], None
            while True:
                page = await chat.sessions(order=order, user_id="a", limit=2, after=after)
                titles += [session.title for session in page.items]
                after = page.next
                if after is None:
                    break
            assert titles == ["8", "6", "4", "2", "0"]
        with pytest.raises(TypeError):
            await chat.sessions(owner="a")
        with pytest.raises(Invalid):
            await chat.sessions(status="expired")


async def test_a_preview_is_the_beginning_of_what_was_asked(path):
    """Of the first user message, as it was then; erased it is null, and no later message takes its place."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        await chat.append_message(session, "I am a bot", role="assistant")
        assert (await chat.session(session)).preview is None
        await chat.append_message(session, NAME * 100)
        await chat.append_message(session, "second")
        assert (await chat.session(session)).preview == (NAME * 100)[:200]
        assert (await chat.session(session, version=3)).preview == (NAME * 100)[:200]
        assert (await chat.session(session, version=2)).preview is None
        await chat.erase(session, "x", versions=[3])
        await chat.append_message(session, "third")
        for version in (None, 3, 5):
            assert (await chat.session(session, version=version)).preview is None
    settle(path)


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_session_holds_no_more_messages_than_it_may(path):
    """However many callers append at once; and a turn begins where its answer has room, too."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, max_messages=5)).id
        many = [chat.append_message(session, str(number)) for number in range(20)]
        done = await asyncio.gather(*many, return_exceptions=True)
        refused = [each for each in done if isinstance(each, SessionFull)]
        assert len(refused) == 15
        assert refused[0].extra == {"limit": "max_messages", "maximum": 5}
        assert (await chat.session(session)).message_count == 5
        await chat.update_session(session, max_messages=6)
        with pytest.raises(SessionFull):
            await chat.say(session, "x")
        await chat.ended((await chat.start_turn(session)).turn)
        with pytest.raises(SessionFull):
            await chat.append_messages(session, [engine.MessageIn("a"), engine.MessageIn("b")])
        await chat.update_session(session, max_messages=None)
        await chat.say(session, "x")
    settle(path)


async def test_a_session_holds_no_more_tokens_than_it_may(path):
    """Counted as ``token_count`` counts; the maximum itself is reached."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, max_tokens=10)).id
        await chat.append_message(session, "one two three four five")
        with pytest.raises(SessionFull) as refused:
            await chat.append_message(session, "one two three four five six")
        assert refused.value.extra == {"limit": "max_tokens", "maximum": 10}
        with pytest.raises(SessionFull):
            await chat.say(session, "one two three four five")
        await chat.append_message(session, "one two three four five")
        assert (await chat.session(session)).token_count == 10
        with pytest.raises(SessionFull):
            await chat.start_turn(session)
    settle(path)


async def test_all_fields_are_kept_and_repeated(path):
    """A request that comes again gives the session as it was, with the end that was reckoned then."""
    clock = ManualClock()
    key = RequestKey("local", "POST /api/sessions", "k", b"{}")
    fields = {"user_id": "u", "agent_id": "a", "ttl_s": 60, "max_messages": 7, "max_tokens": 700}
    async with chatting(path, clock) as chat:
        first = await chat.create_session(model=ECHO, request=key, **fields)
        assert (first.user_id, first.agent_id, first.max_messages, first.max_tokens) == ("u", "a", 7, 700)
        clock.time_us += 5 * SECOND_US
        assert await chat.create_session(model=ECHO, request=key, **fields) == first
        assert await chat.session(first.id) == first
        with pytest.raises(TypeError):
            await chat.create_session(status="archived")
        none = dict.fromkeys(("user_id", "agent_id", "expires_at", "max_messages", "max_tokens"))
        changed = await chat.update_session(first.id, **none)
        assert [getattr(changed, name) for name in none] == [None] * 5
        assert await chat.session(first.id, version=1) == first
    settle(path)


# --- metadata by key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (None, {"a": 1}, {"a": 1}),
    ],
)
def test_a_merge_patch_is_that_of_rfc_7396(target, patch, result):
    """The examples of its appendix A."""
    before = json.dumps(target)
    assert merged(target, patch) == result
    assert json.dumps(target) == before


async def test_metadata_is_changed_by_key(path):
    """Patches of different keys made at once all hold; what changes nothing is no event; true is not 1."""
    async with chatting(path, max_metadata_bytes=200) as chat:
        session = (await chat.create_session(model=ECHO, metadata={"a": 1}, title="kept")).id
        await asyncio.gather(*(chat.update_metadata(session, {f"k{number}": number}) for number in range(9)))
        now = await chat.session(session)
        assert now.metadata == {"a": 1} | {f"k{number}": number for number in range(9)}
        assert (now.version, now.title) == (10, "kept")
        assert (await chat.update_metadata(session, {"a": 1, "none": None})).version == 10
        assert (await chat.update_metadata(session, {"a": True}, expected=10)).metadata["a"] is True
        with pytest.raises(VersionConflict):
            await chat.update_metadata(session, {"a": 2}, expected=10)
        for _ in range(2):
            with pytest.raises(TooLarge):
                await chat.update_metadata(session, {"b": "x" * 180})
        await chat.update_session(session, status="archived")
        with pytest.raises(SessionArchived):
            await chat.update_metadata(session, {"a": 3})
    settle(path)


def test_the_synchronous_door_has_them_too(path):
    """With the same names."""
    with engine.open_sync(path) as chat:
        session = chat.create_session(model=ECHO, user_id="u", ttl_s=60)
        assert chat.update_metadata(session.id, {"a": 1}).metadata == {"a": 1}
        assert [each.id for each in chat.iter_sessions(user_id="u")] == [session.id]
