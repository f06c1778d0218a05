"""Whatever is said and erased in whatever order: what is erased is gone, what is not is there, and all of it proves."""

import asyncio
import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.audit.bundle import verify_bundle
from manent.engine.errors import Refused
from tests.support import assert_rebuilds, audit, chatting, says

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(["user", "assistant", "system"])),
        st.tuples(st.just("say"), st.sampled_from(["echo/echo", "scripted/fails", "scripted/asks"])),
        st.tuples(st.just("set"), st.sampled_from(["title", "system", "metadata"])),
        st.tuples(st.just("unset"), st.sampled_from(["title", "system", "metadata"])),
        st.tuples(st.just("erase"), st.lists(st.integers(1, 30), max_size=4)),
        st.tuples(st.just("answer"), st.none()),
    ),
    max_size=14,
)
MODELS = {
    "fails": says({"text": "half "}, {"fail": {"code": "provider_rejected", "detail": "no"}}),
    "asks": says({"text": "look "}, {"tool": {"id": "call_1", "name": "look", "input": {}}}),
}


class History:
    """A session that a list of steps happens to. Every text in it is a word of its own; ``words`` says at which
    version.
    """

    def __init__(self, chat, session):
        self.chat = chat
        self.session = session
        self.made = 0
        self.words = {}

    def word(self):
        self.made += 1
        return f"word-{self.made:05}-"

    async def version(self):
        return (await self.chat.session(self.session)).version

    async def step(self, kind, detail):
        word = self.word()
        before = await self.version()
        if kind == "append":
            await self.chat.append_messages(self.session, [engine.MessageIn(word, detail)])
        elif kind == "say":
            await self.chat.say(self.session, word, model=detail)
        elif kind == "answer":
            block = b'{"type":"tool_result","tool_use_id":"call_1","content":"%s"}' % word.encode()
            await self.chat.append_messages(self.session, [engine.MessageIn((block,), "tool")])
        elif kind == "set":
            await self.chat.update_session(self.session, **{detail: {"a": word} if detail == "metadata" else word})
        elif kind == "unset":
            await self.chat.update_session(self.session, **{detail: None})
            return
        else:
            await self.erase([version for version in detail if version <= before])
            return
        self.words[word] = before + 1

    async def erase(self, versions):
        await self.chat.erase(self.session, "by chance", versions=versions or None)

    async def check(self, folder):
        """Each word is in its event, or nowhere."""
        events = {event.version: event for event in (await self.chat.events(self.session, limit=1000)).items}
        files = b"".join(file.read_bytes() for file in folder.iterdir())
        for word, version in self.words.items():
            if events[version].erased:
                assert word.encode() not in files, word
            else:
                assert word.encode() in bytes(events[version].body)
        window = await self.chat.window(self.session)
        assert not any(message.erased for message in window.messages)


async def live(steps, folder):
    path = folder / "chat.db"
    async with chatting(path, **MODELS) as chat:
        history = History(chat, (await chat.create_session(model="echo/echo")).id)
        for kind, detail in steps:
            try:
                await history.step(kind, detail)
            except Refused:
                continue  # as it should be, in that state
        assert await chat.purge()
        # An echo repeats the word of its question: with the question alone erased, its answer would keep it.
        if said := await echoes(chat, history.session):
            await history.erase([event.version for event in said])
        await history.check(folder)
        for session in (history.session, None):
            bundle = io.BytesIO()
            await chat.export(bundle, session)
            verify_bundle.verify(bundle, [])
    audit(path)
    assert_rebuilds(path, folder / "scratch.db")
    assert engine.verify_database(str(path)).problem is None


async def echoes(chat, session):
    """What assistants said: words of somebody else."""
    events = (await chat.events(session, limit=1000)).items
    return [each for each in events if each.type == "message.appended" and each.actor.startswith("turn:")]


@settings(max_examples=25)
@given(STEPS)
def test_what_is_erased_is_gone_and_all_the_rest_is_there(steps):
    """For any order of saying, setting and erasing."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(steps, Path(folder)))
