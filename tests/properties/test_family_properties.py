"""Families of forks: whatever is said, pinned, erased and forked in whatever order, each session is its whole history,
its bundle proves that, and all of it is the same after a rebuild, and in a database that takes the log in.

``FAMILIES`` says how many are generated beside those that Hypothesis finds; a thousand, when there is time.
"""

import asyncio
import io
import json
import os
import random
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.audit.bundle import verify_bundle
from manent.engine.errors import LegalHold, ToolResultsMissing
from tests.contracts.test_bundles import opened
from tests.support import assert_rebuilds, audit, chatting, offered, says, text_of

MANY = int(os.environ.get("FAMILIES", "40"))
FAMILIES_PER_FILE = 20
EXPORTS_PER_FAMILY = 3

MODELS = {"asks": says({"text": "look "}, {"tool": {"id": "call_1", "name": "look", "input": {}}})}
KINDS = (
    "append",
    "append",
    "say",
    "ask",
    "pin",
    "unpin",
    "set",
    "hold",
    "fork",
    "fork",
    "edit",
    "erase",
    "erase",
    "erase_all",
)
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 999), st.integers(0, 999)), max_size=14)


class Said(msgspec.Struct):
    """A message, which all sessions that share it have in common."""

    text: str
    session: object
    version: int
    erased: bool = False


class Branch(msgspec.Struct):
    """A session as it should be: ``told`` are its messages, and the pins on them (True: pinned), each with the version
    at which that was so; shared ones too. ``lineage``: the sessions that it shares with, each up to a version.
    """

    id: object
    told: list[tuple[int, Said, bool | None]] = []
    lineage: list[tuple[object, int]] = []
    held: bool = False

    @property
    def messages(self):
        return [said for _, said, pin in self.told if pin is None]

    @property
    def pinned(self):
        pins = {id(said): pin for _, said, pin in self.told if pin is not None}
        return [said for said in self.messages if pins.get(id(said))]

    def until(self, session, version):
        """The branch that is forked at a version."""
        shared = [(parent, end) for parent, end in self.lineage if end < version]
        stands_in = next((parent for parent, end in self.lineage if version <= end), self.id)
        told = [each for each in self.told if each[0] <= version]
        return Branch(session, told, [*shared, (stands_in, version)])


class Family:
    """A session and its forks, to which a list of steps happens."""

    def __init__(self, chat, seen):
        self.chat = chat
        self.seen = seen
        self.branches = []
        self.words = 0

    async def live(self, steps):
        root = await self.chat.create_session(model="echo/echo", title="root", system="Be brief.")
        self.branches = [Branch(root.id)]
        for kind, one, other in steps:
            branch = self.branches[-1 if one % 3 == 0 else one % len(self.branches)]
            try:
                await getattr(self, kind)(branch, other)
            except (LegalHold, ToolResultsMissing) as refusal:
                self.seen[refusal.code] += 1
            else:
                self.seen[kind] += 1

    def word(self):
        self.words += 1
        return f"word-{self.words}"

    async def append(self, branch, number):
        texts = [self.word() for _ in range(1 + number % 3)]
        await self.chat.append_messages(branch.id, [engine.MessageIn(text) for text in texts])
        await self.heard(branch, *texts)

    async def say(self, branch, _):
        text = self.word()
        await self.chat.say(branch.id, text)
        await self.heard(branch, text, text)

    async def ask(self, branch, _):
        """A tool is asked for; what stands between that and its result may be a fork."""
        text = self.word()
        await self.chat.say(branch.id, text, model="scripted/asks", client_tools=offered("look"))
        await self.heard(branch, text, "look ")

    async def set(self, branch, _):
        await self.chat.update_session(branch.id, title=self.word())

    async def hold(self, branch, number):
        branch.held = bool(number % 2)
        await self.chat.update_session(branch.id, legal_hold=branch.held)

    async def pin(self, branch, number):
        await self.mark(branch, number, pin=True)

    async def unpin(self, branch, number):
        await self.mark(branch, number, pin=False)

    async def mark(self, branch, number, *, pin):
        there = [said for said in branch.messages if not said.erased]
        if there:
            said = there[number % len(there)]
            await (self.chat.pin if pin else self.chat.unpin)(branch.id, said.version)
            branch.told.append(((await self.chat.session(branch.id)).version, said, pin))

    async def fork(self, branch, number):
        version = 1 + number % (await self.chat.session(branch.id)).version
        fork = await self.chat.fork(branch.id, version=version, title=self.word())
        self.branches.append(branch.until(fork.id, version))
        self.seen["deepest"] = max(self.seen["deepest"], len(self.branches[-1].lineage))

    async def edit(self, branch, number):
        """A turn from a version: a fork that is answered at once."""
        version, text = 1 + number % (await self.chat.session(branch.id)).version, self.word()
        turn = await self.chat.ended((await self.chat.start_turn(branch.id, text, from_version=version)).turn)
        fork = branch.until(turn.session_id, version)
        await self.heard(fork, text, text)
        self.branches.append(fork)

    async def erase(self, branch, number):
        """A message of a branch's history: its own, or one that it shares."""
        there = [said for said in branch.messages if not said.erased]
        if there:
            said = there[number % len(there)]
            await self.chat.erase(branch.id, "by chance", versions=[said.version])
            self.forgotten(branch, [said])

    async def erase_all(self, branch, _):
        """All that is a branch's own, and its settings."""
        await self.chat.erase(branch.id, "by chance")
        self.forgotten(branch, [said for said in branch.messages if said.session == branch.id])

    def forgotten(self, branch, messages):
        for said in messages:
            said.erased = True
            others = [
                each for each in self.branches if each is not branch and any(one is said for one in each.messages)
            ]
            self.seen["shared words erased"] += bool(others)

    async def heard(self, branch, *texts):
        """What was said last in a session is this, and nothing else was said since."""
        known = branch.messages[-1].version if branch.messages else 0
        page = (await self.chat.messages(branch.id, after=known)).items
        assert tuple(map(text_of, page)) == texts
        branch.told += [(each.version, Said(text_of(each), each.session_id, each.version), None) for each in page]

    async def check(self):
        """Each session is what it should be."""
        for branch in self.branches:
            found = [message async for message in self.chat.iter_messages(branch.id)]
            assert [message.erased is not None for message in found] == [said.erased for said in branch.messages]
            assert [text_of(message) for message in found] == shown(branch.messages)
            assert [message.version for message in found if message.pinned] == [said.version for said in branch.pinned]
            window = await self.chat.window(branch.id)
            assert {message.version for message in window.messages}.isdisjoint(
                said.version for said in branch.messages if said.erased
            )

    async def export(self, chance):
        """Bundles of some of the sessions, each verified by the verifier that stands alone."""
        found = {}
        for branch in chance.sample(self.branches, min(EXPORTS_PER_FAMILY, len(self.branches))):
            found[branch.id] = await exported(self.chat, branch.id)
            check_bundle(found[branch.id], branch)
            self.seen["verified"] += 1
        return found


def shown(messages):
    return ["" if said.erased else said.text for said in messages]


async def exported(chat, session=None):
    to = io.BytesIO()
    await chat.export(to, session)
    return to.getvalue()


def check_bundle(data, branch):
    """A bundle verifies, and holds the history: in order, with its lineage, and without what is erased."""
    bundle = verify_bundle.verify(io.BytesIO(data), [])
    assert bundle.lineage == [{"session": str(session), "up_to": end} for session, end in branch.lineage]
    ends = dict.fromkeys([str(branch.id)], 1 << 53) | {str(session): end for session, end in branch.lineage}
    events = [json.loads(line) for line in opened(data)["events.jsonl"].splitlines()]
    along = [each for each in events if each["version"] <= ends[each["session"]]]
    assert [each["version"] for each in along] == [*range(1, len(along) + 1)]
    said = [each for each in along if each["type"] == "message.appended"]
    texts = ["" if each["body"] is None else json.loads(each["body"])["content"][0]["text"] for each in said]
    assert texts == shown(branch.messages)


async def live(path, families, chance, seen):
    """Live through the steps of some families in one log, and look at all that is left of them."""
    async with chatting(path, **MODELS) as chat:
        lived = [Family(chat, seen) for _ in families]
        for family, steps in zip(lived, families, strict=True):
            await family.live(steps)
        for family in lived:
            await family.check()
        await chat.evidence.checkpoint(new=True)
        bundles = [await family.export(chance) for family in lived]
        whole = await exported(chat)
    audit(path)
    assert_rebuilds(path, path.with_name("scratch.db"))
    engine.rebuild_projections(str(path))
    assert engine.verify_database(str(path)).problem is None
    async with chatting(path, **MODELS) as chat:
        for family, found in zip(lived, bundles, strict=True):
            family.chat = chat
            await family.check()
            assert {session: await exported(chat, session) for session in found} == found
        assert await exported(chat) == whole
    seen["families"] += len(families)
    seen["sessions"] += sum(len(family.branches) for family in lived)
    chosen = chance.choice(
        [
            (branch, found)
            for family, found in zip(lived, bundles, strict=True)
            for branch in family.branches
            if branch.id in found
        ]
    )
    return whole, chosen


async def take_in(path, whole, branch, data):
    """The log in a database of its own is the same log; a session of it, in another, what was left of its messages."""
    bundle = path.with_name("bundle.zip")
    bundle.write_bytes(whole)
    log, one = path.with_name("log.db"), path.with_name("one.db")
    await asyncio.to_thread(engine.import_bundle, engine.Settings(database=str(log)), bundle)
    audit(log)
    assert_rebuilds(log, path.with_name("scratch.db"))
    assert engine.verify_database(str(log)).problem is None
    bundle.write_bytes(data)
    imported = await asyncio.to_thread(engine.import_bundle, engine.Settings(database=str(one)), bundle)
    async with chatting(one) as chat:
        found = [message async for message in chat.iter_messages(imported.session_id)]
    assert [text_of(message) for message in found] == [said.text for said in branch.messages if not said.erased]
    assert [text_of(message) for message in found if message.pinned] == [
        said.text for said in branch.pinned if not said.erased
    ]
    assert_rebuilds(one, path.with_name("scratch.db"))


async def all_of(folder, families, chance, seen):
    whole, (branch, bundles) = await live(folder / "chat.db", families, chance, seen)
    await take_in(folder / "chat.db", whole, branch, bundles[branch.id])


@settings(max_examples=10)
@given(st.lists(STEPS, min_size=1, max_size=2), st.randoms(use_true_random=False))
def test_a_family_is_what_was_said_in_it(families, chance):
    """For any order of saying, pinning, holding, erasing and forking."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(all_of(Path(folder), families, chance, Counter()))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_families_are_what_was_said_in_them(tmp_path, tell):
    """For many more of them, twenty in a log."""
    seen = Counter()
    for first in range(0, MANY, FAMILIES_PER_FILE):
        folder, chance = tmp_path / str(first), random.Random(f"families {first}")
        folder.mkdir()
        count = min(FAMILIES_PER_FILE, MANY - first)
        families = [steps_by(chance) for _ in range(count)]
        asyncio.run(all_of(folder, families, chance, seen))
    assert {*KINDS, "shared words erased", "legal_hold"} <= seen.keys()
    assert seen["deepest"] > 3
    tell(
        f"{seen['families']} families of {seen['sessions']} sessions, {seen['verified']} bundles verified, {dict(seen)}"
    )


def steps_by(chance):
    return [
        (chance.choice(KINDS), chance.randrange(1000), chance.randrange(1000)) for _ in range(chance.randint(4, 24))
    ]
