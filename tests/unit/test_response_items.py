"""Items of OpenAI's Responses and the blocks of messages: what is told of one comes back as the same."""

import json
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.api.compat.response_ids import item_id, read_id, read_item_id, response_id
from manent.api.compat.response_input import named_items, read_items
from manent.api.compat.response_items import answer_items
from manent.api.http.errors import Problem
from manent.engine import OtherBlock, TextBlock, ThinkingBlock, ToolUseBlock

MESSAGE = UUID(int=7)


def raws(*items):
    return [msgspec.Raw(json.dumps(item).encode()) for item in items]


def told(*blocks):
    return [placed.item for placed in answer_items(MESSAGE, blocks, encrypted=True)]


BLOCKS = st.one_of(
    st.text(min_size=1, max_size=5).map(TextBlock),
    st.builds(
        lambda number, given: ToolUseBlock(f"call_{number}", "look", given, json.dumps(given)),
        st.integers(0, 9),
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)),
    ),
    st.text(min_size=1, max_size=5).map(
        lambda text: ThinkingBlock(text, msgspec.Raw(json.dumps({"type": "thinking", "signature": text}).encode()))
    ),
    st.text(max_size=5).map(
        lambda text: OtherBlock("reasoning", json.dumps({"type": "reasoning", "x": text}).encode())
    ),
)


@given(st.lists(BLOCKS, min_size=1, max_size=8))
def test_an_answer_comes_back_as_it_was_told(blocks):
    """Thoughts to the byte of their vendor's form, calls with their arguments as they were written."""
    (message,) = read_items(raws(*told(*blocks))).messages
    assert message.role == "assistant"
    assert [*message.content] == blocks


@given(st.lists(BLOCKS, min_size=1, max_size=8))
def test_items_have_ids_of_their_own(blocks):
    """Each says the message that it is of; the first message item has the message's alone."""
    ids = [item["id"] for item in told(*blocks)]
    assert len({*ids}) == len(ids)
    assert {read_item_id(each).message for each in ids} == {MESSAGE}
    said = [each for each in ids if each.startswith("msg_")]
    assert said[:1] in ([], [item_id("msg", MESSAGE)])


def test_names_are_read_as_they_are_written():
    """In their one form, with their own prefix."""
    name = response_id(MESSAGE)
    assert read_id("resp", name) == MESSAGE
    assert [read_id("conv", name), read_id("resp", name + "_1"), read_id("resp", name.upper())] == [None] * 3
    assert read_item_id("fc_nothing") is None


def test_neighbours_of_one_answer_are_one_message():
    """And results of several calls are one, too, while each word of a user's is its own."""
    items = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "input_text", "text": "b"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c", "annotations": []}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "x"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "y"}]},
    ]
    found = read_items(raws(*items))
    assert [(message.role, len(message.content)) for message in found.messages] == [
        ("user", 1),
        ("user", 1),
        ("assistant", 3),
        ("tool", 2),
    ]
    assert found.theirs("messages[2].content[1].id") == "input[3].call_id"
    assert found.theirs("messages[3].content[1].tool_use_id") == "input[6].call_id"
    assert found.theirs("messages[1].content[0]") == "input[1].content[0]"
    assert found.theirs("messages[9].role") == "messages[9].role"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"text": "x"}]}, "input[0].content[0].type"),
        ({"role": "nobody", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": "x", "more": 1}, "input[0].more"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]},
            "input[0].content[0].image_url",
        ),
        ({"role": "system", "content": [{"type": "input_image", "image_url": "http://x/"}]}, "input[0].content"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "manent.block.AAAA"}, "input[0].encrypted_content"),
        ({"type": "item_reference", "id": "msg_1"}, "input[0].id"),
        ({"type": "function_call", "name": "look", "arguments": "{}"}, "input[0].call_id"),
    ],
)
def test_what_is_no_item_is_refused_with_its_place(item, field):
    """By the client's own name of it."""
    with pytest.raises(Problem) as refusal:
        read_items(raws(item))
    assert refusal.value.extra["field"] == field


def test_a_reference_may_be_without_a_type():
    """As some clients send it."""
    name = item_id("msg", MESSAGE)
    assert [each.message for each in named_items(raws({"id": name}, {"role": "user", "content": "x"}))] == [MESSAGE]
