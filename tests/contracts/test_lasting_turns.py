"""Turns that outlive their readers, end when nobody wants them, and cost one answer however often they are asked."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest

from manent import engine
from manent.engine.errors import IdempotencyMismatch, Overloaded, ShuttingDown
from manent.engine.events.usage import Usage
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, UsageReported
from manent.engine.turns.deduplicate import SWEEP_FROM, RetryDeduplicator
from tests.support import (
    Dictated,
    audit,
    begin,
    chatting,
    execute,
    frames_of,
    query,
    says,
    shown,
    text_of,
    texts_of,
    until,
)

HANG = {"hang": True}
SLOW = {"text": "abcdefghij" * 4, "chunk_chars": 2, "every_ms": 10}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


async def start(chat, model="scripted/main", **options):
    session = await chat.create_session(model=model)
    return await begin(chat, session.id, "Go.", **options)


async def status(chat, turn):
    """As the record has it: to ask the engine would be a sign of interest."""
    state = await chat._parts.follower.turn_state("default", turn)
    return state.status


async def settled(chat, turn):
    await until(lambda: is_over(chat, turn))
    return await status(chat, turn)


async def is_over(chat, turn):
    return await status(chat, turn) != "running"


# --- cancel -----------------------------------------------------------------------------------------------------------

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"Half"}}]}\n\n'


class Upstream:
    """A provider's server that says so much and then nothing; it notes when its client hangs up."""

    def __init__(self, *said):
        self.said = said
        self.requests = 0
        self.asked = asyncio.Event()
        self.left_at = None
        self.gone = asyncio.Event()

    async def serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        self.asked.set()
        for part in self.said:
            writer.write(part)
        while await reader.read(65536):
            pass
        self.left_at = time.monotonic()
        self.gone.set()
        writer.close()

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            server.close()


@pytest.mark.parametrize("said", [(), (SSE,), (SSE, CHUNK)], ids=["before the head", "before a chunk", "within"])
async def test_a_cancel_closes_the_connection_upstream_within_100_ms(path, said):
    """A provider is not paid for what nobody wants: also before it has said anything."""
    upstream = Upstream(*said)
    async with upstream.listening() as url:
        settings = engine.Settings(database=str(path), openai_base_url=url, openai_api_key="k", drain_s=1)
        async with engine.open(settings) as chat:
            turn = await start(chat, "openai/gpt-5")
            await upstream.asked.wait()
            if len(said) == 2:
                await shown(chat, turn, 3)
            cancelled_at = time.monotonic()
            view = await chat.cancel(turn, caller=engine.Caller("default", "key:7"))
            async with asyncio.timeout(5):
                await upstream.gone.wait()
            assert upstream.left_at - cancelled_at < 0.1
            assert upstream.requests == 1
            assert view.status == "cancelled"
            assert view.usage.estimated
            assert (view.message and text_of(view.message)) == ("Half" if len(said) == 2 else None)
            last = (await chat.events(view.session_id)).items[-1]
            assert (last.type, last.actor) == ("turn.cancelled", "key:7")


async def test_a_cancel_does_not_wait_for_the_disk(path):
    """However long a commit takes, the provider is let go at once; the cancel is answered when it is on record."""
    provider = Dictated(BlockStarted(0, "text"), Delta(0, "Half"), lambda: asyncio.Event().wait())
    async with chatting(path, providers=(provider,)) as chat:
        turn = await start(chat, "dictated/model")
        await shown(chat, turn, 3)
        holding = chat._parts.store.submit(lambda _: time.sleep(0.4))
        cancelling = asyncio.ensure_future(chat.cancel(turn))
        await asyncio.sleep(0.1)
        assert provider.left == 1
        assert not cancelling.done()
        await holding
        assert (await cancelling).status == "cancelled"


async def test_a_cancel_is_taken_however_much_waits_for_the_writer(path):
    """Who is overloaded is helped by it most."""
    async with chatting(path, main=says("Half", HANG), queue_writes=1) as chat:
        await until(chat.serving.ready)
        turn = await start(chat)
        await shown(chat, turn, 3)
        holding = [chat._parts.store.submit(lambda _: time.sleep(0.2))]
        with pytest.raises(Overloaded):
            await chat.create_session()
        assert (await chat.cancel(turn)).status == "cancelled"
        await asyncio.gather(*holding)


async def test_a_cancel_during_a_tool(path):
    """The tool is given up, and its call has a result for the next turn's model to read."""
    entered, left = asyncio.Event(), asyncio.Event()

    @engine.tool(name="wait")
    async def wait() -> str:
        """Waits."""
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return "never"

    call = {"tool": {"id": "call_1", "name": "wait", "input": {}}}
    script = chatting_with_tools(path, (wait,), main=says("Let me wait.", call))
    async with script as chat:
        turn = await start(chat, tools=("wait",))
        await entered.wait()
        asked_at = time.monotonic()
        view = await chat.cancel(turn)
        assert time.monotonic() - asked_at < 0.5
        assert left.is_set()
        assert view.status == "cancelled"
        assert [message.role for message in view.messages] == ["assistant", "tool"]
        assert (await chat.events(view.session_id)).items[-2].type == "message.appended"
    audit(path)


@asynccontextmanager
async def chatting_with_tools(path, tools, **models):
    async with chatting(path, **models) as chat:
        pass
    settings = engine.Settings(database=str(path), drain_s=1, max_attempts=1)
    async with engine.open(settings, providers=chat.providers, tools=tools) as chat:
        yield chat


@pytest.mark.parametrize(
    ("reported", "estimated"),
    [
        (None, True),
        (Usage(input_tokens=99, cache_read_tokens=40), True),
        (Usage(input_tokens=99, output_tokens=5), False),
    ],
    ids=["nothing", "the input", "all"],
)
async def test_what_a_cancelled_answer_used_is_counted(path, reported, estimated):
    """What the vendor said, and an estimate of what it did not come to say; an estimate is called one."""
    chunks = [BlockStarted(0, "text"), Delta(0, "Half an answer"), lambda: asyncio.Event().wait()]
    if reported is not None:
        chunks.insert(0, UsageReported(reported))
    async with chatting(path, providers=(Dictated(*chunks),)) as chat:
        turn = await start(chat, "dictated/model")
        await shown(chat, turn, 3)
        view = await chat.cancel(turn)
        assert view.usage.estimated is estimated
        told = Usage() if reported is None else reported
        for name in ("input_tokens", "output_tokens"):
            counted = getattr(view.usage, name)
            assert counted > 0
            assert getattr(told, name) in {None, counted}


async def test_a_keyed_cancel_is_one_cancel(path):
    """Its key is remembered, also after a restart; with another body it is refused and cancels nothing."""
    key = engine.RequestKey("local", "POST /cancel", "k", b"{}")
    other = engine.RequestKey("local", "POST /cancel", "k", b'{"a":1}')
    async with chatting(path, main=says("Half", HANG)) as chat:
        turn, second = await start(chat), await start(chat)
        first = await chat.cancel(turn, request=key)
        assert await chat.cancel(turn, request=key) == first
        with pytest.raises(IdempotencyMismatch):
            await chat.cancel(second, request=other)
        assert await status(chat, second) == "running"
        size = query(path, "SELECT count(*) FROM events")
    async with chatting(path) as chat:
        assert await chat.cancel(turn, request=key) == first
        with pytest.raises(IdempotencyMismatch):
            await chat.cancel(turn, request=other)
        assert query(path, "SELECT count(*) FROM events WHERE type = 'turn.cancelled'") == [(1,)]
        assert query(path, "SELECT count(*) FROM events")[0] >= size[0]


# --- nobody reads -----------------------------------------------------------------------------------------------------


async def test_a_waiting_caller_is_a_reader(path):
    """``on_disconnect: cancel``: while somebody waits for the end, a reader may leave; who waits and leaves, leaves."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        turn = await start(chat, on_disconnect="cancel")
        waiting = asyncio.ensure_future(chat.ended(turn))
        await asyncio.sleep(0.02)
        await shown(chat, turn, 3)
        await asyncio.sleep(0.05)
        assert await status(chat, turn) == "running"
        waiting.cancel()
        assert await settled(chat, turn) == "cancelled"


async def test_who_has_waited_long_enough_has_not_left(path):
    """A caller whose time is over is told how the turn is, and comes again; the turn goes on."""
    async with chatting(path, main=says("Half", HANG)) as chat:
        turn = await start(chat, on_disconnect="cancel")
        assert (await chat.ended(turn, wait_s=0.05)).status == "running"
        await asyncio.sleep(0.05)
        assert await status(chat, turn) == "running"
        await chat.cancel(turn)
        assert (await chat.ended(turn, wait_s=0)).status == "cancelled"


async def test_a_turn_that_nobody_reads_is_cancelled_in_time(path):
    """``cancel_unread_after_s``: from its start, or from the last reader's leaving; by the system; what came stays."""
    async with chatting(path, main=says("Half", HANG), cancel_unread_after_s=0.2) as chat:
        never = await start(chat)
        read = await start(chat)
        reading = asyncio.ensure_future(frames_of(chat, read))
        assert await settled(chat, never) == "cancelled"
        await asyncio.sleep(0.3)
        assert await status(chat, read) == "running"
        reading.cancel()
        assert await settled(chat, read) == "cancelled"
        view = await chat.turn(read)
        assert text_of(view.message) == "Half"
        assert (await chat.events(view.session_id)).items[-1].actor == "system"


async def test_who_asks_again_and_again_is_interested(path):
    """A client that cannot stream polls: its turn is not cancelled between two looks."""
    async with chatting(path, main=says(SLOW), cancel_unread_after_s=0.15) as chat:
        turn = await start(chat)
        for _ in range(8):
            await asyncio.sleep(0.05)
            view = await chat.turn(turn)
        assert (await chat.ended(turn)).status == view.status == "completed"


async def test_without_the_setting_a_turn_needs_no_reader(path):
    """The default: whoever started it finds the answer when they come back."""
    async with chatting(path, main=says(SLOW)) as chat:
        assert await settled(chat, await start(chat)) == "completed"


# --- asked for twice --------------------------------------------------------------------------------------------------


async def test_a_repetition_attaches_to_what_runs(path):
    """Without a key: the same words again, said to be a repetition, get the turn that runs; also while it starts."""
    said = engine.RequestKey("local", "POST /turns", "", b"Go.")
    async with chatting(path, main=says(SLOW)) as chat:
        session = (await chat.create_session(model="scripted/main")).id

        async def ask(*, repeated, said=said):
            async def begin_it():
                return await chat.start_turn(session, "Go.")

            return await chat.serving.start_once(said, begin_it, repeated=repeated)

        first, second = await asyncio.gather(ask(repeated=False), ask(repeated=True))
        third = await ask(repeated=True)
        assert first.turn == second.turn == third.turn
        assert [first.replayed, second.replayed, third.replayed] == [False, True, True]
        for stranger in (ask(repeated=False), ask(repeated=True, said=engine.RequestKey("key:2", *said_rest(said)))):
            with pytest.raises(engine.TurnAlreadyOpen):
                await stranger
        await chat.ended(first.turn)
        fourth = await ask(repeated=True)
        assert fourth.turn != first.turn
        await chat.ended(fourth.turn)
        assert len(chat.script.requests) == 2


def said_rest(said):
    return said.route, said.key, said.body


async def test_what_was_refused_is_not_attached_to():
    """A repetition of what did not start is a start."""
    repeats = RetryDeduplicator(lambda _: True)
    said = engine.RequestKey("local", "POST /turns", "", b"Go.")
    entered, release = asyncio.Event(), asyncio.Event()

    async def refused():
        entered.set()
        await release.wait()
        raise Overloaded("no")

    async def started():
        return engine.Started(engine.new_id(), engine.new_id())

    first = asyncio.ensure_future(repeats.once("t", said, repeated=False, start=refused))
    await entered.wait()
    second = asyncio.ensure_future(repeats.once("t", said, repeated=True, start=started))
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(Overloaded):
        await first
    assert not (await second).replayed
    assert (await repeats.once("t", said, repeated=True, start=started)).replayed
    assert not (await repeats.once("other", said, repeated=True, start=started)).replayed


async def test_what_is_over_is_forgotten():
    """However many turns are started, what is kept of them does not grow."""
    running = set()
    repeats = RetryDeduplicator(running.__contains__)

    async def started():
        return engine.Started(engine.new_id(), engine.new_id())

    for number in range(5 * SWEEP_FROM):
        said = engine.RequestKey("local", "POST /turns", "", b"%d" % number)
        running = {(await repeats.once("t", said, repeated=False, start=started)).turn}
        assert len(repeats._started) <= SWEEP_FROM + 1


# --- one turn's trouble is its own ------------------------------------------------------------------------------------


async def test_a_row_that_cannot_be_written_fails_its_own_turn_only(path):
    """Many turns' rows go to disk together; what is wrong with one of them ends one turn."""
    models = {f"m{number}": says(SLOW) for number in range(6)}
    async with chatting(path, **models) as chat:
        sessions = [await chat.create_session(model=f"scripted/{name}") for name in models]
        guard = (
            "CREATE TRIGGER t BEFORE INSERT ON journal WHEN NEW.frame = 7 AND NEW.turn = "
            f"(SELECT turn FROM runs WHERE session = x'{sessions[2].id.hex}') BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        await asyncio.to_thread(execute, path, guard)
        turns = [await begin(chat, session.id, "Go.") for session in sessions]
        chat._parts.store.submit(lambda _: time.sleep(0.4))  # meanwhile rows of all of them come together
        views = [await chat.ended(turn) for turn in turns]
        assert [view.status for view in views] == ["completed"] * 2 + ["failed"] + ["completed"] * 3
        assert all(text_of(view.message) == "abcdefghij" * 4 for view in views if view.status == "completed")
        for turn, view in zip(turns, views, strict=True):
            assert texts_of(await frames_of(chat, turn))[0] == text_of(view.message)


async def test_a_provider_that_never_waits_lets_others_run(path):
    """One whose chunks are all there already, and need no recording, does not hold up the loop."""
    many = [UsageReported(Usage(input_tokens=1))] * 400_000
    provider = Dictated(BlockStarted(0, "text"), *many, Delta(0, "x"), BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=(provider,)) as chat:
        gaps = []
        ticking = asyncio.ensure_future(tick(gaps))
        turn = await start(chat, "dictated/model")
        assert (await chat.ended(turn)).status == "completed"
        ticking.cancel()
        assert max(gaps) < 0.1


async def tick(gaps):
    """How long it takes to be let run again, each time."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0)
        gaps.append(time.monotonic() - before)


# --- the end of a server ----------------------------------------------------------------------------------------------


async def test_readers_are_told_of_a_shutdown_before_their_turn_ends(path):
    """In order: not ready, no more turns, readers told; then the turn ends, or is interrupted."""
    async with chatting(path, main=says(SLOW), other=says("Half", HANG)) as chat:
        ends, hangs = await start(chat), await start(chat, "scripted/other")
        readers = [asyncio.ensure_future(frames_of(chat, turn)) for turn in (ends, hangs)]
        await shown(chat, hangs, 3)
        draining = asyncio.ensure_future(chat.serving.drain())
        await asyncio.sleep(0)
        assert not await chat.serving.ready()
        with pytest.raises(engine.Overloaded):
            await begin(chat, (await chat.create_session()).id, "No.")
        await draining
        for reader, last in zip(readers, ("turn.completed", "turn.interrupted"), strict=True):
            frames = await reader
            assert frames.count(engine.SHUTTING_DOWN) == 1
            told = [frame for frame in frames if frame.number]
            assert [frame.number for frame in told] == [*range(1, len(told) + 1)]
            assert told[-1].type == last
            assert frames.index(engine.SHUTTING_DOWN) < len(frames) - 1


async def test_many_orphans_are_ended_together(path, tmp_path):
    """A server that died with many turns leaves none open; their ends share commits."""
    count = 60
    async with chatting(path, main=says("Half", HANG)) as chat:
        turns = [await start(chat) for _ in range(count)]
        for turn in turns:
            await shown(chat, turn, 3)
        await chat._parts.store.submit(lambda _: None)
        dead = tmp_path / "dead.db"
        dead.write_bytes(b"")
        query(path, "SELECT 1")
        copy(path, dead)
    notices = []
    settings = engine.Settings(database=str(dead))
    async with engine.open(settings, notice=notices.append) as chat:
        assert f"ended {count} turn(s) that a stopped server had left open" in notices
        for turn in turns:
            view = await chat.turn(turn)
            assert (view.status, text_of(view.message)) == ("interrupted", "Half")
        assert query(dead, "SELECT count(*) FROM runs") == [(0,)]
    audit(dead)


def copy(path, dead):
    """The file as another process would find it now."""
    for end in ("", "-wal", ".secret"):
        (dead.parent / (dead.name + end)).write_bytes((path.parent / (path.name + end)).read_bytes())


# --- waiting for the log ----------------------------------------------------------------------------------------------


async def test_events_can_be_waited_for(path):
    """At once where there are some; else as soon as one is committed; nothing when the time is over."""
    async with chatting(path) as chat:
        session, other = await chat.create_session(), await chat.create_session()
        page = await chat.events(session.id, wait_s=5)
        assert ([event.version for event in page.items], page.next) == ([1], None)
        began = time.monotonic()
        assert await chat.events(session.id, after=1, wait_s=0.1) == engine.Page([])
        assert time.monotonic() - began >= 0.1
        of_session = asyncio.ensure_future(chat.events(session.id, after=1, wait_s=5))
        of_type = asyncio.ensure_future(chat.events(session.id, types=("session.updated",), wait_s=5))
        of_log = asyncio.ensure_future(chat.log_events(after=2, wait_s=5))
        await asyncio.sleep(0.02)
        await chat.append_message(other.id, "Elsewhere.")
        assert [event.position for event in (await of_log).items] == [3]
        await chat.append_message(session.id, "Here.")
        assert [event.version for event in (await of_session).items] == [2]
        assert not of_type.done()
        await chat.update_session(session.id, title="t")
        assert [event.version for event in (await of_type).items] == [3]
        assert chat._parts.follower._readers == 0
        with pytest.raises(engine.SessionNotFound):
            await chat.events(engine.new_id(), wait_s=5)


async def test_who_waits_for_events_is_a_reader_and_is_let_go(path):
    """Bounded with all others, and not waited for at a shutdown; who would begin to wait then is told to come later,
    unless there is something for them.
    """
    async with chatting(path, max_readers=1) as chat:
        session = await chat.create_session()
        waiting = asyncio.ensure_future(chat.events(session.id, after=1, wait_s=60))
        await asyncio.sleep(0.02)
        with pytest.raises(Overloaded):
            await chat.log_events(after=1, wait_s=60)
        async with asyncio.timeout(5):
            await chat.serving.drain()
            assert await waiting == engine.Page([])
            with pytest.raises(ShuttingDown) as refused:
                await chat.events(session.id, after=1, wait_s=60)
            assert refused.value.extra["retry_after_s"] > 0
            assert len((await chat.events(session.id, wait_s=60)).items) == 1


# --- the ten-thousandth turn ------------------------------------------------------------------------------------------


async def test_the_last_turn_of_a_long_session_is_read_like_its_first(path, tell):
    """What is read for a turn's frames is the turn: the same rows, by the same indexes, wherever it stands."""
    async with chatting(path, main=says("0123456789")) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turns = [await begin(chat, session, "Go.")]
        await chat.ended(turns[0])
        await lengthen(chat, path, session, 10_000)
        turns.append(await begin(chat, session, "Go."))
        await chat.ended(turns[1])
        steps = [await steps_of(chat, turn) for turn in turns]
        costs = [await cost_of_reading(chat, turn) for turn in turns]
    tell(
        f"steps of SQLite for the first turn {steps[0]}, for the last {steps[1]}; ms {costs[0]:.2f} and {costs[1]:.2f}"
    )
    assert steps[1] <= steps[0] * 1.2 + 50


async def steps_of(chat, turn):
    """How many instructions SQLite runs to read a turn to its end, and its view."""

    def count(connection):
        raw, steps = connection.connection.dbapi_connection, 0

        def step():
            nonlocal steps
            steps += 1

        raw.set_progress_handler(step, 1)
        try:
            backlog, after = engine.streams.follow.Backlog("default", turn), 0
            while page := backlog.read(connection, after):
                after = page[-1].number
            engine.streams.backlog.read_turn(connection, tenant="default", turn_id=turn)
        finally:
            raw.set_progress_handler(None, 0)
        return steps

    return await chat._parts.store.read(count)


async def cost_of_reading(chat, turn):
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        await frames_of(chat, turn, after=3)
        best = min(best, time.perf_counter() - began)
    return best * 1000


async def lengthen(chat, path, session, turns):
    """Append the events of so many more turns, as they would be."""
    model = [event for event in (await chat.events(session)).items if event.version > 1]
    raw = query(
        path, "SELECT type, schema, facts, bytes FROM events JOIN bodies USING (tenant, position) WHERE version > 1"
    )
    assert len(raw) == len(model)
    for _ in range(turns // 100):
        news = [event for _ in range(100) for event in once_more(raw)]
        await chat._parts.store.append(engine.log.base.Append("default", session, engine.log.base.Exists(), news))


def once_more(raw):
    """A turn's events with ids of their own."""
    turn = engine.new_id()
    for kind, schema, facts, body in raw:
        values = json.loads(facts)
        if "turn" in values:
            values["turn"] = str(turn)
        event = turn if kind == "turn.started" else engine.new_id()
        yield engine.log.base.NewEvent(event, kind, schema, json.dumps(values).encode(), "local", body)
