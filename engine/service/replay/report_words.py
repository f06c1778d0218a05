"""Words of models and users as HTML: escaped, with what is invisible made visible, and side by side with differences.

Whatever comes from outside passes through ``words`` or ``label``. Nothing else here knows HTML's rules of escaping.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Any, Final

import msgspec

from .words_diff import Kind, Span, words_diff

MAX_WORDS_CHARS: Final = 20_000
"""Of a text, at most so many characters stand on the page, on each side."""
MAX_PRETTY_CHARS: Final = 1_000_000
"""JSON that is longer is shown as it is, and not indented."""
MAX_EQUAL_CHARS: Final = 1_000
"""Of longer passages that are equal, the beginning and the end are shown."""
MAX_LABEL_CHARS: Final = 200
"""Names and titles are cut after so many characters."""

# Characters that hide, command or turn others round, and halves of surrogate pairs, which no page can hold.
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)
_ELEMENTS: Final[dict[Kind, str]] = {"removed": "del", "added": "ins"}


def words(text: str) -> str:
    """A text as HTML, with hidden characters written out."""
    return HIDDEN.sub(lambda match: f'<span class="hidden">\\u{ord(match[0]):04x}</span>', escape(text))


def sentence(text: str) -> str:
    """A text with a capital."""
    return f"{text[:1].upper()}{text[1:]}"


def label(text: object, most: int = MAX_LABEL_CHARS) -> str:
    """A name, a title or a value on one line, cut if it is long."""
    line = " ".join(str(text).split())
    return words(line if len(line) <= most else f"{line[: most - 1]}…")


def pretty(value: Any) -> str:
    """A value as indented JSON, members in the order of their names."""
    try:
        return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2).decode()
    except (RecursionError, OverflowError, TypeError, UnicodeError, msgspec.MsgspecError):
        return "(cannot be shown)"  # nested too deeply, or what has no JSON


def pretty_text(text: str) -> str:
    """A text that may be JSON, indented if it is."""
    if len(text) > MAX_PRETTY_CHARS:
        return text
    try:
        msgspec.json.decode(text)
        return msgspec.json.format(text, indent=2)
    except (RecursionError, UnicodeError, msgspec.MsgspecError):
        return text


def block(text: str, most: int = MAX_WORDS_CHARS, *, code: bool = False) -> str:
    """One text, in its own direction, bounded."""
    return f"{_box(words(text[:most]), code=code)}{_note(len(text) - most)}"


def sides(recorded: str, now: str) -> str:
    """Two pieces of HTML, side by side."""
    return (
        f'<div class="pair"><div class="side"><p class="whose">Recorded</p>{recorded}</div>'
        f'<div class="side"><p class="whose">New</p>{now}</div></div>'
    )


def compared(recorded: str, now: str, most: int = MAX_WORDS_CHARS, *, code: bool = False) -> str:
    """Two texts: side by side with what differs marked, or one block if they are equal. Of long texts the beginning is
    shown without the inside of what is equal, and the rest is counted.
    """
    if recorded == now:
        return f'<div class="both"><p class="whose">Both</p>{block(now, most, code=code)}</div>' if now else ""
    spans = words_diff(recorded, now)
    return sides(*(_side(spans, kind, most, code=code) for kind in _ELEMENTS))


def _side(spans: Iterable[Span], kind: Kind, most: int, *, code: bool) -> str:
    """``most`` counts what is shown, so that a late difference is still found behind a long equal passage."""
    pieces, left_out = [], 0
    for span in spans:
        if span.kind not in {"equal", kind}:
            continue
        shown = span.text[:most]
        if span.kind == "equal" and len(span.text) > MAX_EQUAL_CHARS and most >= MAX_EQUAL_CHARS:
            pieces.append(_shortened(span.text))
            most -= MAX_EQUAL_CHARS
            continue
        element = "" if span.kind == "equal" else _ELEMENTS[kind]
        pieces.append(f"<{element}>{_visible(shown)}</{element}>" if element and shown else words(shown))
        most -= len(shown)
        left_out += len(span.text) - len(shown)
    return _box("".join(pieces), code=code) + _note(left_out) if pieces else '<p class="none">nothing</p>'


def _shortened(text: str) -> str:
    """A long equal passage without its inside."""
    half = MAX_EQUAL_CHARS // 2
    note = f'<span class="left-out">{len(text) - 2 * half:,} equal characters are not shown</span>'
    return f"{words(text[:half])}{note}{words(text[-half:])}"


def _box(html: str, *, code: bool) -> str:
    return f'<div class="words{" code" * code}" dir="auto">{html}</div>'


def _visible(text: str) -> str:
    """Words that differ; where only blanks do, the end of a line is marked."""
    return words(text.replace("\n", "↵\n") if text.isspace() else text)


def _note(left: int) -> str:
    return f'<p class="note">{left:,} more characters are not shown.</p>' if left > 0 else ""
