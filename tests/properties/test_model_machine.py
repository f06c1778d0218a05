"""Whatever happens in whatever order, the engine is what a few lists in memory say that it should be.

Hypothesis plays: sessions, appends, repetitions with the same key, writes at a version that has passed, turns that
answer, hang, call tools or wait for a person, decisions, cancels, deaths of the server and orderly ends. After each
step every session's messages and turns are compared with the model; at the end the file is audited and rebuilt.
"""

import asyncio
import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import engine
from engine.errors import IdempotencyMismatch, VersionConflict
from engine.providers.models import Providers
from tests.support import Counted, assert_rebuilds, audit, frames_of, says, shown, snapshot, text_of

STEPS = int(os.environ.get("MODEL_STEPS", "25"))
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "30"))

CALL = {"tool": {"id": "call_1", "name": "sum", "input": {"a": 2, "b": 3}}}
ASK = {"tool": {"id": "call_1", "name": "send", "input": {"text": "x"}}}
AGAIN = {"steps": [{"text": "Done."}]}
MODELS = {
    "quick": says("Fine."),
    "hang": says("Half", {"hang": True}),
    "tool": [{"match": "Go", **says(CALL)[0]}, {"match": "Go", **AGAIN}],
    "ask": [{"match": "Go", **says(ASK)[0]}, {"match": "Go", **AGAIN}],
    "fail": says("I brea", {"truncate": True}),
}
ENDS = {"quick": "completed", "tool": "completed", "fail": "failed", "hang": "running", "ask": "requires_action"}
WORDS = st.sampled_from(["a", "bb", "ccc"])


@engine.tool(name="sum")
def add(a: int, b: int) -> str:
    """Adds."""
    return str(a + b)


@engine.tool(name="send", approval=True)
def send(text: str) -> str:
    """Sends, if somebody says so."""
    return f"sent {text}"


class Expected:
    """A session as it should be: (role, text, complete) of its messages, status of its turns, the open one."""

    def __init__(self, session):
        self.id = session
        self.messages = []
        self.turns = {}
        self.open = None
        self.kind = None

    def say(self, role, text, complete=True):
        self.messages.append((role, text, complete))

    def end(self, status):
        self.turns[self.open] = status
        self.open = None


class Machine(RuleBasedStateMachine):
    """The engine beside the model."""

    sessions = Bundle("sessions")
    keyed = Bundle("keyed")

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0.db"
        self.lives = 0
        self.expected = []
        self.frames = {}
        self.keys = 0
        self.run(self.open())

    def run(self, coroutine):
        return self.runner.run(coroutine)

    async def open(self):
        self.stack = AsyncExitStack()
        given = engine.Settings(database=str(self.path), drain_s=0, max_attempts=1)
        members = Providers([Counted(MODELS)])
        opened = engine.open(given, providers=members, tools=(add, send))
        self.chat = await self.stack.enter_async_context(opened)

    # --- sessions and messages ----------------------------------------------------------------------------------------

    @rule(target=sessions)
    def create(self):
        session = self.run(self.chat.create_session(model="scripted/quick"))
        self.expected.append(Expected(session.id))
        return self.expected[-1]

    @rule(target=keyed, expected=sessions, text=WORDS, with_key=st.booleans())
    def append(self, expected, text, with_key):
        self.keys += 1
        key = engine.RequestKey("local", f"POST {expected.id}", f"k{self.keys}", text.encode()) if with_key else None
        if expected.open is not None:
            with pytest.raises(engine.TurnAlreadyOpen):
                self.run(self.write(expected, text, request=key))
            return multiple()
        (message,) = self.run(self.write(expected, text, request=key))
        expected.say("user", text)
        return (expected, text, key, message) if with_key else multiple()

    @rule(known=keyed)
    def retry(self, known):
        expected, text, key, message = known
        assert self.run(self.write(expected, text, request=key)) == [message]

    @rule(known=keyed)
    def mistake(self, known):
        expected, text, key, _ = known
        other = engine.RequestKey(key.principal, key.route, key.key, key.body + b"!")
        with pytest.raises(IdempotencyMismatch):
            self.run(self.write(expected, text, request=other))

    @rule(expected=sessions, text=WORDS, behind=st.integers(-1, 2))
    def append_at(self, expected, text, behind):
        """At the version that it has, or had, or never had."""
        version = self.run(self.chat.session(expected.id)).version
        if behind:
            with pytest.raises(VersionConflict) as conflict:
                self.run(self.write(expected, text, expected=version - behind))
            assert conflict.value.current_version == version
        elif expected.open is None:
            self.run(self.write(expected, text, expected=version))
            expected.say("user", text)

    async def write(self, session, text, **options):
        return await self.chat.append_messages(session.id, [engine.MessageIn(text)], **options)

    # --- turns --------------------------------------------------------------------------------------------------------

    @rule(expected=sessions, kind=st.sampled_from(sorted(MODELS)))
    def turn(self, expected, kind):
        if expected.open is not None:
            with pytest.raises(engine.TurnAlreadyOpen):
                self.run(self.start(expected, kind))
            return
        turn = self.run(self.start(expected, kind))
        expected.open, expected.kind = turn, kind
        expected.turns[turn] = ENDS[kind]
        expected.say("user", "Go")
        if kind == "quick":
            expected.say("assistant", "Fine.")
        elif kind == "fail":
            expected.say("assistant", "I brea", complete=False)
        elif kind in {"tool", "ask"}:
            expected.say("assistant", "")
            if kind == "tool":
                expected.say("tool", "5")
                expected.say("assistant", "Done.")
        if ENDS[kind] in {"completed", "failed"}:
            expected.end(ENDS[kind])

    async def start(self, expected, kind):
        message = await self.chat.new_message(engine.MessageIn("Go"))
        ask = engine.Ask(message=message, model=f"scripted/{kind}", tools=("sum", "send"))
        turn = (await self.chat.start_turn(expected.id, ask)).turn
        if kind == "hang":
            self.frames[turn] = await shown(self.chat, turn, 3)
        else:
            await self.chat.ended(turn)
            self.frames[turn] = await frames_of(self.chat, turn)
        return turn

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), approve=st.booleans(), repeated=st.booleans())
    def decide(self, data, approve, repeated):
        expected = data.draw(st.sampled_from(self.waiting()))
        self.keys += 1
        key = engine.RequestKey("local", "POST decisions", f"k{self.keys}", b"%d" % approve)
        for _ in range(1 + repeated):
            self.run(self.decided(expected.open, approve, key))
        expected.say("tool", "sent x" if approve else None)
        expected.say("assistant", "Done.")
        expected.end("completed")

    async def decided(self, turn, approve, key):
        await self.chat.decide(turn, engine.Decision("call_1", approve), request=key)
        await self.chat.ended(turn)

    def waiting(self):
        return [each for each in self.expected if each.open is not None and each.kind == "ask"]

    @precondition(lambda self: any(each.turns for each in self.expected))
    @rule(data=st.data())
    def cancel(self, data):
        """Any turn: one that runs or waits ends, one that has ended stays as it is."""
        expected = data.draw(st.sampled_from([each for each in self.expected if each.turns]))
        turn = data.draw(st.sampled_from(sorted(expected.turns)))
        view = self.run(self.chat.cancel(turn))
        if turn == expected.open:
            self.stopped(expected, "cancelled")
        assert view.status == expected.turns[turn]

    def stopped(self, expected, status):
        """What is left of an open turn."""
        if expected.kind == "hang":
            expected.say("assistant", "Half", complete=False)
        else:
            expected.say("tool", None)
        expected.end(status)

    # --- lives --------------------------------------------------------------------------------------------------------

    @rule()
    def crash(self):
        """The power goes: the next life finds the file as it is on disk at this moment."""
        self.lives += 1
        after = self.folder / f"{self.lives}.db"
        snapshot(self.path, after)
        self.run(self.stack.aclose())
        self.path = after
        self.live_again()

    @rule()
    def reopen(self):
        """An orderly end, and a new start."""
        self.run(self.stack.aclose())
        self.live_again()

    def live_again(self):
        self.run(self.open())
        for expected in self.expected:
            if expected.open is not None and expected.kind == "hang":
                self.stopped(expected, "interrupted")

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def messages_are_what_was_said(self):
        for expected in self.expected:
            found, more = self.run(self.chat.messages(expected.id, limit=1000))
            assert not more
            assert [(each.role, each.complete) for each in found] == [
                (role, whole) for role, _, whole in expected.messages
            ]
            for message, (role, text, _) in zip(found, expected.messages, strict=True):
                if text is not None:
                    assert said(message) == text, role

    @invariant()
    def turns_are_as_they_should_be(self):
        for expected in self.expected:
            found, _ = self.run(self.chat.turns(expected.id, limit=1000))
            assert {turn.id: turn.status for turn in found} == expected.turns
            assert self.run(self.chat.session(expected.id)).open_turn_id == expected.open

    def teardown(self):
        try:
            self.run(self.examine())
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
        audit(self.path) if self.expected else None
        assert_rebuilds(self.path, self.folder / "copy.db")
        shutil.rmtree(self.folder)

    async def examine(self):
        """Frames are what they were when they were shown, and versions are dense."""
        for expected in self.expected:
            events, _ = await self.chat.events(expected.id, limit=1000)
            assert [event.version for event in events] == [*range(1, len(events) + 1)]
            for turn in expected.turns:
                if turn != expected.open:
                    frames = await frames_of(self.chat, turn)
                    assert frames[: len(self.frames[turn])] == self.frames[turn]
                    assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]


def said(message):
    """A message's words, or its tool's."""
    if message.role == "tool":
        return message.blocks()[0].content
    return text_of(message)


def test_the_engine_is_what_the_model_says(tell):
    """However the steps fall."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    wanted = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=checks)
    run_state_machine_as_test(Machine, settings=wanted)
    tell(f"{EXAMPLES} histories of up to {STEPS} steps")
