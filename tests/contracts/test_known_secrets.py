"""The keys of this server in what an upstream sends: neither recorded nor shown, by whichever protocol it comes."""

import json
from itertools import zip_longest

import pytest

from manent.engine.errors import ProviderUnavailable
from manent.engine.events.usage import Usage
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, UsageReported, VendorBlock
from manent.engine.providers.secrets import MARK, MIN_CHARS
from tests.support import Dictated, assert_rebuilds, audit, begin, chatting, frames_of, text_of, texts_of
from tests.upstream import CLOSE, KEY, WIRES, asking, attempts_of, says_nothing_of, upstream

SAID = f"Your key is {KEY}, and {KEY[:9]} begins it."
TOLD = f"Your key is {MARK}, and {KEY[:9]} begins it."
PIECES = {
    "whole": [SAID],
    "letter by letter": list(SAID),
    "in halves": [SAID[:20], SAID[20:]],
    "in threes": [SAID[start : start + 3] for start in range(0, len(SAID), 3)],
}


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over, and no key."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")
    assert says_nothing_of(KEY, path)


def dictating(path, *steps, **settings):
    return chatting(path, providers=[Dictated(*steps)], openai_api_key=KEY, **settings)


async def told_by(chat):
    """A turn of the dictated model: as it is seen, and as it was streamed."""
    session = (await chat.create_session(model="dictated/model")).id
    turn = await begin(chat, session, "Which key?")
    frames = await frames_of(chat, turn)
    assert await frames_of(chat, turn) == frames
    assert KEY.encode() not in b"".join(frame.data for frame in frames)
    return await chat.turn(turn), frames, (await attempts_of(chat, session))[0]


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_key_in_a_text(path, wire, pieces):
    """A mark stands in its place, however the text comes; the deltas, joined, are the recorded block."""
    async with upstream(wire) as up, asking(path, (wire, up.address)) as chat:
        up.will(wire.answer(*pieces))
        session = (await chat.create_session(model=wire.model)).id
        turn = await begin(chat, session, "Which key?")
        frames, view = await frames_of(chat, turn), await chat.turn(turn)
        assert (view.status, text_of(view.message)) == ("completed", TOLD)
        assert texts_of(frames) == {0: TOLD}
        assert await frames_of(chat, turn) == frames
        assert (await chat.say(session, "And again?")).status == "completed"


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_half_a_key_at_a_break(path, wire):
    """What came before is kept."""
    async with upstream(wire) as up, asking(path, (wire, up.address)) as chat:
        up.will([*wire.speaking(wire.says("It is "), wire.says(KEY[:-1])), CLOSE])
        view = await chat.say((await chat.create_session(model=wire.model)).id, "Which key?")
        assert (view.status, text_of(view.message)) == ("failed", f"It is {MARK}")
    assert says_nothing_of(KEY[:-1], path)


async def test_what_may_begin_a_key_is_held_and_not_lost(path):
    """Until it is decided: at the latest when its block stops."""
    steps = [BlockStarted(0, "text"), Delta(0, "As is sk"), Delta(0, "y."), Delta(0, KEY[:5])]
    async with dictating(path, *steps, BlockStopped(0), Ended("end_turn")) as chat:
        view, frames, _ = await told_by(chat)
        assert text_of(view.message) == f"As is sky.{KEY[:5]}"
        deltas = [json.loads(frame.data)["text"] for frame in frames if frame.type == "delta"]
        assert deltas == ["As is ", "sky.", KEY[:5]]


async def test_a_key_in_thoughts_and_in_a_calls_input(path):
    """Cut in each block for itself, though their pieces come in turn; the input is still JSON."""
    texts = f"Hm, {KEY}.", json.dumps({"text": f"a {KEY} b"})
    steps = [BlockStarted(0, "thinking"), BlockStarted(1, "tool_use", "call", "look")]
    for letters in zip_longest(*texts, fillvalue=""):
        steps += [Delta(block, letter) for block, letter in enumerate(letters) if letter]
    async with dictating(path, *steps, BlockStopped(0), BlockStopped(1), Ended("tool_use")) as chat:
        view, _, _ = await told_by(chat)
        message = next(message for message in view.messages if message.role == "assistant")
        thought, call = message.blocks()
        assert thought.text == f"Hm, {MARK}."
        assert call.input == {"text": f"a {MARK} b"}


@pytest.mark.parametrize("before", [[], [BlockStarted(0, "text"), Delta(0, "Look: "), BlockStopped(0)]])
@pytest.mark.parametrize(
    "chunk",
    [
        VendorBlock(1, "thinking", b'{"type":"thinking","signature":"%b"}' % KEY.encode()),
        VendorBlock(1, "custom", b'{"type":"custom","x":"%b"}' % KEY.encode()),
        BlockStarted(1, "tool_use", KEY, "look"),
        BlockStarted(1, "tool_use", "call", f"look_{KEY}"),
    ],
    ids=["a signed block", "a block of another type", "a call's id", "a call's name"],
)
async def test_a_key_where_it_cannot_be_cut(path, before, chunk):
    """The attempt fails: a signed block would be worth nothing with a mark in it, and a name would be another's."""
    async with dictating(path, *before, chunk, Ended("end_turn")) as chat:
        view, _, _ = await told_by(chat)
        assert (view.status, view.error.code) == ("failed", "provider_malformed")
        assert text_of(view.message) == "Look: " if before else view.message is None


async def test_a_key_in_what_goes_with_an_answer(path):
    """Ids are cut, a reason to stop is one of others, and the vendor's figures stay what they are."""
    usage = UsageReported(Usage(input_tokens=7, output_tokens=3), b'{"who":"%b","n":7}' % KEY.encode())
    ended = Ended(f"because_{KEY}", KEY, f"resp_{KEY}", f"req_{KEY}")
    async with dictating(path, BlockStarted(0, "text"), Delta(0, "Hm."), BlockStopped(0), usage, ended) as chat:
        view, _, (_, _, facts, words) = await told_by(chat)
        assert (view.status, view.stop_reason, view.vendor_stop_reason) == ("completed", "other", None)
        assert (words["response_id"], words["request_id"]) == (f"resp_{MARK}", f"req_{MARK}")
        assert words["usage"] == {"who": MARK, "n": 7}
        assert facts["usage"]["input_tokens"] == 7


async def test_a_key_in_an_error(path):
    """Of any provider's: its sentence, which clients read, and what goes on record."""
    error = ProviderUnavailable(
        f"no answer for {KEY}", vendor_code=KEY, request_id=f"req_{KEY}", upstream=f"Who is {KEY}? Or {KEY[:-1]}"
    )
    async with dictating(path, error) as chat:
        view, _, (_, _, facts, words) = await told_by(chat)
        assert view.error.detail == f"no answer for {MARK}"
        assert "vendor_code" not in facts
        assert words == {"request_id": f"req_{MARK}", "upstream": f"Who is {MARK}? Or {MARK}"}


async def test_any_configured_key_is_cut(path):
    """Whoever sends it: gateways ask several vendors."""
    other = "sk-ant-Another/key-0815"
    steps = [BlockStarted(0, "text"), *(Delta(0, letter) for letter in f"{other} {KEY} ")]
    async with dictating(path, *steps, BlockStopped(0), Ended("end_turn"), anthropic_api_key=other) as chat:
        view, _, _ = await told_by(chat)
        assert text_of(view.message) == f"{MARK} {MARK} "
    assert says_nothing_of(other, path)


async def test_a_word_that_stands_for_a_key_stays(tmp_path):
    """Servers of one's own take any: an answer may say it."""
    path, word = tmp_path / "chat.db", "lm-studio"
    assert len(word) < MIN_CHARS
    model = Dictated(BlockStarted(0, "text"), Delta(0, f"I am {word}."), BlockStopped(0), Ended("end_turn"))
    async with chatting(path, providers=[model], openai_api_key=word) as chat:
        view, _, _ = await told_by(chat)
        assert text_of(view.message) == f"I am {word}."
