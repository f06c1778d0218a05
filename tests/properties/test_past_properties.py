"""Whatever happens to a session: at each version it is what was seen when that was the newest, but for erased words."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manent import engine
from manent.engine.errors import EngineError
from tests.properties.test_erasure_properties import MODELS, STEPS, History
from tests.support import assert_rebuilds, chatting, execute

WORDS = ("title", "system", "metadata", "user_id", "agent_id", "preview")
MORE = st.tuples(st.sampled_from(["pin", "unpin"]), st.integers(2, 12))
ALL_STEPS = st.lists(st.one_of(STEPS.map(lambda steps: steps[:1]), MORE.map(lambda step: [step])), max_size=14)


class Seen(msgspec.Struct):
    """What a session was when a version was the newest; ``erasures``: how often words had been erased by then."""

    session: engine.Session
    messages: list[engine.Message]
    window: engine.Window | None
    erasures: int


async def window_of(chat, session, **then):
    """None: it cannot be sent to anybody."""
    try:
        return await chat.window(session, **then)
    except EngineError:
        return None


async def look(chat, session, erasures=0, **then):
    view = await chat.session(session, **then)
    messages = [message async for message in chat.iter_messages(session, **then)]
    return Seen(view, messages, await window_of(chat, session, **then), erasures)


def but_for_words(session):
    return msgspec.structs.replace(session, **dict.fromkeys(WORDS))


def check(then, now, erasures):
    """What was seen then, and what is read of it now."""
    assert but_for_words(now.session) == but_for_words(then.session)
    assert [message.id for message in now.messages] == [message.id for message in then.messages]
    for old, new in zip(then.messages, now.messages, strict=True):
        assert new == (old if new.erased is None else msgspec.structs.replace(old, content=(), erased=new.erased))
    for name in WORDS:
        assert getattr(now.session, name) in [None, getattr(then.session, name)]
    if then.erasures == erasures:
        assert now == then
    elif now.window is not None:
        assert not any(message.erased for message in now.window.messages)


async def act(history, kind, detail):
    try:
        if kind in {"pin", "unpin"}:
            await getattr(history.chat, kind)(history.session, detail)
        else:
            await history.step(kind, detail)
    except EngineError:
        return False  # as it should be, in that state
    return kind == "erase"


async def live(steps, folder):
    path, erasures = folder / "chat.db", 0
    async with chatting(path, **MODELS) as chat:
        history = History(chat, (await chat.create_session(model="echo/echo", title="t", user_id="u")).id)
        seen = [await look(chat, history.session)]
        for kind, detail in steps:
            erasures += await act(history, kind, detail)
            seen.append(await look(chat, history.session, erasures))
        for then in seen:
            at = {"version": then.session.version}
            check(then, await look(chat, history.session, then.erasures, **at), erasures)
        versions = range(1, seen[-1].session.version + 1)
        past = [await look(chat, history.session, version=version) for version in versions]
        execute(path, "DELETE FROM snapshots")
        assert [await look(chat, history.session, version=version) for version in versions] == past
    engine.rebuild_projections(str(path))
    assert_rebuilds(path, folder / "scratch.db")
    async with chatting(path, **MODELS) as chat:
        assert [await look(chat, history.session, version=version) for version in versions] == past


@settings(max_examples=25)
@given(ALL_STEPS.map(lambda lists: [step for steps in lists for step in steps]), st.integers(1, 5))
def test_the_past_is_what_was_seen(steps, apart):
    """For any order of saying, setting, pinning and erasing, with snapshots as often as there can be: the session, its
    messages and its window. And with no snapshot at all the past is the same.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("manent.engine.sessions.snapshots.VERSIONS_APART", apart)
        asyncio.run(live(steps, Path(folder)))
