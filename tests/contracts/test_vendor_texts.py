"""What a vendor says beside a text - citations, refusals - is on record with it, survives the server, and goes back."""

import json

import msgspec

from manent import engine
from manent.engine.providers.anthropic.render import MESSAGES, RENDERERS
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta, Ended, VendorBlock
from tests.support import Dictated, chatting, frames_of

CITED = b'{"type":"text", "text":"Dry.","citations":[{"type":"char_location","cited_text":"dry"}]}'
ANSWER = (BlockStarted(0, "text"), Delta(0, "Dry."), VendorBlock(0, "text", CITED), BlockStopped(0), Ended("end_turn"))


class Claude(Dictated):
    """Renders as for Claude."""

    renderer = MESSAGES
    renderers = RENDERERS


async def test_a_cited_text_is_kept_and_given_back(tmp_path):
    """To the byte in the next request, which is derived again; readers get the text, and the message has both."""
    provider = Claude(*ANSWER)
    async with chatting(tmp_path / "chat.db", providers=(provider,)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        turn = await chat.say(session, "Weather?")
        (block,) = turn.message.blocks()
        assert block == engine.TextBlock("Dry.", msgspec.Raw(CITED))
        deltas = [frame for frame in await frames_of(chat, turn.id) if frame.type == "delta"]
        assert [json.loads(frame.data)["text"] for frame in deltas] == ["Dry."]
        again = await chat.say(session, "Sure?")
        assert CITED in provider.requests[1]
        assert (await chat.explain(again.id)).request_bytes == provider.requests[1]
        assert engine.text_of(turn.message.blocks()) == "Dry."


async def test_a_cited_text_goes_with_an_erasure(tmp_path):
    """What was cited are words as well."""
    path = tmp_path / "chat.db"
    async with chatting(path, providers=(Claude(*ANSWER),)) as chat:
        session = (await chat.create_session(model="dictated/model")).id
        await chat.say(session, "Weather?")
        await chat.erase(session, "asked for")
    assert b"char_location" not in path.read_bytes()
