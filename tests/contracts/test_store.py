"""The contract of ``engine.log.base``, clause by clause, on real files.

The projector here is the least there can be: a session's state is its version. What a store promises, it promises
without knowing of chat.
"""

import asyncio
import hashlib
import random
import threading
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import msgspec
import pytest

from manent.engine.clock import SystemClock, new_id
from manent.engine.errors import EngineError, IdempotencyMismatch, Refused, StoreError, VersionConflict
from manent.engine.log import append, transaction
from manent.engine.log.base import AnyVersion, Append, Exactly, Exists, NewEvent, NoStream, Reference, RequestKey
from manent.engine.log.sql import reads
from manent.engine.log.sql.session_index import PLACES_AT_ONCE, SessionQuery
from manent.engine.log.sql.tables import events
from manent.engine.log.sqlite.schema import migrate
from manent.engine.log.store import open_store
from manent.engine.sessions.projector import Catalog
from manent.engine.settings import Settings
from tests.support import ManualClock, audit, dump, query

FACTS = b'{"n":1}'


class Version(msgspec.Struct, frozen=True):
    """The state of a session."""

    version: int


class Counting:
    """A projector without rows."""

    def load(self, connection, tenant, session):
        sql = "SELECT max(version) FROM events WHERE tenant = ? AND session = ?"
        version = connection.exec_driver_sql(sql, (tenant, session.bytes)).scalar()
        return None if version is None else Version(version)

    def inherited(self, first):
        return None

    def current(self, connection, tenant, state):
        return state

    def fold(self, state, event):
        assert event.version == (state.version if state else 0) + 1
        return Version(event.version)

    def flush(self, connection):
        """There are no rows."""

    def forget(self):
        """There is nothing to forget."""


@asynccontextmanager
async def opened(path, clock=None, projector=None, decode=None, **settings):
    """A store on a migrated file."""
    migrate(path)
    async with open_store(path, projector or Counting(), clock or SystemClock(), Settings(**settings), decode) as store:
        yield store


@asynccontextmanager
async def one_batch(store):
    """Whatever is submitted inside is done in one transaction: the writer is held up until the end."""
    entered, release = threading.Event(), threading.Event()

    def hold(_):
        entered.set()
        assert release.wait(30)

    held = store.submit(hold)
    try:
        await asyncio.to_thread(entered.wait)
        yield
    finally:
        release.set()
        await held


def event(body=b"words", facts=FACTS, **fields):
    return NewEvent(
        **{"id": new_id(), "type": "thing.happened", "schema": 1, "facts": facts, "actor": "local"} | fields, body=body
    )


def one(session, expected=AnyVersion(), *events, tenant="default", **fields):  # noqa: B008 - a frozen value
    """An append, of one event unless some are given."""
    return Append(tenant, session, expected, events or (event(),), **fields)


def submit(store, work):
    return store.submit(lambda tx: append.append(tx, work))


async def outcome(future):
    """A result, or the EngineError that stands for it."""
    try:
        return await future
    except EngineError as error:
        return error


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


# --- order ------------------------------------------------------------------------------------------------------------


async def test_positions_and_versions_are_dense_whoever_appends(path):
    """64 tasks on 24 sessions of three tenants: no number is missing, none is given twice, and every event is there."""
    sessions = [(f"tenant-{number % 3}", new_id()) for number in range(24)]
    acknowledged = []

    async def work(store, seed):
        chance = random.Random(seed)
        for _ in range(12):
            tenant, session = chance.choice(sessions)
            news = [event(body=chance.randbytes(20)) for _ in range(chance.randint(1, 3))]
            answer = await store.append(one(session, AnyVersion(), *news, tenant=tenant))
            assert [recorded.id for recorded in answer.events] == [new.id for new in news]
            acknowledged.extend(answer.events)
            await asyncio.sleep(0)

    async with opened(path, cached_sessions=5, batch_writes=7) as store:
        await asyncio.gather(*(work(store, seed) for seed in range(64)))
    assert audit(path) == len(acknowledged)
    places = {(each.tenant, each.position, each.session.bytes, each.version, each.id.bytes) for each in acknowledged}
    assert places == set(query(path, "SELECT tenant, position, session, version, id FROM events"))


async def test_the_events_of_one_append_stand_together(path):
    """An append's events follow each other without a gap, also among batch-mates of one session."""
    session = new_id()
    async with opened(path) as store:
        async with one_batch(store):
            futures = [submit(store, one(session, AnyVersion(), *(event() for _ in range(3)))) for _ in range(20)]
        for answer in await asyncio.gather(*futures):
            first = answer.events[0]
            assert [each.position - first.position for each in answer.events] == [0, 1, 2]
            assert [each.version - first.version for each in answer.events] == [0, 1, 2]


async def test_an_answer_means_that_it_is_on_disk(path):
    """Whoever opens the file when an append is acknowledged finds its events."""
    session = new_id()
    async with opened(path) as store:
        for number in range(1, 6):
            await store.append(one(session))
            assert query(path, "SELECT count(*) FROM events") == [(number,)]


async def test_logs_do_not_know_each_other(path):
    """Two tenants may use the same session and event ids, and each begins at position 1."""
    session, same = new_id(), event()
    async with opened(path) as store:
        for tenant in ("left", "right"):
            answer = await store.append(one(session, NoStream(), same, tenant=tenant))
            assert (answer.events[0].position, answer.events[0].version) == (1, 1)
            assert answer.replayed is None
    assert audit(path) == 2


async def test_time_never_runs_backwards_in_a_log(path):
    """While the clock is behind the log's last event, events get that event's time; also after a restart."""
    clock, session = ManualClock(), new_id()
    times = []

    async def append(store, moved_us):
        clock.time_us += moved_us
        times.append((await store.append(one(session))).events[0].recorded_at)

    async with opened(path, clock) as store:
        for moved_us in (0, -5_000_000, 1_000_000, 4_500_000):
            await append(store, moved_us)
    async with opened(path, clock) as store:
        await append(store, -9_000_000)
    start = 1_800_000_000_000_000
    assert times == [start, start, start, start + 500_000, start + 500_000]


async def test_a_log_keeps_the_name_it_was_begun_with(path):
    """The origin is written once, stands in every leaf, and is the same after a restart."""
    session = new_id()
    for _ in range(2):
        async with opened(path) as store:
            await store.append(one(session))
    ((tenant, position, origin),) = query(path, "SELECT tenant, from_position, origin FROM origins")
    assert (tenant, position) == ("default", 1)
    assert origin.startswith("manent/")
    assert origin.endswith("/default")
    assert audit(path) == 2


async def test_every_commitment_and_leaf_can_be_recomputed(path):
    """An auditor with the file alone gets the same hashes, for facts and words of every kind, with every field set."""
    session, cause = new_id(), new_id()
    odd = 'tab\there, nul\\u0000, \\"quoted\\", \\u2028, é, 漢字, 😀, \u202e'.encode()
    news = [
        event(),
        event(body=b""),
        event(body=bytes(range(256))),
        event(body=odd, facts='{"a":[1,null,true,"é\u2028😀"],"b":{}}'.encode()),
        event(causation=cause, correlation="req-1._A", actor=f"turn:{cause}", schema=7, type="noun.past-participle"),
    ]
    async with opened(path) as store:
        recorded = (await store.append(one(session, NoStream(), *news))).events
    assert audit(path) == len(news)
    for new, old in zip(news, recorded, strict=True):
        assert (old.facts, old.body, old.length, old.causation, old.correlation) == (
            new.facts,
            new.body,
            len(new.body),
            new.causation,
            new.correlation,
        )


async def test_salts_are_fresh(path):
    """The same words twice have different salts and commitments."""
    async with opened(path) as store:
        await store.append(one(new_id(), NoStream(), *(event(body=b"yes") for _ in range(50))))
    rows = query(path, "SELECT salt, commitment FROM bodies JOIN events USING (tenant, position)")
    assert len({salt for salt, _ in rows}) == len({commitment for _, commitment in rows}) == 50
    assert {len(salt) for salt, _ in rows} == {16}


async def test_what_is_read_is_what_was_acknowledged(path):
    """Events read by session, by position, by id and by page are those that the appends answered with."""
    session, other = new_id(), new_id()
    async with opened(path) as store:
        mine = [e for _ in range(4) for e in (await store.append(one(session, AnyVersion(), event(), event()))).events]
        await store.append(one(other))
        assert await store.read(lambda c: reads.session_events(c, "default", session)) == mine
        assert await store.read(lambda c: reads.session_events(c, "default", session, after=2, up_to=5)) == mine[2:5]
        assert await store.read(lambda c: reads.session_events(c, "default", session, after=6, limit=1)) == mine[6:7]
        assert await store.read(lambda c: reads.log_events(c, "default", after=3, limit=2)) == mine[3:5]
        assert await store.read(lambda c: reads.event_by_id(c, "default", mine[1].id)) == mine[1]
        assert await store.read(lambda c: reads.event_at_version(c, "default", session, 3)) == mine[2]
        assert await store.read(lambda c: reads.event_at_position(c, "default", 4)) == mine[3]
        assert await store.read(lambda c: reads.events_at_positions(c, "default", [5, 1])) == [mine[0], mine[4]]
        assert await store.read(lambda c: reads.event_by_id(c, "default", new_id())) is None
        assert await store.read(lambda c: reads.log_size(c, "nobody")) == 0
        assert [e.position for e in await store.read(lambda c: [*reads.all_events(c)])] == [*range(1, 10)]


# --- what events mean -------------------------------------------------------------------------------------------------


async def test_an_event_means_what_the_decoder_of_its_store_says(path):
    """Whatever way it is read, by readers and by the writer; one just appended means what whoever made it said."""
    session, told = new_id(), event(meaning="as it was told")

    def decode(kind, schema, facts):
        return (kind, schema, facts)

    async with opened(path, decode=decode) as store:
        (appended,) = (await submit(store, one(session, NoStream(), told))).events
        assert appended.meaning == "as it was told"
        ways = {
            "by id": lambda c: reads.event_by_id(c, "default", told.id),
            "by version": lambda c: reads.event_at_version(c, "default", session, 1),
            "by position": lambda c: reads.event_at_position(c, "default", 1),
            "of the session": lambda c: reads.session_events(c, "default", session)[0],
            "of a type": lambda c: reads.session_events_of_types(c, "default", session, [told.type], after=0, limit=1)[
                0
            ],
            "of the log": lambda c: reads.log_events(c, "default")[0],
            "of all": lambda c: next(reads.all_events(c)),
            "at positions": lambda c: reads.events_at_positions(c, "default", [1])[0],
        }
        for way, read in ways.items():
            assert (await store.read(read)).meaning == ("thing.happened", 1, FACTS), way
        (again,) = (await submit(store, one(session, AnyVersion(), told))).events
        assert again.meaning == ("thing.happened", 1, FACTS)


async def test_a_store_without_a_decoder_says_nothing_of_what_events_mean(path):
    """Then they have no meaning, and are the same in all else."""
    session, told = new_id(), event()
    async with opened(path) as store:
        (appended,) = (await submit(store, one(session, NoStream(), told))).events
        read = await store.read(lambda c: reads.event_by_id(c, "default", told.id))
        assert read == appended
        assert read.meaning is None


# --- the expected version ---------------------------------------------------------------------------------------------


BACKWARDS = SessionQuery((events.c.version,), descending=True)


ALL_OF_IT = SessionQuery(reads.recorded_columns, reads.with_bodies)


def known_end(connection, tenant, session, **part):
    """The same where the position of the session's last event is known."""
    return list(map(reads.reading(connection), ALL_OF_IT(connection, tenant, session, **part)))


def backwards(connection, tenant, session, part):
    return [version for (version,) in BACKWARDS(connection, tenant, session, *part)]


async def test_a_head_that_is_not_kept_is_read_again(path, monkeypatch):
    """Logs that are written by turns are whole, with their trees, also where only one of them is known by heart."""
    monkeypatch.setattr(transaction, "MOST_LOGS", 1)
    tenants, session = ("acme", "bolt", "core"), new_id()
    async with opened(path) as store:
        for _ in range(9):
            for tenant in tenants:
                await store.append(one(session, AnyVersion(), *(event() for _ in range(70)), tenant=tenant))
            assert len(store._writer._heads.logs) == 1
    assert audit(path) == 3 * 9 * 70
    assert query(path, "SELECT tenant, count(*) FROM tiles GROUP BY tenant") == [(tenant, 2) for tenant in tenants]


@pytest.mark.parametrize("seed", range(4))
async def test_a_session_is_read_in_order_from_a_log_of_any_length(path, seed):
    """All of it and any part, forwards and backwards, at every length of the log near one at which places are written;
    another connection sees the same.
    """
    chance = random.Random(seed)
    sessions, mine = [new_id() for _ in range(3)], {}
    kinds = ("thing.happened", "thing.seen")
    edges = [PLACES_AT_ONCE + more for more in (-1, 0, 1, PLACES_AT_ONCE, PLACES_AT_ONCE + 1)]
    async with opened(path) as store:
        for size in sorted({*chance.sample(range(1, 3 * PLACES_AT_ONCE), 8), *edges}):
            while (missing := size - sum(map(len, mine.values()))) > 0:
                session = chance.choice(sessions)
                news = [event(type=chance.choice(kinds)) for _ in range(min(missing, chance.choice([1, 2, 40])))]
                recorded = await store.append(one(session, AnyVersion(), *news))
                mine.setdefault(session, []).extend(recorded.events)
            places = query(path, "SELECT session, version, position FROM places ORDER BY position")
            every = sorted((each for found in mine.values() for each in found), key=lambda each: each.position)
            placed = every[: size - size % PLACES_AT_ONCE]
            assert places == [(each.session.bytes, each.version, each.position) for each in placed]
            for session, right in mine.items():
                after, limit = chance.randrange(len(right) + 1), chance.randrange(1, len(right) + 2)
                up_to = chance.randrange(after, len(right) + 2)
                part = {"after": after, "up_to": up_to, "limit": limit}
                seen = [each for each in right[after:] if each.type == kinds[1]]
                back = [each.version for each in reversed(right[after:up_to])]
                for ask, answer in (
                    (reads.session_events, right),
                    (partial(reads.session_events, **part), right[after:up_to][:limit]),
                    (partial(reads.session_events_of_types, types=kinds[1:], after=after, limit=limit), seen[:limit]),
                    (partial(known_end, end=right[-1].position, **part), right[after:up_to][:limit]),
                    (partial(reads.event_at_version, version=len(right)), right[-1]),
                    (partial(reads.event_at_version, version=len(right) + 1), None),
                    (partial(backwards, part=(after, up_to, limit)), back[:limit]),
                ):
                    assert await store.read(partial(ask, tenant="default", session=session)) == answer


@pytest.mark.parametrize(
    ("begun", "expected", "holds"),
    [
        (False, Exactly(0), True),
        (False, Exactly(1), False),
        (False, NoStream(), True),
        (False, Exists(), False),
        (False, AnyVersion(), True),
        (True, Exactly(3), True),
        (True, Exactly(2), False),
        (True, Exactly(4), False),
        (True, Exactly(0), False),
        (True, NoStream(), False),
        (True, Exists(), True),
        (True, AnyVersion(), True),
    ],
    ids=str,
)
async def test_what_a_caller_expects_is_enforced(path, begun, expected, holds):
    """Each of the four kinds holds or is a conflict that names the current version, and a conflict writes nothing."""
    session, version = new_id(), 3 if begun else 0
    for restarted in (False, True):
        async with opened(path) as store:
            if begun and not restarted:
                await store.append(one(session, NoStream(), event(), event(), event()))
            before = dump(path)
            if holds and not restarted:
                assert (await store.append(one(session, expected))).events[0].version == version + 1
                return
            with pytest.raises(VersionConflict) as refused:
                await store.append(one(session, expected))
            assert refused.value.current_version == refused.value.extra["current_version"] == version
            assert dump(path) == before


async def test_batch_mates_that_expect_the_same_version_do_not_both_win(path):
    """Of appends that wait together one wins; the others are told the version it made; strangers are not touched."""
    session, stranger = new_id(), new_id()
    async with opened(path) as store:
        await store.append(one(session, NoStream()))
        async with one_batch(store):
            rivals = [submit(store, one(session, Exactly(1), event(), event())) for _ in range(5)]
            other = submit(store, one(stranger, NoStream()))
        first, *rest = [await outcome(rival) for rival in rivals]
        assert [each.version for each in first.events] == [2, 3]
        assert [(type(lost), lost.current_version) for lost in rest] == [(VersionConflict, 3)] * 4
        assert (await other).events[0].position == 4
    assert audit(path) == 4


async def test_a_chain_of_batch_mates_each_sees_the_one_before(path):
    """Appends that expect versions 0, 1, 2 … succeed within one transaction."""
    session = new_id()
    async with opened(path) as store:
        async with one_batch(store):
            chain = [submit(store, one(session, Exactly(number))) for number in range(10)]
        assert [answer.events[0].version for answer in await asyncio.gather(*chain)] == [*range(1, 11)]


async def test_one_of_many_writers_wins_each_version(path):
    """Sixteen tasks that read a version and append at it lose no update: what each was told is what is there."""
    session, won, told = new_id(), [], []

    async def work(store, name):
        for _ in range(8):
            version = len(won)
            try:
                await store.append(one(session, Exactly(version), event(body=name)))
            except VersionConflict as conflict:
                told.append(conflict.current_version - version)
            else:
                won.append(name)
            await asyncio.sleep(0)

    async with opened(path) as store:
        await asyncio.gather(*(work(store, b"%d" % number) for number in range(16)))
        events = await store.read(lambda c: reads.session_events(c, "default", session))
    assert sorted(each.body for each in events) == sorted(won)
    assert all(ahead > 0 for ahead in told)
    assert [each.version for each in events] == [*range(1, len(won) + 1)]


# --- deciding inside the transaction ----------------------------------------------------------------------------------


async def test_events_are_decided_on_the_state_at_that_moment(path):
    """A deciding function is given the place of its first event and the state, batch-mates included."""
    session, seen = new_id(), []

    def decide(place, state):
        seen.append((place.position, place.version, state and state.version))
        return [event(), event()]

    async with opened(path) as store:
        async with one_batch(store):
            futures = [submit(store, Append("default", session, AnyVersion(), decide)) for _ in range(3)]
        answers = await asyncio.gather(*futures)
    assert seen == [(1, 1, None), (3, 3, 2), (5, 5, 4)]
    assert [answer.state.version for answer in answers] == [2, 4, 6]


async def test_a_decision_to_refuse_concerns_nobody_else(path):
    """A refusal inside a batch is answered alone and leaves no trace; its mates are recorded."""

    def refuse(place, state):
        raise Refused("no")

    async with opened(path) as store:
        async with one_batch(store):
            good = submit(store, one(new_id()))
            bad = submit(store, Append("new-tenant", new_id(), AnyVersion(), refuse))
            late = submit(store, one(new_id()))
        assert isinstance(await outcome(bad), Refused)
        assert [(await answer).events[0].position for answer in (good, late)] == [1, 2]
    assert audit(path) == 2
    assert query(path, "SELECT tenant FROM heads") == query(path, "SELECT tenant FROM origins") == [("default",)]


async def test_a_decision_that_breaks_concerns_nobody_else(path):
    """A mistake in a deciding function reaches its own caller, and its batch-mates are recorded all the same."""

    def stumble(place, state):
        raise ZeroDivisionError

    async with opened(path) as store:
        async with one_batch(store):
            good = submit(store, one(new_id()))
            bad = submit(store, Append("default", new_id(), AnyVersion(), stumble))
            late = submit(store, one(new_id()))
        with pytest.raises(ZeroDivisionError):
            await bad
        assert sorted([(await answer).events[0].position for answer in (good, late)]) == [1, 2]
    assert audit(path) == 2


async def test_nothing_decided_is_nothing_written(path):
    """An append without events answers with the state, and does not begin a log."""
    async with opened(path) as store:
        answer = await store.append(Append("default", new_id(), AnyVersion(), lambda place, state: []))
        assert (answer.events, answer.state) == ((), None)
    assert query(path, "SELECT count(*) FROM heads") == [(0,)]


async def test_an_event_that_cannot_be_folded_is_not_written(path):
    """If the projector refuses an event, the append is refused as a whole, and the log goes on without it."""
    session = new_id()
    started = NewEvent(new_id(), "session.started", 1, b'{"model":"echo/echo"}', "local")
    async with opened(path, projector=Catalog()) as store:
        await store.append(one(session, NoStream(), started))
        before = dump(path)
        with pytest.raises(EngineError):
            await store.append(
                one(session, Exactly(1), NewEvent(new_id(), "session.archived", 1, b"{}", "local"), event())
            )
        assert dump(path) == before
        again = await store.append(one(session, Exactly(1), NewEvent(new_id(), "session.archived", 1, b"{}", "local")))
        assert again.events[0].position == 2
    assert audit(path) == 2


# --- event ids that come again ----------------------------------------------------------------------------------------


async def test_an_event_id_that_comes_again_gets_the_first_answer(path):
    """The same events again, now or after a restart, whatever version is expected: the first answer, nothing new."""
    session, news = new_id(), (event(), event(body=b""))
    async with opened(path) as store:
        first = await store.append(one(session, NoStream(), *news))
        await store.append(one(session))
        before = dump(path)
        for expected in (NoStream(), Exactly(0), AnyVersion(), Exactly(77)):
            again = await store.append(one(session, expected, *news))
            assert (again.events, again.replayed) == (first.events, Reference("event", news[-1].id, 2))
    async with opened(path) as store:
        again = await store.append(one(session, NoStream(), *news))
        assert again.events == first.events
        assert again.replayed is not None
    assert dump(path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"swords"},
        {"body": b"other"},
        {"facts": b'{"n":2}'},
        {"type": "other.happened"},
        {"schema": 2},
    ],
    ids=str,
)
async def test_an_event_id_with_other_words_is_refused(path, change):
    """An id that stands for other words, facts or another type is refused and changes nothing, also after a restart."""
    session, new = new_id(), event()
    other = msgspec.structs.replace(new, **change)
    async with opened(path) as store:
        await store.append(one(session, NoStream(), new))
        before = dump(path)
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(session, AnyVersion(), other))
    async with opened(path) as store:
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(session, AnyVersion(), other))
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(session, AnyVersion(), new, event()))
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(new_id(), AnyVersion(), new))
    assert dump(path) == before


async def test_batch_mates_with_one_event_id_are_one_event(path):
    """Of one append sent several times at once, one is recorded and all get its answer; other words are refused."""
    session, new = new_id(), event()
    async with opened(path) as store:
        async with one_batch(store):
            same = [submit(store, one(session, NoStream(), new)) for _ in range(4)]
            other = submit(store, one(session, AnyVersion(), msgspec.structs.replace(new, body=b"other")))
        answers = await asyncio.gather(*same)
        assert {answer.events[0].position for answer in answers} == {1}
        assert sum(answer.replayed is None for answer in answers) == 1
        assert isinstance(await outcome(other), IdempotencyMismatch)
    assert audit(path) == 1


async def test_decided_events_are_recognised_by_the_ids_their_caller_chose(path):
    """``known`` events that came before give the first answer, without deciding anew; other words are refused."""
    session, new = new_id(), event()
    decided = []

    def decide(place, state):
        decided.append(place.version)
        return [new]

    async with opened(path) as store:
        first = await store.append(Append("default", session, AnyVersion(), decide, known=(new,)))
        again = await store.append(Append("default", session, Exactly(0), decide, known=(new,)))
        assert again.events == first.events
        assert decided == [1]
        other = msgspec.structs.replace(new, body=b"other")
        with pytest.raises(IdempotencyMismatch):
            await store.append(Append("default", session, AnyVersion(), decide, known=(other,)))


async def erase(store, position):
    """What an erasure does to the tables."""

    def work(tx):
        tx.connection.exec_driver_sql("INSERT INTO erasures VALUES ('default', ?, ?)", (position, position))
        tx.connection.exec_driver_sql("DELETE FROM bodies WHERE tenant = 'default' AND position = ?", (position,))

    await store.do(work)


async def test_an_erased_event_still_has_its_first_answer(path):
    """After its words are erased, an event id gets the first answer, marked erased; what facts and length can tell
    apart is refused.
    """
    session, new = new_id(), event(body=b"secret")
    async with opened(path) as store:
        first = (await store.append(one(session, NoStream(), new))).events[0]
        await erase(store, 1)
    async with opened(path) as store:
        (again,) = (await store.append(one(session, NoStream(), new))).events
        assert (again.erased, again.body) == (True, None)
        assert (again.position, again.commitment, again.leaf_hash) == (1, first.commitment, first.leaf_hash)
        for change in ({"body": b"longer secret"}, {"facts": b'{"n":2}'}, {"type": "other.happened"}):
            with pytest.raises(IdempotencyMismatch):
                await store.append(one(session, AnyVersion(), msgspec.structs.replace(new, **change)))
    assert audit(path) == 1


async def test_one_id_twice_in_one_append_is_refused(path):
    """An append that names one id twice is refused as what it is, and not as a failing database; nothing is written."""
    new = event()
    async with opened(path) as store:
        with pytest.raises(EngineError) as refused:
            await store.append(one(new_id(), NoStream(), new, msgspec.structs.replace(new, body=b"again")))
        assert not isinstance(refused.value, StoreError)
    assert query(path, "SELECT count(*) FROM events") == [(0,)]


# --- requests that come again -----------------------------------------------------------------------------------------


def key(body=b"{}", **fields):
    return RequestKey(**{"principal": "key:a", "route": "POST /x", "key": "k"} | fields, body=body)


async def test_a_request_that_comes_again_is_told_what_it_made(path):
    """The same key and body: a reference to what was made, by default the session at its version; for ever."""
    session = new_id()
    async with opened(path) as store:
        first = await store.append(one(session, NoStream(), event(), event(), request=key()))
        assert (len(first.events), first.replayed) == (2, None)
        before = dump(path)
    for _ in range(2):
        async with opened(path) as store:
            again = await store.append(one(new_id(), NoStream(), request=key()))
            assert (again.events, again.replayed) == ((), Reference("session", session, 2))
    assert dump(path) == before


async def test_a_request_remembers_what_it_is_told_to(path):
    """A reference of the caller's own kind is kept as it is, and without a version it gets that of the session."""
    thing = new_id()
    async with opened(path) as store:
        for number, (given, kept) in enumerate([(0, 1), (41, 41)]):
            named = key(key=str(number))
            await store.append(one(new_id(), request=named, reference=Reference("thing", thing, given)))
            again = await store.append(one(new_id(), request=named))
            assert again.replayed == Reference("thing", thing, kept)


async def test_a_request_key_with_another_body_is_refused(path):
    """The key came before with another body: refused, nothing written, also after a restart."""
    async with opened(path) as store:
        await store.append(one(new_id(), request=key(b'{"a":1}')))
        before = dump(path)
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(new_id(), request=key(b'{"a":2}')))
    async with opened(path) as store:
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(new_id(), request=key(b"")))
    assert dump(path) == before


async def test_a_request_is_known_by_what_it_says_or_by_its_bytes(path):
    """A row is a request's if it was written over its meaning, or, by an earlier version, over its bytes; new rows are
    written over the meaning.
    """
    meaning, raw = b'{"a":1}', b'{ "a": 1.0 }'
    async with opened(path) as store:
        await store.append(one(new_id(), request=key(raw, key="old")))
        assert (await store.append(one(new_id(), request=key(meaning, raw=raw, key="old")))).replayed is not None
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(new_id(), request=key(meaning, raw=b'{"a":1.0}', key="old")))
        await store.append(one(new_id(), request=key(meaning, raw=raw, key="new")))
        for again in (raw, meaning, b'{"a":1e0}'):
            assert (await store.append(one(new_id(), request=key(meaning, raw=again, key="new")))).replayed is not None
        with pytest.raises(IdempotencyMismatch):
            await store.append(one(new_id(), request=key(b'{"a":2}', raw=b'{"a":2}', key="new")))
    kept = {name: (salt, found) for name, salt, found in query(path, "SELECT key, salt, fingerprint FROM requests")}
    assert kept["new"][1] == hashlib.sha256(kept["new"][0] + meaning).digest()


@pytest.mark.parametrize(
    "other", [{"principal": "key:b"}, {"route": "POST /y"}, {"key": "l"}, {"tenant": "other"}], ids=str
)
async def test_a_key_is_its_owners(path, other):
    """The same key of another principal, on another route or in another log is another request."""
    tenant = other.pop("tenant", "default")
    async with opened(path) as store:
        await store.append(one(new_id(), request=key()))
        answer = await store.append(one(new_id(), tenant=tenant, request=key(b"other", **other)))
        assert answer.replayed is None


async def test_batch_mates_with_one_key_are_one_request(path):
    """The same request sent several times at once is done once; all learn what it made."""
    async with opened(path) as store:
        async with one_batch(store):
            same = [submit(store, one(new_id(), NoStream(), request=key())) for _ in range(4)]
            other = submit(store, one(new_id(), NoStream(), request=key(b"other")))
        done, *again = await asyncio.gather(*same)
        made = Reference("session", done.events[0].session, 1)
        assert [answer.replayed for answer in again] == [made] * 3
        assert isinstance(await outcome(other), IdempotencyMismatch)
    assert audit(path) == 1


async def test_a_refused_request_is_not_remembered(path):
    """A key whose append was refused can be used again, with any body."""
    session = new_id()
    async with opened(path) as store:
        with pytest.raises(VersionConflict):
            await store.append(one(session, Exists(), request=key(b"first")))
        assert (await store.append(one(session, NoStream(), request=key(b"second")))).replayed is None


async def test_what_is_kept_of_a_request_does_not_betray_its_body(path):
    """The fingerprint is salted: nobody who has the file can try bodies without the salt, and no word is in it."""
    body = b"a body that somebody might guess"
    async with opened(path) as store:
        await store.append(one(new_id(), request=key(body)))
    ((salt, fingerprint),) = query(path, "SELECT salt, fingerprint FROM requests")
    assert len(salt) == 16
    assert fingerprint == hashlib.sha256(salt + body).digest()
    assert all(body not in file.read_bytes() for file in path.parent.iterdir())


async def test_a_request_whose_salt_is_erased_keeps_its_answer(path):
    """Without the salt nothing is left to compare with: any body gets the first answer."""
    async with opened(path) as store:
        first = await store.append(one(new_id(), request=key()))
        await store.do(lambda tx: tx.connection.exec_driver_sql("UPDATE requests SET salt = NULL"))
        again = await store.append(one(new_id(), request=key(b"anything")))
        assert again.replayed == Reference("session", first.events[0].session, 1)


# --- all or nothing ---------------------------------------------------------------------------------------------------


async def test_an_append_is_written_as_a_whole_or_not_at_all(path):
    """An append that the database refuses half way leaves nothing of itself, nor of its scratch or its request."""

    class Scratch:
        def check(self, connection):
            """Nothing against it."""

        def apply(self, connection):
            connection.exec_driver_sql("INSERT INTO runs VALUES ('default', x'01', x'02', x'03', 'not one', NULL, 0)")

    session = new_id()
    async with opened(path) as store:
        await store.append(one(session))
        before = dump(path)
        with pytest.raises(StoreError):
            await store.append(one(session, Exactly(1), event(), event(), request=key(), scratch=(Scratch(),)))
        assert dump(path) == before
        assert (await store.append(one(session, Exactly(1)))).events[0].position == 2
    assert audit(path) == 2


async def test_scratch_may_refuse_before_anything_is_written(path):
    """What a scratch check raises refuses the append; what it applies is written with the events."""

    class Scratch:
        def __init__(self, *, allowed):
            self.allowed = allowed

        def check(self, connection):
            if not self.allowed:
                raise Refused("not now")

        def apply(self, connection):
            ((events,),) = connection.exec_driver_sql("SELECT count(*) FROM events").fetchall()
            connection.exec_driver_sql("INSERT INTO runs VALUES ('default', x'01', x'02', x'', ?, NULL, 0)", (events,))

    async with opened(path) as store:
        with pytest.raises(Refused):
            await store.append(one(new_id(), scratch=(Scratch(allowed=False),)))
        assert query(path, "SELECT count(*) FROM events") == [(0,)]
        await store.append(one(new_id(), AnyVersion(), event(), event(), scratch=(Scratch(allowed=True),)))
    assert query(path, "SELECT lease_until FROM runs") == [(2,)], "scratch is applied after the events of its append"


async def test_an_id_is_16_bytes_in_the_file(path):
    """Ids are stored as bytes, and come back as the ids they were."""
    new = event(causation=new_id())
    async with opened(path) as store:
        (recorded,) = (await store.append(one(new_id(), NoStream(), new))).events
    ((found, cause),) = query(path, "SELECT id, causation FROM events")
    assert (UUID(bytes=found), UUID(bytes=cause)) == (new.id, new.causation) == (recorded.id, recorded.causation)
