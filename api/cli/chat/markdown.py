"""Markdown in a terminal, as it comes: what is finished stands, and the rest is shown as it was written."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from ..terminal import FramePrinter, printable

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ITEM = re.compile(r"([-*+]|\d{1,9}[.)])\s")
REDRAW_S = 0.05
CODE_THEME = "ansi_dark"


def markdown(text: str) -> Markdown:
    """Words as Markdown that hides none of them: addresses are written out, HTML is shown and not obeyed, and a line
    that was broken stays broken.
    """
    shown = Markdown(text, code_theme=CODE_THEME, hyperlinks=False)
    _show_all(shown.parsed)
    return shown


def _show_all(tokens: Iterable[Any]) -> None:
    for token in tokens:
        if token.type == "html_block":
            token.type, token.tag, token.info = "code_block", "code", "html"
        elif token.type == "html_inline":
            token.type = "text"
        elif token.type == "softbreak":
            token.type = "hardbreak"
        elif token.tag == "h1":
            token.tag = "h2"  # which is not centred
        elif token.type == "image":
            token.type, token.tag = "text", ""
            token.content = f"![{token.content}]({token.attrs.get('src', '')})"
            token.children = None
        _show_all(token.children or ())


def finished(text: str) -> int:
    """How many characters of a text that goes on are blocks of Markdown that nothing can be added to."""
    place = end = 0
    fence, in_list, after_blank = "", False, False
    for line in text.splitlines(keepends=True):
        begins = after_blank and not fence and line.strip() and not line[0].isspace()
        if begins and not (in_list and ITEM.match(line)):
            end, in_list = place, False
        if mark := FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        after_blank = not line.strip()
        in_list = in_list or (not fence and ITEM.match(line) is not None)
        place += len(line)
    return end


class MarkdownPrinter(FramePrinter):
    """Prints a turn's frames in a terminal; words are rendered as Markdown, and wrapped at its edge."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False)
        self._open = ""
        self._said = False
        self._drawn_s = 0.0
        self._live: Live | None = None

    def end_line(self) -> None:
        """Whatever is open is finished."""
        self._stop()
        if self._open.strip():
            self._stand(self._open)
        self._open, self._said = "", False
        super().end_line()

    def _delta(self, kind: str, text: str) -> None:
        if kind != "text":
            super()._delta(kind, text)
            return
        self._open += printable(text)
        if time.monotonic() - self._drawn_s < REDRAW_S:
            return
        end = finished(self._open)
        if end:
            self._stop()
            self._stand(self._open[:end])
            self._open = self._open[end:]
        self._draw()
        self._drawn_s = time.monotonic()

    def _stand(self, text: str) -> None:
        if self._said:
            self._console.print()
        self._console.print(markdown(text))
        self._said = True

    def _draw(self) -> None:
        """The end of what is open, as much of it as the screen holds."""
        width, height = self._console.size
        lines = Text(self._open[-width * height :]).wrap(self._console, width)
        tail = Text("\n").join(lines[-max(height - 2, 1) :])
        if self._live is None:
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(tail, refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
