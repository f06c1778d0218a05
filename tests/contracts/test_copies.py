"""Sessions that were made from another name it, and an erasure of it names them: it does not erase what is theirs."""

import asyncio
import json

import pytest

from manent import engine
from manent.engine.errors import Invalid, LegalHold, VersionConflict
from manent.engine.log.base import Append, NewEvent, NoStream
from tests.support import assert_rebuilds, audit, chatting, dump, query, text_of

ECHO = "echo/echo"
WORD = "Schibboleth"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


def settle(path):
    audit(path)
    assert_rebuilds(path, path.with_name("again.db"))
    assert engine.verify_database(str(path)).problem is None


async def bundle_of(chat, session, to):
    """The bundle of a session, as a file."""
    with to.open("wb") as file:
        await chat.export(file, session)
    return to


async def imported(path, bundle):
    """The session that a bundle becomes in a file that nobody serves."""
    return (await asyncio.to_thread(engine.import_bundle, str(path), bundle)).session_id


async def started(chat, session):
    """The first event of a session."""
    return (await chat.events(session, limit=1)).items[0]


async def spoken(chat):
    """A session with the word in a message, and an answer."""
    session = await chat.create_session(model=ECHO, title="kept")
    await chat.append_message(session.id, "before")
    await chat.say(session.id, WORD)
    return session.id


async def test_an_import_and_a_run_done_again_name_their_source(path, tmp_path):
    """The facts of the first event of a copy say which session it comes from, in which log and how large that was."""
    async with chatting(path) as chat:
        source = await spoken(chat)
        size = (await chat.session(source)).version  # and the replay's start
        again = await run_again(chat, source)
        bundle = await bundle_of(chat, source, tmp_path / "one.zip")
    copy = await imported(path, bundle)
    (origin,) = query(path, "SELECT origin FROM origins")[0]
    async with chatting(path) as chat:
        for session, at_size in ((again, size + 1), (copy, None)):
            event = await started(chat, session)
            named = json.loads(bytes(event.facts))["source"]
            assert (event.schema, named["session"], named["origin"]) == (2, str(source), origin)
            assert named["size"] == at_size if at_size else named["size"] > size
        assert "source" not in json.loads(bytes((await started(chat, source)).facts))
    settle(path)


async def test_an_erasure_names_the_versions_that_an_import_holds(path, tmp_path):
    """Of an import it is known which event comes from which: those of the erased words are named, and the attempts
    that sent them; also of a copy of the copy, and again when the erasure is asked for again. They keep their words.
    """
    async with chatting(path) as chat:
        source = await spoken(chat)
        one = await bundle_of(chat, source, tmp_path / "one.zip")
    first = await imported(path, one)
    async with chatting(path) as chat:
        two = await bundle_of(chat, first, tmp_path / "two.zip")
    second = await imported(path, two)
    async with chatting(path) as chat:
        await chat.say(second, "Go on.")
        found = {event.version: event.type for event in (await chat.events(second)).items}
        attempt = next(version for version, kind in found.items() if kind == "attempt.started")
        erasure = await chat.erase(source, "they asked", versions=[3])
        assert erasure.erased == erasure.versions == (3, 5)
        assert erasure.sessions == tuple(
            engine.Holder(session, "copy", versions)
            for session, versions in sorted([(first, (3,)), (second, (3, attempt))])
        )
        assert erasure.out_of_reach == ("backups", "earlier exports", "the copies in the sessions named here")
        assert (await chat.erase(source, "again", versions=[3])).sessions == erasure.sessions
        assert [text_of(each) for each in (await chat.messages(first)).items][1] == WORD
        for holder in erasure.sessions:
            again = await chat.erase(holder.session_id, "too", versions=holder.versions)
            assert again.erased == holder.versions
            assert "the session that this one was copied from, and other copies of it" in again.out_of_reach
        assert (await chat.erase(source, "again", versions=[3])).sessions == ()
    settle(path)


async def test_of_a_run_done_again_all_that_has_words_is_named(path):
    """Which event of it says the words again nobody knows."""
    async with chatting(path) as chat:
        source = await spoken(chat)
        again = await run_again(chat, source)
        events = (await chat.events(again)).items
        (holder,) = (await chat.erase(source, "they asked", versions=[3])).sessions
        assert (holder.session_id, holder.relation) == (again, "copy")
        assert holder.versions == tuple(event.version for event in events if event.body and len(bytes(event.body)) > 2)
        await chat.erase(again, "too")
        assert (await chat.erase(source, "the rest")).sessions == ()
    settle(path)


async def run_again(chat, session):
    """The session in which another was run again."""
    (result,) = [each async for each in chat.replay(session, mode="free", model=ECHO)]
    return result.new_session_id


async def old_start(chat, *, metadata=None, causation=None):
    """A session that began as one did before copies named their source."""
    body = b"" if metadata is None else json.dumps({"metadata": metadata}).encode()
    session = engine.new_id()
    news = [NewEvent(engine.new_id(), "session.started", 1, b'{"model":"echo/echo"}', "local", body, causation)]
    await chat._parts.store.append(Append("default", session, NoStream(), news))
    return session


async def test_older_copies_are_found(path):
    """A run done again by what its metadata said, until that is erased; an import by the event that led to its first.
    What a session of today says in its metadata is nobody's source.
    """
    async with chatting(path) as chat:
        source = await spoken(chat)
        run = await old_start(chat, metadata={"replay_of": str(source)})
        taken = await old_start(chat, metadata={"x": 1}, causation=(await started(chat, source)).id)
        for other in ({"replay_of": "nobody"}, {"replay_of": 7}, {}):
            await old_start(chat, metadata=other)
        await chat.create_session(model=ECHO, metadata={"replay_of": str(source)})
        named = (await chat.erase(source, "x", dry_run=True)).sessions
        assert [each.session_id for each in named] == sorted([run, taken])
        settle(path)
        for session in (run, taken):
            await chat.erase(session, "x")
        assert query(path, "SELECT session, source FROM copies") == [(taken.bytes, None)]
        await chat.append_message(taken, WORD)
        assert (await chat.erase(source, "x", versions=[3])).sessions == ()
    settle(path)


async def test_a_dry_run_says_what_would_be_and_does_nothing(path):
    """It gives the answer that the erasure gives, refuses what that refuses, and changes no row."""
    async with chatting(path) as chat:
        source = await spoken(chat)
        await run_again(chat, source)
        before = dump(path)
        said = await chat.erase(source, "they asked", versions=[3], dry_run=True)
        assert (said.dry_run, said.purged) == (True, False)
        for error, arguments in ((VersionConflict, {"expected": 1}), (Invalid, {"versions": [4]})):
            with pytest.raises(error):
                await chat.erase(source, "x", dry_run=True, **arguments)
        assert dump(path) == before
        done = await chat.erase(source, "they asked", versions=[3])
        assert (said.erased, said.sessions, said.out_of_reach) == (done.erased, done.sessions, done.out_of_reach)
        await chat.update_session(source, legal_hold=True)
        with pytest.raises(LegalHold):
            await chat.erase(source, "x", dry_run=True)
    settle(path)


async def test_another_tenants_copies_are_not_named(path, tmp_path):
    """A log knows of its own copies only."""
    acme = engine.Caller("acme")
    async with chatting(path) as chat:
        source = await spoken(chat)
        bundle = await bundle_of(chat, source, tmp_path / "one.zip")
    await asyncio.to_thread(engine.import_bundle, str(path), bundle, caller=acme)
    async with chatting(path) as chat:
        assert (await chat.erase(source, "x")).sessions == ()
