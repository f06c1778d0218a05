"""Whatever is done to a file, ``verify`` sees it: by somebody with a shell, a plain connection, and time enough.

The attacker here may drop the guards and make them again, and compute every hash anew; what they lack is the signing
key and the file of checkpoints outside. Each attack is made on a copy, at the first, a middle and the last position
and at seeded ones; ``TAMPER_VARIANTS`` says how many (500 make nine thousand files), and ``TAMPER_SEED`` which. How
many files were verified is printed at the end.
"""

import asyncio
import hashlib
import os
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from manent import engine
from manent.engine.audit.checkpoint_file import OutsideFile
from manent.engine.audit.keys import trusted_keys
from manent.engine.audit.notes import Checkpoint, Signer
from manent.engine.audit.rollback import signed_row
from manent.engine.audit.verify.database import verify_file
from manent.engine.errors import EngineError
from manent.engine.log import codec
from manent.engine.log.base import RequestKey
from manent.engine.log.codec import leaf_of, name_at
from manent.engine.log.merkle import Frontier
from manent.engine.log.rebuild import rebuild_file
from manent.engine.log.sql import reads
from manent.engine.log.sql.checkpoints import keep_checkpoint, log_names
from manent.engine.log.sql.tables import events
from manent.engine.log.sql.tree import Growing, grow
from manent.engine.log.sqlite.connection import PAGE_BYTES, open_writer
from manent.engine.log.sqlite.guards import GUARDS
from manent.engine.sessions.projector import Catalog
from manent.engine.sessions.tables import PROJECTIONS
from tests.support import ManualClock, begin, chatting, dump, execute, query, snapshot

VARIANTS = int(os.environ.get("TAMPER_VARIANTS", "25"))
"""Seeded places for each attack that has a place, and hundreds of flipped bits."""

SEED = os.environ.get("TAMPER_SEED", "")

EVENTS = 1200
WITNESSED = (100, 400, EVENTS)
"""Checkpoints were made, and written outside, when the log had so many events (or a few more)."""

INNER_PAGE = 2
"""Kind of a b-tree page that points to others."""

FILES = Counter()
"""How many files were verified, and what came of it."""


@pytest.fixture(scope="module", autouse=True)
def told(request):
    """Print how many files were verified."""
    FILES.clear()
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        request.config.get_terminal_writer().line(f"\n{FILES.total()} files were verified: {dict(FILES)}")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A folder with a closed database: two logs, turns, an erasure, tiles, checkpoints, and those outside. In ``older``
    beside it are copies of the file from when each checkpoint was made.
    """
    folder, other = tmp_path_factory.mktemp("honest"), engine.Caller("other")
    now, older = folder / "now", folder / "older"
    now.mkdir()
    older.mkdir()

    async def first():
        async with chatting(now / "log.db") as chat:
            await chat.create_session(caller=other, title="another log")
            sessions = [(await chat.create_session(title=str(n), request=asked(n))).id for n in range(5)]
            await chat.say(sessions[0], "Is this on record?", model="echo/echo")
            for tool in ("first", "second", "third"):
                offered = (engine.ToolSchema(tool, "A tool.", {"type": "object", "properties": {}}),)
                await chat.ended(await begin(chat, sessions[0], "Ask.", client_tools=offered, model="echo/echo"))
            return sessions

    async def go_on(sessions, size):
        async with chatting(now / "log.db") as chat:
            while await length(chat) < size:
                for session in sessions:
                    await chat.append_messages(session, [engine.MessageIn("word " * 9)] * 6)
            if size == WITNESSED[1]:
                await chat.erase(sessions[1], "by request", versions=[3, 4])
            await chat.say((await chat.sessions(caller=other)).items[0].id, "words", caller=other, model="echo/echo")

    sessions = asyncio.run(first())
    for size in WITNESSED:
        asyncio.run(go_on(sessions, size))
        shutil.copy(now / "log.db", older / f"{size}.db")
    return now


def asked(number):
    """An idempotent request."""
    return RequestKey("local", "POST /api/sessions", f"key {number}", b"{}")


async def length(chat):
    return await chat._parts.store.read(lambda connection: reads.log_size(connection, "default"))


@pytest.fixture(scope="module")
def left_open(honest, tmp_path_factory):
    """As ``honest``, and then a server was killed while a turn ran and a purge was due."""
    path = copy_of(honest, tmp_path_factory.mktemp("left_open"))
    left = path.with_name("left.db")

    async def leave():
        async with chatting(path) as chat:
            session = (await chat.sessions()).items[0].id
            await chat.append_message(session, "word " * 40)
            turn = await begin(chat, session, model="echo/paced")
            frames = 0
            async for batch in chat.frames(turn):
                frames += len(batch)
                if frames > 20:
                    break
            snapshot(path, left)
            await chat.cancel(turn)

    asyncio.run(leave())
    left.replace(path)
    execute(path, "INSERT INTO purges SELECT tenant, by_position FROM erasures LIMIT 1")
    return path.parent


@pytest.fixture(scope="module")
def size(honest):
    return query(honest / "log.db", "SELECT size FROM heads WHERE tenant = 'default'")[0][0]


@pytest.fixture
def path(honest, tmp_path):
    """A copy to be attacked, with what lies beside it."""
    return copy_of(honest, tmp_path / "copy")


def copy_of(folder, to):
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to / "log.db"


def verified(path):
    """What ``verify`` finds in a file, by the key and the checkpoints that lie beside it."""
    outside = OutsideFile(Path(f"{path}.checkpoints"))
    trusted = trusted_keys(path, None, None)
    found = verify_file(path, Catalog(), PROJECTIONS, outside, trusted, lambda *_: None)
    FILES["broken" if found.problem else "sound"] += 1
    return found


def attack(path, *statements):
    """Run statements (or pairs of statement and values) with the guards away, and put them back; each must do
    something.
    """
    counts = force(path, *statements)
    assert all(counts), statements


def force(path, *statements):
    """As ``attack``; how many rows each statement changed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for name in GUARDS:
            connection.execute(f"DROP TRIGGER {name}")
        pairs = (each if isinstance(each, tuple) else (each, ()) for each in statements)
        counts = [connection.execute(sql, values).rowcount for sql, values in pairs]
        for sql in GUARDS.values():
            connection.execute(sql)
        connection.execute("COMMIT")
    return counts


def rehash(path, tenant="default"):
    """Compute everything that anybody without the key can compute: commitments, leaves, the tree, the head."""
    database = open_writer(path, may_change_schema=True)
    with database.begin() as connection:
        for name in GUARDS:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        names, leaves = log_names(connection, tenant), []
        rows = connection.exec_driver_sql("SELECT position, salt, bytes FROM bodies WHERE tenant = ?", (tenant,)).all()
        bodies = {position: (salt, body) for position, salt, body in rows}
        for event in reads.log_events(connection, tenant, limit=1 << 40):
            made = event
            if event.position in bodies:
                salt, body = bodies[event.position]
                made = msgspec.structs.replace(event, commitment=codec.commitment(salt, body), length=len(body))
            leaves.append(codec.leaf_hash(leaf_of(made, name_at(names, event.position))))
            values = (made.commitment, made.length, leaves[-1], tenant, event.position)
            sql = "UPDATE events SET commitment = ?, length = ?, leaf_hash = ? WHERE tenant = ? AND position = ?"
            connection.exec_driver_sql(sql, values)
        connection.exec_driver_sql("DELETE FROM tiles WHERE tenant = ?", (tenant,))
        grow(connection, tenant, Growing(), leaves)
        sql = (
            "UPDATE heads SET size = ?, frontier = ?, recorded_at = (SELECT max(recorded_at) FROM events e "
            "WHERE e.tenant = heads.tenant) WHERE tenant = ?"
        )
        connection.exec_driver_sql(sql, (len(leaves), Frontier().extend(leaves).to_bytes(), tenant))
        for sql in GUARDS.values():
            connection.exec_driver_sql(sql)
    database.dispose()
    rebuild_file(path, Catalog(), PROJECTIONS, lambda *_: None)


def seeded(seed):
    return random.Random(f"{seed} {SEED}")


def places(size, seed):
    """The first, a middle and the last position, and seeded ones."""
    chance = seeded(seed)
    return [1, size // 2, size, *(chance.randint(1, size) for _ in range(VARIANTS // 5))]


def attacked(honest, tmp_path, size, seed, make, expect=lambda position: position):
    """Make an attack at many places, each on a fresh copy, and see that the place is named."""
    for number, position in enumerate(places(size, seed)):
        path = copy_of(honest, tmp_path / f"{number}")
        make(path, position)
        found = verified(path)
        wanted = expect(position)
        wanted = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        assert found.problem, f"nothing found at {position}"
        assert found.position is not None, found.problem
        assert wanted[0] <= found.position <= wanted[1], (position, found.problem)
        shutil.rmtree(path.parent)


# --- honest files -----------------------------------------------------------------------------------------------------


def test_an_honest_file_is_verified(path, size):
    """Nothing is wrong, everything is counted, and all of it is witnessed."""
    found = verified(path)
    assert found.problem is None
    assert (found.events, found.erased) == (query(path, "SELECT sum(size) FROM heads")[0][0], 2)
    assert found.unwitnessed == ()
    assert found.remarks == ()


def test_verifying_changes_nothing(path):
    """Neither the file nor what lies beside it."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if "-" not in file.name}
    assert verified(path).problem is None
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if "-" not in file.name} == before


def test_what_no_checkpoint_outside_covers_is_said(path, size):
    """*Unwitnessed since N*: what came after the last checkpoint, and all of it where there is none."""
    outside = Path(f"{path}.checkpoints")
    before = outside.read_bytes()
    go_on(path)
    outside.write_bytes(before)
    found = verified(path)
    assert found.problem is None
    assert [(each.tenant, each.since, each.size) for each in found.unwitnessed] == [("default", size + 1, size + 1)]
    outside.unlink()
    found = verified(path)
    assert {(each.tenant, each.since) for each in found.unwitnessed} == {("default", 1), ("other", 1)}
    assert len(found.remarks) == 2


def test_a_note_that_was_cut_off_while_it_was_written_is_passed_over(path, size):
    """Power fails: the beginning of a note is no evidence, and no alarm; the next one is written in its place."""
    outside = Path(f"{path}.checkpoints")
    whole = outside.read_bytes()
    kept = len(list(OutsideFile(outside).read()))
    note = whole[whole.rindex(b"manent/", 0, whole.rindex(b"\xe2")) :]
    for length in range(len(note)):
        outside.write_bytes(whole + note[:length])
        assert len(list(OutsideFile(outside).read())) == kept > len(WITNESSED)
    go_on(path)
    assert verified(path).problem is None
    assert outside.read_bytes().startswith(whole)


def go_on(path):
    """One more event, and a checkpoint of it."""

    async def append():
        async with chatting(path) as chat:
            await chat.append_message((await chat.sessions()).items[0].id, "one more")

    asyncio.run(append())


# --- events -----------------------------------------------------------------------------------------------------------

CHANGES = {
    "session": "session = randomblob(16)",
    "version": "version = version + 10000",
    "id": "id = randomblob(16)",
    "type": "type = type || 'x'",
    "schema": "schema = schema + 1",
    "actor": "actor = 'key:mallory'",
    "recorded_at": "recorded_at = recorded_at - 1",
    "causation": "causation = CASE WHEN causation IS NULL THEN randomblob(16) END",
    "correlation": "correlation = CASE WHEN correlation IS NULL THEN 'request' END",
    "facts": "facts = CAST('{\"a\":1,' || substr(CAST(facts AS TEXT), 2) AS BLOB)",
    "length": "length = length + 1",
    "commitment": "commitment = randomblob(32)",
    "leaf_hash": "leaf_hash = randomblob(32)",
    "position": "position = position + 100000",
    "tenant": "tenant = 'other', position = position + 100000, version = version + 10000",
}


def test_every_column_is_attacked():
    """A column that is added to events is added here, too."""
    assert set(CHANGES) == set(events.c.keys())


@pytest.mark.parametrize("column", CHANGES)
def test_a_changed_column_is_found_at_its_position(honest, tmp_path, size, column):
    """Whatever one can query by is in the leaf."""
    sql = f"UPDATE events SET {CHANGES[column]} WHERE tenant = 'default' AND position = ?"
    attacked(honest, tmp_path, size, column, lambda path, position: attack(path, (sql, (position,))))


def test_a_changed_role_is_found_at_its_position(honest, tmp_path, size):
    """Who said it: what a user asked becomes what the model answered."""
    user, assistant = '"role":"user"', '"role":"assistant"'
    sql = f"UPDATE events SET facts = CAST(replace(CAST(facts AS TEXT), '{user}', '{assistant}') AS BLOB) "

    def change(path, position):
        found[position] = said_by_user(path, position)
        attack(path, (sql + "WHERE tenant = 'default' AND position = ?", (found[position],)))

    found = {}
    attacked(honest, tmp_path, size, "role", change, found.__getitem__)


def said_by_user(path, position):
    """The position of the next message of a user, or of the last one."""
    sql = "SELECT {} FROM messages WHERE tenant = 'default' AND role = 'user' AND position >= ?"
    after = query(path, sql.format("min(position)"), (position,))[0][0]
    return after or query(path, sql.format("max(position)"), (0,))[0][0]


@pytest.mark.parametrize(
    "change",
    [
        "bytes = CAST(bytes || x'20' AS BLOB)",
        "bytes = x''",
        "bytes = CAST('{}' AS BLOB)",
        "bytes = CAST(replace(CAST(bytes AS TEXT), 'o', 'a') AS BLOB)",
        "salt = randomblob(16)",
        "encoding = 1",
    ],
)
def test_changed_words_are_found_at_their_position(honest, tmp_path, size, change):
    """Text, salt, or how they are said to be stored."""

    def change_body(path, position):
        found[position] = body_at(path, position)
        attack(path, (f"UPDATE bodies SET {change} WHERE tenant = 'default' AND position = ?", (found[position],)))

    found = {}
    attacked(honest, tmp_path, size, change, change_body, found.__getitem__)


def body_at(path, position):
    """The position of the next message that has words, or of the last one."""
    sql = (
        "SELECT min(position), max(position) FROM bodies JOIN messages USING (tenant, position) "
        "WHERE tenant = 'default' AND CAST(bytes AS TEXT) LIKE '%wor%' AND (position >= ? OR ?)"
    )
    ((after, _),) = query(path, sql, (position, False))
    return after or query(path, sql, (position, True))[0][1]


DELETE = "DELETE FROM events WHERE tenant = 'default' AND position = ?"
DELETE_BODY = "DELETE FROM bodies WHERE tenant = 'default' AND position = ?"


def test_a_deleted_event_is_found(honest, tmp_path, size):
    """The first one, one between and the last one: the position that is missing."""
    attacked(honest, tmp_path, size, "deleted", lambda path, position: attack(path, (DELETE, (position,))))


def test_deleted_words_are_found(honest, tmp_path, size):
    """Words may go only by an erasure."""

    def delete(path, position):
        found[position] = body_at(path, position)
        attack(path, (DELETE_BODY, (found[position],)))

    found = {}
    attacked(honest, tmp_path, size, "deleted words", delete, found.__getitem__)


def test_an_erasure_that_no_event_tells_of_is_found(honest, tmp_path, size):
    """The body is gone and a row says it was erased, but the log does not."""

    def erase(path, position):
        found[position] = body_at(path, position)
        execute(path, "INSERT INTO erasures VALUES ('default', ?, ?)", (found[position], size))
        execute(path, DELETE_BODY, (found[position],))

    found = {}
    attacked(honest, tmp_path, size, "unsaid", erase, found.__getitem__)


def shift(path, after, by):
    """Move the positions of all later events, far away first, for two may not meet."""
    far = 1_000_000
    moves = ((after, far), (far, by - far))
    force(
        path,
        *(
            f"UPDATE {table} SET position = position + {step} WHERE tenant = 'default' AND position > {first}"
            for table in ("events", "bodies", "erasures")
            for first, step in moves
        ),
    )


INSERT = (
    "INSERT INTO events SELECT tenant, ?, session, (SELECT max(version) FROM events WHERE session = e.session) + 1, "
    "randomblob(16), type, schema, actor, recorded_at, causation, correlation, facts, length, commitment, leaf_hash "
    "FROM events e WHERE tenant = 'default' AND position = ?"
)
INSERT_BODY = (
    "INSERT INTO bodies SELECT tenant, ?, salt, encoding, bytes FROM bodies WHERE tenant = 'default' AND position = ?"
)


def test_an_inserted_event_is_found(honest, tmp_path, size):
    """A copy of another in front of it, and all behind moved up."""

    def insert(path, position):
        shift(path, position - 1, 1)
        force(path, (INSERT, (position, position + 1)), (INSERT_BODY, (position, position + 1)))

    attacked(honest, tmp_path, size, "inserted", insert)


def test_an_event_taken_out_without_a_gap_is_found(honest, tmp_path, size):
    """All behind moved down; at the end, the head tells."""

    def take_out(path, position):
        force(path, (DELETE, (position,)), (DELETE_BODY, (position,)))
        shift(path, position, -1)

    attacked(honest, tmp_path, size, "taken out", take_out)


def test_an_appended_event_is_found(path, size):
    """Behind the end that the head names."""
    attack(path, (INSERT, (size + 1, size)), (INSERT_BODY, (size + 1, size)))
    assert verified(path).position == size + 1


def test_swapped_events_are_found(honest, tmp_path, size):
    """Two neighbours in each other's place."""

    def swap(path, position):
        first = min(position, size - 1)
        moves = ((first, -1), (first + 1, first), (-1, first + 1))
        force(
            path,
            *(
                f"UPDATE {table} SET position = {to} WHERE tenant = 'default' AND position = {old}"
                for table in ("events", "bodies")
                for old, to in moves
            ),
        )

    attacked(honest, tmp_path, size, "swapped", swap, lambda position: min(position, size - 1))


def test_a_duplicated_event_is_found(honest, tmp_path, size):
    """The words and envelope of one in the place of another."""

    def duplicate(path, position):
        source = position - 1 if position > 1 else 2
        columns = ("type", "schema", "actor", "causation", "correlation", "facts", "length", "commitment", "leaf_hash")
        other = f"FROM events o WHERE o.tenant = 'default' AND o.position = {source}"
        sets = ", ".join(f"{name} = (SELECT {name} {other})" for name in columns)
        attack(path, f"UPDATE events SET {sets} WHERE tenant = 'default' AND position = {position}")

    attacked(honest, tmp_path, size, "duplicated", duplicate)


def test_an_event_moved_to_another_session_is_found(honest, tmp_path, size):
    """With the next version there."""

    def move(path, position):
        attack(
            path,
            "UPDATE events SET session = (SELECT session FROM events o WHERE o.tenant = 'default' AND "
            "o.session <> events.session LIMIT 1), version = 20000 WHERE tenant = 'default' AND position = "
            f"{position}",
        )

    attacked(honest, tmp_path, size, "moved", move)


# --- with all hashes computed anew ------------------------------------------------------------------------------------


def range_of(position, marks):
    """Where an attack is seen whose every hash is right: behind the last checkpoint before, up to the place."""
    return max((mark + 1 for mark in marks if mark < position), default=1), position


@pytest.fixture(scope="module")
def marks(honest):
    return sorted(row[0] for row in query(honest / "log.db", "SELECT size FROM checkpoints WHERE tenant = 'default'"))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET actor = 'key:mallory' WHERE tenant = 'default' AND position = ?",
        "UPDATE events SET recorded_at = recorded_at WHERE tenant = 'default' AND position = ? AND (facts = facts)",
    ],
    ids=["a column", "nothing"],
)
def test_a_change_with_everything_hashed_anew_is_found(honest, tmp_path, size, marks, change):
    """The checkpoints still state another root; where nothing was changed, nothing is found."""
    for number, position in enumerate(places(size, "anew")):
        path = copy_of(honest, tmp_path / f"{number}")
        attack(path, (change, (position,)))
        rehash(path)
        found = verified(path)
        if "mallory" in change:
            first, last = range_of(position, marks)
            assert first <= found.position <= last, found.problem
        else:
            assert found.problem is None
        shutil.rmtree(path.parent)


def test_changed_words_with_everything_hashed_anew_are_found(honest, tmp_path, size, marks):
    """As above, for words: commitments are hashes that anybody can make."""
    sql = "UPDATE bodies SET bytes = CAST(replace(CAST(bytes AS TEXT), 'wor', 'war') AS BLOB) WHERE position = ?"
    for number, position in enumerate(places(size, "words anew")):
        path = copy_of(honest, tmp_path / f"{number}")
        found = body_at(path, position)
        attack(path, (f"{sql} AND tenant = 'default'", (found,)))
        rehash(path)
        first, last = range_of(found, marks)
        assert first <= (verified(path).position or 0) <= last
        shutil.rmtree(path.parent)


def cut(path, keep):
    """Cut the tail off, and make all the rest as if it had never been there."""
    rows = ("events WHERE position", "bodies WHERE position", "erasures WHERE position", "checkpoints WHERE size")
    force(path, *(f"DELETE FROM {each} > {keep} AND tenant = 'default'" for each in rows))
    rehash(path)


def test_a_cut_off_tail_is_found(honest, tmp_path, size):
    """However clean the cut: the checkpoint outside covers more."""
    for number, keep in enumerate([256, *places(size - 1, "tail")]):
        path = copy_of(honest, tmp_path / f"{number}")
        cut(path, keep)
        found = verified(path)
        assert found.position == keep + 1
        assert str(size) in found.problem
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("older", WITNESSED)
def test_a_database_rolled_back_is_found(honest, path, size, older):
    """An older copy of the file, in every way sound: of its beginning, of its middle, and of a moment ago."""
    go_on(path)
    assert verified(path).problem is None
    shutil.copy(honest.parent / "older" / f"{older}.db", path)
    found = verified(path)
    ((was,),) = query(path, "SELECT size FROM heads WHERE tenant = 'default'")
    assert was <= size
    assert found.position == was + 1
    assert f"covers {size + 1}" in found.problem


def test_a_name_that_nobody_signed_for_is_no_break(path, size):
    """A tail cut off under cover of a new name: whoever accepts a break has the key."""
    cut(path, size - 5)
    execute(path, "INSERT INTO origins VALUES ('default', ?, 'manent/forged/default')", (size - 4,))
    assert verified(path).problem


# --- what stands around the events ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GUARDS)
def test_a_dropped_guard_is_found(path, name):
    """By its name."""
    execute(path, f"DROP TRIGGER {name}")
    assert name in verified(path).problem


@pytest.mark.parametrize(
    "change",
    [
        "size = size + 1",
        "size = size - 1",
        "recorded_at = recorded_at + 1",
        "frontier = zeroblob(length(frontier))",
        "frontier = x''",
    ],
)
def test_an_edited_head_is_found(path, size, change):
    """Size, time and frontier follow from the events."""
    assert execute(path, f"UPDATE heads SET {change} WHERE tenant = 'default'")
    found = verified(path)
    assert found.tenant == "default"
    assert abs(found.position - size) <= 1


def test_a_head_that_is_gone_is_found(path):
    """A log without a head."""
    execute(path, "DELETE FROM heads WHERE tenant = 'default'")
    assert verified(path).position == 1


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tiles SET root = randomblob(32) WHERE {}",
        "UPDATE tiles SET inner = CAST(substr(inner, 1, 999) || zeroblob(8) || substr(inner, 1008) AS BLOB) WHERE {}",
        "UPDATE tiles SET inner = x'' WHERE {}",
        "DELETE FROM tiles WHERE {}",
        "UPDATE tiles SET number = number + 50 WHERE {}",
    ],
)
def test_an_edited_tile_is_found(path, number, change):
    """By the first position that it spans."""
    change = change.replace("inner", '"inner"')
    attack(path, change.format(f"tenant = 'default' AND level = 0 AND number = {number}"))
    assert verified(path).position == number * 256 + 1


def test_a_byte_of_a_tile_is_found(honest, tmp_path):
    """Whichever it is, of the root or of a node below it: the first, one between, and the last."""
    chance, path = seeded("tile"), copy_of(honest, tmp_path / "tile")
    lengths = {"root": 32, "inner": 254 * 32}
    ends = [
        (number, column, byte) for number in range(3) for column, length in lengths.items() for byte in (0, length - 1)
    ]
    for number, column, byte in [*ends, *(any_byte(chance, lengths) for _ in range(VARIANTS // 2))]:
        key = f"tenant = 'default' AND level = 0 AND number = {number}"
        ((before,),) = query(path, f'SELECT "{column}" FROM tiles WHERE {key}')
        after = before[:byte] + bytes([before[byte] ^ (1 << chance.randrange(8))]) + before[byte + 1 :]
        attack(path, (f'UPDATE tiles SET "{column}" = ? WHERE {key}', (after,)))
        assert verified(path).position == number * 256 + 1
        attack(path, (f'UPDATE tiles SET "{column}" = ? WHERE {key}', (before,)))
    assert verified(path).problem is None


def any_byte(chance, lengths):
    column = chance.choice(list(lengths))
    return chance.randrange(3), column, chance.randrange(lengths[column])


def test_a_tile_too_many_is_found(path):
    """One that spans nothing."""
    execute(path, 'INSERT INTO tiles SELECT tenant, 1, 0, root, "inner" FROM tiles WHERE number = 0')
    assert "no events are under" in verified(path).problem


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize(
    "change",
    [
        "root = randomblob(32)",
        "size = size + 1",
        "origin = origin || 'x'",
        "key_id = x'00000000'",
        "note = CAST(replace(CAST(note AS TEXT), char(10) || size, char(10) || (size + 1)) AS BLOB)",
        (
            "note = CAST(substr(CAST(note AS TEXT), 1, length(CAST(note AS TEXT)) - 3) || CASE "
            "substr(CAST(note AS TEXT), -3, 1) WHEN 'A' THEN 'E' ELSE 'A' END || '=' || char(10) AS BLOB)"
        ),
        "note = x''",
    ],
)
def test_an_edited_checkpoint_is_found(path, marks, place, change):
    """Its columns, its text, or its signature."""
    size = marks[{"first": 0, "middle": len(marks) // 2, "last": -1}[place]]
    where = f"tenant = 'default' AND size = {size}"
    attack(path, f"UPDATE checkpoints SET {change} WHERE {where}")
    found = verified(path)
    assert "checkpoint" in found.problem
    assert found.position in {size, size + 1}


def forged(path, key, *, root=None, size=50):
    """A checkpoint by another key, and the key among those of the log."""
    database = open_writer(path)
    with database.begin() as connection:
        origin = log_names(connection, "default")[-1][1]
        checkpoint = Checkpoint(origin, size, root or hashlib.sha256(b"").digest())
        keep_checkpoint(connection, signed_row("default", checkpoint, key.sign(checkpoint), ManualClock()), key.public)
    database.dispose()


def test_a_character_of_a_checkpoint_is_found(honest, tmp_path, marks):
    """Whichever it is, of any checkpoint."""
    chance, path = seeded("note"), copy_of(honest, tmp_path / "note")
    for number in range(VARIANTS):
        size = marks[number % len(marks)]
        key = f"tenant = 'default' AND size = {size}"
        ((before,),) = query(path, f"SELECT note FROM checkpoints WHERE {key}")
        place = chance.randrange(len(before))
        after = before[:place] + bytes([before[place] ^ (1 << chance.randrange(8))]) + before[place + 1 :]
        attack(path, (f"UPDATE checkpoints SET note = ? WHERE {key}", (after,)))
        found = verified(path)
        assert found.problem, (before[place : place + 1], after[place : place + 1])
        assert found.position in {size, size + 1}, found.problem
        attack(path, (f"UPDATE checkpoints SET note = ? WHERE {key}", (before,)))
    assert verified(path).problem is None


def test_a_forged_checkpoint_is_found(honest, tmp_path, size):
    """Of a root that the log never had, by whatever key."""
    mine = Signer(Ed25519PrivateKey.generate())
    for number, covered in enumerate(places(size, "forged")):
        path = copy_of(honest, tmp_path / f"{number}")
        forged(path, mine, size=covered)
        found = verified(path)
        assert found.position is not None
        assert found.position <= covered, found.problem
        shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM verifiers WHERE {}",
        "UPDATE verifiers SET origin = origin || 'x' WHERE {}",
        "UPDATE verifiers SET public = randomblob(32) WHERE {}",
        "UPDATE verifiers SET since_size = since_size + 1 WHERE {}",
        "UPDATE verifiers SET tenant = 'nobody' WHERE {}",
        "INSERT INTO verifiers SELECT tenant, origin, randomblob(32), 1 FROM verifiers WHERE {}",
    ],
)
@pytest.mark.parametrize("tenant", ["default", "other"])
def test_an_edited_key_is_found(path, tenant, change):
    """The keys on record are those that signed, though the one in use need not be looked up."""
    attack(path, change.format(f"tenant = '{tenant}'"))
    assert "keys" in verified(path).problem


def test_a_checkpoint_by_an_unknown_key_is_found(path):
    """Even of a root that the log had, if the key is not among its own."""
    mine = Signer(Ed25519PrivateKey.generate())
    forged(path, mine)
    attack(path, ("DELETE FROM verifiers WHERE public = ?", (mine.public,)))
    assert "not signed by a key of the log" in verified(path).problem


@pytest.mark.parametrize("number", range(len(WITNESSED) + 1))
def test_a_checkpoint_of_another_log_is_found(path, number):
    """Replayed: signed by the right key, for another log."""
    attack(
        path,
        "INSERT INTO checkpoints SELECT 'default', origin, size, key_id, root, made_at, note, checksum "
        "FROM checkpoints "
        f"WHERE tenant = 'other' ORDER BY size LIMIT 1 OFFSET {number}",
    )
    assert "of another log" in verified(path).problem


def test_a_checkpoint_of_another_log_under_the_name_of_this_one_is_found(path, marks):
    """Replayed with its columns as they should be: the name in what was signed is another."""
    attack(
        path,
        "UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE tenant = 'other' LIMIT 1) "
        f"WHERE tenant = 'default' AND size = {marks[0]}",
    )
    assert verified(path).position == marks[0]


def test_an_edited_checkpoint_outside_is_found(honest, tmp_path):
    """Whatever character of the file is another: it is no longer signed, or no longer a checkpoint."""
    chance = seeded("outside")
    text = (honest / "log.db.checkpoints").read_bytes()
    last_end = len(text) - 2
    for number in range(VARIANTS):
        path = copy_of(honest, tmp_path / f"{number}")
        place = chance.randrange(last_end)
        changed = text[:place] + bytes([text[place] ^ (1 << chance.randrange(7))]) + text[place + 1 :]
        Path(f"{path}.checkpoints").write_bytes(changed)
        assert verified(path).problem, (place, text[place : place + 1], changed[place : place + 1])
        shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE messages SET role = 'system' WHERE position = (SELECT max(position) FROM messages)",
        "UPDATE sessions SET status = 'archived' WHERE session = (SELECT min(session) FROM sessions)",
        "UPDATE session_words SET title = 'another' WHERE title = '3'",
        "DELETE FROM messages WHERE position = (SELECT min(position) FROM messages)",
        "DELETE FROM turns",
        "UPDATE calibrations SET samples = samples + 1",
        "DELETE FROM document_uses WHERE position = (SELECT max(position) FROM document_uses)",
        "INSERT INTO document_uses SELECT tenant, digest, 99999 FROM document_uses LIMIT 1",
        "UPDATE places SET position = 1 WHERE position = (SELECT max(position) FROM places)",
        "UPDATE places SET version = version + 100000 WHERE position = (SELECT min(position) FROM places)",
        "DELETE FROM places WHERE position = (SELECT max(position) FROM places)",
        "INSERT INTO places SELECT tenant, session, version + 100000, position FROM places LIMIT 1",
        "INSERT INTO messages SELECT tenant, 99999, session, version, role, 0, 0, 0, 0, 0 FROM messages LIMIT 1",
    ],
)
def test_a_projection_that_is_not_what_the_log_says_is_found(path, change):
    """Whatever is derived is derived again and compared; ``rebuild`` mends it."""
    assert execute(path, change), "there is no such row"
    assert "manent rebuild" in verified(path).problem
    rebuild_file(path, Catalog(), PROJECTIONS, lambda *_: None)
    assert verified(path).problem is None


DOCUMENTS = "(SELECT digest FROM documents ORDER BY digest LIMIT 1 OFFSET {})"


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM documents WHERE digest = {}",
        "UPDATE documents SET bytes = CAST(bytes || ' ' AS BLOB) WHERE digest = {}",
        "UPDATE documents SET digest = randomblob(32) WHERE digest = {}",
        "UPDATE documents SET tenant = 'other' WHERE digest = {}",
    ],
)
def test_a_document_that_is_missing_or_another_is_found(path, number, change):
    """By the first position that names it."""
    which = DOCUMENTS.format(number)
    ((digest,),) = query(path, f"SELECT lower(hex(digest)) FROM documents WHERE digest = {which}")
    ((first,),) = query(path, "SELECT min(position) FROM events WHERE instr(facts, CAST(? AS BLOB))", (digest,))
    attack(path, change.format(which))
    found = verified(path)
    assert (found.tenant, found.position) == ("default", first), found.problem
    assert digest in found.problem


# --- bits -------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found(honest, tmp_path):
    """Anywhere in the file: either it is found, or every row of every table is as it was."""
    path = copy_of(honest, tmp_path / "bits")
    chance, pages = seeded("bits"), path.stat().st_size
    places = [chance.randrange(100, pages) for _ in range(VARIANTS * 6)]
    assert caught(path, places, chance) > VARIANTS * 3


@pytest.mark.parametrize("table", ["requests", "checkpoints", "runs", "journal", "purges"])
def test_a_flipped_bit_of_what_no_hash_covers_is_found(left_open, tmp_path, table):
    """In the pages of these tables, where a server was killed while a turn ran and a purge was due."""
    path = copy_of(left_open, tmp_path / "bits")
    chance, places = seeded(f"bits of {table}"), []
    for number, start in pages_of(path, table):
        places += [number * PAGE_BYTES + chance.randrange(start, PAGE_BYTES) for _ in range(VARIANTS)]
    assert caught(path, places, chance) > 0


def caught(path, places, chance):
    """How many flipped bits at these places of a file are found; where one is not, nothing has changed."""
    original, before, found = path.read_bytes(), dump(path), 0
    for place in places:
        bit = 1 << chance.randrange(8)
        path.write_bytes(original[:place] + bytes([original[place] ^ bit]) + original[place + 1 :])
        if problem(path):
            found += 1
        else:
            assert dump(path, before) == before, f"bit {bit} of byte {place}"
    return found


def pages_of(path, table):
    """The pages of a table with rows: from 0, and where the cells of each begin."""
    (root,) = query(path, f"SELECT rootpage FROM sqlite_schema WHERE name = '{table}'")[0]
    data, found = path.read_bytes(), []
    waiting = [root - 1]
    while waiting:
        number = waiting.pop()
        page = data[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
        cells = int.from_bytes(page[5:7], "big")
        found.append((number, cells))
        if page[0] == INNER_PAGE:
            count = int.from_bytes(page[3:5], "big")
            pointers = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n], "big") for n in range(count)]
            waiting += [int.from_bytes(page[at : at + 4], "big") - 1 for at in pointers]
            waiting.append(int.from_bytes(page[8:12], "big") - 1)
    return found


def problem(path):
    """What is wrong with a file, by ``verify`` or by its not being a database any more."""
    try:
        return verified(path).problem
    except EngineError as error:
        FILES["broken"] += 1
        return error.detail


def test_a_flipped_bit_of_the_log_ahead_is_found(honest, tmp_path):
    """In what is committed and not yet in the file: found, or every row that a checkpoint outside speaks for is there
    all the same.
    """
    path = copy_of(honest, tmp_path / "live")
    parts, wal = {}, Path(f"{path}-wal")

    async def write():
        async with chatting(path) as chat:
            session = (await chat.sessions()).items[0].id
            await chat.append_messages(session, [engine.MessageIn("in the log ahead")] * 40, request=asked("ahead"))
            await chat.evidence.checkpoint(new=True)
            parts.update(await asyncio.to_thread(lambda: {"file": path.read_bytes(), "wal": wal.read_bytes()}))

    asyncio.run(write())
    chance, data, before = seeded("ahead"), parts["wal"], dump(path)
    tables = before.keys() - {"checkpoints", "verifiers"}  # written down after what they speak for
    for _ in range(VARIANTS * 3):
        path.write_bytes(parts["file"])
        Path(f"{path}-shm").unlink(missing_ok=True)
        place, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
        wal.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        if not problem(path):
            assert dump(path, tables) == {name: before[name] for name in tables}, f"bit {bit} of byte {place}"
