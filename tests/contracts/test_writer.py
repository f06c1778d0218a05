"""The one writer: group commit, bounds, and what becomes of everybody when a write goes wrong.

Also what belongs to appends as scratch: runs and the journal, fenced by their owner.
"""

import asyncio
import gc
import os
import sqlite3
import subprocess
import threading
from contextlib import closing, contextmanager
from functools import partial

import pytest
from sqlalchemy.exc import OperationalError

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import (
    EngineError,
    Overloaded,
    StoreCorrupt,
    StoreFull,
    StoreUnavailable,
    TurnNotOpen,
    VersionConflict,
)
from manent.engine.log.base import AnyVersion, Appended, Exactly, Exists, NoStream
from manent.engine.log.journal import JournalRow, WriteJournal, journal_rows, probe, write_journal
from manent.engine.log.leases import (
    CloseRun,
    ExtendLeases,
    OpenRun,
    Run,
    extend_leases,
    open_runs,
    owner_of,
    request_cancel,
)
from manent.engine.log.sqlite.connection import PAGE_BYTES
from manent.engine.log.store import open_reading
from manent.engine.log.writer import BESIDE_AHEAD
from tests.contracts.test_store import event, one, one_batch, opened, outcome, submit
from tests.support import alive, audit, begin, chatting, frames_of, query, says, until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def holding(entered, release):
    """A work that stays in its transaction until it is released."""

    def hold(_):
        entered.set()
        release.wait(30)

    return hold


# --- group commit -----------------------------------------------------------------------------------------------------


async def test_all_that_waits_is_one_transaction(path):
    """What came while the writer was busy is committed together, up to ``batch_writes``, in the order it came."""
    async with opened(path, batch_writes=8) as store:
        async with one_batch(store):
            futures = [store.submit(lambda tx: tx) for _ in range(20)]
        transactions = await asyncio.gather(*futures)
    kinds = [id(tx) for tx in transactions]
    assert sorted(set(kinds), key=kinds.index) == [kinds[0], kinds[8], kinds[16]]
    assert [kinds.count(kinds[at]) for at in (0, 8, 16)] == [8, 8, 4]


async def test_frames_do_not_stand_in_line(path):
    """A work that is ahead ends the transaction under way and is committed in the next one, with few others; these keep
    their order.
    """
    done = []

    def work(number):
        return lambda tx: done.append(number) or tx

    async with opened(path, batch_writes=8) as store:
        async with one_batch(store):
            behind = [store.submit(work(number)) for number in range(10)]
        behind += [store.submit(holding(entered := threading.Event(), release := threading.Event()))]
        behind += [store.submit(work(number)) for number in range(10, 20)]
        await asyncio.to_thread(entered.wait)
        ahead = store.submit(work("ahead"), ahead=True)
        release.set()
        await asyncio.gather(*behind, ahead)
        transaction = await ahead
    assert [number for number in done if number != "ahead"] == [*range(20)]
    at = done.index("ahead")
    assert done[at - 1] == 9
    beside = [future.result() is transaction for future in behind[11:]]
    assert beside == [True] * BESIDE_AHEAD + [False] * (10 - BESIDE_AHEAD)


async def test_nobody_is_answered_before_the_commit(path):
    """While a batch is not committed, none of its works is answered and nobody can see it."""
    entered, release = threading.Event(), threading.Event()
    async with opened(path) as store:
        async with one_batch(store):
            first = submit(store, one(new_id()))
            held = store.submit(holding(entered, release))
        await asyncio.to_thread(entered.wait)
        assert not first.done()
        assert query(path, "SELECT count(*) FROM events") == [(0,)]
        release.set()
        await asyncio.gather(first, held)
        assert query(path, "SELECT count(*) FROM events") == [(1,)]


async def test_states_that_the_writer_forgets_are_read_again(path):
    """With room for one session's state, many sessions in turn and at once keep their versions dense."""
    sessions = [new_id() for _ in range(5)]
    async with opened(path, cached_sessions=1) as store:
        for number in range(1, 4):
            for session in sessions:
                assert (await store.append(one(session, Exactly(number - 1)))).state.version == number
            assert len(store._writer._heads.states) == 1
        async with one_batch(store):
            futures = [submit(store, one(session)) for session in sessions * 2]
        assert [answer.state.version for answer in await asyncio.gather(*futures)] == [4] * 5 + [5] * 5
    assert audit(path) == 25


async def test_a_caller_who_leaves_takes_nothing_back(path):
    """A cancelled caller's append is recorded, its neighbours are answered, and the writer goes on."""
    async with opened(path) as store:
        async with one_batch(store):
            left = asyncio.ensure_future(store.append(one(new_id())))
            stays = asyncio.ensure_future(store.append(one(new_id())))
            await asyncio.sleep(0)
            left.cancel()
        assert (await stays).events[0].position == 2
        await store.append(one(new_id()))
    assert audit(path) == 3


async def test_closing_does_what_waits(path):
    """What was submitted before the end is done; what comes after is refused; the write-ahead log is cleared away."""
    async with opened(path) as store:
        futures = [submit(store, one(new_id())) for _ in range(50)]
        closing_down = asyncio.ensure_future(store.close())
        assert [answer.events[0].position for answer in await asyncio.gather(*futures)] == [*range(1, 51)]
        await closing_down
        with pytest.raises(StoreUnavailable):
            await store.append(one(new_id()))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert audit(path) == 50


async def test_a_store_can_be_closed_twice(path):
    """Closing again does nothing."""
    async with opened(path) as store:
        await store.append(one(new_id()))
        await store.close()
    assert audit(path) == 1


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_too_many_waiting_writes_are_refused_at_once(path):
    """Beyond ``queue_writes`` a write is refused with what to do; when the queue has room again, it is taken."""
    async with opened(path, queue_writes=3) as store:
        async with one_batch(store):  # itself the first that waits
            futures = [submit(store, one(new_id())) for _ in range(2)]
            with pytest.raises(Overloaded) as refused:
                submit(store, one(new_id()))
            assert refused.value.extra == {"limit": "queue_writes", "retry_after_s": 1}
        await asyncio.gather(*futures)
        await store.append(one(new_id()))
    assert audit(path) == 3


async def test_the_queue_counts_what_is_under_way(path):
    """The bound is right again after refusals, mistakes, and callers who left."""

    def stumble(tx):
        raise ZeroDivisionError

    async with opened(path, queue_writes=4) as store:
        for _ in range(5):
            gone = asyncio.ensure_future(store.append(one(new_id())))
            await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(ZeroDivisionError):
                await store.do(stumble)
            with pytest.raises(VersionConflict):
                await store.append(one(new_id(), Exists()))
        await until(lambda: asyncio.sleep(0, store._writer._waiting == 0))
        await asyncio.gather(*(store.append(one(new_id())) for _ in range(4)))


# --- a write goes wrong -----------------------------------------------------------------------------------------------


def broken(tx):
    tx.connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")


async def test_a_database_error_is_its_works_alone(path):
    """A batch that the database refuses is done again one by one: the bad get an error, the good are recorded once."""
    session, stranger = new_id(), new_id()
    async with opened(path) as store:
        await store.append(one(session, NoStream()))
        async with one_batch(store):
            mixed = [
                submit(store, one(session, Exactly(1))),
                store.submit(broken),
                submit(store, one(session, Exactly(1))),
                submit(store, one(stranger, NoStream())),
                store.submit(broken),
                submit(store, one(session, Exactly(2))),
            ]
        answers = [await outcome(future) for future in mixed]
        assert [type(answers[number]) for number in (1, 2, 4)] == [StoreUnavailable, VersionConflict, StoreUnavailable]
        assert answers[2].current_version == 2
        assert [answers[number].events[0].position for number in (0, 3, 5)] == [2, 3, 4]
        assert [answers[number].state.version for number in (0, 3, 5)] == [2, 1, 3]
    assert audit(path) == 4


async def test_an_error_after_a_works_rows_takes_them_back(path):
    """A work that wrote and then failed in the database has written nothing; what the writer knew is right again."""
    session = new_id()

    def half(tx):
        tx.record("default", session, [event(), event()], tx.state("default", session))
        tx.flush()
        broken(tx)

    async with opened(path) as store:
        await store.append(one(session, NoStream()))
        with pytest.raises(StoreUnavailable):
            await store.do(half)
        assert query(path, "SELECT count(*) FROM events") == [(1,)]
        answer = await store.append(one(session, Exactly(1)))
        assert (answer.events[0].position, answer.state.version) == (2, 2)
    assert audit(path) == 2


@contextmanager
def write_lock(path):
    """Another process writes, against the rules."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def test_a_locked_database_fails_the_write_and_is_tried_again(path):
    """While somebody else holds SQLite's write lock a write fails after a while; after that it works."""
    session = new_id()
    async with opened(path) as store:
        await store.do(lambda tx: tx.connection.exec_driver_sql("SELECT 1"))
        await asyncio.to_thread(
            store._writer._connection.connection.driver_connection.execute, "PRAGMA busy_timeout = 50"
        )
        for number in range(3):
            with write_lock(path), pytest.raises(StoreUnavailable) as refused:
                await store.append(one(session))
            assert refused.value.extra["reason"] == "SQLITE_BUSY"
            assert (await store.append(one(session, Exactly(number)))).state.version == number + 1
    assert audit(path) == 3


def disk_error(number=sqlite3.SQLITE_IOERR):
    """A work that meets a failing disk, as SQLite reports it."""

    def work(tx):
        cause = sqlite3.OperationalError("disk I/O error")
        cause.sqlite_errorcode, cause.sqlite_errorname = number, "SQLITE_IOERR_FSYNC"
        raise OperationalError("COMMIT", (), cause)

    return work


@pytest.mark.parametrize("number", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT])
async def test_after_a_disk_error_the_file_is_opened_again(path, number):
    """A connection that met a failing disk is not trusted again: a new one is opened, and writing goes on."""
    session = new_id()
    async with opened(path) as store:
        await store.append(one(session))
        before = store._writer._connection
        expected = StoreCorrupt if number == sqlite3.SQLITE_CORRUPT else StoreUnavailable
        with pytest.raises(expected):
            await store.do(disk_error(number))
        assert (await store.append(one(session, Exactly(1)))).state.version == 2
        assert store._writer._connection is not before
        assert before.closed
    assert audit(path) == 2


async def test_a_file_that_could_not_be_opened_again_is_tried_later(path):
    """If the file cannot be opened after a disk error, writes fail while that is so, and work when it can be again."""
    async with opened(path, reader_threads=1) as store:
        await store.append(one(new_id()))
        away = path.rename(path.with_suffix(".away"))
        path.write_bytes(b"not a database, for a moment" * 40)
        with pytest.raises(StoreUnavailable):
            await store.do(disk_error())
        path.unlink()
        away.rename(path)
        async with asyncio.timeout(5):
            assert (await store.append(one(new_id()))).events[0].position == 2


async def test_a_refused_write_is_not_kept(path):
    """Who was refused is told why, and nothing of it stays in memory, nor of those that were written with it; not even
    until garbage is collected.
    """
    session = new_id()
    async with opened(path) as store:
        await store.append(one(session))
        gc.collect()
        gc.disable()
        before = alive(VersionConflict)
        try:
            for _ in range(20):
                writes = [one(session, Exactly(99)), one(session, AnyVersion()), one(new_id(), Exists())]
                answers = await asyncio.gather(*map(store.append, writes), return_exceptions=True)
                assert [type(answer) for answer in answers] == [VersionConflict, Appended, VersionConflict]
            del answers
            await store.append(one(new_id()))  # until then the writer has the last it did
            assert alive(VersionConflict) <= before
        finally:
            gc.enable()


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("NOT SHOWN: what a full disk does. A tmpfs cannot be mounted here; run as root with CAP_SYS_ADMIN")
    yield folder
    gc.collect()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def fill(store, session):
    """Append until there is no room; how many appends were acknowledged."""
    for number in range(1000):
        try:
            async with asyncio.timeout(3):
                await store.append(one(session, Exactly(number), event(body=os.urandom(20_000))))
        except StoreFull:
            return number
    raise AssertionError("the disk never filled")


@pytest.mark.parametrize("checkpoint_pages", [100_000, 50, 1], ids=["no checkpoint", "checkpoints", "always"])
async def test_a_full_disk_fails_the_append_and_nothing_else(small_disk, checkpoint_pages):
    """Without room an append fails and says so, what was acknowledged can be read, and writing resumes when there is
    room, in the same process.
    """
    path, session = small_disk / "log.db", new_id()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"." * (3 << 20))
    async with opened(path, checkpoint_pages=checkpoint_pages) as store:
        written = await fill(store, session)
        assert written > 10
        for _ in range(3):
            async with asyncio.timeout(5):
                with pytest.raises(StoreFull) as refused:
                    await store.append(one(session, AnyVersion(), event(body=os.urandom(200_000))))
            assert refused.value.code == "store_full"
        assert query(path, "SELECT count(*) FROM events") == [(written,)]
        ballast.unlink()
        async with asyncio.timeout(5):
            answer = await store.append(one(session, Exactly(written), event(body=os.urandom(20_000))))
        assert answer.events[0].position == written + 1
    assert audit(path) == written + 1


async def test_a_small_write_may_fit_where_a_large_one_did_not(small_disk):
    """On a full disk each waiting write gets its own answer: batch-mates of one that is too large are recorded."""
    path = small_disk / "log.db"
    (small_disk / "ballast").write_bytes(b"." * (5 << 20))
    async with opened(path, checkpoint_pages=100_000) as store:
        await store.append(one(new_id()))
        async with one_batch(store):
            small = submit(store, one(new_id()))
            large = submit(store, one(new_id(), AnyVersion(), event(body=os.urandom(2 << 20))))
            later = submit(store, one(new_id()))
        assert isinstance(await outcome(large), StoreFull)
        assert [(await answer).events[0].position for answer in (small, later)] == [2, 3]
    assert audit(path) == 3


async def test_a_turn_on_a_full_disk_ends_when_there_is_room(small_disk, tmp_path):
    """The stream shows what is on disk and ends with an error that has no number, the provider is let go, reads go on;
    when there is room the turn's end is recorded and the session can be used, without a restart.
    """
    path, ballast = small_disk / "chat.db", small_disk / "ballast"
    ballast.write_bytes(b"." * (4 << 20))
    answer = {"text": "0123456789" * 300_000, "chunk_chars": 2000, "every_ms": 1}
    async with chatting(path, long=says(answer), short=says("Fine."), checkpoint_pages=100_000) as chat:
        session = await chat.create_session(model="scripted/long")
        turn = await begin(chat, session.id, "Go on.")
        async with asyncio.timeout(30):
            frames = await frames_of(chat, turn)
        assert (frames[-1].number, frames[-1].type) == (0, "error")
        assert b'"store_full"' in frames[-1].data
        assert [frame.number for frame in frames[:-1]] == [*range(1, len(frames))]
        assert (await chat.turn(turn)).status == "running"
        assert len((await chat.messages(session.id)).items) == 1
        ballast.unlink()
        await until(lambda: ended(chat, turn), timeout_s=10)
        end = await chat.turn(turn)
        assert (end.status, end.error.code) == ("failed", "store_full")
        assert await frames_of(chat, turn) == [*frames[:-1], *(await frames_of(chat, turn, frames[-2].number))]
        assert (await chat.say(session.id, "Are you there?", model="scripted/short")).status == "completed"
    audit(path)


async def ended(chat, turn):
    return (await chat.turn(turn)).status != "running"


# --- beside the writer ------------------------------------------------------------------------------------------------


async def test_a_store_for_reading_stands_beside_the_writer(path):
    """It sees what is committed, as it is committed, and can write nothing by any way."""
    session = new_id()
    async with opened(path) as store, open_reading(path, engine.Settings()) as beside:
        for number in (1, 2):
            await store.append(one(session))
            count = await beside.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM events").scalar())
            assert count == number
        assert (store.writable, beside.writable) == (True, False)
        with pytest.raises(StoreUnavailable):
            await beside.append(one(session))
        with pytest.raises(EngineError):
            await beside.read(lambda c: c.exec_driver_sql("DELETE FROM heads"))
        await store.append(one(session))
    assert audit(path) == 3


async def test_a_reader_sees_one_moment(path):
    """What one function reads is of one moment, whatever is committed meanwhile."""
    session = new_id()
    read, appended = threading.Event(), threading.Event()

    def look(connection):
        first = connection.exec_driver_sql("SELECT count(*) FROM events").scalar()
        read.set()
        assert appended.wait(10)
        return first, connection.exec_driver_sql("SELECT count(*) FROM events").scalar()

    async with opened(path) as store:
        await store.append(one(session))
        looking = asyncio.ensure_future(store.read(look))
        await asyncio.to_thread(read.wait)
        await store.append(one(session))
        appended.set()
        assert await looking == (1, 1)
        assert await store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM events").scalar()) == 2


async def test_bells_ring_for_those_who_wait(path):
    """A commit wakes who listens to its session or to its log, and nobody else."""
    session = new_id()
    async with opened(path) as store:
        with (
            store.bells.listen("default", session) as mine,
            store.bells.listen("default", None) as log,
            store.bells.listen("default", new_id()) as other,
            store.bells.listen("other", session) as stranger,
        ):
            await store.append(one(session))
            assert [bell.is_set() for bell in (mine, log, other, stranger)] == [True, True, False, False]
            mine.clear()
            await outcome(store.append(one(session, Exactly(7))))
            assert not mine.is_set()
        assert not store.bells._waiting


async def test_trying_to_write_changes_nothing(path):
    """``probe`` succeeds where a write would, and leaves no trace."""
    async with opened(path) as store:
        await store.append(one(new_id()))
        before = query(path, "PRAGMA data_version"), query(path, "SELECT * FROM heads")
        await store.do(probe)
        assert query(path, "SELECT * FROM heads") == before[1]
    assert audit(path) == 1


# --- runs and the journal ---------------------------------------------------------------------------------------------

OWNER, RIVAL = new_id(), new_id()


def row(turn, frame, tenant="default", text=b"x"):
    return JournalRow(tenant, turn, frame, new_id(), 0, "delta", 3, text)


def run(session, turn, owner=OWNER, lease_until=100):
    return OpenRun("default", turn, session, owner, lease_until)


async def test_a_run_begins_and_ends_with_its_appends(path):
    """A run and its journal stand from the append that opens it to the one that closes it."""
    session, turn, other = new_id(), new_id(), new_id()
    async with opened(path) as store:
        await store.append(one(session, scratch=(run(session, turn),)))
        await store.append(one(other, scratch=(run(other, new_id()),)))
        rows = [row(turn, frame, text=b"\x00\xff%d" % frame) for frame in (2, 3, 4)]
        assert await store.do(partial(write_journal, work=WriteJournal(OWNER, rows))) == frozenset()
        assert await store.read(partial(journal_rows, tenant="default", turn=turn)) == rows
        assert Run("default", turn, session, OWNER, 100, None) in await store.read(open_runs)
        await store.append(one(session, scratch=(CloseRun("default", turn, OWNER),)))
        assert await store.read(partial(journal_rows, tenant="default", turn=turn)) == []
        assert [each.session for each in await store.read(open_runs)] == [other]


async def test_a_session_has_one_run(path):
    """The table itself refuses a second run of a session, and the append that wanted it writes nothing."""
    session = new_id()
    async with opened(path) as store:
        await store.append(one(session, scratch=(run(session, new_id()),)))
        with pytest.raises(StoreUnavailable):
            await store.append(one(session, scratch=(run(session, new_id()),)))
        assert len(await store.read(open_runs)) == 1
    assert audit(path) == 1


@pytest.mark.parametrize(
    ("owner", "allowed"), [(OWNER, True), (None, True), (RIVAL, False)], ids=["owner", "recovery", "rival"]
)
async def test_only_its_owner_or_recovery_ends_a_run(path, owner, allowed):
    """Whoever has lost a run cannot write its end; nor can anybody end it twice."""
    session, turn = new_id(), new_id()
    async with opened(path) as store:
        await store.append(one(session, scratch=(run(session, turn),)))
        close = one(session, scratch=(CloseRun("default", turn, owner),))
        if allowed:
            await store.append(close)
            close = one(session, scratch=(CloseRun("default", turn, owner),))
        with pytest.raises(TurnNotOpen):
            await store.append(close)
    assert audit(path) == 1 + allowed


async def test_a_journal_is_its_owners(path):
    """Rows of turns that the writer does not own are not written, and it is told which; the others are."""
    sessions, turns = [new_id(), new_id()], [new_id(), new_id(), new_id()]
    async with opened(path) as store:
        await store.append(one(sessions[0], scratch=(run(sessions[0], turns[0]),)))
        await store.append(one(sessions[1], scratch=(run(sessions[1], turns[1], owner=RIVAL),)))
        work = WriteJournal(OWNER, [row(turn, 2) for turn in turns])
        assert await store.do(partial(write_journal, work=work)) == {turns[1], turns[2]}
        assert query(path, "SELECT turn FROM journal") == [(turns[0].bytes,)]
        assert await store.do(lambda tx: owner_of(tx, "default", turns[1])) == RIVAL
        assert await store.do(lambda tx: owner_of(tx, "default", turns[2])) is None


async def test_a_sign_of_life_extends_the_owners_leases(path):
    """Every run of an owner is extended, and nobody else's."""
    async with opened(path) as store:
        for owner in (OWNER, OWNER, RIVAL):
            session = new_id()
            await store.append(one(session, scratch=(run(session, new_id(), owner),)))
        await store.do(partial(extend_leases, work=ExtendLeases(OWNER, 500)))
        leases = sorted((each.owner == OWNER, each.lease_until) for each in await store.read(open_runs))
    assert leases == [(False, 100), (True, 500), (True, 500)]


async def test_the_first_to_cancel_is_remembered(path):
    """A wish to cancel is a row; the first who asked is kept; a turn that is not open cannot be cancelled."""
    session, turn = new_id(), new_id()
    async with opened(path) as store:
        await store.append(one(session, scratch=(run(session, turn),)))
        asked = [
            await store.do(partial(request_cancel, tenant=tenant, turn=asked_for, actor=actor))
            for tenant, asked_for, actor in [
                ("default", turn, "key:a"),
                ("default", turn, "key:b"),
                ("other", turn, "key:c"),
                ("default", new_id(), "key:d"),
            ]
        ]
        assert asked == [True, True, False, False]
        assert [each.cancelled_by for each in await store.read(open_runs)] == ["key:a"]


@pytest.mark.parametrize("what", ["sessions", "long words", "turns", "long frames"])
async def test_the_write_ahead_log_stays_near_its_setting(path, what):
    """Whatever is written, it is moved when about so many pages wait: rows that lie far apart count each, and so do
    large ones.
    """
    most, sessions = 400, [new_id() for _ in range(60)]
    turns = {session: new_id() for session in sessions}
    async with opened(path, checkpoint_pages=most) as store:
        for session, turn in turns.items():
            await store.append(one(session, scratch=(run(session, turn),)))

        def journal(number, turns, size):
            work = WriteJournal(OWNER, [row(turn, number, text=b"x" * size) for turn in turns])
            return store.do(partial(write_journal, work=work))

        write = {
            "sessions": lambda _: asyncio.gather(*(store.append(one(session)) for session in sessions)),
            "long words": lambda _: store.append(one(sessions[0], AnyVersion(), event(body=os.urandom(100_000)))),
            "turns": lambda number: journal(number, turns.values(), 400),
            "long frames": lambda number: journal(number, [turns[sessions[0]]], 100_000),
        }[what]
        for number in range(60):
            await write(number)
        assert path.with_name(f"{path.name}-wal").stat().st_size < 2.5 * most * PAGE_BYTES
