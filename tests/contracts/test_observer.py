"""Observers: they hear of every attempt and turn that ends, however it ends, and can harm nothing."""

import asyncio

import pytest

from manent import engine
from manent.engine.errors import ProviderUnavailable
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended
from tests.support import (
    Dictated,
    ManualClock,
    begin,
    chatting,
    execute,
    frames_of,
    query,
    says,
    shown,
    snapshot,
    until,
)

SECRET = "words that nobody but their reader may see"
FAILS = {"fail": {"code": "provider_unavailable", "detail": "no"}}
WELL = (BlockStarted(0, "text"), Delta(0, "Well."), BlockStopped(0), Ended("end_turn"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "chat.db"


class Moody(Dictated):
    """Fails so often, and is well from then on."""

    def __init__(self, failures):
        super().__init__()
        self.failures = failures

    async def stream(self, request):
        self.failures -= 1
        if self.failures >= 0:
            raise ProviderUnavailable("it is not available", status=503)
        for chunk in WELL:
            yield chunk


class Notes(engine.Observer):
    """Writes everything down."""

    def __init__(self):
        self.models, self.attempts, self.turns, self.appends, self.flushes = [], [], [], [], []
        self.breakers, self.checkpoints = [], []

    def opened(self, models, providers):
        self.models.append((models, providers))

    def attempt_ended(self, attempt):
        self.attempts.append(attempt)

    def turn_ended(self, turn):
        self.turns.append(turn)

    def append_took(self, seconds):
        self.appends.append(seconds)

    def flush_took(self, seconds):
        self.flushes.append(seconds)

    def breaker_changed(self, provider, *, is_open):
        self.breakers.append((provider, is_open))

    def checkpoint_signed(self, tenant, size):
        self.checkpoints.append((tenant, size))

    def ends(self):
        return [(turn.outcome, turn.code) for turn in self.turns]


@pytest.fixture
def notes():
    return Notes()


# --- turns and attempts -----------------------------------------------------------------------------------------------


async def test_a_completed_turn_is_told_once(path, notes):
    """With its model's full name, its request, its times and tokens; the attempt is told before the turn."""
    caller = engine.Caller("default", "key:ann", "request-1")
    async with chatting(path, observer=notes) as chat:
        session = await chat.create_session(caller=caller, model="echo/echo")
        turn = await chat.say(session.id, "Is this on record?", caller=caller)
        (attempt,), (ended,) = notes.attempts, notes.turns
    assert (ended.turn_id, ended.request_id, ended.outcome, ended.code) == (turn.id, "request-1", "completed", None)
    assert (ended.provider, ended.model) == ("echo", "echo/echo") == (attempt.provider, attempt.model)
    assert (ended.first_chunk_ms, ended.duration_ms) == (turn.first_chunk_ms, turn.duration_ms)
    assert (attempt.outcome, attempt.attempt, attempt.usage) == ("completed", 1, turn.usage)
    assert notes.models == [(["echo/echo", "echo/paced", "scripted/none"], ["echo", "scripted"])]


async def test_each_attempt_is_told_with_its_code(path, notes):
    """Those that failed, and that which answered; the turn completed."""
    settings = {"max_attempts": 3, "retry_base_ms": 1}
    async with chatting(path, observer=notes, providers=[Moody(2)], **settings) as chat:
        session = await chat.create_session(model="dictated/model")
        await chat.say(session.id, "Go.")
    outcomes = [(attempt.attempt, attempt.outcome, attempt.status) for attempt in notes.attempts]
    down = "provider_unavailable"
    assert outcomes == [(1, down, 503), (2, down, 503), (3, "completed", None)]
    assert notes.ends() == [("completed", None)]


async def test_a_fallback_is_told_by_its_own_name(path, notes):
    """The turn is that of the model which answered."""
    settings = {"max_attempts": 1, "retry_base_ms": 1}
    async with chatting(path, observer=notes, down=says(FAILS), **settings) as chat:
        session = await chat.create_session(model="scripted/down", fallback_model="echo/echo")
        await chat.say(session.id, "Go.")
    assert [attempt.model for attempt in notes.attempts] == ["scripted/down", "echo/echo"]
    assert [turn.model for turn in notes.turns] == ["echo/echo"]


async def test_a_failed_turn_is_told_with_its_code(path, notes):
    """The code of the record."""
    async with chatting(path, observer=notes, down=says(FAILS)) as chat:
        session = await chat.create_session(model="scripted/down")
        turn = await chat.say(session.id, "Go.")
    assert notes.ends() == [("failed", turn.error.code)] == [("failed", "provider_unavailable")]


async def test_cancelled_and_interrupted_turns_are_told(path, notes):
    """By whomever they were ended: a caller, or a shutdown."""
    async with chatting(path, observer=notes, drain_s=0, slow=says("Half.", {"hang": True})) as chat:
        for cancelled in (True, False):
            session = await chat.create_session(model="scripted/slow")
            turn = await begin(chat, session.id, "Go.")
            await shown(chat, turn, 3)
            if cancelled:
                await chat.cancel(turn)
    assert notes.ends() == [("cancelled", None), ("interrupted", "shutdown")]
    assert [attempt.outcome for attempt in notes.attempts] == ["cancelled", "shutdown"]


async def test_turns_of_a_dead_server_are_told_at_the_next_start(path, tmp_path, notes):
    """With what the dead server could not tell: their tokens, as they were counted."""
    dead = tmp_path / "dead.db"
    async with chatting(path, drain_s=0, slow=says("Half an answer.", {"hang": True})) as chat:
        session = await chat.create_session(model="scripted/slow")
        turn = await begin(chat, session.id, "Go.")
        await shown(chat, turn, 3)
        snapshot(path, dead)
    async with chatting(dead, observer=notes, unwitnessed=True, slow=says()) as chat:
        assert notes.ends() == [("interrupted", "server_lost")]
        assert [each.turn_id for each in notes.turns] == [turn]
        (attempt,) = notes.attempts
        assert (attempt.outcome, attempt.usage.estimated) == ("server_lost", True)
        assert attempt.usage == (await chat.turn(turn)).usage
        assert notes.models, "the models are known before the first turn is told"


async def test_a_paused_turn_that_is_cancelled_is_told(path, notes):
    """A pause is no end; what ends it without going on is."""

    @engine.tool(approval=True)
    async def pay(amount: int) -> str:
        """Pays."""
        return f"paid {amount}"

    asks = says({"tool": {"id": "a", "name": "pay", "input": {"amount": 5}}})
    async with chatting(path, tools=[pay], observer=notes, asking=asks) as chat:
        session = await chat.create_session(model="scripted/asking")
        turn = await begin(chat, session.id, "Pay.", tools=("pay",))
        await chat.ended(turn)
        assert (notes.ends(), len(notes.attempts)) == ([], 1)
        await chat.cancel(turn)
        await chat.cancel(turn)
        assert notes.ends() == [("cancelled", None)]
        assert len(notes.attempts) == 1


async def test_an_observer_learns_no_words(path, notes):
    """Nothing that it is told quotes a message, a title, a stop word or a failure's detail."""
    fails = says({"text": SECRET}, {"fail": {"code": "provider_rejected", "detail": SECRET}})
    async with chatting(path, observer=notes, fails=fails, answers=says(SECRET)) as chat:
        for model in ("scripted/fails", "scripted/answers"):
            session = await chat.create_session(model=model, title=SECRET, system=SECRET, metadata={SECRET: SECRET})
            await chat.say(session.id, SECRET, stop=(SECRET,))
    assert notes.ends() == [("failed", "provider_rejected"), ("completed", None)]
    assert SECRET not in repr(vars(notes))


class Broken(engine.Observer):
    """Raises wherever it is told of a turn."""

    def attempt_ended(self, attempt):
        raise RuntimeError(attempt.outcome)

    def turn_ended(self, turn):
        raise RuntimeError(turn.outcome)


async def test_an_observer_that_raises_harms_no_turn(path, caplog):
    """The turn ends as it would, its readers are told, and the mistake is logged."""
    async with chatting(path, observer=Broken()) as chat:
        session = await chat.create_session(model="echo/echo")
        turn = await chat.say(session.id, "Go.")
        assert turn.status == "completed"
        assert (await frames_of(chat, turn.id))[-1].type == "turn.completed"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == ["an observer failed"] * 2


# --- writes, breakers, checkpoints ------------------------------------------------------------------------------------


async def test_each_append_is_timed_and_each_write_of_frames(path, notes):
    """Once each, when it is durable; one that is refused is not."""
    async with chatting(path, observer=notes, queue_writes=2) as chat:
        session = await chat.create_session(model="echo/echo")
        await chat.append_message(session.id, "One.")
        assert len(notes.appends) == 2
        assert notes.flushes == []
        with pytest.raises(engine.VersionConflict):
            await chat.append_messages(session.id, [engine.MessageIn("Two.")], expected=1)
        assert len(notes.appends) == 2
        await chat.say(session.id, "Three.")
        assert len(notes.appends) == 4  # a turn's start, and its end
        assert len(notes.flushes) >= 1
    assert all(0 < seconds < 60 for seconds in notes.appends + notes.flushes)


async def test_a_breaker_is_told_of_when_it_opens_and_when_it_closes(path, notes):
    """Not when a trial fails and it stays open; and ``load`` says the same meanwhile."""
    clock, seen = ManualClock(), []
    settings = {"breaker_failures": 2, "breaker_window_s": 1000, "breaker_open_s": 100}
    async with chatting(path, clock=clock, observer=notes, providers=[Moody(3)], **settings) as chat:
        session = await chat.create_session(model="dictated/model")
        for pause_s in (0, 0, 0, 101, 101):
            clock.monotonic += pause_s
            await chat.say(session.id, "Go.")
            seen.append((chat.serving.load.breakers["dictated"], list(notes.breakers)))
        assert chat.serving.load.breakers.keys() == {"echo", "scripted", "dictated"}
    opened, closed = ("dictated", True), ("dictated", False)
    assert seen == [
        (False, []),
        (True, [opened]),
        (True, [opened]),
        (True, [opened]),
        (False, [opened, closed]),
    ]


async def test_a_checkpoint_is_told_once(path, notes):
    """The log and its size, when there is a new one; none where the last says the same."""
    async with chatting(path, observer=notes) as chat:
        await chat.create_session(caller=engine.Caller("red"))
        for _ in range(2):
            await chat.evidence.checkpoint(new=True, caller=engine.Caller("red"))
        assert notes.checkpoints == [("red", 1)]
    assert notes.checkpoints == [("red", 1)]


# --- what is read when somebody looks ---------------------------------------------------------------------------------


async def test_the_load_is_that_of_the_moment(path):
    """Running turns, readers and waiting writes are counted while they are there, and no longer."""
    async with chatting(path, slow=says("Half.", {"hang": True})) as chat:

        async def quiet():
            load = chat.serving.load
            return (load.open_turns, load.readers, load.waiting_writes) == (0, 0, 0)

        await until(quiet)  # opening a file leaves a write of its own behind
        session = await chat.create_session(model="scripted/slow")
        turn = await begin(chat, session.id, "Go.")
        waiting = asyncio.create_task(chat.ended(turn))
        batches = chat.frames(turn)
        await anext(batches)
        await asyncio.sleep(0)
        assert (chat.serving.load.open_turns, chat.serving.load.readers) == (1, 2)
        appending = asyncio.create_task(chat.create_session())
        await asyncio.sleep(0)
        assert chat.serving.load.waiting_writes >= 1
        await appending
        await batches.aclose()
        await chat.cancel(turn)
        await waiting

        await until(quiet)


async def test_the_standing_tells_sizes_and_what_no_checkpoint_covers(path):
    """Of every tenant; the age is that of the oldest event that waits for a checkpoint, and nothing where none does."""
    clock = ManualClock()
    async with chatting(path, clock=clock, checkpoint_every_s=3600) as chat:
        red, blue = engine.Caller("red"), engine.Caller("blue")
        assert (await chat.serving.standing()).uncovered_s == 0
        session = await chat.create_session(caller=red)
        clock.time_us += 5_000_000
        await chat.append_message(session.id, "More.", caller=red)
        await chat.create_session(caller=blue)
        clock.time_us += 2_000_000
        standing = await chat.serving.standing()
        assert (standing.sizes, standing.uncovered_s) == ({"blue": 1, "red": 2}, 7.0)
        await chat.evidence.checkpoint(new=True, caller=red)
        assert (await chat.serving.standing()).uncovered_s == 2.0
        await chat.evidence.checkpoint(new=True, caller=blue)
        assert (await chat.serving.standing()).uncovered_s == 0
        clock.time_us += 9_000_000
        assert (await chat.serving.standing()).uncovered_s == 0
        await chat.append_message(session.id, "And more.", caller=red)
        clock.time_us += 1_000_000
        assert (await chat.serving.standing()).uncovered_s == 1.0


async def test_a_checkpoint_under_an_older_name_covers_nothing_new(path):
    """A log that has a new name after an accepted break counts as not covered until it is signed under that."""
    async with chatting(path) as chat:
        await chat.create_session()
    copy = path.read_bytes()
    async with chatting(path) as chat:
        await chat.create_session()
    path.write_bytes(copy)
    async with engine.open_beside(path) as beside:
        assert (await beside.serving.standing()).uncovered_s == 0
    engine.accept_break(path)
    execute(path, "DROP TRIGGER checkpoints_no_delete")
    newest = query(path, "SELECT origin FROM origins ORDER BY from_position DESC, origin DESC LIMIT 1")[0]
    execute(path, "DELETE FROM checkpoints WHERE origin = ?", newest)
    async with engine.open_beside(path) as beside:
        assert (await beside.serving.standing()).uncovered_s > 0
