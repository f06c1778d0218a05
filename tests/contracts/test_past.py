"""The past of a session: as it was at a version or at a time, from snapshots that hold no words."""

import json
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from manent import engine
from manent.engine import Invalid, NotYet, SessionNotFound
from manent.engine.sessions import history
from manent.engine.sessions.snapshots import VERSIONS_APART
from tests.contracts.test_erasure import WORD, Inventive, files_with, settle
from tests.support import ManualClock, assert_rebuilds, audit, begin, chatting, dump, execute, offered, query, says

ECHO = "echo/echo"
SECOND_US = 1_000_000
KEPT = "SELECT version FROM snapshots ORDER BY version"
FOLDED = ("version", "message_count", "token_count", "usage", "costs", "model", "status", "turn_count", "failed_count")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "chat.db"


@pytest.fixture
def often(monkeypatch):
    """Snapshots at every third version."""
    monkeypatch.setattr("manent.engine.sessions.snapshots.VERSIONS_APART", 3)


async def texts(chat, session, **then):
    return [message.text async for message in chat.iter_messages(session, **then)]


async def at_versions(chat, session):
    """The session as it was at each of its versions."""
    now = await chat.session(session)
    return [await chat.session(session, version=version) for version in range(1, now.version + 1)]


# --- a version --------------------------------------------------------------------------------------------------------


async def test_the_past_is_folded_from_the_snapshot_before_it(path, monkeypatch):
    """One is kept at every 128th version; at any version no more than 127 events are folded."""
    count = 0
    evolve = history.evolve

    def counted(*given):
        nonlocal count
        count += 1
        return evolve(*given)

    monkeypatch.setattr(history, "evolve", counted)
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, title="First")).id
        for number in range(3):
            await chat.append_messages(session, [engine.MessageIn(f"{number}.{each}") for each in range(90)])
            await chat.update_session(session, title=f"After {number}")
        assert query(path, KEPT) == [(VERSIONS_APART,), (2 * VERSIONS_APART,)]
        folded = []
        for then in await at_versions(chat, session):
            folded.append(then.message_count + (then.version > 1))
            assert then.title == ["First", "After 0", "After 1", "After 2"][(then.version - 1) // 91]
        assert count <= len(folded) * (VERSIONS_APART - 1)
        for version, events in ((127, 127), (128, 0), (129, 1), (255, 127), (256, 0), (270, 14)):
            count = 0
            await chat.session(session, version=version)
            assert count == events
    settle(path)


async def test_without_snapshots_the_past_is_the_same(path, often):
    """They are a shortcut: where there are none, all is folded from the beginning."""
    asks = says({"text": "Look."}, {"tool": {"id": "call_1", "name": "look", "input": {}}})
    async with chatting(path, asks=asks, fails=says({"fail": {"code": "provider_rejected", "detail": "no"}})) as chat:
        session = (await chat.create_session(model=ECHO, system="Be brief.", user_id="u")).id
        await chat.say(session, "Go.", model="scripted/asks", client_tools=offered("look"))
        block = b'{"type":"tool_result","tool_use_id":"call_1","content":"x"}'
        await chat.append_messages(session, [engine.MessageIn((block,), "tool")])
        await chat.update_session(session, title="Two", system=None, allowed_tools=["later"], budget_tokens=999)
        await chat.say(session, "And?", model="scripted/fails")
        await chat.update_session(session, status="archived")
        before = await at_versions(chat, session)
        assert len(query(path, KEPT)) == len(before) // 3
        execute(path, "DELETE FROM snapshots")
        assert await at_versions(chat, session) == before


async def test_messages_are_those_up_to_a_version(path):
    """In both orders, page by page, with the pins of then."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        for number in range(2, 7):
            await chat.append_message(session, str(number))
        await chat.pin(session, 3)
        await chat.append_message(session, "8")
        await chat.unpin(session, 3)
        assert await texts(chat, session, version=4) == ["2", "3", "4"]
        assert await texts(chat, session, version=1) == []
        assert await texts(chat, session, version=4, descending=True) == ["4", "3", "2"]
        assert await texts(chat, session, version=4, after=6, descending=True) == ["4", "3", "2"]
        first = await chat.messages(session, version=5, limit=3)
        rest = await chat.messages(session, version=5, limit=3, after=first.next)
        assert ([each.text for each in first.items + rest.items], rest.next) == (["2", "3", "4", "5"], None)
        pinned = {}
        for version in range(6, 10):
            found = await chat.messages(session, version=version)
            pinned[version] = [message.version for message in found.items if message.pinned]
        assert pinned == {6: [], 7: [3], 8: [3], 9: []}


async def test_a_version_that_was_not_is_refused_with_the_last(path):
    """Of a session, its messages and its window; nothing is guessed."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        await chat.append_message(session, "x")
        for read in (chat.session, chat.messages, chat.window, lambda *a, **k: texts(chat, *a, **k)):
            for version in (0, -1, 3, 1 << 70):
                with pytest.raises(SessionNotFound) as refused:
                    await read(session, version=version)
                assert refused.value.extra == {"session_id": str(session), "field": "version", "last_version": 2}
            with pytest.raises(SessionNotFound):
                await read(engine.new_id(), version=1)


# --- words ------------------------------------------------------------------------------------------------------------


async def test_a_snapshot_holds_no_words(path, often):
    """Not of settings that name what facts cannot, nor of an open turn; after an erasure no file has them, and what is
    left is what folding the log again gives.
    """
    async with chatting(path, providers=(Inventive(),), slow=says("Half", {"hang": True})) as chat:
        model = f"dictated/{WORD}"
        names = {"fallback_model": f"dictated/{WORD}2", "allowed_tools": [f"{WORD}_later"], "user_id": WORD}
        session = (await chat.create_session(model=model, title=WORD, system=WORD, **names)).id
        tool = offered(f"{WORD}_tool")
        await chat.say(session, f"stops {WORD}", client_tools=tool)
        block = b'{"type":"tool_result","tool_use_id":"call_%s","content":"x"}' % WORD.encode()
        await chat.append_messages(session, [engine.MessageIn((block,), "tool")])
        await chat.update_session(session, model=f"{model}3", title=f"{WORD} again")
        turn = await begin(chat, session, "Go.", model="scripted/slow", client_tools=tool)
        await chat.cancel(turn)
        await chat.say(session, "fails")
        seen = await at_versions(chat, session)
        assert (seen[5].model, seen[-1].model, seen[-1].title) == (model, f"{model}3", f"{WORD} again")
        assert seen[-1].allowed_tools == (f"{WORD}_later",)
        states = [bytes(state) for (state,) in query(path, "SELECT state FROM snapshots")]
        assert len(states) == len(seen) // 3
        assert any(b'"turn"' in state for state in states)
        assert not [state for state in states if WORD.encode() in state]
        assert_rebuilds(path, path.parent.with_suffix(".copy"))
        assert (await chat.erase(session, "they asked")).purged
        assert files_with(path) == []
        left = await at_versions(chat, session)
        assert WORD not in repr(left)
        assert [[getattr(each, name) for name in FOLDED if name != "model"] for each in left[: len(seen)]] == [
            [getattr(each, name) for name in FOLDED if name != "model"] for each in seen
        ]
        assert {each.model for each in left} == {"dictated/other"}
    settle(path)


async def test_words_erased_since_are_not_shown_of_the_past(path, often):
    """Neither a title that stood then, nor a message; the message says that it is erased, and its neighbours stay."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, title="kept", system=WORD)).id
        await chat.append_message(session, WORD)
        await chat.append_message(session, "stays")
        await chat.update_session(session, title=WORD)
        await chat.update_session(session, metadata={"a": 1})
        await chat.erase(session, "x", versions=[2, 4])
        await chat.append_message(session, "later")
        then = await chat.session(session, version=3)
        assert (then.title, then.system, then.preview, then.message_count) == ("kept", WORD, None, 2)
        then = await chat.session(session, version=5)
        assert (then.title, then.metadata) == (None, {"a": 1})
        gone, stays = (await chat.messages(session, version=3)).items
        assert (gone.content, gone.erased.by_position, stays.text, stays.erased) == ((), 6, "stays", None)
        assert [message.text for message in (await chat.window(session, version=3)).messages] == ["stays"]
        await chat.erase(session, "y", versions=[1])
        assert (await chat.session(session, version=3)).title is None
        assert (await chat.window(session, version=3)).system is None
    settle(path)


async def test_metadata_that_was_patched_is_what_it_was(path, often):
    """A patch is added to what was set before it; one that is erased since changes nothing, then and now."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, metadata={"a": 1})).id
        for patch in ({"b": 2}, {"c": WORD}, {"a": None}):
            await chat.update_metadata(session, patch)
        await chat.update_session(session, title="x")
        await chat.update_session(session, metadata={"d": 4})
        await chat.update_metadata(session, {"e": 5})
        seen = [each.metadata for each in await at_versions(chat, session)]
        word = {"b": 2, "c": WORD}
        assert seen == [{"a": 1}, {"a": 1, "b": 2}, {"a": 1} | word, word, word, {"d": 4}, {"d": 4, "e": 5}]
        await chat.erase(session, "x", versions=[3])
        left = [each.metadata for each in await at_versions(chat, session)]
        assert left[:5] == [{"a": 1}, {"a": 1, "b": 2}, {"a": 1, "b": 2}, {"b": 2}, {"b": 2}]
        assert left[5:7] == seen[5:]
    settle(path)


# --- a time -----------------------------------------------------------------------------------------------------------


async def test_a_time_is_the_last_version_recorded_by_then(path):
    """To the microsecond, between versions, after the last; several of one moment are taken together."""
    clock = ManualClock()
    start = clock.time_us
    async with chatting(path, clock) as chat:
        other = (await chat.create_session(model=ECHO)).id
        clock.time_us += 5 * SECOND_US
        session = (await chat.create_session(model=ECHO)).id
        for number in range(20):
            clock.time_us += 10 * SECOND_US
            await chat.append_messages(session, [engine.MessageIn(f"{number}a"), engine.MessageIn(f"{number}b")])
            await chat.append_message(other, "beside")
        for number in range(20):
            then = start + (15 + 10 * number) * SECOND_US
            for shift, version in ((-1, 1 + 2 * number), (0, 3 + 2 * number), (1, 3 + 2 * number)):
                at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=then + shift)
                assert (await chat.session(session, at=at)).version == version
                assert (await chat.window(session, at=at.isoformat())).version == version
                assert len(await texts(chat, session, at=at)) == version - 1
        assert (await chat.session(session, at="9999-12-31T23:59:59Z")) == await chat.session(session)
        begun = datetime.fromtimestamp(start / SECOND_US + 5, timezone(timedelta(hours=-7)))
        assert (await chat.session(session, at=begun)).version == 1
        for early in (begun - timedelta(microseconds=1), "1969-07-20T20:17:00Z", "0001-01-01T00:00:00+14:00"):
            for read in (chat.session, chat.messages, chat.window):
                with pytest.raises(NotYet) as refused:
                    await read(session, at=early)
                created = (await chat.session(session)).created_at
                assert (refused.value.code, refused.value.extra) == ("not_yet", {"field": "at", "created_at": created})


@pytest.mark.parametrize(
    "at",
    ["", "yesterday", "2026-01-02", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05", "1700000000", datetime(2026, 1, 2)],  # noqa: DTZ001 - that is what is refused
)
async def test_what_is_no_time_is_refused(path, at):
    """Also one without a zone."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        for read in (chat.session, chat.messages, chat.window):
            with pytest.raises(Invalid) as refused:
                await read(session, at=at)
            assert refused.value.extra == {"field": "at"}


async def test_a_version_and_a_time_are_two_questions(path):
    """Both at once are refused."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO)).id
        for read in (chat.session, chat.messages, chat.window):
            with pytest.raises(Invalid) as refused:
                await read(session, version=1, at="2026-01-02T03:04:05Z")
            assert refused.value.extra == {"field": "at"}


# --- an older file ----------------------------------------------------------------------------------------------------


async def test_a_file_from_before_snapshots_gets_them(path):
    """Opening it makes what was derived since: the same as if it had been written by this version."""
    async with chatting(path) as chat:
        session = (await chat.create_session(model=ECHO, title="First")).id
        for _ in range(3):
            await chat.append_messages(session, [engine.MessageIn("x")] * 100)
        await chat.update_session(session, title="Second")
        seen = [await chat.session(session, version=version) for version in (1, 127, 128, 301, 302)]
    before = dump(path, ["sessions", "session_words", "snapshots"])
    (state,) = query(path, "SELECT state FROM sessions")[0]
    old = msgspec.json.encode({name: each for name, each in json.loads(state).items() if name != "set_at"})
    execute(path, "UPDATE sessions SET state = ?", (old,))
    execute(path, "DROP TABLE snapshots")
    for table in ("forks", "replays", "suites", "prefixes", "retries", "aliases", "answers", "unstored"):
        execute(path, f"DROP TABLE {table}")
    for index in ("turns_waiting", "marks_copied"):
        execute(path, f"DROP INDEX {index}")
    execute(path, "UPDATE alembic_version SET version_num = '0010'")
    async with chatting(path) as chat:
        assert [await chat.session(session, version=version) for version in (1, 127, 128, 301, 302)] == seen
    assert dump(path, ["sessions", "session_words", "snapshots"]) == before
    assert query(path, KEPT) == [(128,), (256,)]
    audit(path)
    assert engine.verify_database(str(path)).problem is None


def test_a_snapshot_that_was_changed_is_found_and_made_right(path):
    """Like every derived row: verifying names the table, rebuilding derives it again."""
    with engine.open_sync(path) as chat:
        session = chat.create_session(model=ECHO).id
        for _ in range(2):
            chat.append_messages(session, [engine.MessageIn("x")] * 65)
    (state,) = query(path, "SELECT state FROM snapshots")[0]
    execute(path, "UPDATE snapshots SET state = ?", (state.replace(b'"message_count":127', b'"message_count":99'),))
    assert "snapshots" in str(engine.verify_database(str(path)).problem)
    assert engine.rebuild_projections(path).differed == ("snapshots",)
    assert engine.verify_database(str(path)).problem is None
