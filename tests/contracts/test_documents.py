"""The tools that models were told of are kept once, proved, and gone with the last attempt that names them."""

import asyncio
import base64
import gzip
import hashlib
import io
import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from manent import engine
from manent.engine.audit.bundle import verify_bundle
from manent.engine.errors import Erased
from manent.engine.log import merkle
from manent.engine.log.rebuild import rebuild_file
from manent.engine.log.sqlite.guards import GUARDS
from manent.engine.service import erasure as erasing
from manent.engine.sessions.projector import Catalog
from manent.engine.sessions.tables import PROJECTIONS
from manent.engine.settings import Settings
from manent.engine.tools.registry import write_schemas
from tests.contracts.test_bundles import documents_of, is_caught, opened, packed, verdict
from tests.contracts.test_forgeries import FORGER, canonical, key_of, signature_line, transcripts
from tests.support import ManualClock, assert_rebuilds, audit, begin, chatting, dump, execute, query

ECHO = "echo/echo"
WORD = "Schibboleth"
PAUSED = Path(__file__).parents[1] / "golden" / "paused-0007.db.gz"


def told_of(*names):
    """Tools of a client's, in its own words."""
    parameters = {"type": "object", "properties": {WORD: {"type": "string"}}}
    return tuple(engine.ToolSchema(name, f"Finds every {WORD}.", parameters) for name in names)


LOOK, FIND = told_of("look"), told_of("look", "find")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "server").mkdir()
    return tmp_path / "server" / "chat.db"


async def ask(chat, session, tools=LOOK, text="Look."):
    await chat.ended(await begin(chat, session, text, model=ECHO, client_tools=tools))


async def asked(chat, *offers, caller=engine.LOCAL):
    """A session in which each of these was offered to a model."""
    session = (await chat.create_session(model=ECHO, caller=caller)).id
    for tools in offers:
        turn = await begin(chat, session, "Look.", model=ECHO, client_tools=tools, caller=caller)
        await chat.ended(turn, caller=caller)
    return session


def names_in(path, tenant="default"):
    return {raw.hex() for (raw,) in query(path, "SELECT digest FROM documents WHERE tenant = ?", (tenant,))}


def facts_in(path, kind):
    rows = query(path, "SELECT schema, facts FROM events WHERE type = ? ORDER BY tenant, position", (kind,))
    return [json.loads(facts) | {"schema": schema} for schema, facts in rows]


def listed_in(path):
    """What each erasure lists."""
    return [facts.get("documents", []) for facts in facts_in(path, "body.erased")]


async def exported(chat, session=None):
    data = io.BytesIO()
    await chat.export(data, session)
    return data.getvalue()


def taken_from(data, folder):
    """A database that a whole log's bundle was taken into."""
    folder.mkdir()
    file = folder / "whole.zip"
    file.write_bytes(data)
    engine.import_bundle(Settings(database=str(folder / "taken.db"), drain_s=1), file)
    return folder / "taken.db"


def settle(path):
    """All that a closed file must still keep."""
    audit(path)
    assert_rebuilds(path, path.parent.with_suffix(".copy"))
    assert rebuild_file(path, Catalog(), PROJECTIONS, lambda *_: None).differed == ()
    assert query(path, "SELECT count(*) FROM purges") == [(0,)]
    assert engine.verify_database(str(path)).problem is None


def files_that_confirm(path, *offers):
    """Every file of the server's that confirms a guess of these tools: by their words, or by a hash of their bytes."""
    guesses = [WORD.encode()]
    for tools in offers:
        digest = hashlib.sha256(write_schemas(tools))
        guesses += [write_schemas(tools), digest.digest(), digest.hexdigest().encode()]
    return sorted(file.name for file in path.parent.iterdir() if any(guess in file.read_bytes() for guess in guesses))


# --- naming, and going ------------------------------------------------------------------------------------------------


async def test_equal_schemas_are_stored_once(path):
    """For a log: whichever session and round names them, by one name that holds a salt; each log has its own."""
    other = engine.Caller("other")
    async with chatting(path) as chat:
        await asked(chat, LOOK, LOOK, FIND)
        await asked(chat, FIND)
        await asked(chat, FIND, caller=other)
    attempts = facts_in(path, "attempt.started")
    assert [each["schema"] for each in attempts] == [2] * 5
    names = [each["tools"] for each in attempts]
    assert names[0] == names[1] != names[2] == names[3] != names[4]
    assert (names_in(path), names_in(path, "other")) == ({names[0], names[2]}, {names[4]})
    assert not {*names} & {hashlib.sha256(write_schemas(tools)).hexdigest() for tools in (LOOK, FIND)}
    settle(path)


async def test_equal_schemas_that_come_at_once_are_stored_once(path):
    """Turns that start in one batch agree on the name of what none of them found before."""
    async with chatting(path) as chat:
        await asyncio.gather(*(asked(chat, LOOK) for _ in range(8)))
    assert {each["tools"] for each in facts_in(path, "attempt.started")} == names_in(path)
    assert len(names_in(path)) == 1
    settle(path)


async def test_guesses_of_erased_schemas_find_nothing(path):
    """Neither their words nor any hash of their bytes is in a file, while the server runs and after it ended; what was
    erased says so, and is not asked again.
    """
    async with chatting(path, checkpoint_pages=2) as chat:
        large = told_of(*(f"tool_{number}" for number in range(100)))
        session = await asked(chat, LOOK, large, FIND)
        name = facts_in(path, "attempt.started")[0]["tools"]
        assert await chat.schemas(name) == LOOK
        assert files_that_confirm(path, LOOK, large, FIND)
        assert (await chat.erase(session, "they asked")).purged
        assert files_that_confirm(path, LOOK, large, FIND) == []
        with pytest.raises(Erased, match=name) as erased:
            await chat.schemas(name)
        assert erased.value.extra == {"documents": [name]}
        again = await asked(chat, LOOK)
        assert facts_in(path, "attempt.started")[-1]["tools"] != name
        await chat.erase(again, "they asked")
    assert files_that_confirm(path, LOOK, large, FIND) == []
    assert [len(each) for each in listed_in(path)] == [3, 1]
    assert query(path, "SELECT count(*) FROM documents") == [(0,)]
    settle(path)


async def test_what_another_session_names_stays(path):
    """Until that one is erased, too; its erasure lists them."""
    async with chatting(path) as chat:
        one, other = await asked(chat, LOOK, FIND), await asked(chat, FIND)
        look, find = (each["tools"] for each in facts_in(path, "attempt.started")[:2])
        await chat.erase(one, "they asked")
        assert names_in(path) == {find}
        assert await chat.schemas(find) == FIND
        await ask(chat, one, FIND)
        await chat.erase(other, "they asked")
        assert names_in(path) == {find}
        await chat.erase(one, "they asked")
        assert names_in(path) == set()
    assert listed_in(path) == [[look], [], [find]]
    settle(path)


async def test_schemas_go_with_the_message_that_was_sent_beside_them(path):
    """Whoever erases a message takes the attempts with it that sent it, and so what only these name."""
    async with chatting(path) as chat:
        session = await asked(chat, LOOK)
        await chat.erase(session, "they asked", versions=[2])
        assert names_in(path) == set()
        await ask(chat, session, FIND)
        assert len(names_in(path)) == 1
    settle(path)


async def test_what_was_asked_with_erased_tools_is_not_asked_again(path):
    """Its messages may be there; the run says what is missing, and goes on with the next."""
    async with chatting(path) as chat:
        session = await asked(chat, LOOK, FIND)
        ((version,),) = query(path, "SELECT min(version) FROM events WHERE type = 'attempt.started'")
        assert (await chat.erase(session, "they asked", versions=[version])).versions == (version,)
        first, second = [each async for each in chat.replay(session, mode="free", model=ECHO)]
    assert (first.verdict, first.new_turn_id, first.reason) == ("skipped", None, "words of what was asked are erased")
    assert (second.verdict, second.reason) == ("same", None)
    settle(path)


async def test_a_policy_takes_what_only_old_attempts_name(path):
    """Retention by age is an erasure like any other: what a newer attempt names stays."""
    clock = ManualClock()
    async with chatting(path, clock=clock) as chat:
        await asked(chat, LOOK, FIND)
        look, find = (each["tools"] for each in facts_in(path, "attempt.started"))
        clock.time_us += 10 * erasing.DAY_US
        await asked(chat, FIND)
        assert [each async for each in chat.retain(5)]
    assert (names_in(path), listed_in(path)) == ({find}, [[look]])
    settle(path)


async def test_each_piece_of_a_long_erasure_lists_what_goes_with_it(path, monkeypatch):
    """The event that takes the last attempt which names a document lists it, and it is listed once."""
    monkeypatch.setattr(erasing, "TARGETS_PER_EVENT", 3)
    async with chatting(path) as chat:
        session = await asked(chat, LOOK, FIND, LOOK)
        look, find, _ = (each["tools"] for each in facts_in(path, "attempt.started"))
        await chat.erase(session, "they asked")
    listed = listed_in(path)
    assert sorted(name for each in listed for name in each) == sorted([look, find])
    positions = {position for (position,) in query(path, "SELECT position FROM events WHERE type = 'attempt.started'")}
    for name, last in ((look, max(positions)), (find, sorted(positions)[1])):
        (event,) = (each for each in facts_in(path, "body.erased") if name in each.get("documents", ()))
        assert last in event["targets"]
    settle(path)


async def test_an_erasure_that_fails_takes_nothing(path):
    """Bodies, documents and what is told of them are one transaction."""
    async with chatting(path) as chat:
        session = await asked(chat, LOOK)
        execute(
            path,
            "CREATE TRIGGER fails BEFORE INSERT ON erased_documents BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        before = dump(path)
        with pytest.raises(engine.EngineError):
            await chat.erase(session, "they asked")
        assert dump(path) == before
        execute(path, "DROP TRIGGER fails")
        await chat.erase(session, "they asked")
        assert names_in(path) == set()
    settle(path)


async def test_a_document_of_an_older_version_stays(path):
    """Its name is a hash of its bytes alone and stands in the log for ever, so it is kept whatever is erased; who names
    equal schemas today names another.
    """
    path.write_bytes(gzip.decompress(PAUSED.read_bytes()))
    old = [facts["tools"] for facts in facts_in(path, "attempt.started") if "tools" in facts]
    assert old
    async with chatting(path, unwitnessed=True) as chat:
        tools = await chat.schemas(old[0])
        new = await asked(chat, tools)
        assert facts_in(path, "attempt.started")[-1]["tools"] not in old
        await chat.erase(new, "they asked")
        assert names_in(path) == {*old}
        for session in (await chat.sessions()).items:
            if session.legal_hold:
                await chat.update_session(session.id, legal_hold=False)
            with suppress(engine.TurnAlreadyOpen):  # the paused one's
                await chat.erase(session.id, "they asked")
        assert await chat.schemas(old[0]) == tools
        data = await exported(chat)
    assert (names_in(path), listed_in(path)[-1]) == ({*old}, [])
    settle(path)
    assert verdict(path.parent, data)[0] == 0
    assert documents_of(opened(data)).keys() == {f"documents/{name}.json" for name in old}
    taken = await asyncio.to_thread(taken_from, data, path.parent / "taken")
    assert dump(taken, ["documents"]) == dump(path, ["documents"])
    settle(taken)


# --- by hand ----------------------------------------------------------------------------------------------------------


def attack(path, *statements):
    """Run statements with the guards away, and put them back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name in GUARDS:
            connection.execute(f"DROP TRIGGER {name}")
        for each in statements:
            assert connection.execute(each).rowcount > 0, each
        for statement in GUARDS.values():
            connection.execute(statement)


DELETED = "DELETE FROM documents"
NOTED = "INSERT INTO erased_documents SELECT tenant, digest, (SELECT max(position) FROM events) FROM documents"
KEPT = "INSERT INTO documents SELECT tenant, digest, bytes, salt, plain FROM kept"


async def test_nobody_deletes_a_document_by_hand(path):
    """The database refuses it; with the guard away it is done and found, by the event that names what is missing, also
    where somebody writes that it was erased.
    """
    async with chatting(path) as chat:
        await asked(chat, LOOK)
    with pytest.raises(sqlite3.IntegrityError, match="documents cannot be deleted"):
        execute(path, DELETED)
    (name,) = names_in(path)
    ((first,),) = query(path, "SELECT position FROM events WHERE type = 'attempt.started'")
    attack(path, DELETED)
    found = engine.verify_database(str(path))
    assert (found.position, name in found.problem) == (first, True)
    async with chatting(path) as chat:
        with pytest.raises(engine.EngineError) as gone:
            await chat.schemas(name)
    assert gone.value.code == "store_corrupt"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ([NOTED, DELETED], "should say so, does not"),
        ([NOTED], "should say so, does not"),
        (["UPDATE documents SET salt = randomblob(16)"], "is missing or another"),
        (["UPDATE documents SET salt = NULL"], "is missing or another"),
        (["UPDATE documents SET plain = randomblob(32)"], "is not what its digest says"),
        (
            ["UPDATE documents SET bytes = CAST(salt || bytes AS BLOB), salt = NULL, plain = NULL"],
            "is missing or another",
        ),
        (
            ["INSERT INTO documents SELECT 'default', x'00', bytes, salt, plain FROM documents"],
            "nothing that is not erased names it",
        ),
    ],
)
async def test_a_document_that_is_not_as_told_is_found(path, change, found):
    """Whatever is made of its row or of what tells of it."""
    async with chatting(path) as chat:
        await asked(chat, LOOK)
    attack(path, *change)
    assert found in engine.verify_database(str(path)).problem


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            "INSERT INTO documents VALUES ('default', (SELECT digest FROM erased_documents), x'5b5d', x'00', x'00')",
            "still",
        ),
        ("DELETE FROM erased_documents", "is missing or another"),
        ("UPDATE erased_documents SET by_position = 1", "should say so, does not"),
        ("INSERT INTO erased_documents VALUES ('default', x'00', 1)", "should say so, does not"),
        ("INSERT INTO erased_documents VALUES ('nobody', x'00', 1)", "should say so, does not"),
    ],
)
async def test_an_erasure_of_a_document_that_is_not_as_told_is_found(path, change, found):
    """The row that tells of it, and that the document is gone, are held against the event."""
    async with chatting(path) as chat:
        await chat.erase(await asked(chat, LOOK), "they asked")
    attack(path, change)
    assert found in engine.verify_database(str(path)).problem


# --- bundles ----------------------------------------------------------------------------------------------------------


async def test_a_bundle_has_what_its_unerased_events_name(path, tmp_path):
    """With the salt before it, so that its hash is its name; what all have erased that name it is left out, also where
    another session's erasure took it. A whole log is taken in again with all of that.
    """
    async with chatting(path) as chat:
        one, other = await asked(chat, LOOK, FIND), await asked(chat, FIND)
        look, find = (each["tools"] for each in facts_in(path, "attempt.started")[:2])
        await chat.erase(one, "they asked")
        halfway = [await exported(chat, session) for session in (one, other, None)]
        await chat.erase(other, "they asked")
        await asked(chat, LOOK)
        ended = [await exported(chat, session) for session in (one, other, None)]
    (again,) = names_in(path)
    held = [{name[10:-5] for name in documents_of(opened(data))} for data in (*halfway, *ended)]
    assert held == [set(), {find}, {find}, set(), set(), {again}]
    assert look not in repr(held)
    for data in (*halfway, *ended):
        for name, document in documents_of(opened(data)).items():
            assert name == f"documents/{hashlib.sha256(document).hexdigest()}.json"
            assert document[16:] in {write_schemas(LOOK), write_schemas(FIND)}
        assert verdict(tmp_path, data)[0] == 0
    taken = await asyncio.to_thread(taken_from, ended[-1], tmp_path / "taken")
    for table in ("documents", "erased_documents", "document_uses"):
        assert dump(taken, [table]) == dump(path, [table])
    settle(taken)
    async with chatting(taken) as chat:
        await ask(chat, one)
        assert names_in(taken) == {again}


def forged(files, change):
    """A whole log's bundle anew, its events changed, and signed by somebody else."""
    events = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    change(events)
    leaves = [verify_bundle.leaf_hash(event) for event in events]
    key = key_of(events[0]["origin"], FORGER)
    text = f"{key.name}\n{len(leaves)}\n{base64.b64encode(merkle.Frontier().extend(leaves).root()).decode()}\n"
    note = {"note": f"{text}\n{signature_line(key.name, key.key_id + FORGER.sign(text.encode()))}"}
    lines = {
        "events.jsonl": map(canonical, events),
        "leaves.txt": (f"{number} {leaf.hex()}" for number, leaf in enumerate(leaves, 1)),
        "keys.txt": [str(key)],
        "checkpoints.jsonl": [canonical(note)],
    }
    new = {name: "".join(f"{line}\n" for line in each).encode() for name, each in lines.items()}
    new |= dict(zip(verify_bundle.TRANSCRIPTS, transcripts(events, whole=True), strict=True))
    return packed(files | new)


async def test_a_bundle_whose_documents_are_not_as_told_is_broken(path):
    """One that is missing, and no erasure lists it; one that is listed, and an event with words names it; one that is
    listed before it is named; one that is listed, and there.
    """
    async with chatting(path) as chat:
        session = await asked(chat, LOOK)
        await chat.erase(session, "they asked")
        await asked(chat, FIND)
        files = opened(await exported(chat))
    gone, kept = (each["tools"] for each in facts_in(path, "attempt.started"))
    (erasure,) = (n for n, line in enumerate(files["events.jsonl"].splitlines()) if b'"body.erased"' in line)

    def list_as(*names):
        return lambda events: events[erasure]["facts"].update(documents=[*names])

    def name_later(events):
        events[-1]["facts"]["documents"] = [gone]
        events[erasure]["facts"]["documents"] = [gone]
        later = next(each for each in events[erasure:] if each["type"] == "attempt.started")
        later["facts"]["tools"] = gone

    verify_bundle.verify(io.BytesIO(forged(files, lambda _: None)), [])
    assert "no erasure lists it" in is_caught(forged(files, list_as()))
    assert "named after all" in is_caught(forged(files, list_as(gone, kept)))
    assert "named after all" in is_caught(forged(files, list_as(gone, "00" * 32)))
    assert "missing or another" in is_caught(forged(files, name_later))
    extra = files | {f"documents/{gone}.json": b"[]"}
    assert "no event names it" in is_caught(forged(extra, lambda _: None))
