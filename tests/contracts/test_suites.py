"""Suites: named lists of recorded turns, kept on record, replayed by their name, and held to what was accepted.

Every file is audited, verified, and its projections derived again, when its test is over.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine import Caller, ReplayQuery, RequestKey, SuiteItem
from manent.engine.errors import (
    IdempotencyMismatch,
    Invalid,
    StoreUnavailable,
    TooLarge,
    TurnAlreadyOpen,
    TurnNotFound,
    VersionConflict,
)
from manent.engine.service.suites import check_suite_name
from tests.support import assert_rebuilds, audit, begin, chatting, query, says

ECHO = "echo/echo"
OTHER = says("Something else.")
FAILING = [{"steps": [{"fail": {"code": "provider_rejected"}}]}]


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "again.db")
    assert engine.verify_database(str(path)).problem is None


async def talked(chat, *words, caller=engine.LOCAL):
    """The turns of a session in which this was said."""
    session = await chat.create_session(model=ECHO, caller=caller)
    return [await chat.say(session.id, each, caller=caller) for each in words or ("one", "two", "three")]


def turns_in(suite):
    return [item.turn_id for item in suite.items]


def changes(path):
    """How many times suites were changed."""
    return query(path, "SELECT count(*) FROM events WHERE type = 'suite.changed'")[0][0]


async def replayed(chat, **options):
    """The verdicts of a suite's turns, in the order of the turns."""
    results = [each async for each in chat.replay(suite="smoke", **options)]
    return [each.verdict for each in sorted(results, key=lambda each: each.turn_id)]


async def newest(chat):
    return (await chat.replays(limit=1)).items[0]


# --- made, changed, emptied -------------------------------------------------------------------------------------------


async def test_a_suite_is_made_changed_and_emptied(path):
    """Each change is an event and a version, in the order given; what is so already is none, and the name stays."""
    async with chatting(path) as chat:
        one, two, three = await talked(chat)
        made = await chat.create_suite("smoke", [two.id, SuiteItem(one.session_id, one.id), str(two.id)])
        assert turns_in(made) == [two.id, one.id]
        assert (made.name, made.version, made.created_at) == ("smoke", 1, made.updated_at)
        assert await chat.suite("smoke") == made
        assert await chat.set_suite("smoke", [two.id, one.id]) == made
        changed = await chat.set_suite("smoke", [three.id], expected=1)
        assert (turns_in(changed), changed.version, changed.id) == ([three.id], 2, made.id)
        emptied = await chat.delete_suite("smoke")
        assert (emptied.items, emptied.version) == ((), 3)
        assert await chat.delete_suite("smoke") == emptied
        filled = await chat.create_suite("smoke", [one.id])
        assert (turns_in(filled), filled.id) == ([one.id], made.id)
    assert changes(path) == 4


async def test_a_turn_is_named_in_the_fork_that_shares_it(path):
    """The suite says where it stands; a session that does not share it is the wrong one."""
    async with chatting(path) as chat:
        one, two, _ = await talked(chat)
        (elsewhere,) = await talked(chat, "x")
        version = (await chat.messages(one.session_id)).items[1].version + 1
        fork = await chat.fork(one.session_id, version=version)
        suite = await chat.create_suite("smoke", [SuiteItem(fork.id, one.id)])
        assert suite.items == (SuiteItem(one.session_id, one.id),)
        for wrong in (SuiteItem(fork.id, two.id), SuiteItem(elsewhere.session_id, one.id)):
            with pytest.raises(TurnNotFound):
                await chat.set_suite("smoke", [wrong])


async def test_unknown_turns_are_named_and_nothing_is_done(path):
    """All that are not there, another tenant's among them; a turn that runs is refused with its id."""
    async with chatting(path, hang=says({"hang": True})) as chat:
        (one,) = await talked(chat, "one")
        (foreign,) = await talked(chat, "x", caller=Caller("acme"))
        missing = engine.new_id()
        with pytest.raises(TurnNotFound) as refused:
            await chat.create_suite("smoke", [one.id, missing, "nothing", foreign.id])
        assert refused.value.extra["turn_ids"] == [str(missing), "nothing", str(foreign.id)]
        assert str(missing) in refused.value.detail
        session = await chat.create_session(model="scripted/hang")
        turn = await begin(chat, session.id, "x")
        with pytest.raises(TurnAlreadyOpen) as open_:
            await chat.create_suite("smoke", [turn])
        assert open_.value.extra["turn_id"] == str(turn)
        await chat.cancel(turn)
        with pytest.raises(engine.SuiteNotFound):
            await chat.suite("smoke")
    assert changes(path) == 0


async def test_names_and_versions_are_held_to(path):
    """A name is taken once; what is not there is not found; who has not seen the newest version is told of it."""
    async with chatting(path) as chat:
        one, two, _ = await talked(chat)
        for call in (chat.suite("smoke"), chat.set_suite("smoke", [one.id]), chat.delete_suite("smoke")):
            with pytest.raises(engine.SuiteNotFound, match="'smoke'"):
                await call
        await chat.create_suite("smoke", [one.id])
        with pytest.raises(engine.SuiteExists):
            await chat.create_suite("smoke", [two.id])
        with pytest.raises(VersionConflict) as conflict:
            await chat.set_suite("smoke", [two.id], expected=7)
        assert conflict.value.current_version == 1
        with pytest.raises(engine.SuiteNotFound):
            await chat.suite("smoke", caller=Caller("acme"))
        await chat.create_suite("smoke", caller=Caller("acme"))
    assert changes(path) == 2


@pytest.mark.parametrize("name", ["", " smoke", "smoke\n", "a/b", "..", "a\x00b", "a\x1b[0m", "\ud800"])
async def test_names_stand_in_an_address_and_on_a_line(path, name):
    """Any other is refused as such."""
    async with chatting(path) as chat:
        with pytest.raises(Invalid) as refused:
            await chat.create_suite(name)
        assert refused.value.extra["field"] == "name"


@given(st.text(max_size=300))
@example("n" * 200)
@example("n" * 201)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_name_is_good_or_refused(name):
    """Whatever a name is, it is refused as such, or can be printed on a line."""
    bounds = engine.Settings()
    try:
        check_suite_name(name, bounds)
    except TooLarge:
        assert len(name) > bounds.max_name_chars
    except Invalid:
        assert not name.isprintable() or name != name.strip() or "/" in name or name in {"", ".", ".."}
    else:
        assert name.encode().decode().splitlines() == [name]
        assert 0 < len(name) <= bounds.max_name_chars


async def test_a_suite_holds_no_more_than_a_replay_can_do(path):
    """More turns are refused with the limit."""
    async with chatting(path, max_replay_turns=2) as chat:
        turns = [turn.id for turn in await talked(chat)]
        with pytest.raises(TooLarge) as refused:
            await chat.create_suite("smoke", turns)
        assert (refused.value.extra["limit"], refused.value.extra["maximum"]) == ("max_replay_turns", 2)
        assert turns_in(await chat.create_suite("smoke", turns[:2])) == turns[:2]


async def test_the_same_request_gives_the_first_answer(path):
    """Also when the suite was changed since; with another body it is refused."""
    async with chatting(path) as chat:
        one, two, _ = await talked(chat)
        request = RequestKey("me", "POST /api/suites", "k", b"1")
        made = await chat.create_suite("smoke", [one.id], request=request)
        await chat.set_suite("smoke", [two.id])
        assert await chat.create_suite("smoke", [one.id], request=request) == made
        with pytest.raises(IdempotencyMismatch):
            await chat.create_suite("other", request=RequestKey("me", "POST /api/suites", "k", b"2"))
    assert changes(path) == 2


async def test_suites_are_listed_by_name_page_by_page(path):
    """Each once, those of the tenant only."""
    names = sorted(f"suite {number}" for number in range(7))
    async with chatting(path) as chat:
        for name in reversed(names):
            await chat.create_suite(name)
        await chat.create_suite("foreign", caller=Caller("acme"))
        found, after = [], None
        while True:
            page = await chat.suites(limit=3, after=after)
            found += [suite.name for suite in page.items]
            after = page.next
            if after is None:
                break
        assert found == names
        for wrong in ({"limit": 0}, {"after": "?"}):
            with pytest.raises(Invalid):
                await chat.suites(**wrong)


def test_the_synchronous_door_has_the_same(path):
    """The methods are there under the same names."""
    with engine.open_sync(path) as chat:
        turn = chat.say(chat.create_session(model=ECHO).id, "one")
        chat.create_suite("smoke", [turn.id])
        assert [each.verdict for each in chat.replay(suite="smoke")] == ["same"]
        assert [suite.name for suite in chat.suites().items] == ["smoke"]
        assert chat.suite("smoke") == chat.set_suite("smoke", [turn.id])
        assert chat.delete_suite("smoke").items == ()


# --- replayed, accepted -----------------------------------------------------------------------------------------------


async def test_a_suite_is_replayed_by_its_name(path):
    """In its modes; the replay names the suite. With a query, or without turns, it says what is wrong."""
    async with chatting(path, other=OTHER) as chat:
        turns = await talked(chat)
        await chat.create_suite("smoke", [turns[0].id, turns[2].id])
        assert await replayed(chat) == ["same", "same"]
        assert ((await newest(chat)).mode, (await newest(chat)).suite) == ("recorded", "smoke")
        assert await replayed(chat, model="scripted/other") == ["different", "different"]
        assert ((await newest(chat)).mode, (await newest(chat)).suite) == ("forced", "smoke")
        started = await chat.start_replay(suite="smoke", mode="free")
        assert started.suite == "smoke"
        assert [each.verdict async for each in chat.replay(turns[0].session_id)] == ["same"] * 3
        assert (await newest(chat)).suite is None
        with pytest.raises(Invalid, match="suite: goes without a query"):
            await chat.start_replay(ReplayQuery(suite="smoke"), suite="smoke")
        with pytest.raises(engine.SuiteNotFound):
            await chat.start_replay(suite="smok")
        await chat.delete_suite("smoke")
        with pytest.raises(engine.NothingToReplay):
            await chat.start_replay(suite="smoke")


@pytest.mark.parametrize("mode", ["recorded", "forced", "free"])
async def test_erased_turns_are_skipped_and_counted(path, mode):
    """The suite refers to them still, for it copies nothing."""
    async with chatting(path) as chat:
        (gone,) = await talked(chat, "gone")
        (kept,) = await talked(chat, "kept")
        suite = await chat.create_suite("smoke", [gone.id, kept.id])
        await chat.erase(gone.session_id, "asked")
        results = {each.turn_id: each async for each in chat.replay(suite="smoke", mode=mode)}
        assert {turn: each.verdict for turn, each in results.items()} == {gone.id: "skipped", kept.id: "same"}
        assert "erased" in results[gone.id].reason
        assert await chat.suite("smoke") == suite
    assert b"gone" not in path.read_bytes()


async def test_what_is_accepted_is_the_reference_of_later_runs(path):
    """The new turn takes the old one's place; the same answer is the same then, and the log says of which replay."""
    async with chatting(path, other=OTHER) as chat:
        one, two, _ = await talked(chat)
        await chat.create_suite("smoke", [one.id, two.id])
        results = [each async for each in chat.replay(suite="smoke", model="scripted/other")]
        new = next(each.new_turn_id for each in results if each.turn_id == one.id)
        await chat.accept_results((await newest(chat)).id, [one.id])
        suite = await chat.suite("smoke")
        assert (turns_in(suite), suite.version) == ([new, two.id], 2)
        assert sorted(await replayed(chat, model="scripted/other")) == ["different", "same"]
        assert await replayed(chat, mode="recorded") == ["same", "same"]
        accepted = (await chat.log_events(limit=1000)).items
        assert [event.session_id for event in accepted if event.type == "suite.accepted"] == [suite.id]


@pytest.mark.parametrize("registered", [True, False])
async def test_answers_that_a_replay_asked_for_are_done_again_from_the_record(path, registered):
    """Their messages were given and not chosen; tools that are registered no more are answered, too."""

    @engine.tool
    async def look(at: str) -> str:
        """Looks."""
        return f"nothing at {at}"

    clerk = says({"text": "Let me look."}, {"tool": {"id": "a", "name": "look", "input": {"at": "x"}}})
    models = {"clerk": [*clerk, *says("Nothing.")], "other": [*clerk, *says("Nothing there.")]}
    async with chatting(path, tools=[look], **models) as chat:
        session = await chat.create_session(model="scripted/clerk", system="Be brief.")
        said = [await chat.say(session.id, text, tools=["look"]) for text in ("Is it there?", "Sure?")]
        assert [message.role for message in said[0].messages] == ["assistant", "tool", "assistant"]
        await chat.create_suite("smoke", [turn.id for turn in said])
    async with chatting(path, tools=[look] if registered else [], **models) as chat:
        assert await replayed(chat, model="scripted/other") == ["different"] * 2
        await chat.accept_results((await newest(chat)).id, [turn.id for turn in said])
        assert [(each.verdict, each.reason) async for each in chat.replay(suite="smoke")] == [("same", None)] * 2


async def test_there_must_be_a_new_answer_to_accept(path):
    """In the mode recorded the log answers, and a failure is no answer."""
    async with chatting(path, failing=FAILING) as chat:
        (one,) = await talked(chat, "one")
        await chat.create_suite("smoke", [one.id])
        assert await replayed(chat) == ["same"]
        with pytest.raises(Invalid, match="no new answer"):
            await chat.accept_results((await newest(chat)).id, [one.id])
        assert await replayed(chat, model="scripted/failing") == ["failed"]
        with pytest.raises(Invalid, match="no new answer"):
            await chat.accept_results((await newest(chat)).id, [one.id])
        assert (await chat.suite("smoke")).version == 1


async def test_beside_a_server_suites_are_read_and_replayed(path):
    """On an engine that only reads, the mode recorded works, and changes are refused."""
    async with chatting(path) as chat:
        turns = await talked(chat)
        await chat.create_suite("smoke", [turn.id for turn in turns])
        async with engine.open_beside(path) as beside:
            assert [suite.name for suite in (await beside.suites()).items] == ["smoke"]
            assert await replayed(beside) == ["same"] * 3
            with pytest.raises(StoreUnavailable):
                await beside.set_suite("smoke", [])
