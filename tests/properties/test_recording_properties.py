"""Whatever a model says, in whatever pieces: what is recorded is what was shown, to the byte, for ever."""

import asyncio
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manent.engine.events.blocks import OtherBlock
from manent.engine.events.cuts import Cut, pack_cuts, unpack_cuts
from manent.engine.log.leases import open_runs
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, VendorBlock
from manent.engine.providers.wire.surrogates import Halves
from manent.engine.streams.backlog import Backlog
from tests.support import Dictated, audit, begin, chatting, frames_of, offered, texts_of

NUMBERS = st.integers(0, 2**40)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    "aé漢😀\u200d\u0301\u2028\r\n\0", max_size=30
)


@given(st.lists(st.builds(Cut, NUMBERS, NUMBERS, NUMBERS)))
def test_cuts_come_back_as_they_were(cuts):
    """Packed and unpacked, cuts are the same; small ones take three bytes."""
    packed = pack_cuts(cuts)
    assert [*unpack_cuts(packed)] == cuts
    small = [cut for cut in cuts if max(cut.block, cut.length, cut.pause_ms) < 128]
    assert len(pack_cuts(small)) == 3 * len(small)


@given(st.lists(st.builds(Cut, NUMBERS, NUMBERS, NUMBERS), min_size=1), st.data())
def test_cuts_that_break_off_are_seen(cuts, data):
    """Packed cuts of which the end is missing are an error, or the cuts before; never other cuts."""
    packed = pack_cuts(cuts)
    part = packed[: data.draw(st.integers(0, len(packed) - 1))]
    try:
        found = [*unpack_cuts(part)]
    except ValueError:
        return
    assert found == cuts[: len(found)]


@st.composite
def pieces(draw):
    """A text, cut anywhere between its code points."""
    text = draw(TEXT)
    places = draw(st.lists(st.integers(0, len(text)), max_size=6))
    edges = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in pairwise(edges) if end > start]


@st.composite
def answers(draw):
    """Chunks of an answer: blocks of all kinds, some at once, their deltas in any order that keeps each block's."""
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "tool_use", "vendor"]), max_size=5))
    chunks, waiting = [], {}
    for number, kind in enumerate(kinds):
        if kind == "vendor":
            chunks.append(VendorBlock(number, "thing", b'{"type": "thing", "n": %d}' % number))
            continue
        call = (f"call_{number}", "look") if kind == "tool_use" else ()
        chunks.append(BlockStarted(number, kind, *call))
        waiting[number] = draw(pieces())
        while waiting and draw(st.booleans()):
            _say_something(draw, chunks, waiting)
    while waiting:
        _say_something(draw, chunks, waiting)
    ending = draw(st.sampled_from(["ended", "ended", "truncated", "error"]))
    ends = {"ended": [Ended("end_turn")], "truncated": [], "error": [ZeroDivisionError()]}
    return [*chunks, *ends[ending]]


def _say_something(draw, chunks, waiting):
    number = draw(st.sampled_from(sorted(waiting)))
    if waiting[number]:
        chunks.append(Delta(number, waiting[number].pop(0)))
    else:
        chunks.append(BlockStopped(number))
        del waiting[number]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """An engine for all examples, and the loop it runs on."""
    path = tmp_path_factory.mktemp("recording") / "chat.db"
    provider = Dictated()
    with asyncio.Runner() as runner:
        context = chatting(path, providers=(provider,), tail_frames=6, unwitnessed=True)
        chat = runner.run(context.__aenter__())
        yield lambda function: runner.run(function(chat, provider)), path
        runner.run(context.__aexit__(None, None, None))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(chunks=answers(), data=st.data())
def test_what_is_shown_is_what_is_recorded(running, chunks, data):
    """For any answer in any pieces: the deltas joined are the recorded blocks, and live, journalled and recorded frames
    are the same, whatever the cursor and the size of a page.
    """
    run, _ = running
    raised = sum(isinstance(chunk, Exception) for chunk in chunks)
    stop_at = data.draw(st.integers(0, len(chunks) - raised))
    pages = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))

    async def example(chat, provider):
        reached, release = asyncio.Event(), asyncio.Event()

        async def pause():
            reached.set()
            await release.wait()

        provider.steps = [*chunks[:stop_at], pause, *chunks[stop_at:]]
        session = await chat.create_session(model="dictated/model")
        turn = await begin(chat, session.id, "Go.", client_tools=offered("look"))
        reading = asyncio.ensure_future(frames_of(chat, turn))
        async with asyncio.timeout(5):
            await reached.wait()
        on_disk = await paged(chat, turn, pages)
        release.set()
        live = await reading
        return live, on_disk, await paged(chat, turn, pages), await frames_of(chat, turn), await chat.turn(turn)

    live, on_disk, recorded, again, view = run(example)
    assert [frame.number for frame in live] == [*range(1, len(live) + 1)]
    assert recorded == again == live
    assert live[: len(on_disk)] == on_disk
    said = {}
    for chunk in chunks:
        if isinstance(chunk, Delta):
            said[chunk.block] = said.get(chunk.block, "") + chunk.text
    assert texts_of(live) == said
    blocks = view.message.blocks() if view.message else ()
    shown = {number: text(block) for number, block in enumerate(blocks) if text(block)}
    assert shown == said
    if view.message is not None:
        vendors = [bytes(raw) for raw, block in zip(view.message.content, blocks, strict=True) if is_other(block)]
        assert vendors == [chunk.raw for chunk in chunks if isinstance(chunk, VendorBlock)]


def is_other(block):
    return isinstance(block, OtherBlock)


def text(block):
    return getattr(block, "input_text", None) or getattr(block, "text", None)


async def paged(chat, turn, pages):
    """All frames that are on disk, in pages of these sizes in turn."""
    frames, number, backlog = [], 0, Backlog("default", turn)
    while True:
        after, limit = (frames[-1].number if frames else 0), pages[number % len(pages)]
        number += 1
        page = await chat._parts.store.read(partial(backlog.read, after=after, limit=limit))
        assert len(page) <= limit
        frames += page
        if not page:
            return frames


def test_the_log_of_all_examples_holds(running):
    """After all that every commitment and leaf is right, and no run is left."""
    run, path = running

    async def runs(chat, _):
        return await chat._parts.store.read(open_runs)

    assert run(runs) == []
    assert audit(path) > 0


@given(TEXT, st.lists(st.integers(0, 80), max_size=8))
def test_halves_of_characters_are_put_together(text, places):
    """A text cut between the halves of a sign beyond U+FFFF comes out whole, in pieces that are each valid."""
    units = text.encode("utf-16-le", "surrogatepass")
    edges = sorted({0, len(units), *(2 * place for place in places if 2 * place < len(units))})
    halves, out = Halves(), []
    for start, end in pairwise(edges):
        out.append(halves.feed(units[start:end].decode("utf-16-le", "surrogatepass")))
        assert out[-1] == out[-1].encode().decode()
    assert "".join(out) + halves.close() == text
