"""How far a long command is: a bar in a terminal, a few lines elsewhere; both on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINES = 10

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
