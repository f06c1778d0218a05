"""Whatever happens in whatever order, the engine is what a few lists in memory say that it should be.

Hypothesis plays: sessions, appends, repetitions with the same key, writes at a version that has passed, turns that
answer, hang, call tools or wait for a person, decisions, cancels, erasures of some messages or of a session, deaths
of the server and orderly ends; and somebody who keeps checkpoints asks for proofs now and then. After each step every
session's messages and turns are compared with the model; at the end the file is verified, audited and rebuilt.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from manent import engine
from manent.engine.errors import IdempotencyMismatch, VersionConflict
from manent.engine.providers.registry import Providers
from tests.support import Counted, assert_rebuilds, audit, frames_of, says, shown, snapshot, text_of
from tests.witness import Witness

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
MOST_SESSIONS = 3
STEP_S = 60
"""Whatever takes so long does not come back."""
DONE = Counter()
WORDS = st.sampled_from(["a", "bb", "ccc"])


@engine.tool(name="sum")
def add(a: int, b: int) -> str:
    """Adds."""
    return str(a + b)


@engine.tool(name="send", approval=True)
def send(text: str) -> str:
    """Sends, if somebody says so."""
    return f"sent {text}"


class Said:
    """A message as it should be. ``text`` None: whatever the engine says of a tool that was not run."""

    def __init__(self, role, text, complete):
        self.role = role
        self.text = text
        self.complete = complete
        self.erased = False


class Expected:
    """A session as it should be: its messages, the status of its turns, the open one, why it was erased in."""

    def __init__(self, session):
        self.id = session
        self.messages = []
        self.turns = {}
        self.open = None
        self.kind = None
        self.reasons = []

    def say(self, role, text, complete=True):
        self.messages.append(Said(role, text, complete))
        return self.messages[-1]

    def end(self, status):
        self.turns[self.open] = status
        self.open = None


class Machine(RuleBasedStateMachine):
    """The engine beside the model."""

    sessions = Bundle("sessions")
    keyed = Bundle("keyed")
    erasures = Bundle("erasures")

    def __init__(self):
        super().__init__()
        self.moved = False
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0.db"
        self.lives = 0
        self.expected = []
        self.frames = {}
        self.keys = 0
        self.witness = Witness()
        self.run(self.open())

    def run(self, coroutine):
        return self.runner.run(asyncio.wait_for(coroutine, STEP_S))

    async def open(self):
        self.stack = AsyncExitStack()
        members = Providers([Counted(MODELS)])
        given = engine.Settings(database=str(self.path), drain_s=0, max_attempts=1)
        opened = engine.open(given, providers=members, tools=(add, send))
        self.chat = await self.stack.enter_async_context(opened)

    def key(self, route, body):
        self.keys += 1
        return engine.RequestKey("local", route, f"k{self.keys}", body)

    def unique(self, text):
        """These words, as nobody else says them."""
        self.keys += 1
        return f"<{text} {self.keys}>"

    # --- sessions and messages ----------------------------------------------------------------------------------------

    @initialize(target=sessions)
    def first(self):
        return self.create()

    @precondition(lambda self: len(self.expected) < MOST_SESSIONS)
    @rule(target=sessions)
    def another(self):
        return self.create()

    def create(self):
        self.moved = True
        session = self.run(self.chat.create_session(model="scripted/quick"))
        self.expected.append(Expected(session.id))
        return self.expected[-1]

    @rule(target=keyed, expected=sessions, text=WORDS, with_key=st.booleans())
    def append(self, expected, text, with_key):
        text = self.unique(text)
        key = self.key(f"POST {expected.id}", text.encode())
        if expected.open is not None:
            with pytest.raises(engine.TurnAlreadyOpen):
                self.run(self.write(expected, text, request=key))
            return multiple()
        (message,) = self.run(self.write(expected, text, request=key if with_key else None))
        said = expected.say("user", text)
        return (expected, said, key, message) if with_key else multiple()

    @rule(known=keyed)
    def retry(self, known):
        expected, said, key, message = known
        assert_answered_as_now(self.run(self.write(expected, said.text, request=key)), message, said)

    @rule(known=keyed)
    def mistake(self, known):
        """Other words under the same key. Where those that came first are erased, nobody can tell them apart."""
        expected, said, key, message = known
        other = msgspec.structs.replace(key, body=key.body + b"!")
        if said.erased:
            assert_answered_as_now(self.run(self.write(expected, said.text, request=other)), message, said)
            return
        with pytest.raises(IdempotencyMismatch):
            self.run(self.write(expected, said.text, request=other))

    @rule(expected=sessions, text=WORDS, behind=st.integers(-1, 2))
    def append_at(self, expected, text, behind):
        """At the version that it has, or had, or never had."""
        text = self.unique(text)
        version = self.run(self.chat.session(expected.id)).version
        if behind:
            with pytest.raises(VersionConflict) as conflict:
                self.run(self.write(expected, text, expected=version - behind))
            assert conflict.value.current_version == version
        elif expected.open is None:
            self.run(self.write(expected, text, expected=version))
            expected.say("user", text)

    async def write(self, session, text, **options):
        self.moved = True
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
        self.moved = True
        options = {"model": f"scripted/{kind}", "tools": ("sum", "send")}
        turn = (await self.chat.start_turn(expected.id, "Go", **options)).turn
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
        key = self.key("POST decisions", b"%d" % approve)
        for _ in range(1 + repeated):
            self.run(self.decided(expected.open, approve, key))
        expected.say("tool", "sent x" if approve else None)
        expected.say("assistant", "Done.")
        expected.end("completed")

    async def decided(self, turn, approve, key):
        await self.chat.decide(turn, "call_1", approve=approve, request=key)
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

    # --- erasing, and the proof that nothing else was done ------------------------------------------------------------

    @rule(target=erasures, expected=sessions, data=st.data(), whole=st.booleans())
    def erase(self, expected, data, whole):
        """Some messages, or all of a session; what is erased already stays so."""
        found = self.run(self.all_messages(expected))
        places = [*range(len(found))]
        if not whole:
            places = data.draw(st.lists(st.sampled_from(places), max_size=3, unique=True)) if places else []
        chosen = None if whole else [found[place].version for place in places]
        key = self.key("POST erase", repr(chosen).encode())
        reason, self.moved = f"because of {key.key}", True
        if expected.open is not None:
            with pytest.raises(engine.TurnAlreadyOpen):
                self.run(self.chat.erase(expected.id, reason, versions=chosen, request=key))
            return multiple()
        erasure = self.run(self.chat.erase(expected.id, reason, versions=chosen, request=key))
        fresh = [place for place in places if not expected.messages[place].erased and found[place].content]
        assert {found[place].version for place in fresh} <= {*erasure.versions}
        for place in fresh:
            expected.messages[place].erased = True
        if not erasure.versions:
            return multiple()
        expected.reasons.append(reason)
        return expected, chosen, reason, key, erasure

    @rule(known=erasures)
    def erase_again(self, known):
        """The same key tells the same, whatever came after."""
        expected, chosen, reason, key, erasure = known
        again = self.run(self.chat.erase(expected.id, reason, versions=chosen, request=key))
        assert (again.version, again.versions) == (erasure.version, erasure.versions)

    @rule(expected=sessions, data=st.data())
    def prove(self, expected, data):
        """An event is on record, and the log is the one that was seen before, at each of the sizes that it had."""
        events = self.run(self.all_events(expected))
        event = data.draw(st.sampled_from(events))
        self.run(self.proved(expected, event))

    async def proved(self, expected, event):
        evidence = self.chat.evidence
        keys = await evidence.keys()
        inclusion = await evidence.inclusion(expected.id, event.version)
        leaf = self.witness.include(msgspec.to_builtins(inclusion), keys)
        assert (leaf["id"], leaf["commitment"]) == (str(event.id), event.commitment)
        for size in sorted(self.witness.roots):
            if size <= inclusion.size:
                self.witness.extend(msgspec.to_builtins(await evidence.consistency(size, inclusion.size)))

    async def all_messages(self, expected):
        return [message async for message in self.chat.iter_messages(expected.id)]

    async def all_events(self, expected):
        return [event async for event in self.chat.iter_events(expected.id)]

    # --- lives --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.moved)
    @rule()
    def crash(self):
        """The power goes: the next life finds the file as it is on disk at this moment."""
        self.lives += 1
        after = self.folder / f"{self.lives}.db"
        for end in (".key", ".secret", ".checkpoints"):  # first: what they speak of is in the file before they do
            if (beside := Path(f"{self.path}{end}")).exists():
                shutil.copy(beside, f"{after}{end}")
        snapshot(self.path, after)
        self.run(self.stack.aclose())
        self.path = after
        self.live_again()

    @precondition(lambda self: self.moved)
    @rule()
    def reopen(self):
        """An orderly end, and a new start."""
        self.run(self.stack.aclose())
        self.live_again()

    def live_again(self):
        self.moved = False  # one life after the other without anything between them would show nothing more
        self.run(self.open())
        for expected in self.expected:
            if expected.open is not None and expected.kind == "hang":
                self.stopped(expected, "interrupted")

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def messages_are_what_was_said(self):
        for expected in self.expected:
            found = self.run(self.all_messages(expected))
            for message, said in zip(found, expected.messages, strict=True):
                assert (message.role, message.complete, bool(message.erased)) == (said.role, said.complete, said.erased)
                if said.erased:
                    assert message.content == ()
                elif said.text is not None:
                    assert words_of(message) == said.text, said.role

    @invariant()
    def turns_are_as_they_should_be(self):
        for expected in self.expected:
            page = self.run(self.chat.turns(expected.id, limit=1000))
            assert {turn.id: turn.status for turn in page.items} == expected.turns
            assert self.run(self.chat.session(expected.id)).open_turn_id == expected.open

    def teardown(self):
        try:
            self.run(self.examine())
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
        self.check_file()
        shutil.rmtree(self.folder)

    async def examine(self):
        """Frames are what they were when they were shown, but for what was erased; versions are dense; it is on record
        why each erasure was.
        """
        for expected in self.expected:
            events = await self.all_events(expected)
            assert [event.version for event in events] == [*range(1, len(events) + 1)]
            reasons = [json.loads(bytes(event.body))["reason"] for event in events if event.type == "body.erased"]
            assert reasons == expected.reasons
            erased = {str(message.id) for message in await self.all_messages(expected) if message.erased}
            for turn in expected.turns:
                if turn != expected.open:
                    self.check_frames(self.frames[turn], await frames_of(self.chat, turn), erased)
        assert await self.chat.purge()
        DONE["erasures"] += sum(len(expected.reasons) for expected in self.expected)
        DONE.update(self.witness.checked)

    @staticmethod
    def check_frames(shown_then, frames, erased):
        """The deltas of erased messages are gone, and all other frames have the numbers that they had."""
        kept = [frame for frame in shown_then if frame.type != "delta" or message_of(frame) not in erased]
        found = frames[: len(kept)]
        assert [(frame.number, frame.type) for frame in found] == [(frame.number, frame.type) for frame in kept]
        assert [frame for frame in found if frame.type == "delta"] == [frame for frame in kept if frame.type == "delta"]
        if len(kept) == len(shown_then):
            assert [frame.number for frame in frames] == [*range(1, len(frames) + 1)]
        if not erased:
            assert found == kept

    def check_file(self):
        """What is left when the engine has closed it."""
        if self.expected:
            audit(self.path)
            verified = engine.verify_database(str(self.path))
            assert verified.problem is None
            assert bool(verified.erased) == any(expected.reasons for expected in self.expected)
        assert_rebuilds(self.path, self.folder / "copy.db")
        files = b"".join(file.read_bytes() for file in self.folder.glob(f"{self.path.name}*"))
        for said in (said for expected in self.expected for said in expected.messages):
            if said.role == "user" and said.text != "Go":
                assert (said.text.encode() in files) != said.erased


def assert_answered_as_now(answered, message, said):
    """A message that was answered with once is answered with again; after its erasure without its words."""
    (again,) = answered
    assert bool(again.erased) == said.erased
    assert again == (msgspec.structs.replace(message, content=(), erased=again.erased) if said.erased else message)


def message_of(frame):
    return json.loads(frame.data)["message_id"]


def words_of(message):
    """A message's words, or its tool's."""
    if message.role == "tool":
        return message.blocks()[0].content
    return text_of(message)


def test_the_engine_is_what_the_model_says(tell):
    """However the steps fall."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    wanted = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=checks)
    run_state_machine_as_test(Machine, settings=wanted)
    tell(
        f"{EXAMPLES} histories of up to {STEPS} steps; {DONE['erasures']} erasures, {DONE['inclusions']} proofs of "
        f"inclusion and {DONE['consistencies']} of consistency"
    )
    assert min(DONE["erasures"], DONE["inclusions"], DONE["consistencies"]) > 0
