"""Word-level differences: nothing is lost, they are found where they are, and they take bounded time."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manent.engine.service.replay import words_diff as module
from manent.engine.service.replay.words_diff import Span, words_diff

PIECES = st.lists(
    st.sampled_from(
        ["one", "two", " ", "  ", "\n", "\t", ".", ",", "", "天", "気", "é", "e\u0301", "שלום", "👩‍👩‍👧", "\u2028"]
    )
)
TEXTS = st.one_of(st.text(), PIECES.map("".join))


def joined(spans, *kinds):
    return "".join(span.text for span in spans if span.kind in kinds)


def shape(old, new):
    """The spans as pairs, which read well."""
    return [(span.kind[0], span.text) for span in words_diff(old, new)]


@given(TEXTS, TEXTS)
def test_both_texts_are_in_the_difference(old, new):
    """Equal and removed spans give the old text, equal and added ones the new."""
    spans = words_diff(old, new)
    assert joined(spans, "equal", "removed") == old
    assert joined(spans, "equal", "added") == new


@given(TEXTS, TEXTS)
def test_spans_are_merged(old, new):
    """No span is empty, no two neighbours are of one kind, and what is removed stands before what is added."""
    spans = words_diff(old, new)
    assert all(span.text for span in spans)
    assert all(
        one.kind != other.kind and (one.kind, other.kind) != ("added", "removed") for one, other in pairwise(spans)
    )


@given(TEXTS)
def test_a_text_does_not_differ_from_itself(text):
    """The difference of a text and itself is one equal span, and of nothing and nothing none."""
    assert words_diff(text, text) == ([Span("equal", text)] if text else [])


@given(TEXTS, TEXTS)
def test_short_bounds_lose_nothing(old, new):
    """Where steps run out at any moment, both texts are still whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_STEPS", 8)
        patch.setattr(module, "MAX_CHARS", 10)
        spans = words_diff(old, new)
    assert joined(spans, "equal", "removed") == old
    assert joined(spans, "equal", "added") == new


def test_words_are_found():
    """One changed word is one removed and one added span, without the blanks around it; a new comma is no new word."""
    assert shape("It rains in Rome today.", "It rains in Paris today.") == [
        ("e", "It rains in "),
        ("r", "Rome"),
        ("a", "Paris"),
        ("e", " today."),
    ]
    assert shape("Yes. And", "Yes, And") == [("e", "Yes"), ("r", "."), ("a", ","), ("e", " And")]


def test_scripts_without_blanks_are_compared_by_character():
    """In Chinese and Japanese one character that differs is one character that is marked."""
    assert shape("今日は雨です", "今日は雪です") == [("e", "今日は"), ("r", "雨"), ("a", "雪"), ("e", "です")]


def test_letters_are_not_torn_from_their_marks():
    """Combining marks and joined emoji stay in their word."""
    assert shape("हिन्दी 👩‍👩‍👧", "हिन्दी 👩‍👩‍👦") == [("e", "हिन्दी "), ("r", "👩‍👩‍👧"), ("a", "👩‍👩‍👦")]


def test_long_texts_are_compared_by_lines_and_then_by_words(monkeypatch):
    """In a text that is too long for words, the words of a changed line are still found."""
    monkeypatch.setattr(module, "MAX_CHARS", 100)
    lines = [f"line {number} of the long text\n" for number in range(50)]
    changed = [*lines[:20], "line 20 of the new text\n", *lines[21:]]
    assert [each for each in shape("".join(lines), "".join(changed)) if each[0] != "e"] == [
        ("r", "long"),
        ("a", "new"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a b " * 50_000, "a x b " * 33_000),
        ("a\nb\n" * 50_000, "a\nx\nb\n" * 33_000),
        ("a b " * 495, "a x b " * 330),
        ("".join("a " * count + "b " for count in range(60)), "".join("a " * count + "c " for count in range(60))),
        ("x" * 1_000_000, "y" * 1_000_000),
        ("a b\n" * 500_000, "b a\n" * 500_000),
    ],
    ids=["words", "lines", "few words", "stairs", "one word", "megabytes"],
)
def test_it_takes_bounded_time(old, new):
    """The worst texts for an exact alignment are compared within seconds, and nothing is lost."""
    begun = time.process_time()
    spans = words_diff(old, new)
    assert time.process_time() - begun < 5
    assert joined(spans, "equal", "removed") == old
    assert joined(spans, "equal", "added") == new
