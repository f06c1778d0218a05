"""Recorded results go to calls of the same arguments: the same JSON in the sense of RFC 8785, however it is written."""

import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.events.blocks import ToolUseBlock
from manent.engine.tools.from_record import RecordedResult, Recordings, key_of, key_of_text

SAFE = (1 << 53) - 1
NUMBERS = st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), VALUES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_two_calls_have_one_key_if_their_arguments_are_the_same_json(one, other):
    """Members in any order, numbers in any form; and no two that differ have one key."""
    same = rfc8785.dumps(one) == rfc8785.dumps(other)
    assert (key_of_text("t", json.dumps(one)) == key_of_text("t", json.dumps(other))) == same
    turned = dict(reversed(one.items()))
    assert key_of_text("t", json.dumps(one, indent=1)) == key_of_text("t", json.dumps(turned))
    assert key_of_text("t", json.dumps(one)) != key_of_text("u", json.dumps(one))


@given(OBJECTS)
def test_a_call_as_it_was_read_has_the_key_of_its_text(given_):
    """Whether its arguments were kept as JSON or as the model wrote them."""
    text = json.dumps(given_)
    kept = ToolUseBlock("c1", "t", given_)
    assert key_of(kept) == key_of(ToolUseBlock("c1", "t", None, text)) == key_of_text("t", text)


@given(st.text())
def test_any_text_has_a_key(text):
    """What a model writes may be no JSON, or numbers that nobody can hold: reading it does not fail."""
    assert key_of_text("t", text) == key_of_text("t", text)
    assert key_of_text("t", f'{{"n": 1{"0" * 400}, "t": {json.dumps(text)}}}')


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_results_are_given_in_order_and_once(recorded, asked):
    """The n-th call of a kind gets the n-th result of it, and nothing more than there is."""
    results = [((name, b"{}"), RecordedResult(f"{name}{number}")) for number, name in enumerate(recorded)]
    recordings = Recordings(results)
    given_ = [recordings.take((name, b"{}")) for name in asked]
    for name in "abc":
        expected = [result for (tool, _), result in results if tool == name]
        came = [result for tool, result in zip(asked, given_, strict=True) if tool == name]
        assert came == (expected + [None] * len(came))[: len(came)]
