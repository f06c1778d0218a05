"""Erasing across branches: words that several sessions show go for all of them, at once or not at all."""

import asyncio
import json

import pytest

from manent import engine
from manent.engine.errors import EngineError, Erased, LegalHold, NothingToAnswer, TurnAlreadyOpen
from manent.engine.log.base import RequestKey
from manent.engine.providers.base import ModelInfo
from tests.support import Dictated, assert_rebuilds, audit, chatting, offered, query, says

WORD = "Schibboleth"
ECHO = "echo/echo"


@pytest.fixture
def path(tmp_path):
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "chat.db"


def settle(path):
    audit(path)
    assert_rebuilds(path, path.with_name("again.db"))
    assert engine.verify_database(str(path)).problem is None


def files_with(path, word=WORD):
    """Every file beside the database, the database itself included, that holds a word as raw bytes."""
    raws = (word.encode(), word.encode("utf-16-le"))
    return sorted(file.name for file in path.parent.iterdir() if any(raw in file.read_bytes() for raw in raws))


class Unlisted(Dictated):
    """Serves any model, of which facts cannot hold the name."""

    def model(self, name):
        return ModelInfo(name, family="echo", listed=False)


async def family(chat, **fields):
    """A session with the word in its first message; a fork that shares it, one of that fork, and one from before it."""
    root = (await chat.create_session(model=ECHO, **fields)).id
    await chat.say(root, WORD)
    fork = (await chat.fork(root)).id
    await chat.say(fork, "goes on")
    deep = (await chat.fork(fork)).id
    await chat.say(deep, "deeper")
    apart = (await chat.fork(root, version=1)).id
    await chat.say(apart, "another beginning")
    return root, fork, deep, apart


async def texts(chat, session):
    return [message.text for message in (await chat.messages(session)).items]


async def run_again(chat, session):
    """The session that a run done again makes."""
    async for _ in chat.replay(session, mode="free", model=ECHO):
        """Its answers are in the new session."""
    return (await chat.sessions(limit=1)).items[0]


def relations(erasure):
    return {each.session_id: (each.relation, each.versions) for each in erasure.sessions}


async def test_shared_words_are_erased_for_every_branch(path):
    """Named along a fork, they go where they stand; every branch that shows them, or told a model of them, is named."""
    async with chatting(path) as chat:
        root, fork, deep, apart = await family(chat)
        would = await chat.erase(deep, "asked", versions=[2, 6], dry_run=True)
        done = await chat.erase(deep, "asked", versions=[2, 6])
        assert (done.erased, done.sessions) == (would.erased, would.sessions)
        assert set(relations(done)) == {root, fork}
        assert relations(done)[root] == ("branch", (2, 4, 6))
        assert {2, 6} < set(relations(done)[fork][1])
        for each in (root, fork, deep):
            assert WORD not in await texts(chat, each)
            assert (await chat.session(each)).preview is None
        assert await texts(chat, deep) == ["", "", "goes on", "goes on", "deeper", "deeper"]
        assert await texts(chat, apart) == ["another beginning"] * 2
        for each in (root, fork, deep):
            turn = (await chat.turns(each)).items[-1]
            with pytest.raises(Erased):
                await chat.explain(turn.id)
        window = await chat.window(deep)
        assert [message.text for message in window.messages] == ["goes on", "goes on", "deeper", "deeper"]
        assert (await chat.say(deep, "and on")).text == "and on"
    stands = "SELECT DISTINCT session FROM events WHERE type = 'body.erased'"
    assert {raw for (raw,) in query(path, stands)} == {each.bytes for each in (root, fork, deep)}
    assert files_with(path) == []
    settle(path)


async def test_all_of_a_fork_is_what_it_said_itself(path):
    """Its parent keeps what they share; a branch of it loses what it shows of it."""
    async with chatting(path) as chat:
        root, fork, deep, _ = await family(chat)
        done = await chat.erase(fork, "asked")
        assert await texts(chat, root) == [WORD, WORD]
        assert await texts(chat, fork) == [WORD, WORD, "", ""]
        assert await texts(chat, deep) == [WORD, WORD, "", "", "deeper", "deeper"]
        assert set(relations(done)) == {deep}
    settle(path)


async def test_inherited_words_of_a_session_become_null_in_every_descendant(path):
    """Title, system prompt, metadata and names: where they were set is erased, and all that had them from there."""
    async with chatting(path) as chat:
        root, fork, deep, apart = await family(chat, title=WORD, system=WORD, metadata={WORD: 1}, user_id=WORD)
        own = (await chat.fork(root, title="kept")).id
        await chat.update_metadata(deep, {"mine": 2})
        await chat.erase(root, "asked", versions=[1])
        for each in (root, fork, apart, own):
            session = await chat.session(each)
            assert (session.system, session.metadata, session.user_id) == (None, None, None)
        assert (await chat.session(own)).title == "kept"
        assert (await chat.session(fork)).title is None
        assert (await chat.session(deep)).metadata == {"mine": 2}
        assert (await chat.session(deep, version=1)).title is None
        assert (await chat.window(fork)).system is None
        again = await chat.fork(deep)
        assert (again.title, again.system) == (None, None)
        await chat.say(again.id, "goes on")
        await chat.erase(root, "asked", versions=[2, 6])
    assert files_with(path) == []
    settle(path)


async def test_an_inherited_name_of_a_model_goes_with_its_event(path):
    """A name that facts cannot hold is in no state of a descendant any more."""
    async with chatting(path, providers=[Unlisted()]) as chat:
        root = (await chat.create_session(model=f"dictated/{WORD}")).id
        fork = (await chat.fork(root)).id
        deep = (await chat.fork(fork, model=ECHO)).id
        assert (await chat.session(fork)).model == f"dictated/{WORD}"
        await chat.erase(fork, "asked", versions=[1])
        assert (await chat.session(fork)).model == "dictated/other"
        assert (await chat.session(deep)).model == ECHO
    assert files_with(path) == []
    settle(path)


async def test_one_branch_that_refuses_keeps_all(path):
    """A legal hold on a fork covers what it shares, and so does its open turn; the refusal names it."""
    async with chatting(path) as chat:
        root, fork, deep, apart = await family(chat)
        await chat.update_session(deep, legal_hold=True)
        before = query(path, "SELECT size FROM heads")
        for dry_run in (True, False):
            with pytest.raises(LegalHold) as held:
                await chat.erase(root, "asked", versions=[2], dry_run=dry_run)
            assert held.value.extra["session_id"] == str(deep)
        with pytest.raises(LegalHold):
            await chat.erase(fork, "asked")
        assert query(path, "SELECT size FROM heads") == before
        await chat.erase(apart, "asked")
        await chat.update_session(deep, legal_hold=False, model="echo/paced")
        started = await chat.start_turn(deep, "a long answer " * 30)
        with pytest.raises(TurnAlreadyOpen) as runs:
            await chat.erase(root, "asked", versions=[2])
        assert runs.value.extra == {"turn_id": str(started.turn), "session_id": str(deep)}
        assert await texts(chat, root) == [WORD, WORD]
        await chat.cancel(started.turn)
        await chat.ended(started.turn)
        await chat.erase(root, "asked", versions=[2, 6])
    assert files_with(path) == []
    settle(path)


async def test_a_policy_passes_over_what_a_held_branch_shows(path):
    """What is shared up to the held branch stays, and is told; what came later goes."""
    async with chatting(path) as chat:
        root = (await chat.create_session(model=ECHO)).id
        await chat.append_message(root, "shared")
        fork = (await chat.fork(root)).id
        await chat.update_session(fork, legal_hold=True)
        await chat.append_message(root, "later")
        for dry_run in (True, False):
            found = {each.session_id: each async for each in chat.retain(0, dry_run=dry_run)}
            assert (found[root].versions, found[root].kept) == ((3,), "shown_by_a_held_branch")
        assert await texts(chat, root) == ["shared", ""]
        await chat.update_session(fork, legal_hold=False)
        found = {each.session_id: each async for each in chat.retain(0)}
        assert found[root].versions == (1, 2) or found[root].versions == (2,)
        assert await texts(chat, fork) == [""]
    settle(path)


async def test_the_same_request_again_tells_the_same(path):
    """Under an idempotency key an erasure across branches is done once, and told as it was."""
    async with chatting(path) as chat:
        root, fork, _, _ = await family(chat)
        key = RequestKey("local", "erase", "k", b"body")
        first = await chat.erase(fork, "asked", versions=[2], request=key)
        other = await chat.erase(root, "asked", versions=[6])
        again = await chat.erase(fork, "asked", versions=[2], request=key)
        assert (again.erased, again.sessions, again.version) == (first.erased, first.sessions, first.version)
        assert other.erased == (6,)
    settle(path)


async def test_a_fork_decides_on_what_is_erased_now(path):
    """A shared question that is erased cannot be answered, and a shared call needs no result any more."""
    async with chatting(path, clerk=says({"tool": {"id": "call_1", "name": "look", "input": {}}})) as chat:
        root = (await chat.create_session(model=ECHO)).id
        await chat.append_message(root, WORD)
        fork = (await chat.fork(root)).id
        await chat.erase(root, "asked", versions=[2])
        with pytest.raises(NothingToAnswer):
            await chat.start_turn(fork)
        with pytest.raises(NothingToAnswer):
            await chat.start_turn(root, from_version=2)
        session = (await chat.create_session(model="scripted/clerk")).id
        turn = await chat.say(session, "look", client_tools=offered("look"))
        fork = (await chat.fork(session, version=turn.message.version)).id
        await chat.erase(session, "asked", versions=[turn.message.version])
        await chat.append_message(fork, "never mind")
    assert files_with(path) == []
    settle(path)


async def test_copies_of_a_branch_are_named_too(path, tmp_path):
    """An import of a fork holds the words that the fork shares, and keeps them."""
    async with chatting(path) as chat:
        root, fork, _, _ = await family(chat)
        again = (await run_again(chat, fork)).id
        done = await chat.erase(root, "asked", versions=[2])
        assert relations(done)[again][0] == "copy"
        assert "the copies in the sessions named here" in done.out_of_reach
    settle(path)


async def test_erasures_and_forks_at_once_leave_no_words(path):
    """Whatever comes first, no branch shows what is erased, and the record holds together."""
    async with chatting(path) as chat:
        root, *_ = await family(chat)

        async def fork_and_say(number):
            try:
                made = await chat.fork(root, version=6)
                await chat.say(made.id, f"branch {number}")
            except EngineError:
                return None
            return made.id

        async def erase():
            for _ in range(50):
                try:
                    return await chat.erase(root, "asked", versions=[2, 6])
                except TurnAlreadyOpen:
                    await asyncio.sleep(0.01)
            return None

        made = await asyncio.gather(*[fork_and_say(number) for number in range(5)], erase())
        if made[-1] is None:
            await chat.erase(root, "asked", versions=[2, 6])
        for each in made[:-1]:
            assert each is None or WORD not in json.dumps(await texts(chat, each))
    assert files_with(path) == []
    settle(path)


async def test_branches_of_copies_are_named_too(path):
    """A run done again was forked, and the fork run again: each keeps the words, and is told of."""
    async with chatting(path) as chat:
        source = (await chat.create_session(model=ECHO)).id
        await chat.say(source, WORD)
        copy = (await run_again(chat, source)).id
        fork = (await chat.fork(copy)).id
        again = (await run_again(chat, fork)).id
        done = await chat.erase(source, "asked")
        assert {each for each, (relation, _) in relations(done).items() if relation == "copy"} == {copy, fork, again}
    settle(path)


async def test_answers_to_a_replay_are_told_as_copies(path):
    """They may say the erased words again, and stay: whoever erases is told where."""
    async with chatting(path) as chat:
        source = (await chat.create_session(model=ECHO)).id
        await chat.say(source, WORD)
        async for result in chat.replay([source], mode="forced"):
            made = result.new_session_id
        done = await chat.erase(source, "asked")
        told = [(each.relation, each.versions) for each in done.sessions if each.session_id == made]
        assert [relation for relation, _ in told] == ["branch", "copy"]
        kept = [each.version for each in (await chat.messages(made)).items if each.text == WORD]
        assert told[1][1] == tuple(kept)
        await chat.erase(made, "asked")
    assert files_with(path) == []
    settle(path)


async def test_a_policy_passes_over_streams_and_tells_all_that_it_erased(path):
    """Suites and replays keep no session from it; what goes in a branch is told of that branch."""
    async with chatting(path) as chat:
        _root, fork, *_ = await family(chat, title=WORD)
        turn = (await chat.turns(fork)).items[-1]
        await chat.create_suite("kept", [engine.SuiteItem(fork, turn.id)])
        await chat.create_suite(f"of {WORD}", [])
        query_ = engine.ReplayQuery(where=engine.ReplayWhere(title_contains=WORD))
        async for _ in chat.replay(query_, mode="recorded"):
            """Its conditions are on record."""
        told = [each async for each in chat.retain(0)]
        assert all(each.kept is None for each in told)
        assert (await chat.suites()).items[0].name == "kept"
    erased = query(path, "SELECT count(*) FROM erasures")
    assert [(sum(len(each.versions) for each in told),)] == erased
    assert files_with(path) == []
    settle(path)


async def test_the_words_of_a_replay_can_be_erased(path):
    """By its id, as a session's: the conditions by which it found its sessions."""
    async with chatting(path) as chat:
        await family(chat, title=WORD)
        query_ = engine.ReplayQuery(where=engine.ReplayWhere(title_contains=WORD))
        replay = await chat.start_replay(query_, mode="recorded")
        async for _ in chat.follow_replay(replay.id):
            """Until it has ended."""
        would = await chat.erase(replay.id, "asked", dry_run=True)
        done = await chat.erase(replay.id, "asked")
        assert would.erased == done.erased == (1,)
        assert (await chat.erase(replay.id, "asked")).erased == ()
        for each in (await chat.sessions(branches="all")).items:
            await chat.update_session(each.id, title=None)
            await chat.erase(each.id, "asked")
    assert files_with(path) == []
    settle(path)
