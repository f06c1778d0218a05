"""Checkpoints of a running engine: when they are made, where they are kept, and what a database behind them may do."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from manent import engine
from manent.engine.audit.checkpoint_file import OutsideFile
from manent.engine.audit.notes import parse_checkpoint, parse_note, parse_verifier
from manent.engine.errors import Behind, CheckpointNotFound, Invalid, StoreUnavailable
from manent.engine.log import merkle
from manent.engine.log.sql import tree
from manent.engine.log.sql.checkpoints import log_end
from manent.engine.log.sql.tables import events
from manent.engine.log.sqlite.connection import open_writer
from manent.engine.log.sqlite.guards import GUARDS
from tests.support import audit, chatting, execute, query, until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def beside(path, suffix):
    """What lies beside the database."""
    return Path(f"{path}{suffix}")


def outside(path):
    """What the file outside states: origin and size, in order."""
    kept = OutsideFile(beside(path, ".checkpoints")).read()
    return [(each.checkpoint.origin, each.checkpoint.size) for each in kept]


def sizes(path):
    return [size for _, size in outside(path)]


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


async def one_more(path, **settings):
    """Open, append, close: the log's size after it."""
    async with chatting(path, **settings) as chat:
        listed = (await chat.sessions()).items
        session = listed[0].id if listed else (await chat.create_session()).id
        await chat.append_message(session, "one more")
    return query(path, "SELECT size FROM heads")[0][0]


# --- when and where ---------------------------------------------------------------------------------------------------


async def test_a_checkpoint_is_made_at_the_end(path):
    """Closing signs what is new, in the database and outside; opening and closing again, nothing."""
    size = await one_more(path)
    assert sizes(path) == [size]
    async with chatting(path):
        pass
    assert sizes(path) == [size]
    assert query(path, "SELECT size FROM checkpoints") == [(size,)]
    note = parse_note(query(path, "SELECT note FROM checkpoints")[0][0].decode())
    assert parse_checkpoint(note.text).size == size


async def test_a_log_that_has_not_begun_has_none(path):
    """Nothing to sign, nothing to show."""
    async with chatting(path) as chat:
        with pytest.raises(CheckpointNotFound):
            await chat.evidence.checkpoint(new=True)
    assert sizes(path) == []


async def test_a_checkpoint_is_made_on_a_timer_when_there_is_something_new(path):
    """Within the interval after an append; and none while nothing happens."""
    async with chatting(path, checkpoint_every_s=1) as chat:
        session = (await chat.create_session()).id
        await until(lambda: exists(sizes(path) == [1]))
        await asyncio.sleep(1.2)
        assert sizes(path) == [1]
        await chat.append_message(session, "new")
        await until(lambda: exists(sizes(path) == [1, 2]))


async def test_the_first_checkpoint_of_a_log_does_not_wait_for_the_timer(path):
    """Who has just begun can verify what is there within seconds, however long the interval."""
    async with chatting(path, checkpoint_every_s=3600) as chat:
        session = (await chat.create_session()).id
        await until(lambda: exists(sizes(path) == [1]), timeout_s=10)
        await chat.append_message(session, "new")
        await asyncio.sleep(2.5)
        assert sizes(path) == [1]


async def exists(value):
    return value


async def test_a_checkpoint_covers_only_what_was_committed(path):
    """However many append meanwhile, its root is the root of so many committed leaves."""
    async with chatting(path) as chat:
        ids = [(await chat.create_session()).id for _ in range(8)]

        async def append(session):
            for _ in range(20):
                await chat.append_message(session, "word")

        async def sign():
            for _ in range(20):
                await chat.evidence.checkpoint(new=True)

        await asyncio.gather(*map(append, ids), sign())
    leaves = [row[0] for row in query(path, "SELECT leaf_hash FROM events ORDER BY position")]
    kept = list(OutsideFile(beside(path, ".checkpoints")).read())
    assert len(kept) > 3
    for each in kept:
        assert merkle.Frontier().extend(leaves[: each.checkpoint.size]).root() == each.checkpoint.root


async def test_files_may_lie_elsewhere(path, tmp_path):
    """Settings name the file outside and the key."""
    key = tmp_path / "elsewhere.pem"
    key.write_bytes(pem(Ed25519PrivateKey.generate()))
    names = {"checkpoint_file": str(tmp_path / "other" / "checkpoints"), "signing_key_file": str(key)}
    (tmp_path / "other").mkdir()
    size = await one_more(path, **names)
    kept = list(OutsideFile(tmp_path / "other" / "checkpoints").read())
    assert [each.checkpoint.size for each in kept] == [size]
    assert not beside(path, ".checkpoints").exists()
    assert not beside(path, ".key").exists()


async def test_where_the_file_outside_cannot_be_written_nothing_is_signed(path, tmp_path):
    """The log goes on; asking for a checkpoint says why there is none, and none is kept inside either."""
    async with chatting(path, checkpoint_file=str(tmp_path / "no" / "such" / "folder")) as chat:
        session = (await chat.create_session()).id
        with pytest.raises(StoreUnavailable, match="checkpoint file cannot be written"):
            await chat.evidence.checkpoint(new=True)
        await chat.append_message(session, "goes on")
    assert query(path, "SELECT count(*) FROM checkpoints") == [(0,)]


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_the_key_is_its_owners_alone(path):
    """Made at the first start, and used at the next."""
    await one_more(path)
    key = beside(path, ".key")
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    await one_more(path)
    assert key.read_bytes() == before
    assert query(path, "SELECT count(*) FROM verifiers") == [(1,)]


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "another kind", "a folder"])
async def test_a_key_that_is_none_is_refused(path, tmp_path, kind):
    """By the name of the setting; no key is made in its place."""
    key = tmp_path / "key"
    if kind == "a folder":
        key.mkdir()
    elif kind != "missing":
        other = pem(generate_private_key(SECP256R1()))
        key.write_bytes({"empty": b"", "text": b"secret", "another kind": other}[kind])
    with pytest.raises(Invalid) as refused:
        await one_more(path, signing_key_file=str(key))
    assert refused.value.extra["field"] == "signing_key_file"


async def test_checkpoints_of_a_key_no_longer_in_use_are_verified(path):
    """A new key signs what comes; the old one's public half is kept, and both are told."""
    await one_more(path)
    beside(path, ".key").unlink()
    await one_more(path)
    async with chatting(path) as chat:
        keys = [parse_verifier(key) for key in await chat.evidence.keys()]
    notes = [each.note for each in OutsideFile(beside(path, ".checkpoints")).read()]
    assert [[key.signed(note) for key in keys] for note in notes] == [[False, True], [True, False]]
    assert engine.verify_database(path).problem is None


# --- a database that is behind ----------------------------------------------------------------------------------------


@pytest.fixture
def rolled_back(path):
    """A database at an earlier state than its last checkpoint outside; the size it had, and has."""

    async def write():
        small = await one_more(path)
        copy = path.read_bytes()
        large = await one_more(path)
        path.write_bytes(copy)
        return large, small

    return asyncio.run(write())


async def test_a_database_behind_is_read_and_not_written(path, rolled_back):
    """Every write is refused with the reason, also those of a turn; reads and proofs go on; nothing is signed."""
    large, small = rolled_back
    told = []
    async with engine.open(path, notice=told.append) as chat:
        session = (await chat.sessions()).items[0].id
        for write in (chat.append_message(session, "no"), chat.say(session, "no"), chat.create_session()):
            with pytest.raises(Behind, match=f"covers {large}"):
                await write
        with pytest.raises(Behind):
            await chat.evidence.checkpoint(new=True)
        assert not await chat.serving.ready()
        assert len((await chat.messages(session)).items) == 1
        assert (await chat.evidence.inclusion(session, 1)).size == small
    assert any("--accept-break" in line for line in told)
    assert query(path, "SELECT size FROM heads") == [(small,)]
    assert sizes(path) == [small, large]


async def test_an_accepted_break_is_on_record(path, rolled_back):
    """The log goes on under a new name, which is in its leaves, in the database and outside; what was given up is told
    by ``verify``, which finds nothing wrong.
    """
    large, small = rolled_back
    (accepted,) = engine.accept_break(path)
    assert (accepted.from_position, accepted.problem.position) == (small + 1, small + 1)
    size = await one_more(path)
    names = query(path, "SELECT from_position, origin FROM origins ORDER BY from_position")
    assert [position for position, _ in names] == [1, small + 1]
    old, new = (name for _, name in names)
    assert outside(path) == [(old, small), (old, large), (new, small), (new, size)]
    assert accepted.origin == new
    found = engine.verify_database(path)
    assert (found.problem, found.unwitnessed) == (None, ())
    assert "given up" in found.remarks[0]
    async with engine.open_beside(path) as chat:
        session = (await chat.sessions()).items[0].id
        assert new in (await chat.evidence.inclusion(session, size)).leaf
        assert old in (await chat.evidence.inclusion(session, 1)).leaf


async def test_accepting_needs_a_break(path):
    """Where there is none, nothing is done."""
    await one_more(path)
    assert engine.accept_break(path) == []
    assert sizes(path) == [2]


async def test_a_break_that_was_not_told_outside_is_not_accepted(path, rolled_back):
    """Whoever dies between the database and the file outside does it again, under the same name."""
    before = beside(path, ".checkpoints").read_bytes()
    (first,) = engine.accept_break(path)
    beside(path, ".checkpoints").write_bytes(before)
    async with chatting(path) as chat:
        with pytest.raises(Behind):
            await chat.create_session()
    (second,) = engine.accept_break(path)
    assert second.origin == first.origin
    await one_more(path)
    assert engine.verify_database(path).problem is None


async def test_a_database_may_be_rolled_back_twice_to_the_same_place(path, rolled_back):
    """Each break that is accepted gives a name of its own, also where no event stands between two of them."""
    _, small = rolled_back
    (first,) = engine.accept_break(path)
    copy = path.read_bytes()
    await one_more(path)
    path.write_bytes(copy)
    (second,) = engine.accept_break(path)
    assert first.from_position == second.from_position == small + 1
    assert first.origin != second.origin
    assert engine.verify_database(path).problem is None
    size = await one_more(path)
    assert engine.verify_database(path).problem is None
    async with engine.open_beside(path) as chat:
        session = (await chat.sessions()).items[0].id
        assert second.origin in (await chat.evidence.inclusion(session, size)).leaf


@pytest.mark.parametrize("tenant", ["default", "other"])
async def test_keys_that_a_rolled_back_database_has_lost_are_no_alarm(path, tenant):
    """Two keys came after the copy: what the first signed nobody can verify any more, and it is given up. What was
    signed by a key on record, or after the break, still speaks, and must not be changed.
    """
    await one_more(path)
    copy, caller = path.read_bytes(), engine.Caller(tenant)
    for _ in range(2):
        beside(path, ".key").unlink()
        async with chatting(path) as chat:
            await chat.create_session(caller=caller)
    path.write_bytes(copy)
    engine.accept_break(path)
    await one_more(path)
    found = engine.verify_database(path)
    assert found.problem is None
    assert any(remark.startswith(f"{tenant}: ") and "given up" in remark for remark in found.remarks)
    notes = beside(path, ".checkpoints").read_text("utf-8")
    for number in (0, notes.count("\n\nmanent/")):
        lines = notes.split("\n\nmanent/")
        lines[number] = lines[number][:-5] + ("A" if lines[number][-5] != "A" else "B") + lines[number][-4:]
        beside(path, ".checkpoints").write_text("\n\nmanent/".join(lines), "utf-8")
        assert "not signed by a key of the log" in engine.verify_database(path).problem


@pytest.mark.parametrize("starts", [0, 1])
async def test_a_key_that_a_copy_has_lost_is_found_outside(path, starts):
    """A copy with every event comes back that lacks only the newest key: whether the server starts with that key or
    somebody asks for breaks, it is on record again before the next key comes.
    """
    await one_more(path)
    copy = path.read_bytes()
    beside(path, ".key").unlink()
    async with chatting(path) as chat:
        await chat.evidence.checkpoint(new=True)
    path.write_bytes(copy)
    on_record = "SELECT count(*) FROM verifiers"
    assert query(path, on_record) == [(1,)]
    if starts:
        async with chatting(path, checkpoint_every_s=3600):
            assert query(path, on_record) == [(2,)]
    else:
        assert engine.accept_break(path) == []
        assert query(path, on_record) == [(2,)]
    beside(path, ".key").unlink()
    await one_more(path)
    found = engine.verify_database(path)
    assert (found.problem, found.unwitnessed) == (None, ())


async def test_a_database_that_is_gone_is_behind(path):
    """A new file beside the old checkpoints: what it once held is not forgotten by itself."""
    size = await one_more(path)
    path.unlink()
    async with chatting(path) as chat:
        with pytest.raises(Behind, match="has not begun"):
            await chat.create_session()
    (accepted,) = engine.accept_break(path)
    assert accepted.from_position == 1
    assert await one_more(path) == size
    assert engine.verify_database(path).problem is None


async def test_another_history_of_the_same_length_is_not_the_log(path):
    """Rolled back and written on without the file outside: as long as before, and not the same."""
    await one_more(path)
    copy, notes = path.read_bytes(), beside(path, ".checkpoints").read_bytes()
    await one_more(path)
    newer = beside(path, ".checkpoints").read_bytes()
    path.write_bytes(copy)
    beside(path, ".checkpoints").write_bytes(notes)
    await one_more(path)
    beside(path, ".checkpoints").write_bytes(newer)
    async with chatting(path) as chat:
        with pytest.raises(Behind, match="is not the one"):
            await chat.create_session()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("UPDATE heads SET size = size + 1", "should end at"),
        ("UPDATE heads SET frontier = CAST(substr(frontier, 1, 8) || zeroblob(32) AS BLOB)", "tree is not the one"),
        ("UPDATE heads SET frontier = x'00'", "damaged"),
        ("DROP TRIGGER bodies_no_update", "bodies_no_update"),
    ],
)
async def test_an_unsound_database_is_not_written(path, change, says):
    """A head that is not what its events say, and guards that are gone, are seen at the start; accepting mends them."""
    await one_more(path)
    execute(path, change)
    async with chatting(path) as chat:
        with pytest.raises(Behind, match=says):
            await chat.create_session()
    assert engine.accept_break(path)
    await one_more(path)
    assert engine.verify_database(path).problem is None
    assert audit_names(path) == set(GUARDS)


def audit_names(path):
    return {name for (name,) in query(path, "SELECT name FROM sqlite_schema WHERE type = 'trigger'")}


async def test_a_head_that_is_edited_while_the_engine_runs_is_not_signed(path):
    """Somebody changes the tree under the engine: the next checkpoint is refused, and so is every write."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        await chat.evidence.checkpoint(new=True)
        await chat.append_message(session, "more")
        execute(path, "UPDATE heads SET frontier = zeroblob(length(frontier))")
        with pytest.raises(engine.EngineError):
            await chat.evidence.checkpoint(new=True)
        with pytest.raises(engine.EngineError):
            await chat.append_message(session, "no")
    assert sizes(path) == [1]


async def test_a_file_outside_that_is_damaged_is_not_written_on(path):
    """What is no checkpoint in it is named by its number."""
    await one_more(path)
    notes = beside(path, ".checkpoints")
    notes.write_text(notes.read_text().replace("default\n2", "default\nx"))
    async with chatting(path) as chat:
        with pytest.raises(Behind, match="note 1"):
            await chat.create_session()


# --- the tree as it is stored -----------------------------------------------------------------------------------------


def test_tiles_of_two_levels_hold_every_node(path, tmp_path):
    """Over 65,536 leaves: nodes, roots, paths and frontiers are those that are computed from all leaves."""
    asyncio.run(one_more(path))
    leaves = [number.to_bytes(32, "big") for number in range(65_536 + 300)]
    database = open_writer(path)
    with database.begin() as connection:
        rows = [
            ("big", number, b"s", number, number.to_bytes(8, "big"), "t", 1, "a", 1, None, None, b"{}", 0, b"", leaf)
            for number, leaf in enumerate(leaves, 1)
        ]
        values = ", ".join("?" * len(events.c))
        connection.connection.executemany(f"INSERT INTO events VALUES ({values})", rows)
        growing = tree.Growing()
        for before, after in ((0, 1), (1, 300), (300, 65_536), (65_536, len(leaves))):
            growing = tree.Growing.resume(connection, "big", growing.frontier())
            tree.grow(connection, "big", growing, leaves[before:after])
        stored = tree.Tree(connection, "big")
        levels = [leaves]
        while len(levels[-1]) > 1:
            pairs = zip(levels[-1][::2], levels[-1][1::2], strict=False)
            levels.append([merkle.node_hash(left, right) for left, right in pairs])
        for level, nodes in enumerate(levels):
            for index in {0, 1, 2, len(nodes) // 2, 255, 256, len(nodes) - 2, len(nodes) - 1} & set(range(len(nodes))):
                assert stored(level, index) == nodes[index], (level, index)
        for size in (1, 255, 256, 257, 65_535, 65_536, 65_537, len(leaves)):
            assert stored.frontier(size) == merkle.Frontier().extend(leaves[:size])
            assert stored.root(size) == stored.frontier(size).root()
    database.dispose()
    assert query(path, "SELECT level, count(*) FROM tiles WHERE tenant = 'big' GROUP BY level") == [(0, 257), (1, 1)]


async def test_the_head_grows_with_each_append(path):
    """Size and frontier are those of the leaves, in the very transaction."""
    async with chatting(path) as chat:
        session = (await chat.create_session()).id
        for _ in range(5):
            await chat.append_messages(session, [engine.MessageIn("word")] * 90)
            end = await chat._parts.store.read(lambda connection: log_end(connection, "default"))
            rows = await chat._parts.store.read(
                lambda connection: connection.exec_driver_sql("SELECT leaf_hash FROM events ORDER BY position").all()
            )
            assert end.root == merkle.Frontier().extend(row[0] for row in rows).root()
            assert end.size == end.last == len(rows)
    assert query(path, "SELECT number FROM tiles") == [(0,)]
    assert audit(path) == 451


# --- the service's own connections ------------------------------------------------------------------------------------

SCHEMA_CHANGES = (
    "DROP TRIGGER events_no_update",
    "DROP TABLE events",
    "DROP INDEX sessions_by_hour",
    "ALTER TABLE events RENAME TO old",
    "ALTER TABLE events ADD COLUMN x",
    "ATTACH ':memory:' AS other",
    "CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
    "CREATE TEMP TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END",
    "PRAGMA writable_schema = on",
)


@pytest.mark.parametrize("sql", SCHEMA_CHANGES)
async def test_the_service_does_not_change_the_schema(path, sql):
    """Neither the writer nor a reader, whatever a statement says."""
    async with chatting(path) as chat:
        with pytest.raises(engine.StoreError):
            await chat._parts.store.do(lambda tx: tx.connection.exec_driver_sql(sql))
        with pytest.raises(engine.StoreError):
            await chat._parts.store.read(lambda connection: connection.exec_driver_sql(sql))
        await chat.create_session()
    assert audit_names(path) == set(GUARDS)
