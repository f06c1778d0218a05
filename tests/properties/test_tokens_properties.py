"""Counts and figures for any input."""

from fractions import Fraction
from math import ceil

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from rs_bpe.bpe import openai

from manent.engine.events.blocks import (
    Base64Source,
    ImageBlock,
    OtherBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from manent.engine.providers import tokens

REFERENCE = openai.o200k_base()

# No half surrogates: they are repaired before they come here. No letters newer than the tokenizers' Unicode.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Cs"]), max_size=60)
WORDS = st.lists(
    st.one_of(TEXT, st.sampled_from(["hello", " ", "  ", "\n", ".\n", "/", "'s", "123", "你好", "🎉", "-" * 70, "\t"])),
    max_size=40,
).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)

TEXT_BLOCKS = st.builds(TextBlock, TEXT)
IMAGES = st.builds(
    ImageBlock, st.builds(UrlSource, TEXT) | st.builds(Base64Source, st.just("image/png"), st.just("iVBORw0KGgo="))
)
VENDOR = st.none() | st.just(msgspec.Raw(b'{"signature":"abc"}'))
BLOCKS = st.one_of(
    TEXT_BLOCKS,
    IMAGES,
    st.builds(ThinkingBlock, TEXT, VENDOR),
    st.builds(ToolUseBlock, TEXT, TEXT, st.none() | st.dictionaries(TEXT, JSON, max_size=3), st.none() | TEXT, VENDOR),
    st.builds(ToolResultBlock, TEXT, TEXT | st.lists(TEXT_BLOCKS | IMAGES, max_size=3).map(tuple), st.booleans()),
    st.builds(OtherBlock, TEXT, st.binary(max_size=20)),
)


def is_nothing(block):
    match block:
        case TextBlock(text=text):
            return not text
        case ThinkingBlock(text=text, vendor=vendor):
            return not text and vendor is None
        case OtherBlock(raw=raw):
            return not raw
        case _:
            return False


@given(st.lists(BLOCKS, max_size=5).map(tuple))
def test_content_counts_zero_if_and_only_if_there_is_nothing_in_it(content):
    """Zero is how an empty message is known; an empty result of a tool is not one."""
    assert (tokens.count_content(content) == 0) == all(map(is_nothing, content))


@given(st.lists(BLOCKS, max_size=4).map(tuple), st.lists(BLOCKS, max_size=4).map(tuple))
def test_content_counts_add_up(first, second):
    """Blocks are counted one by one, and never less than nothing."""
    assert tokens.count_content(first + second) == tokens.count_content(first) + tokens.count_content(second)
    assert tokens.count_content(first) >= 0


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(1, 10_000), st.integers(0, 100))
def test_a_figure_is_the_exact_product_rounded_up(base_tokens, messages, factor_permille, overhead):
    """Integers all the way: no float comes between."""
    exact = Fraction(base_tokens * factor_permille, 1000)
    assert tokens.figure(base_tokens, messages, factor_permille, overhead) == ceil(exact) + overhead * messages


@given(
    st.sampled_from(sorted(tokens.FAMILIES)),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
    st.integers(0, 10**10),
    st.integers(0, 100),
)
def test_a_calibrated_factor_stays_within_its_bounds(name, base_tokens, messages, reported_tokens, samples):
    """However odd the reports, and never for an exact family."""
    known = tokens.family(name)
    factor_permille = tokens.calibrate(known, base_tokens, messages, reported_tokens, samples)
    assert known.low_permille <= factor_permille <= known.high_permille


@given(st.integers(1000, 10**7), st.integers(0, 10**4), st.integers(1001, 3999), st.integers(3, 100))
def test_a_calibrated_figure_covers_what_was_reported(base_tokens, messages, true_permille, samples):
    """With the factor found, the same attempts are figured at what they were, and at most one permille over."""
    known = tokens.family("claude")
    reported_tokens = tokens.figure(base_tokens, messages, true_permille, known.overhead)
    factor_permille = tokens.calibrate(known, base_tokens, messages, reported_tokens, samples)
    figured = tokens.figure(base_tokens, messages, factor_permille, known.overhead)
    assert reported_tokens <= figured <= reported_tokens + base_tokens // 1000 + 1


@given(WORDS)
def test_any_text_counts_what_a_second_tokenizer_counts(text):
    """Within the two letters that are newer than the second tokenizer."""
    assert tokens.count_text(text) == REFERENCE.count(text)


@given(WORDS, st.integers(8, 64))
def test_slices_that_end_cleanly_add_up(text, size):
    """A cut before a blank or after a line end cuts no token, wherever it falls."""
    pieces = list(tokens.slices(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces) or text == ""
    if all(len(piece) < size for piece in pieces[:-1]):
        assert sum(map(tokens.count_text, pieces)) == tokens.count_text(text)
