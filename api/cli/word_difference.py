"""The words of two texts that differ, as one text in a terminal: ``[-removed-]`` and ``{+added+}``, and in colour."""

from __future__ import annotations

import click

from ...engine import Span, words_diff
from .terminal import printable

MAX_EQUAL_CHARS = 400
"""Of longer passages that are equal, the beginning and the end are shown."""
MAX_CHARS = 4_000
"""Of longer ones that differ, the beginning."""


def word_difference(old: str, new: str) -> str:
    """The difference, safe for a terminal. The marks hold without colours, too."""
    return "".join(map(_styled, words_diff(old, new)))


def _styled(span: Span) -> str:
    if span.kind == "equal":
        return printable(_cut(span.text, MAX_EQUAL_CHARS // 2, MAX_EQUAL_CHARS // 2))
    text = printable(_cut(span.text, MAX_CHARS, 0))
    if span.kind == "removed":
        return click.style(f"[-{text}-]", fg="red")
    return click.style(f"{{+{text}+}}", fg="green")


def _cut(text: str, first: int, last: int) -> str:
    """A text without its inside, if it is long."""
    left = len(text) - first - last
    if left <= 0:
        return text
    return f"{text[:first]} […{left} characters…] {text[len(text) - last :]}"
