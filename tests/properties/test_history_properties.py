"""Any history: the projections are what a fold of the log gives, and the past is what it was."""

import asyncio
import json
import shutil

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.clock import new_id
from manent.engine.errors import EngineError
from manent.engine.events.usage import Usage
from manent.engine.log.sqlite.schema import migrate
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, UsageReported
from tests.support import Dictated, assert_rebuilds, audit, chatting, frames_of

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
SMALL = st.none() | st.integers(1, 5000)
TENANTS = ("left", "right")


def turn_of(text, calls, ending, usage):
    """Chunks of an answer."""
    chunks = []
    if text:
        chunks += [BlockStarted(0, "text"), *(Delta(0, sign) for sign in text), BlockStopped(0)]
    for number in range(calls):
        block = len(text and "x") + number
        chunks += [BlockStarted(block, "tool_use", f"call_{number}", "f"), Delta(block, "{}"), BlockStopped(block)]
    if usage:
        chunks.append(UsageReported(Usage(input_tokens=usage, output_tokens=3)))
    return [*chunks, *{"ended": [Ended("tool_use" if calls else "end_turn")], "hang": [hang]}.get(ending, [])]


async def hang():
    await asyncio.Event().wait()


COMMANDS = st.one_of(
    st.tuples(
        st.just("session"),
        st.fixed_dictionaries(
            {},
            optional={
                "title": WORDS,
                "system": WORDS,
                "budget_tokens": SMALL,
                "metadata": st.dictionaries(WORDS, st.integers() | WORDS, max_size=2),
            },
        ),
    ),
    st.tuples(
        st.just("update"),
        st.dictionaries(
            st.sampled_from(["title", "system", "budget_tokens", "max_output_tokens", "status", "metadata"]),
            st.none(),
            max_size=3,
        ),
        st.sampled_from(["active", "archived"]),
        WORDS,
    ),
    st.tuples(
        st.just("append"),
        st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), WORDS), min_size=1, max_size=3),
    ),
    st.tuples(st.just("calls"), st.integers(1, 2)),
    st.tuples(st.just("results"), st.integers(0, 2)),
    st.tuples(
        st.just("turn"),
        st.none() | WORDS,
        st.builds(
            turn_of,
            st.just("") | WORDS,
            st.sampled_from([0, 0, 0, 1, 2]),
            st.sampled_from(["ended", "ended", "broken", "hang"]),
            SMALL,
        ),
        st.booleans(),
    ),
)


class History:
    """Does commands on an engine; a refusal is part of life. Remembers what every session looked like at each version,
    and every turn's frames.
    """

    def __init__(self, chat, provider):
        self.chat = chat
        self.provider = provider
        self.sessions = []
        self.seen = {}
        self.frames = {}

    async def do(self, tenant, which, command):
        caller = engine.Caller(tenant, "key:1")
        name, *arguments = command
        mine = [session for owner, session in self.sessions if owner == tenant]
        try:
            if name == "session":
                made = await self.chat.create_session(caller=caller, model="dictated/model", **arguments[0])
                self.sessions.append((tenant, made.id))
            elif mine:
                await getattr(self, name)(mine[which % len(mine)], caller, *arguments)
        except EngineError:
            pass
        for owner, session in self.sessions:
            view = await self.chat.session(session, caller=engine.Caller(owner))
            self.seen[owner, session, view.version] = view

    async def update(self, session, caller, names, status, words):
        values = {
            "title": words,
            "system": words,
            "budget_tokens": len(words),
            "status": status,
            "metadata": {"k": words},
        }
        await self.chat.update_session(session, **{name: values.get(name) for name in names}, caller=caller)

    async def append(self, session, caller, messages):
        await self.chat.append_messages(
            session, [engine.MessageIn(text, role) for role, text in messages], caller=caller
        )

    async def calls(self, session, caller, count):
        blocks = [{"type": "tool_use", "id": f"call_{number}", "name": "f"} for number in range(count)]
        await self.chat.append_messages(
            session, [engine.MessageIn(raw(blocks), "assistant", id=new_id())], caller=caller
        )

    async def results(self, session, caller, which):
        blocks = [{"type": "tool_result", "tool_use_id": f"call_{which}", "content": "done"}]
        await self.chat.append_messages(session, [engine.MessageIn(raw(blocks), "tool")], caller=caller)

    async def turn(self, session, caller, content, chunks, continues):
        self.provider.steps = chunks
        continues = continues and content is None
        started = await self.chat.start_turn(session, content, continues=continues, caller=caller)
        if hang in chunks:
            await asyncio.sleep(0.002)
            await self.chat.cancel(started.turn, caller=caller)
        self.frames[caller.tenant, started.turn] = await frames_of(self.chat, started.turn, caller=caller)


def raw(blocks):
    return tuple(msgspec.Raw(json.dumps(block).encode()) for block in blocks)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "empty.db"
    migrate(path)
    return path


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(0, 3), COMMANDS), max_size=25))
def test_any_history_can_be_folded_again(migrated, commands):
    """After any commands: rebuilt from the log, every projection is the same to the byte; every session can be seen as
    it was at each version; every turn's frames come again after a restart.
    """
    folder = migrated.parent
    path = folder / "chat.db"
    for left in folder.glob("chat.db*"):
        left.unlink()
    shutil.copy(migrated, path)

    async def live():
        provider = Dictated()
        async with chatting(path, providers=(provider,), cached_sessions=2) as chat:
            history = History(chat, provider)
            await history.do("left", 0, ("session", {}))
            for tenant, which, command in commands:
                await history.do(tenant, which, command)
        return history

    async def later(history):
        async with chatting(path, providers=(Dictated(),)) as chat:
            for (tenant, session, version), view in history.seen.items():
                assert await chat.session(session, caller=engine.Caller(tenant), version=version) == view
            for (tenant, turn), frames in history.frames.items():
                assert await frames_of(chat, turn, caller=engine.Caller(tenant)) == frames

    with asyncio.Runner() as runner:
        history = runner.run(live())
        audit(path)
        assert_rebuilds(path, folder / "copy.db")
        runner.run(later(history))
