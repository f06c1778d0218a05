"""Messages for other tools: each block in the tool's own words, and nothing that it could not read."""

import json

import msgspec
import pytest

from manent import engine
from manent.engine.service.formats import openai_messages, otel_message, whole_units
from manent.engine.sessions.views import Message


def message(role, *blocks, complete=True, erased=False):
    return Message(
        id=engine.new_id(),
        session_id=engine.new_id(),
        version=1,
        position=1,
        role=role,
        content=tuple(msgspec.Raw(json.dumps(block).encode()) for block in blocks),
        token_count=1,
        complete=complete,
        erased=erased,
        turn_id=None,
        actor="local",
        created_at="",
    )


TEXT, THOUGHT = {"type": "text", "text": "Hi <b>"}, {"type": "thinking", "text": "Hm."}
CALL = {"type": "tool_use", "id": "call_1", "name": "look", "input": {"b": [1], "a": "é"}}
HALF_CALL = {"type": "tool_use", "id": "call_1", "name": "look", "input_text": '{"a"'}
RESULT = {"type": "tool_result", "tool_use_id": "call_1", "content": "Rain."}
PARTS = {"type": "tool_result", "tool_use_id": "call_2", "content": [TEXT, TEXT], "is_error": True}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
ODD = {"type": "citation", "n": 1}

FUNCTION = {"name": "look", "arguments": '{"b":[1],"a":"é"}'}

CASES = {
    "text": (
        message("user", TEXT),
        [{"role": "user", "content": "Hi <b>"}],
        [{"role": "user", "parts": [{"type": "text", "content": "Hi <b>"}]}],
    ),
    "pictures": (
        message("user", TEXT, PICTURE, LINK),
        [
            {
                "role": "user",
                "content": [
                    TEXT,
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
                ],
            }
        ],
        [
            {
                "role": "user",
                "parts": [
                    {"type": "text", "content": "Hi <b>"},
                    {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
                    {"type": "uri", "modality": "image", "uri": "https://example.com/x.png"},
                ],
            }
        ],
    ),
    "a call": (
        message("assistant", THOUGHT, TEXT, CALL),
        [
            {
                "role": "assistant",
                "content": "Hi <b>",
                "tool_calls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
            }
        ],
        [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm."},
                    {"type": "text", "content": "Hi <b>"},
                    {"type": "tool_call", "id": "call_1", "name": "look", "arguments": {"b": [1], "a": "é"}},
                ],
            }
        ],
    ),
    "a call that is no JSON": (
        message("assistant", HALF_CALL),
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a"'}}],
            }
        ],
        [
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "call_1", "name": "look", "arguments": '{"a"'}],
            }
        ],
    ),
    "results": (
        message("tool", RESULT, PARTS),
        [
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
            {"role": "tool", "tool_call_id": "call_2", "content": "Hi <b>\nHi <b>"},
        ],
        [
            {
                "role": "tool",
                "parts": [
                    {"type": "tool_call_response", "id": "call_1", "response": "Rain."},
                    {"type": "tool_call_response", "id": "call_2", "response": "Hi <b>\nHi <b>"},
                ],
            }
        ],
    ),
    "one that broke off": (
        message("assistant", THOUGHT, TEXT, HALF_CALL, complete=False),
        [{"role": "assistant", "content": "Hi <b>"}],
        [{"role": "assistant", "parts": [{"type": "text", "content": "Hi <b>"}]}],
    ),
    "one that broke off before a word": (message("assistant", THOUGHT, complete=False), [], []),
    "a block of a vendor's own": (message("assistant", ODD), [], [{"role": "assistant", "parts": [ODD]}]),
}


@pytest.mark.parametrize(("said", "openai", "otel"), CASES.values(), ids=CASES)
def test_each_block_in_the_tools_words(said, openai, otel):
    """As OpenAI's chat completions take it, and as OpenTelemetry names its parts."""
    assert list(openai_messages(said)) == openai
    assert list(otel_message(said)) == otel


async def units(*messages):
    async def each():
        for one in messages:
            yield one

    return [one async for one in whole_units(each())]


async def test_only_whole_units_are_passed_on():
    """A call without its result, or with an erased one, would be refused wherever it is sent."""
    user, call, result = message("user", TEXT), message("assistant", CALL), message("tool", RESULT)
    gone = message("tool", erased=True)
    assert await units(user, call, result, user) == [user, call, result, user]
    assert await units(user, call, gone, user) == [user, user]
    assert await units(user, call, user) == [user, user]
    assert await units(user, call) == [user, call]
    assert await units(message("user", erased=True), user) == [user]
    assert await units(user, message("user", erased=True)) == [user]
    assert await units() == []
