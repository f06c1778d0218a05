"""Characters that hide, command or turn others round, written out, so that a reader sees that they are there."""

from __future__ import annotations

from ..replay.report_words import HIDDEN


def written_out(text: str) -> str:
    """The text with each such character as its code (U+202E as a backslash, ``u202e``); line breaks and tabs stay."""
    return HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
