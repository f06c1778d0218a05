"""The canonical form of a message: what means the same is the same, and nothing else is."""

import base64
import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from manent.engine import ImageBlock, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from manent.engine.events.blocks import Base64Source
from manent.engine.sessions.canonical import arguments, canonical, hashes, origin

KEY, OTHER = b"k" * 32, b"o" * 32
PNG = base64.b64encode(b"an image").decode()
TEXTS = st.text(min_size=1, max_size=20)
CONTENTS = st.lists(
    st.one_of(
        TEXTS.map(TextBlock),
        st.builds(ToolUseBlock, TEXTS, TEXTS, st.dictionaries(TEXTS, st.integers(), max_size=3)),
        st.builds(ToolResultBlock, TEXTS, TEXTS),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
MESSAGES = st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), CONTENTS), min_size=1, max_size=6)


def form(*blocks, role="user"):
    return json.loads(canonical(role, blocks))


def test_neighbouring_texts_are_joined_and_empty_ones_left_out():
    """Where a text is cut into blocks says nothing."""
    assert form(TextBlock("a"), TextBlock(""), TextBlock("b")) == form(TextBlock("ab")) == ["user", [["text", "ab"]]]


def test_thinking_and_what_vendors_add_are_left_out():
    """A client need not send them back."""
    assert form(ThinkingBlock("hm"), TextBlock("a"), role="assistant") == ["assistant", [["text", "a"]]]


def test_calls_are_their_id_name_and_arguments():
    """However these were written, and wherever they stood in the text."""
    call = ToolUseBlock("c1", "look", {"b": 1.0, "a": [1e2]}, input_text='{"b": 1.0}')
    assert form(call, TextBlock("x"), role="assistant") == form(
        TextBlock("x"), ToolUseBlock("c1", "look", {"a": [100], "b": 1}), role="assistant"
    )
    assert form(call) != form(ToolUseBlock("c2", "look", {"b": 1, "a": [100]}))


def test_results_are_their_id_and_text_and_images_their_bytes():
    """A result given as blocks is the same as one given as text."""
    assert form(ToolResultBlock("c1", (TextBlock("a"), TextBlock("b")))) == form(ToolResultBlock("c1", "ab"))
    digest = hashlib.sha256(b"an image").hexdigest()
    assert form(ImageBlock(Base64Source("image/png", PNG))) == ["user", [["image", digest]]]


def test_numbers_have_one_spelling():
    """As RFC 8785 writes them; an integer that is too large for it stays as it is."""
    assert arguments({"b": 1.0, "a": 12345678901234567890}) == '{"a":12345678901234567890,"b":1}'


@given(MESSAGES, MESSAGES)
def test_hashes_are_equal_for_equal_histories_only(one, other):
    """Up to each message: the same beginnings have the same hashes, and others have others."""
    first = origin(KEY, "default", "key:1", None)
    hashed, others = hashes(KEY, first, one), hashes(KEY, first, other)
    for number in range(1, min(len(one), len(other)) + 1):
        same = [canonical(*each) for each in one[:number]] == [canonical(*each) for each in other[:number]]
        assert (hashed[number - 1] == others[number - 1]) == same


@given(MESSAGES)
def test_hashes_are_of_one_caller_user_and_key(messages):
    """What one principal has said is not recognised for another, nor with another secret."""
    origins = {
        origin(KEY, "default", "key:1", None),
        origin(KEY, "other", "key:1", None),
        origin(KEY, "default", "key:2", None),
        origin(KEY, "default", "key:1", "anna"),
        origin(OTHER, "default", "key:1", None),
    }
    assert len({hashes(KEY, first, messages)[-1] for first in origins}) == 5
