"""Secrets in an answer that comes in pieces, against replacing them in the whole."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from manent.engine.errors import ProviderError
from manent.engine.providers.base import BlockStarted, BlockStopped, Delta
from manent.engine.providers.secrets import HALF_CHARS, MARK, SecretCutter, Secrets

KEY = "sk-Secret.of/the_house-4711"
FEW = "abc-/"
secrets = st.text(FEW, min_size=1, max_size=6)
lone = secrets | st.just(KEY)


def texts_with(keys):
    """Texts that hold secrets, halves of them, and whatever else."""
    halves = [part for key in keys for n in range(1, len(key)) for part in (key[:n], key[n:])]
    around = st.sampled_from([*keys, *halves]) | st.text(FEW + "k", max_size=4) | st.text(max_size=4)
    return st.lists(around, max_size=8).map("".join)


def split(text, cuts):
    """Pieces between the cuts."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


def cut_in_pieces(keys, pieces, *, stopped=True):
    """What is given on of an answer that is one block."""
    given_on = []
    cutter = SecretCutter(Secrets(keys), given_on.append)
    cutter.take(BlockStarted(0, "text"))
    for piece in pieces:
        cutter.take(Delta(0, piece))
    if stopped:
        cutter.take(BlockStopped(0))
    cutter.break_off()
    assert given_on[0] == BlockStarted(0, "text")
    deltas = [chunk.text for chunk in given_on[1:] if isinstance(chunk, Delta)]
    assert all(deltas)
    assert len(deltas) + 1 + stopped == len(given_on)
    return "".join(deltas)


def written(keys):
    """The secrets in both their forms, the longest first."""
    return sorted({*keys, *(key.replace("/", "\\/") for key in keys)}, key=len, reverse=True)


@given(st.data(), lone, st.lists(st.integers(0, 200), max_size=12))
def test_a_secret_in_pieces_is_cut_as_in_the_whole(data, key, cuts):
    """However a text comes, it is the text with the mark for the secret; so the secret is nowhere, and all else is."""
    text = data.draw(texts_with([key]).filter(lambda text: "\\" not in text))
    told = cut_in_pieces([key], split(text, cuts))
    assert told == text.replace(key, MARK)
    assert key not in told.replace(MARK, "\0")


@given(st.data(), st.lists(lone, min_size=1, max_size=3), st.lists(st.integers(0, 200), max_size=12))
def test_several_secrets_that_overlap(data, keys, cuts):
    """Of those that begin at one place the longer one counts, however late that is known."""
    text = data.draw(texts_with(written(keys)))
    whole = re.sub("|".join(map(re.escape, written(keys))), MARK, text)
    assert cut_in_pieces(keys, split(text, cuts)) == whole == Secrets(keys).cut(text)


@given(st.data(), lone, st.lists(st.integers(0, 200), max_size=12))
def test_nothing_is_held_back_that_is_decided(data, key, cuts):
    """What is held is always the beginning of a secret, and shorter than it."""
    text = data.draw(texts_with([key]))
    cutter, told = SecretCutter(Secrets([key]), lambda chunk: told.append(chunk.text)), []
    for piece in split(text, cuts):
        cutter.take(Delta(0, piece))
    whole = Secrets([key]).cut(text)
    held = whole[len("".join(told)) :]
    assert whole.startswith("".join(told))
    assert held == "" or any(len(held) < len(each) and each.startswith(held) for each in written([key]))


@given(st.data(), lone, st.lists(st.integers(0, 200), max_size=12))
def test_half_a_secret_at_a_break(data, key, cuts):
    """An answer that breaks off in the midst of a secret does not show most of it, and loses nothing else."""
    text = data.draw(texts_with([key]))
    told = cut_in_pieces([key], split(text, cuts), stopped=False)
    whole = Secrets([key]).cut(text)
    assert told == Secrets([key]).cut_end(text)
    assert not any(told.endswith(each[:HALF_CHARS]) for each in written([key]) if len(each) > HALF_CHARS)
    assert whole.startswith(told.removesuffix(MARK))


@given(st.data(), lone)
def test_errors_hold_no_secret(data, key):
    """Neither in their sentence, nor in what goes on record with them."""
    said = st.one_of(st.none(), texts_with([key]))
    error = ProviderError(
        data.draw(said) or "", vendor_code=data.draw(said), request_id=data.draw(said), upstream=data.draw(said) or ""
    )
    SecretCutter(Secrets([key]), print).without(error)
    for text in (error.detail, error.vendor_code, error.request_id, error.upstream):
        assert key not in (text or "").replace(MARK, "\0")
