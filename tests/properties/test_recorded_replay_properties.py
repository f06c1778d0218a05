"""Whatever is said, tried again, cut short, pinned and erased: done again from the record, each turn sends the same
bytes and shows the same frames. The conversations are those of ``test_explain_properties``.
"""

import asyncio
import os
import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent import engine
from manent.engine.clock import SystemClock
from manent.engine.events.upcasts import meaning_of
from manent.engine.log.store import open_reading
from manent.engine.providers.registry import Providers
from manent.engine.providers.renderers import RENDERERS
from manent.engine.service.replay.recorded import recorded_results
from manent.engine.service.replay.recorded_differences import difference
from tests.properties.test_explain_properties import AT_ONCE, Conversation, Recording, looks
from tests.support import chatting

MANY = int(os.environ.get("REPLAYED_CONVERSATIONS", "1000"))
LIMITS = {"max_attempts": 2, "retry_base_ms": 1, "max_rounds": 4, "breaker_failures": 10**6}


async def converse(path, first, last):
    """Conversations of these numbers; the ids of their sessions."""
    members = [Recording(name, {}) for name in RENDERERS]
    sessions = []
    async with chatting(path, providers=members, tools=(looks,), **LIMITS) as chat:
        all_of_them = [Conversation(chat, number) for number in range(first, last)]
        for start in range(0, len(all_of_them), AT_ONCE):
            some = all_of_them[start : start + AT_ONCE]
            await asyncio.gather(*(each.live() for each in some))
            sessions += [each.session for each in some]
        turns = [turn.id for session in sessions async for turn in chat.iter_turns(session)]
    return sessions, turns


async def replayed(path, *, sessions=(), turns=()):
    """Verdicts, counted. The record is only read, and the providers are not there."""
    seen = Counter()
    async with open_reading(path, engine.Settings(), meaning_of) as store:
        results = recorded_results(store, Providers(), SystemClock(), tenant="default", sessions=sessions, turns=turns)
        async for result in results:
            assert result.verdict in {"same", "skipped"}, result
            seen[result.verdict] += 1
            assert result.verdict == "same" or "erased" in result.reason, result
    return seen


async def test_what_is_done_again_is_what_was_done(tmp_path):
    """For some conversations: whole, and turn by turn in any order, where each lays out its own history."""
    sessions, turns = await converse(tmp_path / "chat.db", 0, 80)
    whole = await replayed(tmp_path / "chat.db", sessions=sessions)
    random.Random(1).shuffle(turns)
    alone = await replayed(tmp_path / "chat.db", turns=turns)
    assert whole == alone
    assert whole["same"] > 50
    assert whole["skipped"]


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_many_conversations_are_done_again(tmp_path, tell):
    """For a thousand of them."""
    sessions, _ = await converse(tmp_path / "chat.db", 0, MANY)
    seen = await replayed(tmp_path / "chat.db", sessions=sessions)
    tell(f"{MANY} conversations: {seen['same']} turns the same, {seen['skipped']} skipped")


# --- where two values differ ------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def at(value, path):
    """What stands at a path; None where nothing does."""
    for step in path.replace("[", ".[").split("."):
        if not step:
            continue
        try:
            value = value[int(step[1:-1]) :] if isinstance(value, str) else value[int(step[1:-1])]
        except ValueError:
            value = value.get(step)
        except (IndexError, TypeError):
            return None
    return value


@given(VALUES, VALUES)
def test_the_place_of_a_difference_is_where_it_is(recorded, now):
    """Nothing is found exactly where both are the same JSON; else what stands at the path is told of both sides."""
    found = difference(recorded, now, "")
    if msgspec.json.encode(recorded) == msgspec.json.encode(now):
        assert found is None
        return
    path, *told = found
    there = [at(recorded, path), at(now, path)]
    assert there[0] != there[1] or told[0] != told[1] or None in told
    for value, said in zip(there, told, strict=True):
        if not isinstance(value, dict | list):
            assert value == said


@given(VALUES)
def test_a_value_does_not_differ_from_itself(value):
    """Read again, it is the same."""
    assert difference(value, msgspec.json.decode(msgspec.json.encode(value)), "") is None
