"""What a model cannot take, inside of a turn: a tool's images, and what a model's own blocks of other types become."""

import json

import pytest

from manent import engine
from manent.engine.events.blocks import Base64Source, ImageBlock, TextBlock
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, VendorBlock
from tests.support import Dictated, assert_rebuilds, audit, chatting, says, text_of

PIXEL = ImageBlock(Base64Source("image/png", "iVBORw0KGgo="))
UNSEEN = TextBlock("[an image, not shown: this model takes none]")


@engine.tool
def paint() -> engine.ToolOutput:
    """Paints."""
    return engine.ToolOutput((TextBlock("see:"), PIXEL))


@pytest.fixture
def path(tmp_path):
    """A file that holds together when the test is over."""
    path = tmp_path / "chat.db"
    yield path
    audit(path)
    assert_rebuilds(path, tmp_path / "copy.db")


def results(turn):
    return [block.content for message in turn.messages if message.role == "tool" for block in message.blocks()]


async def test_a_tools_image_becomes_words_for_a_model_of_text(path):
    """The turn goes on, and what is on record is what the model was sent."""
    answers = [{"steps": [{"tool": {"id": "a", "name": "paint"}}]}, *says("Nice.")]
    async with chatting(path, tools=[paint], main=answers) as chat:
        session = (await chat.create_session(model="scripted/main")).id
        turn = await chat.say(session, "Paint.", tools=("paint",))
        assert (turn.status, text_of(turn.message)) == ("completed", "Nice.")
        assert results(turn) == [(TextBlock("see:"), UNSEEN)]
        sent = json.loads(chat.script.requests[-1])["messages"][-1]
        assert (sent["role"], sent["text"]) == ("tool", f"see:{UNSEEN.text}")


async def test_a_tools_image_is_shown_to_a_model_that_may_see(path):
    """A model of which nothing is known is one of these."""
    model = Dictated(BlockStarted(0, "tool_use", "a", "paint"), Delta(0, "{}"), BlockStopped(0), Ended("tool_use"))
    async with chatting(path, tools=[paint], providers=[model], max_rounds=1) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await chat.say(session, "Paint.", tools=("paint",))
        assert results(turn) == [(TextBlock("see:"), PIXEL)]


async def test_a_models_block_of_another_type_is_kept(path):
    """It is on record byte for byte, is refused to nobody, and the session goes on: also with a model of text."""
    raw = b'{"type":"redacted_thinking", "data":"AAAA"}'
    model = Dictated(
        VendorBlock(0, "redacted_thinking", raw), BlockStarted(1, "text"), Delta(1, "Hm."), BlockStopped(1), Ended("x")
    )
    async with chatting(path, providers=[model], other=says("Yes.")) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await chat.say(session, "Think.")
        assert bytes(turn.message.content[0]) == raw
        assert (await chat.say(session, "And now?", model="scripted/other")).status == "completed"
        assert (await chat.say(session, "And now?")).status == "completed"
