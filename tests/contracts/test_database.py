"""The database file itself: the guards that stand in it, its schema and revision, whose it is and who may have it.

Most of this is done from outside, by a plain connection: the file must defend itself against everybody.
"""

import asyncio
import fcntl
import gzip
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from manent import engine
from manent.engine.audit.secret import secret_of
from manent.engine.clock import new_id
from manent.engine.errors import (
    EngineError,
    Invalid,
    StoreForeign,
    StoreLocked,
    StoreNewer,
    StoreOlder,
    StoreUnavailable,
)
from manent.engine.log.base import AnyVersion, RequestKey
from manent.engine.log.sql.tables import GUARDED
from manent.engine.log.sql.tables import metadata as all_tables
from manent.engine.log.sql.tables import metadata as log_tables
from manent.engine.log.sqlite.connection import APPLICATION_ID, WRITER_PRAGMAS, database_path, open_reader, open_writer
from manent.engine.log.sqlite.guards import GUARDS
from manent.engine.log.sqlite.lock import FileLock, check_unlocked, holder, locked, tell_address
from manent.engine.log.sqlite.schema import check_revision, make_guards, migrate, missing_guards, newest_revision
from manent.engine.sessions.tables import PROJECTIONS
from tests.contracts.test_store import event, one, opened
from tests.support import audit, copied, dump, execute, query

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A closed file with a row in every guarded table: five events, of which the second is erased."""
    path = tmp_path_factory.mktemp("database") / "written.db"

    async def write():
        async with opened(path) as store:
            await store.append(one(new_id(), AnyVersion(), *(event() for _ in range(5))))

    asyncio.run(write())
    execute(path, "INSERT INTO erasures VALUES ('default', 2, 5)")
    execute(path, "DELETE FROM bodies WHERE position = 2")
    for row in (
        "documents VALUES ('default', x'00', x'5b5d', NULL, NULL)",
        "documents VALUES ('default', x'01', x'5b5d', x'00', x'01')",
        "erased_documents VALUES ('default', x'02', 5)",
        "tiles VALUES ('default', 0, 0, x'00', x'00')",
        "verifiers VALUES ('default', 'log', x'00', 1)",
        "checkpoints VALUES ('default', 'log', 5, x'00', x'00', 1, x'00', 0)",
        "cosignatures VALUES ('default', 'log', 5, 'witness', x'00', x'00', x'00')",
    ):
        execute(path, f"INSERT INTO {row}")
    return path


@pytest.fixture
def path(written, tmp_path):
    """A copy of it, to be attacked."""
    return copied(written, tmp_path, "log.db")


def names_in(folder):
    return sorted(file.name for file in folder.iterdir())


def columns_of(table):
    return [column.name for column in table.columns]


def copy_of(table, verb, row, /, **changes):
    """INSERT a copy of a row, some columns changed (to expressions)."""
    names = columns_of(table)
    values = ", ".join(changes.get(name, name) for name in names)
    where = "from_position" if table.name == "origins" else "position"
    return f"{verb} INTO {table.name} ({', '.join(names)}) SELECT {values} FROM {table.name} WHERE {where} = {row}"


EVENTS, BODIES, ERASURES, ORIGINS, *_ = GUARDED

ATTACKS = {
    **{f"update {table.name}": f"UPDATE {table.name} SET tenant = tenant" for table in GUARDED},
    **{f"update or replace {t.name}": f"UPDATE OR REPLACE {t.name} SET tenant = 'x'" for t in GUARDED},
    **{f"update or ignore {t.name}": f"UPDATE OR IGNORE {t.name} SET tenant = 'x'" for t in GUARDED},
    **{f"delete {table.name}": f"DELETE FROM {table.name}" for table in GUARDED},
    **{
        f"replace {table.name} by its key": copy_of(table, "INSERT OR REPLACE", 1)
        for table in (EVENTS, BODIES, ORIGINS)
    },
    "replace erasures by its key": copy_of(ERASURES, "REPLACE", 2),
    "replace events by id": copy_of(EVENTS, "REPLACE", 1, position="99", version="99"),
    "replace events by each key at once": copy_of(EVENTS, "REPLACE", 1, facts="x'7b7d'"),
    "upsert events": copy_of(EVENTS, "INSERT", 1) + " ON CONFLICT DO UPDATE SET facts = x'7b7d'",
    "upsert events by id": copy_of(EVENTS, "INSERT", 1, position="99", version="99")
    + " ON CONFLICT (tenant, id) DO UPDATE SET facts = x'7b7d'",
    "upsert bodies": copy_of(BODIES, "INSERT", 1) + " ON CONFLICT DO UPDATE SET bytes = x''",
    "upsert erasures": copy_of(ERASURES, "INSERT", 2) + " ON CONFLICT DO UPDATE SET by_position = 1",
    "upsert origins": copy_of(ORIGINS, "INSERT", 1) + " ON CONFLICT DO UPDATE SET origin = 'x'",
    "delete the body of an event that is not erased": "DELETE FROM bodies WHERE position = 3",
    "replace documents by its key": "REPLACE INTO documents VALUES ('default', x'00', x'7b7d', NULL, NULL)",
    "replace erased_documents by its key": "REPLACE INTO erased_documents VALUES ('default', x'02', 4)",
    "delete a document that is not erased": "DELETE FROM documents WHERE digest = x'01'",
    "take away what finds a document again": "UPDATE documents SET plain = NULL WHERE digest = x'01'",
    "replace tiles by its key": "REPLACE INTO tiles VALUES ('default', 0, 0, x'01', x'01')",
    "replace verifiers by its key": "REPLACE INTO verifiers VALUES ('default', 'log', x'00', 2)",
    "replace checkpoints by its key": "REPLACE INTO checkpoints VALUES ('default', 'log', 5, x'00', x'', 1, x'', 0)",
    "replace cosignatures by its key": (
        "REPLACE INTO cosignatures VALUES ('default', 'log', 5, 'witness', x'00', x'', x'')"
    ),
    "change one column of an event": "UPDATE events SET actor = 'x' WHERE position = 3",
    "change how a body is stored": "UPDATE bodies SET encoding = 1 WHERE position = 3",
}


@pytest.mark.parametrize("sql", ATTACKS.values(), ids=ATTACKS)
def test_what_was_written_is_refused_every_change(path, sql):
    """No statement of a plain connection, with nothing set, changes or replaces a recorded row."""
    before = dump(path)
    with closing(sqlite3.connect(path)) as connection:
        # "ON CONFLICT" directly after a SELECT's FROM would be read as a join's condition.
        sql = sql.replace(" ON CONFLICT", " AND true ON CONFLICT")
        with pytest.raises(sqlite3.IntegrityError, match=r"cannot be (changed|deleted|replaced)"):
            connection.execute(sql)
        connection.commit()
    assert dump(path) == before


def test_what_was_written_can_be_added_to(path):
    """The guards let pass what appending does."""
    execute(path, copy_of(EVENTS, "INSERT", 5, position="6", version="6", id="x'0099'"))
    execute(path, copy_of(BODIES, "INSERT", 5, position="6"))
    execute(path, "INSERT INTO erasures VALUES ('default', 3, 6)")
    execute(path, copy_of(ORIGINS, "INSERT", 1, from_position="7"))
    execute(path, "INSERT INTO documents VALUES ('default', x'03', x'5b5d', x'00', x'01')")
    execute(path, "INSERT INTO erased_documents VALUES ('default', x'04', 6)")
    assert query(path, "SELECT count(*) FROM events") == [(6,)]


def test_a_body_goes_only_after_its_erasure(path):
    """A body can be deleted once an erasure names it; only that one, and the event stays."""
    execute(path, "INSERT INTO erasures VALUES ('default', 3, 5)")
    assert execute(path, "DELETE FROM bodies WHERE position = 3") == 1
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "DELETE FROM bodies WHERE position = 4")
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "DELETE FROM events WHERE position = 3")
    assert query(path, "SELECT position FROM bodies") == [(1,), (4,), (5,)]
    assert audit(path, documents=False) == 5


def test_a_document_goes_only_after_its_erasure(path):
    """A document can be deleted once an erasure of the same log names it; only that one."""
    execute(path, "INSERT INTO erased_documents VALUES ('other', x'00', 5)")
    for digest in ("00", "01"):
        with pytest.raises(sqlite3.IntegrityError):
            execute(path, f"DELETE FROM documents WHERE digest = x'{digest}'")
    execute(path, "INSERT INTO erased_documents VALUES ('default', x'01', 5)")
    assert execute(path, "DELETE FROM documents WHERE digest = x'01'") == 1
    assert query(path, "SELECT hex(digest) FROM documents") == [("00",)]


def test_an_erased_body_cannot_be_put_back_under_another_tenants_erasure(path):
    """An erasure in one log says nothing about the same position in another."""
    execute(path, "INSERT INTO erasures VALUES ('other', 4, 5)")
    with pytest.raises(sqlite3.IntegrityError):
        execute(path, "DELETE FROM bodies WHERE position = 4")


@pytest.mark.parametrize("recursive", ["on", "off"])
def test_guards_need_no_setting(path, recursive):
    """They hold whatever a connection has set of what a connection may set."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        connection.execute("PRAGMA foreign_keys = off")
        for sql in ("UPDATE events SET facts = x''", copy_of(EVENTS, "REPLACE", 1), "DELETE FROM bodies"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(sql)


# --- schema -----------------------------------------------------------------------------------------------------------


def test_every_table_is_strict_and_lies_by_its_key(path):
    """All our tables are STRICT and WITHOUT ROWID, so a value of another type is refused."""
    kinds = {name: (without, strict) for _, name, _, _, without, strict in query(path, "PRAGMA table_list")}
    assert {table.name: kinds[table.name] for table in all_tables.tables.values()} == dict.fromkeys(
        (table.name for table in all_tables.tables.values()), (1, 1)
    )
    for sql in (
        "INSERT INTO erasures VALUES ('default', 'four', 5)",
        copy_of(BODIES, "INSERT", 1, position="9", bytes="'text'"),
        copy_of(EVENTS, "INSERT", 1, position="9", version="9", id="'text'"),
        copy_of(EVENTS, "INSERT", 1, position="9", version="9", id="NULL"),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            execute(path, sql)


def test_migrations_make_the_tables_that_the_engine_uses(path, tmp_path):
    """Alembic finds no difference between a migrated file and the engine's tables, nor does SQLite itself."""
    database = open_writer(path)
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), all_tables) == []
    database.dispose()
    fresh = tmp_path / "fresh.db"
    database = open_writer(fresh, may_change_schema=True)
    with database.begin() as connection:
        all_tables.create_all(connection)
        make_guards(connection)
    database.dispose()
    assert described(path) == described(fresh)


def described(path):
    """What SQLite knows of our tables: columns, types, keys, indexes, triggers."""
    found = {}
    for table in all_tables.tables:
        indexes = query(path, f"PRAGMA index_list({table})")
        keys = {name: [column for *_, column in query(path, f"PRAGMA index_info({name})")] for _, name, *_ in indexes}
        shape = sorted((name if origin == "c" else "", unique, keys[name]) for _, name, unique, origin, _ in indexes)
        found[table] = (query(path, f"PRAGMA table_xinfo({table})"), shape)
    triggers = query(path, "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    return found, triggers


def test_the_guards_stand_after_migration(path):
    """Every guard is in the file as it is in the code; one that is missing or weakened is named."""
    assert {name for (name,) in query(path, "SELECT name FROM sqlite_schema WHERE type = 'trigger'")} == set(GUARDS)
    database = open_writer(path, may_change_schema=True)
    with database.begin() as connection:
        assert missing_guards(connection) == []
        connection.exec_driver_sql("DROP TRIGGER events_no_update")
        connection.exec_driver_sql("DROP TRIGGER bodies_no_delete")
        weak = "CREATE TRIGGER bodies_no_delete BEFORE DELETE ON bodies WHEN false BEGIN SELECT RAISE(ABORT, ''); END"
        connection.exec_driver_sql(weak)
        assert sorted(missing_guards(connection)) == ["bodies_no_delete", "events_no_update"]
        make_guards(connection)
        assert missing_guards(connection) == []
    database.dispose()


def test_every_guarded_table_has_its_three_guards():
    """Update, delete and replace: for events, bodies, erasures and origins."""
    wanted = {f"{table.name}_no_{action}" for table in GUARDED for action in ("update", "delete", "replace")}
    assert wanted == set(GUARDS)


def test_every_unique_key_of_a_guarded_table_is_guarded():
    """A key that is added to a guarded table must be added to its guard, or REPLACE gets past it."""
    for table in GUARDED:
        guard = GUARDS[f"{table.name}_no_replace"]
        uniques = [constraint for constraint in table.constraints if type(constraint).__name__ == "UniqueConstraint"]
        for key in [table.primary_key, *uniques]:
            assert " AND ".join(f"{column.name} = NEW.{column.name}" for column in key.columns) in guard


@pytest.mark.parametrize("file", sorted(MIGRATIONS.glob("[0-9]*.py")), ids=lambda file: file.name)
def test_a_revision_is_frozen(file):
    """It runs nothing of today's engine, and does the same for ever; it leaves the guards to ``env.py``, which
    makes them when the last revision has run.
    """
    text = file.read_text()
    assert "manent.engine" not in text
    assert "TRIGGER" not in text


def test_projections_are_not_guarded():
    """What can be thrown away and rebuilt can be thrown away."""
    guarded = {re.search(r" ON (\w+)", sql)[1] for sql in GUARDS.values()}
    assert guarded.isdisjoint(table.name for table in PROJECTIONS)
    assert guarded <= {table.name for table in log_tables.tables.values()}


# --- what a file says it is -------------------------------------------------------------------------------------------


def test_a_file_says_whose_it_is(path):
    """The application id stands in the file's header, at bytes 68 to 71, where file(1) looks."""
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big") == b"MANT"


def test_durability_is_set(path):
    """What durability hangs on is as it should be on the writing connection, and the journal mode in the file."""
    database = open_writer(path)
    with database.connect() as connection:
        values = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in WRITER_PRAGMAS}
    database.dispose()
    assert values | {"synchronous": 2, "secure_delete": 1, "foreign_keys": 1, "wal_autocheckpoint": 0} == values
    assert values["journal_mode"] == "wal"
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_new_file_is_its_owners_alone(tmp_path):
    """Nobody else on the machine can read a database that we create."""
    path = tmp_path / "new.db"
    migrate(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_migrating_says_what_it_did(tmp_path):
    """A new file goes from nothing to the newest revision; a second time there is nothing to do."""
    path = tmp_path / "new.db"
    newest = newest_revision()
    assert migrate(path) == (None, newest)
    assert migrate(path) == (newest, newest)
    check_revision(path)


@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "question?.db", "hash#.db", "ümläut-漢.db", "a'b\".db"]
)
async def test_a_file_may_have_any_name(tmp_path, name):
    """Names that mean something in URLs or SQL are names."""
    path = tmp_path / name
    async with opened(path) as store:
        await store.append(one(new_id()))
        assert await store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM events").scalar()) == 1
    assert name in names_in(tmp_path)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("chat.db", "chat.db"),
        ("/var/x/chat.db", "/var/x/chat.db"),
        ("sqlite:///chat.db", "chat.db"),
        ("sqlite:////var/x/chat.db", "/var/x/chat.db"),
        ("sqlite+pysqlite:///chat.db", "chat.db"),
    ],
)
def test_a_database_is_named_by_path_or_url(url, found):
    """Both forms name a file."""
    assert database_path(url) == Path(found)


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://h/d", "mysql://x", "what://", "://", ""),
        *("sqlite://", "sqlite:///:memory:", "sqlite:///./:memory:", ":memory:", "./:memory:", "file::memory:?x=y"),
    ],
)
def test_what_names_no_file_is_refused(url):
    """Another database, or one that keeps no record, is refused as a setting."""
    with pytest.raises(Invalid) as refused:
        database_path(url)
    assert refused.value.extra["field"] == "database"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_newer_file_is_refused_and_left_alone(path):
    """A revision that this version does not know is refused for writing and for reading; not a byte changes."""
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    before = digest(path)
    for attempt in (migrate, check_revision):
        with pytest.raises(StoreNewer) as refused:
            attempt(path)
        assert refused.value.extra == {"revision": "9999"}
    assert digest(path) == before


async def test_a_newer_file_is_refused_by_the_engine(path):
    """Neither way of opening guesses at it, and the lock is let go."""
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    for attempt in (engine.open, engine.open_beside):
        with pytest.raises(StoreNewer):
            async with attempt(path):
                pass
    with locked(path):
        pass


def test_an_older_file_must_be_migrated_before_it_is_read(tmp_path):
    """Reading beside does not migrate: it says what to do."""
    path = tmp_path / "old.db"
    database = open_writer(path, may_change_schema=True)
    with database.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
    database.dispose()
    with pytest.raises(StoreOlder):
        check_revision(path)


FOREIGN = {
    "another program's database": lambda path: execute(path, "CREATE TABLE t (x)"),
    "another program's application id": lambda path: (
        execute(path, "CREATE TABLE t (x)"),
        execute(path, "PRAGMA application_id = 1"),
    ),
    "no database": lambda path: path.write_bytes(b"#!/bin/sh\n" * 1000),
    "a short text": lambda path: path.write_bytes(b"hello"),
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, make):
    """A file that is not ours is refused for writing and for reading; not a byte changes."""
    path = tmp_path / "foreign.db"
    make(path)
    before = digest(path)
    for attempt in (migrate, check_revision):
        with pytest.raises(StoreForeign):
            attempt(path)
    assert digest(path) == before
    assert names_in(tmp_path) == ["foreign.db"]


@pytest.mark.parametrize("folder", ["missing", "a file"])
async def test_a_path_that_cannot_be_opened_is_an_error_of_the_store(tmp_path, folder):
    """A path in no folder is refused with a sentence, for writing and for reading."""
    (tmp_path / "a file").write_text("x")
    path = tmp_path / folder / "chat.db"
    with pytest.raises(StoreUnavailable):
        async with engine.open(path):
            pass
    with pytest.raises(EngineError):
        async with engine.open_beside(path):
            pass


async def test_reading_what_is_not_there_is_an_error_of_the_store(tmp_path):
    """To read a file that does not exist is refused, and does not create it."""
    with pytest.raises(EngineError):
        async with engine.open_beside(tmp_path / "nothing.db"):
            pass
    assert names_in(tmp_path) == []


# --- one writer -------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from manent.engine.log.sqlite.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_server_is_refused_with_the_pid_of_the_first(path):
    """While a process holds the file another is told which; when it is killed, the file is free."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=MIGRATIONS.parents[1]) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StoreLocked) as refused:
                FileLock(path).acquire()
            assert refused.value.extra == {"pid": str(holder.pid)}
            assert str(holder.pid) in refused.value.detail
        finally:
            holder.send_signal(signal.SIGKILL)
    with locked(path):
        pass


async def test_one_engine_for_a_file(path):
    """A second engine on the same file is refused, also in the same process; one that reads is welcome."""
    async with engine.open(path):
        with pytest.raises(StoreLocked) as refused:
            async with engine.open(path):
                pass
        assert refused.value.extra == {"pid": str(os.getpid())}
        async with engine.open_beside(path) as beside:
            assert await beside.sessions() == engine.Page([])
            with pytest.raises(StoreUnavailable):
                await beside.create_session()
    async with engine.open(path):
        pass


def test_the_lock_can_be_taken_again(path):
    """Released and taken, as often as one likes; the file beside it is the only trace."""
    lock = FileLock(path)
    for _ in range(3):
        lock.acquire()
        lock.release()
        lock.release()
    assert names_in(path.parent) == ["log.db", "log.db.lock"]


@pytest.mark.parametrize("was_there", [True, False])
def test_what_fails_under_the_lock_leaves_none_where_none_was(path, was_there):
    """A lock file that was there stays; whoever comes next has the lock."""
    if was_there:
        with locked(path):
            pass
    with pytest.raises(StoreForeign), locked(path):
        raise StoreForeign("not ours")
    assert names_in(path.parent) == ["log.db", "log.db.lock"][: 1 + was_there]
    with locked(path), pytest.raises(StoreLocked):
        FileLock(path).acquire()


def test_a_lock_file_that_is_taken_away_meanwhile_locks_nothing(path, monkeypatch):
    """Who has opened a file that another then took away locks the one that is there now, or two would write."""
    flock, taken = fcntl.flock, []

    def late(descriptor, operation):
        if not taken:
            taken.append(Path(f"{path}.lock").unlink())
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path):
        assert taken
        with pytest.raises(StoreLocked):
            FileLock(path).acquire()
        with pytest.raises(StoreLocked):
            check_unlocked(path)
    check_unlocked(path)


def test_who_comes_second_is_told_the_address(path):
    """As soon as the first has told it; the pid stands where it always did. The next holder's lock has none."""
    with locked(path):
        tell_address(path, "http://127.0.0.1:8000")
        with pytest.raises(StoreLocked) as refused:
            check_unlocked(path)
        assert refused.value.extra == {"pid": str(os.getpid()), "address": "http://127.0.0.1:8000"}
        for told in (str(path), f"(pid {os.getpid()})", "http://127.0.0.1:8000"):
            assert told in refused.value.detail
        assert holder(path) == str(os.getpid())
    with locked(path), pytest.raises(StoreLocked) as refused:
        FileLock(path).acquire()
    assert refused.value.extra == {"pid": str(os.getpid())}


def test_a_reader_cannot_write(path):
    """The reading connection is refused every change by SQLite itself, twice over."""
    database = open_reader(path)
    with database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA query_only").scalar() == 1
        for sql in ("DELETE FROM heads", "CREATE TABLE t (x)", "PRAGMA user_version = 7"):
            with pytest.raises(Exception, match=r"readonly|not authorized"):
                connection.exec_driver_sql(sql)
    database.dispose()


@pytest.mark.parametrize("old", sorted(GOLDEN.glob("manent-*.db.gz")), ids=lambda file: file.name)
async def test_a_file_of_every_earlier_revision_opens_in_this_version(tmp_path, old):
    """What an earlier version wrote is migrated, whole, listed as before, and written on."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(old.read_bytes()))
    events = query(path, "SELECT * FROM events ORDER BY position")
    async with engine.open(path) as chat:
        newest, first = (await chat.sessions()).items
        assert (newest.title, first.title, newest.system, newest.version) == ("first", "second", "Be brief.", 13)
        assert [message.role for message in (await chat.messages(newest.id)).items] == ["user", "assistant"] * 2
        await chat.say(first.id, "and more")
        assert [session.title for session in (await chat.sessions()).items] == ["second", "first"]
    assert query(path, "SELECT * FROM events ORDER BY position")[: len(events)] == events
    assert audit(path) > len(events)
    assert engine.verify_database(path).problem is None


@pytest.mark.parametrize("old", sorted(GOLDEN.glob("*-*.db.gz")), ids=lambda file: file.name)
def test_a_migration_fills_what_it_makes(tmp_path, old):
    """Marks, messages and what sessions are listed by are the same after the revisions alone as when all is derived
    from the events again.
    """
    listed = "SELECT tenant, session, model, failed, waiting FROM sessions ORDER BY session"
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress(old.read_bytes()))
    migrate(path, secret=secret_of(path, None))
    before = dump(path, ["marks", "messages"]), query(path, listed)
    engine.rebuild_projections(path)
    assert (dump(path, ["marks", "messages"]), query(path, listed)) == before


def test_a_migration_that_is_cut_short_has_changed_nothing(tmp_path):
    """What is derived is made anew in the same transaction: no file is new in its form and old in what it says."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((GOLDEN / "manent-0006.db.gz").read_bytes()))

    def cut(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(path, secret=secret_of(path, None), derive=cut)
    assert query(path, "SELECT version_num FROM alembic_version") == [("0006",)]
    assert engine.migrate_database(str(path)) == ("0006", newest_revision())
    assert engine.verify_database(str(path)).problem is None


def test_a_message_that_was_answered_anew_gets_its_mark(tmp_path):
    """What an earlier version noted in the message's column becomes a mark of its session's; an erasure stays there."""
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((GOLDEN / "manent-0006.db.gz").read_bytes()))
    first, second, *_ = query(path, "SELECT position, session FROM messages ORDER BY position")
    facts = json.dumps({"model": "a/b", "provider": "a", "supersedes": first[0]})
    columns = [name for _, name, *_ in query(path, "PRAGMA table_info(events)")]
    values = {"position": "999", "version": "99", "id": "x'99'", "type": "'turn.started'", "facts": "?"}
    row = ", ".join(values.get(name, name) for name in columns)
    execute(path, f"INSERT INTO events SELECT {row} FROM events WHERE position = {first[0]}", (facts.encode(),))
    execute(path, "INSERT INTO erasures VALUES ('default', ?, 999)", (second[0],))
    execute(path, "UPDATE messages SET left_out = 99 WHERE position IN (?, ?)", (first[0], second[0]))
    migrate(path, secret=secret_of(path, None))
    assert query(path, "SELECT session, version, position, kind FROM marks") == [(first[1], 99, first[0], "superseded")]
    assert query(path, "SELECT position, left_out FROM messages WHERE left_out > 0") == [(second[0], 999)]


@pytest.mark.parametrize("old", sorted(GOLDEN.glob("manent-*.db.gz")), ids=lambda file: file.name)
def test_taking_in_what_an_earlier_version_wrote_tells_how_far_it_is(tmp_path, old):
    """Up to the number of events there are; where these stay as they are, it says nothing."""
    path, told = tmp_path / "old.db", []
    path.write_bytes(gzip.decompress(old.read_bytes()))
    migrate(path, lambda done, total: told.append((done, total)))
    (size,) = query(path, "SELECT sum(size) FROM heads")[0]
    assert told[-1:] == ([] if old.name >= "manent-0005" else [(size, size)])


async def test_what_a_server_of_an_earlier_version_left_open_is_ended(tmp_path):
    """A file of 0005 with an open turn, its journal, and idempotent requests: the turn ends with what is in the
    journal, and a request that comes again is known.
    """
    path = tmp_path / "dead.db"
    path.write_bytes(gzip.decompress((GOLDEN / "dead-0005.db.gz").read_bytes()))
    told = b"".join(text for (text,) in query(path, "SELECT text FROM journal WHERE kind = 'delta' ORDER BY frame"))
    async with engine.open(path) as chat:
        (session,) = (await chat.sessions()).items
        request = RequestKey("local", "POST /x", "one", b"{}")
        again = await chat.create_session(model="echo/paced", title="first", request=request)
        assert again.id == session.id
        (turn,) = (await chat.turns(session.id)).items
        answer = (await chat.messages(session.id)).items[-1]
    assert (turn.status, answer.complete, answer.blocks()[0].text) == ("interrupted", False, told.decode())
    assert told
    assert engine.verify_database(path).problem is None
