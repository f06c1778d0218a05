"""Writes and syncs fail at any moment, once or from then on: nothing is acknowledged that is not there."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from manent.engine.clock import new_id
from manent.engine.errors import EngineError, StoreCorrupt, StoreUnavailable
from manent.engine.log import writer
from manent.engine.log.sql import reads
from manent.engine.log.sqlite import connection
from manent.engine.log.sqlite.schema import migrate
from manent.engine.turns import turn as turns
from tests.contracts.test_store import one, opened, outcome
from tests.crash.failing import IOERR_FSYNC, IOERR_WRITE, Fault, failing_disk, sqlite
from tests.crash.test_power_loss import Told, go_on, lay
from tests.crash.torture import LIMIT_S, TIMES, chance_of
from tests.crash.traced import provider
from tests.crash.verdicts import found_in
from tests.support import assert_rebuilds, audit, begin, chatting, execute, query, until

FAULTS = 25 * TIMES
"""Of each kind, at moments spread over the load."""
UNRECOVERED = 25
"""One of so many disks that fail for good is never well again while the server lives."""
SESSIONS = 3

KINDS = {
    "full once": ("write", sqlite3.SQLITE_FULL, False),
    "full for good": ("write", sqlite3.SQLITE_FULL, True),
    "EIO once": ("write", IOERR_WRITE, False),
    "EIO for good": ("write", IOERR_WRITE, True),
    "failed sync": ("sync", IOERR_FSYNC, False),
    "failed syncs for good": ("sync", IOERR_FSYNC, True),
}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A new file, to be copied."""
    try:
        sqlite()
    except (OSError, AttributeError) as error:
        pytest.skip(f"NOT SHOWN: what a failing disk does. The functions of this Python's SQLite are hidden: {error}")
    path = tmp_path_factory.mktemp("faults") / "chat.db"
    migrate(path)
    return path


class Load:
    """Appends and turns on a few sessions; whom the disk fails is told so, and tries something else."""

    def __init__(self, chat):
        self.chat = chat
        self.told = Told()
        self.refused = Counter()
        self.sessions = []

    async def begin(self):
        self.sessions = [(await self.chat.create_session(model="dictated/model")).id for _ in range(SESSIONS)]

    async def run(self):
        await asyncio.gather(*(self._talk(session, number) for number, session in enumerate(self.sessions)))

    async def _talk(self, session, number):
        for step in range(8):
            with self._refusals():
                if step % 4 == number:
                    await self._turn(session)
                else:
                    await self._append(session, "x" * (1 + 1500 * step))

    @contextmanager
    def _refusals(self):
        try:
            yield
        except EngineError as error:
            self.refused[error.code] += 1

    async def _append(self, session, content):
        message = await self.chat.append_message(session, content)
        self.told.hear(f"event {message.position}".encode())

    async def _turn(self, session):
        turn = await begin(self.chat, session, "Go.")
        async for batch in self.chat.frames(turn):
            if batch[-1].number:  # an error has none
                self.told.hear(f"frame {turn.hex} {batch[-1].number}".encode())

    async def go_on(self):
        """The disk is well again: open turns find their end, and all that is asked for is recorded."""
        for session in self.sessions:
            await until(partial(self._has_ended, session))
            await self._append(session, "Are you well?")
            await self._turn(session)

    async def _has_ended(self, session):
        return (await self.chat.session(session)).open_turn_id is None


async def life(path, disk, fault=None, *, recovers=True):
    """The load on a disk with this fault, and then, if it recovers, on one without: the load, calls of each kind, how
    many failed.
    """
    async with chatting(
        path, providers=(provider(0.0005),), checkpoint_pages=35, reader_threads=1, drain_s=0, unwitnessed=True
    ) as chat:
        load = Load(chat)
        await load.begin()
        disk.arm(fault)
        await load.run()
        counts, failed = disk.counts, disk.failed
        if recovers:
            disk.arm(None)
            await load.go_on()
    return load, counts, failed


@pytest.fixture
def fresh(migrated, tmp_path):
    """Starts again: the file as it was."""

    def again():
        for end in ("", "-wal", "-shm"):
            tmp_path.joinpath(f"chat.db{end}").unlink(missing_ok=True)
        return Path(shutil.copy(migrated, tmp_path / "chat.db"))

    return again


def check(load, disk, path, folder):
    """What was told is there: in the file, and on the disk if the power goes now."""
    audit(path)
    assert_rebuilds(path, folder / "copy.db")
    assert load.told.lost(found_in(path)) == 0
    left = folder / "left"
    left.mkdir(exist_ok=True)
    lay(disk.disk.left("lost", None), left / "chat.db")
    found = found_in(left / "chat.db")
    assert not found.damage
    assert load.told.lost(found) == 0
    assert disk.sins == [], "written after a sync had failed, before the file was opened again"


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_disk_gets_nothing_acknowledged_that_is_not_there(migrated, fresh, tmp_path, tell, monkeypatch, kind):
    """A write or a sync fails: whoever was answered has his event on the disk, and each frame shown is there too; the
    others were told; when the disk is well again everything goes on in the same process, or else at the next start.
    """
    monkeypatch.setattr(turns, "END_RETRY_S", 0.01)
    what, code, for_good = KINDS[kind]
    chance, refused, failed, told = chance_of(kind), Counter(), 0, 0
    with failing_disk(path := fresh()) as disk:
        _, counts, _ = asyncio.run(life(path, disk))
    for number in range(FAULTS):
        fault = Fault(what, 1 + (number * counts[what]) // FAULTS, code, for_good, chance.random() < 0.5)
        recovers = not for_good or number % UNRECOVERED != UNRECOVERED // 2
        with failing_disk(path := fresh()) as disk:
            disk.take(path)
            load, _, failures = asyncio.run(life(path, disk, fault, recovers=recovers))
        check(load, disk, path, tmp_path)
        if not recovers:
            asyncio.run(go_on(path))
        refused += load.refused
        failed += failures
        told += load.told.position
    tell(f"{FAULTS} disks with {kind}: {failed} calls failed, {refused.total()} refused, {told} events told: 0 lost")
    assert failed >= FAULTS * 0.7
    assert set(refused) <= {"store_full", "store_unavailable", "turn_already_open"}
    if kind != "full once":  # the batch is then done again, one by one, and there is room
        assert refused.total() >= FAULTS // 8  # the rest hit the commits of journals, whose turns end instead


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("careless", ["never synced", "never opened again"])
def test_the_failing_disk_is_not_blind(migrated, fresh, tmp_path, tell, monkeypatch, careless):
    """A writer that does not sync loses what it acknowledged, and one that goes on after a failed sync is seen."""
    monkeypatch.setattr(turns, "END_RETRY_S", 0.01)
    if careless == "never synced":
        monkeypatch.setitem(connection.WRITER_PRAGMAS, "synchronous", "off")
    else:
        monkeypatch.setattr(writer, "needs_reopening", lambda _: False)
    seen = 0
    for nth in range(2, 12):
        with failing_disk(path := fresh()) as disk:
            disk.take(path)
            load, _, _ = asyncio.run(life(path, disk, Fault("sync", nth, IOERR_FSYNC)))
        lay(disk.disk.left("lost", None), path)
        seen += bool(load.told.lost(found_in(path))) if careless == "never synced" else bool(disk.sins)
    tell(f"10 disks with a failed sync and a writer that has {careless}: {seen} seen")
    assert seen >= 8


# --- what is looked at when the file is opened again ------------------------------------------------------------------


def disk_error(_):
    """A work that meets a failing disk, as SQLite reports it."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = IOERR_FSYNC, "SQLITE_IOERR_FSYNC"
    raise error


async def test_a_file_that_came_back_shorter_is_not_written(tmp_path):
    """After a failed sync a log that ends before what was acknowledged of it is written no further, and is read."""
    path, session = tmp_path / "log.db", new_id()
    async with opened(path) as store:
        for _ in range(3):
            await store.append(one(session))
        store._writer._acknowledged["default"] = 4
        with pytest.raises(StoreUnavailable):
            await store.do(disk_error)
        for _ in range(2):
            with pytest.raises(StoreCorrupt, match="ends at 3, and 4 was acknowledged"):
                await store.append(one(session))
        assert await store.read(partial(reads.log_size, tenant="default")) == 3
        store._writer._acknowledged["default"] = 3
        assert (await store.append(one(session))).state.version == 4
    assert audit(path) == 4


@pytest.mark.parametrize("size", [2, 4])
async def test_a_head_that_does_not_fit_its_log_is_not_written(tmp_path, size):
    """After a failed sync a log whose head says another size than it has is written no further."""
    path, session = tmp_path / "log.db", new_id()
    async with opened(path) as store:
        for _ in range(3):
            await store.append(one(session))
        execute(path, "UPDATE heads SET size = ?", (size,))
        with pytest.raises(StoreUnavailable):
            await store.do(disk_error)
        with pytest.raises(StoreCorrupt, match=f"says {size} events, and the last is 3"):
            await store.append(one(session))
    assert query(path, "SELECT count(*) FROM events") == [(3,)]


async def test_a_checkpoint_that_fails_ends_the_connection(migrated, fresh):
    """A sync that fails while pages are moved into the file is nobody's error, and the file is opened again all the
    same before anything more is written.
    """
    silent = 0
    with failing_disk(path := fresh()) as disk:
        for nth in range(1, 9):
            async with opened(path, checkpoint_pages=1) as store:
                disk.arm(Fault("sync", nth, IOERR_FSYNC))
                refused = [await outcome(store.append(one(new_id()))) for _ in range(4)]
                disk.arm(None)
                await store.append(one(new_id()))
            silent += not any(isinstance(each, StoreUnavailable) for each in refused)
        assert disk.sins == []
    assert silent >= 3
    audit(path)
