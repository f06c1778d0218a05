"""How a chat reads what is typed, and when a piece of Markdown is finished."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from manent.api.cli.chat.lines import Input, Written
from manent.api.cli.chat.markdown import finished, markdown

LINE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)


def messages(monkeypatch, text):
    """All that a chat reads of a pipe that holds this."""
    with monkeypatch.context() as patch, io.TextIOWrapper(io.BytesIO(text.encode())) as piped:
        patch.setattr(sys, "stdin", piped)
        source = Input()
        return list(iter(source.message, None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n", [Written("one"), Written("two")]),
        ("one\\\ntwo\\\nthree\nfour", [Written("one\ntwo\nthree", plain=False), Written("four")]),
        ("one\\\\\ntwo", [Written("one\\\\"), Written("two")]),
        ('"""\n/quit\n\n"""\nx', [Written("/quit", plain=False), Written("x")]),
        ('"""one\ntwo"""\nx', [Written("one\ntwo", plain=False), Written("x")]),
        ('"""one"""', [Written("one", plain=False)]),
        ('"""\none\n', [Written("one", plain=False, whole=False)]),
        ("one\\", [Written("one\n", plain=False, whole=False)]),
        ("", []),
    ],
)
def test_messages_of_several_lines(monkeypatch, text, expected):
    """Three quotes and backslashes hold lines together; what has no end says so."""
    assert messages(monkeypatch, text) == expected


@given(lines=st.lists(LINE, min_size=1, max_size=6))
def test_what_stands_between_quotes_comes_whole(lines):
    """Whatever stands there, commands and backslashes too, but for empty lines at its ends."""
    body = "\n".join(line.replace('"""', "") for line in lines)
    found = messages(pytest.MonkeyPatch(), f'"""\n{body}\n"""\n')
    assert found == [Written(body.strip("\n"), plain=False)]


PIECES = st.lists(
    st.sampled_from(
        ["# Title\n", "words ", "words\n", "\n", "- item\n", "1. item\n", "```\n", "~~~~\n", "  in\n", "`x`"]
    ),
    max_size=30,
)


@given(pieces=PIECES)
def test_what_is_finished_stays_so(pieces):
    """What was given as finished is so whatever follows, it ends at the end of a line, and it opens no code that it
    does not close.
    """
    text, told = "", 0
    for piece in pieces:
        text += piece
        end = finished(text)
        assert end >= told
        assert end == 0 or text[end - 1] == "\n"
        told = end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("one paragraph", 0),
        ("one\n\n", 0),
        ("one\n\ntwo", 5),
        ("- a\n\n- b", 0),
        ("- a\n\nwords", 5),
        ("```\na\n\nb\n", 0),
        ("```\na\n\nb\n```\n\nwords", 14),
        ("- a\n\n  more of it", 0),
    ],
)
def test_a_block_is_finished_by_what_follows(text, end):
    """A paragraph by the next one; a list by what is no item and not indented; code by its own end."""
    assert finished(text) == end


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "<div>\nx\n</div>", "![alt](a.png)", "[x](https://example.org/a?b=c)", "one\ntwo", "| a |"]
)
def test_no_word_is_hidden(text):
    """HTML, addresses and pictures are shown as they are written, and a line that was broken stays broken."""
    with (console := Console(width=200)).capture() as captured:
        console.print(markdown(text))
    shown = captured.get()
    for word in text.replace("[x](", "x (").split():
        assert word in shown
    assert shown.count("two") == text.count("two")
    assert text != "one\ntwo" or shown.splitlines()[1].strip() == "two"
