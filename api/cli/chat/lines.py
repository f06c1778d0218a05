"""What a user types or pipes: lines, and messages of one line or of several."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from types import ModuleType

import click
import msgspec

readline: ModuleType | None
try:
    readline = import_module("readline")
except ImportError:  # not everywhere; where it is, input() edits lines with it
    readline = None

PROMPT = "> "
MORE = "… "
FENCE = '"""'
PASTE_S = 0.02
"""What follows a line so soon was pasted with it, where the terminal cannot say so."""


class Written(msgspec.Struct, frozen=True):
    """A message as it was written. ``plain``: one line as it was typed, which may be a command. ``whole`` False: the
    input ended in the middle of it.
    """

    text: str
    plain: bool = True
    whole: bool = True


class Input:
    """Standard input: a terminal, where lines are edited and a paste is one message, or a pipe or a file."""

    def __init__(self) -> None:
        self.in_terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
        self._says_pastes = self.in_terminal and _prepare_readline()
        self._piped = iter(()) if self.in_terminal else _piped_lines()

    def line(self, prompt: str = PROMPT) -> str | None:
        """The next line; None at the end. Raises KeyboardInterrupt in a terminal. Bytes that are no UTF-8 become
        surrogates.
        """
        if not self.in_terminal:
            return next(self._piped, None)
        try:
            return input(prompt) + ("" if self._says_pastes else _rest_of_paste())
        except EOFError:
            click.echo()
            return None

    def message(self) -> Written | None:
        """The next message; None at the end. Between two lines of three quotes it may have several lines, and so it may
        where a line ends in a backslash. Ctrl-C in a terminal drops what was typed of it.
        """
        while True:
            try:
                return self._message()
            except KeyboardInterrupt:
                click.echo()

    def remember(self, text: str) -> None:
        """Offer a message of before to whoever looks back with the arrow keys."""
        if self.in_terminal and readline is not None:
            with suppress(UnicodeEncodeError, ValueError):
                readline.add_history(text)

    def _message(self) -> Written | None:
        first = self.line()
        if first is None or "\n" in first:
            return None if first is None else Written(first.rstrip("\n"), plain=False)
        if first.lstrip().startswith(FENCE):
            return self._fenced(first.lstrip().removeprefix(FENCE))
        if not _goes_on(first):
            return Written(first)
        lines: list[str] = []
        line: str | None = first
        while line is not None and _goes_on(line):
            lines.append(line[:-1])
            line = self.line(MORE)
        return Written("\n".join([*lines, line or ""]), plain=False, whole=line is not None)

    def _fenced(self, line: str | None) -> Written:
        lines: list[str] = []
        while line is not None and not line.rstrip().endswith(FENCE):
            lines.append(line)
            line = self.line(MORE)
        last = "" if line is None else line.rstrip().removesuffix(FENCE)
        return Written("\n".join([*lines, last]).strip("\n"), plain=False, whole=line is not None)


def read_lines() -> Iterator[str]:
    """Lines from a terminal, edited there, or from a pipe or a file."""
    given = Input()
    while True:
        try:
            line = given.line()
        except KeyboardInterrupt:
            click.echo()
            continue
        if line is None:
            return
        yield line


def _piped_lines() -> Iterator[str]:
    if sys.stdin is None:
        return
    for line in sys.stdin.buffer:
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _goes_on(line: str) -> bool:
    return line.endswith("\\") and not line.endswith("\\\\")


def _prepare_readline() -> bool:
    """True if a paste comes as one text: GNU readline asks the terminal to say where one begins and ends."""
    if readline is None or "libedit" in (readline.__doc__ or "") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    readline.parse_and_bind("set enable-bracketed-paste on")
    return True


def _rest_of_paste() -> str:
    """The lines that are there already, each after a line break."""
    rest = ""
    while select.select([sys.stdin], [], [], PASTE_S)[0]:
        try:
            rest += "\n" + input()
        except EOFError:
            break
    return rest
