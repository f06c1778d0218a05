"""The difference of two texts, word by word, in bounded time. Pure.

``difflib`` takes time with the product of the lengths, and more where much repeats. So its steps are counted: passages
that would take too many are compared by lines, and lines that would take too many are left as one block that was
removed and one that was added. What both texts begin and end with is taken off before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import Match, SequenceMatcher
from typing import Final, Literal

import msgspec

MAX_STEPS: Final = 2_000_000
"""In one call at most so many pairs of equal words, and as many of equal lines, are looked at: about half a second."""
MAX_CHARS: Final = 200_000
"""Longer texts are compared by lines, and then by words within the lines that differ."""

Kind = Literal["equal", "removed", "added"]

# A word with the blanks that follow it. Scripts without blanks are taken character by character; marks of punctuation
# are words of their own, so that a new comma is not a new word.
_PUNCTUATION = r"!-/:-@\[-`{-~\u00a1\u00ab\u00bb\u00bf\u2010-\u2027\u2030-\u205e\u3000-\u303f\uff01-\uff0f"
_SINGLE = rf"{_PUNCTUATION}\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"\s+|[{_SINGLE}]\s*|[^\s{_SINGLE}]+\s*")
_PART = re.compile(rf"\s+|[{_SINGLE}]|[^\s{_SINGLE}]+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Span(msgspec.Struct, frozen=True):
    """A piece of text that both have, or that was ``removed`` from the old one or ``added`` in the new one."""

    kind: Kind
    text: str


def words_diff(old: str, new: str) -> list[Span]:
    """The spans of two texts, in order. The equal and removed ones, joined, are the old text; the equal and added ones
    the new. Neighbours differ in kind, none is empty, and what is removed stands before what is added there.
    """
    return _joined(_spans(old, new))


def _spans(old: str, new: str) -> Iterator[Span]:
    by_words, by_lines = _Steps(), _Steps()
    if max(len(old), len(new)) <= MAX_CHARS:
        yield from _by_words(old, new, by_words, by_lines)
    else:
        yield from _by_lines(old, new, by_words, by_lines)


def _by_words(old: str, new: str, by_words: _Steps, by_lines: _Steps | None) -> Iterator[Span]:
    """Without ``by_lines``, what has too many words is one block."""
    for is_equal, passage, again in _aligned(_WORD.findall(old), _WORD.findall(new), by_words):
        if is_equal:
            yield Span("equal", passage)
        elif is_equal is None and by_lines is not None:
            yield from _by_lines(passage, again, by_words, by_lines)
        else:
            yield from _block(passage, again)


def _by_lines(old: str, new: str, by_words: _Steps, by_lines: _Steps) -> Iterator[Span]:
    for is_equal, lines, again in _aligned(_LINE.findall(old), _LINE.findall(new), by_lines):
        if is_equal:
            yield Span("equal", lines)
        elif max(len(lines), len(again)) <= MAX_CHARS:
            yield from _by_words(lines, again, by_words, None)
        else:
            yield from _block(lines, again)


class _Steps:
    """The steps that are left."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def take(self, steps: int) -> bool:
        """Takes steps, if there are as many."""
        if steps > self._left:
            return False
        self._left -= steps
        return True


class _Matcher(SequenceMatcher[str]):
    """Finds nothing in common where looking would take more steps than are left."""

    def __init__(self, old: Sequence[str], new: Sequence[str], steps: _Steps) -> None:
        super().__init__(None, old, new, autojunk=False)
        self.old, self.new, self._steps = old, new, steps
        self._places = Counter(new)
        self.gave_up = False

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Match:
        """For each word of the old passage every place where it stands in the new text is looked at."""
        end = len(self.old) if ahi is None else ahi
        if self._steps.take(sum(1 + self._places[self.old[index]] for index in range(alo, end))):
            return super().find_longest_match(alo, ahi, blo, bhi)
        self.gave_up = self.gave_up or (alo, end) == (0, len(self.old))
        return Match(alo, blo, 0)


def _aligned(old: Sequence[str], new: Sequence[str], steps: _Steps) -> Iterator[tuple[bool | None, str, str]]:
    """Passages as (equal, old, new), with None for equal where they were too long to be compared."""
    start = _same_start(old, new)
    end = _same_start(old[start:][::-1], new[start:][::-1])
    yield True, "".join(old[:start]), ""
    matcher = _Matcher(old[start : len(old) - end], new[start : len(new) - end], steps)
    for tag, low, high, low_new, high_new in matcher.get_opcodes():
        is_equal = None if matcher.gave_up else tag == "equal"
        yield is_equal, "".join(matcher.old[low:high]), "".join(matcher.new[low_new:high_new])
    yield True, "".join(old[len(old) - end :]), ""


def _block(old: str, new: str) -> Iterator[Span]:
    """A passage that was replaced. Words are compared together with the blanks after them; here those at the ends are
    looked at apart, so that no blank is marked beside a word that alone has changed.
    """
    olds, news = _PART.findall(old), _PART.findall(new)
    start = _same_start(olds, news)
    end = _same_start(olds[start:][::-1], news[start:][::-1])
    yield Span("equal", "".join(olds[:start]))
    yield Span("removed", "".join(olds[start : len(olds) - end]))
    yield Span("added", "".join(news[start : len(news) - end]))
    yield Span("equal", "".join(olds[len(olds) - end :]))


def _same_start(old: Sequence[str], new: Sequence[str]) -> int:
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    return same


def _joined(spans: Iterator[Span]) -> list[Span]:
    """Spans without empty ones; between two equal ones all that was removed comes before all that was added."""
    joined: list[Span] = []
    waiting: dict[Kind, list[str]] = {"removed": [], "added": [], "equal": []}

    def flush(*kinds: Kind) -> None:
        for kind in kinds:
            text = "".join(waiting[kind])
            waiting[kind].clear()
            if text:
                joined.append(Span(kind, text))

    for span in spans:
        if not span.text:
            continue
        if span.kind == "equal":
            flush("removed", "added")
        else:
            flush("equal")
        waiting[span.kind].append(span.text)
    flush("equal", "removed", "added")
    return joined
