"""How far a long command is: a bar in a terminal, a few lines elsewhere; both on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    FileSizeColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

LINES = 10
LINE_BYTES = 64 << 20

Tell = Callable[[int, int], None]
"""Takes how many are done, and how many there are."""


@contextmanager
def progress(doing: str, done: str, things: str = "events") -> Iterator[Tell]:
    """``doing`` stands before the bar, ``done`` at the beginning of each line: ``folded 10 of 100 events``."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _in_lines(done, things)
        return
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda count, total: bar.update(task, completed=count, total=total)


def _in_lines(done: str, things: str) -> Tell:
    told = 0

    def tell(count: int, total: int) -> None:
        nonlocal told
        part = count * LINES // max(total, 1)
        if part > told:
            told = part
            click.echo(f"{done} {count} of {total} {things}", err=True)

    return tell


@contextmanager
def bytes_written(file: IO[bytes], doing: str, done: str) -> Iterator[IO[bytes]]:
    """The same file, which tells how much is written to it: nobody knows before how much it will be."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield cast("IO[bytes]", Told(file, _in_byte_lines(done)))
        return
    with Progress(SpinnerColumn(), TextColumn(doing), FileSizeColumn(), console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield cast("IO[bytes]", Told(file, lambda count: bar.advance(task, count)))


class Told:
    """A file, and somebody who is told of each write."""

    def __init__(self, file: IO[bytes], tell: Callable[[int], None]) -> None:
        self._file = file
        self._tell = tell

    def write(self, data: bytes) -> int:
        count = self._file.write(data)
        self._tell(count)
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _in_byte_lines(done: str) -> Callable[[int], None]:
    total = 0

    def tell(count: int) -> None:
        nonlocal total
        before, total = total, total + count
        if before // LINE_BYTES < total // LINE_BYTES:
            click.echo(f"{done} {total >> 20} MiB", err=True)

    return tell
