"""``manent rebuild``, ``migrate`` and ``doctor``: keeping a database file right."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from manent.engine.log import rebuild as rebuilding
from manent.engine.log.sqlite import doctor
from manent.engine.log.sqlite.guards import GUARDS
from manent.engine.log.sqlite.schema import newest_revision
from tests.support import audit, dump, execute, query

DAMAGES = {
    "sessions": "UPDATE sessions SET status = 'archived'",
    "session_words": "DELETE FROM session_words WHERE title = 'A talk'",
    "messages": "UPDATE messages SET total_tokens = total_tokens + 1 WHERE role = 'assistant'",
    "turns": "UPDATE turns SET status = 'failed', state = x'7b7d'",
}


# --- rebuild ----------------------------------------------------------------------------------------------------------


def test_a_sound_file_is_rebuilt_to_the_same_bytes(run, database):
    """Rebuilding says how many events there are, warns of nothing, and changes no row of any table."""
    before, events = dump(database), audit(database)
    done = run("rebuild")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"manent.db: rebuilt from {events} events in ")
    assert done.stderr == f"folded {events} of {events} events\n"
    assert dump(database) == before


@pytest.mark.parametrize("table", DAMAGES)
def test_a_damaged_projection_is_restored_and_named(call, database, table):
    """Whatever was done to a projection is undone from the events, and the table is named."""
    before = dump(database)
    assert execute(database, DAMAGES[table]) > 0
    done = call("rebuild")
    assert done.returncode == 0, done.stderr
    assert f"these tables were not what the events say, and are now: {table}\n" in done.stderr
    assert dump(database) == before


def test_several_damaged_tables_are_all_named(call, database):
    """Every table that differed is named, and no other."""
    for table in ("turns", "messages"):
        execute(database, f"DELETE FROM {table}")
    done = call("rebuild")
    named = done.stderr.splitlines()[-1].rpartition(": ")[2]
    assert sorted(named.split(", ")) == ["messages", "turns"]


@pytest.mark.parametrize("position", [1, 6, 20])
def test_a_log_that_is_not_whole_is_not_folded(call, database, position):
    """Where events are missing, rebuilding would lose what they made: it is refused, and nothing is changed."""
    execute(database, "DROP TRIGGER events_no_delete")
    execute(database, "DELETE FROM events WHERE tenant = 'default' AND position = ?", (position,))
    before = dump(database)
    done = call("rebuild")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert dump(database) == before


def test_memory_does_not_grow_with_the_log(call, database, monkeypatch):
    """Rows written in small batches, and states forgotten and read again, make the same bytes."""
    monkeypatch.setattr(rebuilding, "BATCH_EVENTS", 3)
    monkeypatch.setattr(rebuilding, "KEPT_STATES", 1)
    before = dump(database)
    done = call("rebuild")
    assert (done.returncode, "warning" in done.stderr) == (0, False)
    assert done.stderr.count("folded ") == 10
    assert dump(database) == before


def test_what_a_dead_server_left_open_is_rebuilt_as_it_is(start, call, database):
    """A turn that a crash left open stays open for the next start to end: rebuilding changes nothing of it."""
    with start("chat", "--model", "echo/paced") as chat:
        chat.stdin.write("x" * 4000 + "\n")
        chat.stdin.flush()
        chat.stdout.read(8)
        chat.kill()
        chat.wait()
    assert query(database, "SELECT count(*) FROM runs") == [(1,)]
    before = dump(database)
    done = call("rebuild")
    assert (done.returncode, "warning" in done.stderr) == (0, False)
    assert dump(database) == before


# --- migrate ----------------------------------------------------------------------------------------------------------


def test_migrating_says_from_and_to(run, call, tmp_path):
    """A file that is not there is created, and one that is the newest is left as it is."""
    assert run("migrate").stdout == f"manent.db: created, at revision {newest_revision()}\n"
    assert call("migrate").stdout == f"manent.db: is at revision {newest_revision()}, the newest\n"
    assert call("sessions", "--json").stdout == "[]\n"


def test_a_newer_file_is_refused(call, database):
    """A revision of a later version is never guessed at: not migrated, not rebuilt, not read."""
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    for command in ("migrate", "rebuild", "sessions"):
        done = call(command)
        assert done.returncode == 1
        assert "revision 9999" in done.stderr


def test_an_old_file_is_to_be_migrated_first(call, tmp_path):
    """A file without a schema is not read, and the sentence says what to do."""
    with closing(sqlite3.connect(tmp_path / "manent.db")) as connection:
        connection.execute(f"PRAGMA application_id = {0x4D414E54}")
        connection.execute("CREATE TABLE early (id)")
    for command in ("rebuild", "sessions"):
        done = call(command)
        assert done.returncode == 1
        assert "manent migrate" in done.stderr


# --- a server has the file --------------------------------------------------------------------------------------------


def test_what_writes_is_refused_beside_a_server(run, call, serve, database):
    """rebuild, migrate and a chat on the file name the server's pid, and leave it in peace; doctor looks."""
    with serve(database) as server:
        for done in (run("rebuild"), call("migrate"), call("chat")):
            assert (done.returncode, done.stdout) == (1, "")
            assert f"(pid {server.pid})" in done.stderr
        assert f"--url {server.url}" in done.stderr
        report = json.loads(call("doctor", "--json").stdout)
    assert report["ok"]
    assert value(report, "server") == f"pid {server.pid}"
    assert (value(report, "journal_mode"), value(report, "synchronous")) == ("wal", "full")


# --- doctor -----------------------------------------------------------------------------------------------------------


def value(report, name):
    return next(finding["value"] for finding in report["findings"] if finding["name"] == name)


def wrong(report):
    """What is wrong, and the notes on it."""
    return {finding["name"]: finding["note"] for finding in report["findings"] if finding["state"] == "wrong"}


@pytest.fixture
def examine(call):
    """The report on the file, and the exit code that goes with it."""

    def examine():
        done = call("doctor", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == (0 if report["ok"] else 1)
        return report

    return examine


def test_a_sound_file_has_nothing_wrong(run, database):
    """Every setting is printed with what it is and what it should be, and the exit code is 0."""
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    for name in ("sqlite", "journal_mode", "synchronous", "secure_delete", "page size", "application id", "guards"):
        assert f" {name} " in done.stdout
    for name in ("strict tables", "schema revision", "permissions", "owner", "file system", "free space", "server"):
        assert f" {name} " in done.stdout
    assert sqlite3.sqlite_version in done.stdout
    assert done.stdout.endswith("nothing is wrong\n")


def test_looking_changes_nothing(call, database, tmp_path):
    """The examined file keeps its bytes and its times, and nothing new lies beside it."""

    def state():
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}

    before = state()
    assert call("doctor").returncode == 0
    assert state() == before


def test_a_dropped_guard_is_named(examine, database):
    """A trigger that is gone, or is not what it should be, is wrong, and named."""
    execute(database, "DROP TRIGGER events_no_update")
    execute(database, "DROP TRIGGER bodies_no_delete")
    execute(database, "CREATE TRIGGER bodies_no_delete BEFORE DELETE ON bodies BEGIN SELECT 1; END")
    report = examine()
    assert wrong(report) == {"guards": "missing: events_no_update, bodies_no_delete"}
    assert value(report, "guards") == f"{len(GUARDS) - 2} of {len(GUARDS)}"


def test_a_table_that_is_not_strict_is_named(examine, database):
    """A table made anew without STRICT, and one that is gone, are wrong, and named."""
    execute(database, "DROP TABLE journal")
    execute(database, "DROP TABLE runs")
    execute(database, "CREATE TABLE runs (tenant TEXT)")
    assert wrong(examine()) == {"strict tables": "missing: journal; not STRICT: runs"}


def test_another_journal_mode_is_wrong(examine, database):
    """A file without a write-ahead log is found out, though nobody has it open."""
    execute(database, "PRAGMA journal_mode = delete")
    report = examine()
    assert wrong(report).keys() == {"journal_mode"}
    assert value(report, "journal_mode") == "delete"


def test_another_revision_is_wrong(examine, database):
    """A file that this version cannot serve is wrong."""
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    assert wrong(examine()).keys() == {"schema revision"}


def test_what_others_may_write_is_wrong(examine, database):
    """A file that others may write is wrong; one that others may read is worth a warning."""
    database.chmod(0o640)
    report = examine()
    assert wrong(report) == {}
    assert next(f for f in report["findings"] if f["name"] == "permissions")["state"] == "warning"
    database.chmod(0o620)
    assert wrong(examine()) == {"permissions": "others may write manent.db"}


def test_a_log_that_a_dead_server_left_is_read_too(examine, recorded, database, tmp_path):
    """What stands in the write-ahead log alone is seen: a guard dropped there is missing."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("DROP TRIGGER origins_no_delete")
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for path in tmp_path.glob("manent.db*"):
            shutil.copy(path, crashed)
    for path in crashed.iterdir():
        shutil.copy(path, tmp_path)
    assert wrong(examine()) == {"guards": "missing: origins_no_delete"}


def test_recorded_times_ahead_of_the_clock_are_told(examine, database, monkeypatch):
    """After the clock was set back, time stands still in a log until it has caught up: a warning says how long."""
    assert value(examine(), "recorded times") == "not ahead"
    now = doctor.time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now - 7200)
    report = examine()
    finding = next(finding for finding in report["findings"] if finding["name"] == "recorded times")
    assert (report["ok"], finding["state"]) == (True, "warning")
    assert 0 < int(finding["value"].removesuffix(" s ahead")) <= 7200
    assert "set back" in finding["note"]


def test_times_are_looked_at_where_there_are_any(examine, database):
    """Of a file without that table nothing is said of them, and the missing table is named as ever."""
    execute(database, "DROP TABLE heads")
    report = examine()
    assert "recorded times" not in [finding["name"] for finding in report["findings"]]
    assert wrong(report)["strict tables"] == "missing: heads"


@pytest.mark.parametrize(
    ("mount", "kind", "state"),
    [
        ("36 1 0:33 / / rw - ext4 /dev/root rw", "ext4", "ok"),
        ("36 1 0:33 / / rw - nfs4 host:/export rw", "nfs4", "wrong"),
        ("36 1 0:33 / / rw - ext4 /dev/root rw\n37 36 0:34 / {} rw - cifs //host/share rw", "cifs", "wrong"),
        ("37 36 0:34 / {} rw,relatime shared:1 - tmpfs tmpfs rw\n36 1 0:33 / / rw - nfs x rw", "tmpfs", "warning"),
        ("36 1 0:33 / / rw - ext4 /dev/root rw\n38 36 0:35 / {} rw - fuse.sshfs host: rw", "fuse.sshfs", "wrong"),
        ("36 1 0:33 / / rw - fuse.other x rw\n38 36 0:35 / /elsewhere rw - nfs x rw", "fuse.other", "warning"),
    ],
)
def test_a_file_on_a_network_is_wrong(examine, database, tmp_path, monkeypatch, mount, kind, state):
    """The file system that lies nearest to the file counts; locks and syncs do not hold over a network."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(mount.format(str(tmp_path.parent).replace(" ", "\\040")))
    real = doctor.file_system_of
    monkeypatch.setattr(doctor, "file_system_of", lambda path: real(path, mounts))
    report = examine()
    assert value(report, "file system") == kind
    assert next(f for f in report["findings"] if f["name"] == "file system")["state"] == state


def test_a_blank_in_the_name_of_a_mount_is_read(tmp_path):
    """The kernel writes blanks as octal."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /media/my\\040disk rw - nfs b rw\n")
    assert doctor.file_system_of(Path("/media/my disk/chat.db"), mounts) == "nfs"
    assert doctor.file_system_of(Path("/media/my diskette"), mounts) == "ext4"
    assert doctor.file_system_of(tmp_path, tmp_path / "none") is None


def test_little_room_is_told(examine, database, monkeypatch):
    """A disk that is nearly full is worth a warning, and one on which writes are about to fail is wrong."""
    usage = SimpleNamespace(free=1 << 29)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert wrong(examine()) == {}
    usage.free = 1 << 20
    assert wrong(examine()) == {"free space": "writes are about to fail"}


def test_an_empty_or_foreign_file_is_no_database(call, tmp_path):
    """What is not Manent's ends in exit code 1 and a sentence."""
    (tmp_path / "empty.db").touch()
    assert "is empty" in call("doctor", "--database", "empty.db").stderr
    execute(tmp_path / "other.db", "CREATE TABLE notes (text)")
    done = call("doctor", "--database", "other.db")
    assert done.returncode == 1
    assert "not one of Manent's" in done.stderr
    assert query(tmp_path / "other.db", "SELECT name FROM sqlite_schema") == [("notes",)]
