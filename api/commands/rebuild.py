"""``manent rebuild``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api.commands.settings import read_settings, settings_options
from api.commands.terminal import notice
from engine import rebuild_projections

LINES = 10


@click.command()
@settings_options("database")
def rebuild(**options: Any) -> None:
    """Drop what is derived from the events, and derive it again. No server may have the file open.

    All or nothing: one transaction. Says which tables were not what the events say.
    """
    settings, begun_s = read_settings(options), time.monotonic()
    with _progress() as progress:
        rebuilt = rebuild_projections(settings, progress)
    if rebuilt.differed:
        notice(f"warning: these tables were not what the events say, and are now: {', '.join(rebuilt.differed)}")
    seconds = time.monotonic() - begun_s
    click.echo(f"{settings.database}: rebuilt from {rebuilt.events} events in {seconds:.2f} s")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal, a few lines elsewhere; both on standard error."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield _in_lines()
        return
    columns = (TextColumn("folding events"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _in_lines() -> Callable[[int, int], None]:
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        part = done * LINES // total
        if part > told:
            told = part
            click.echo(f"folded {done} of {total} events", err=True)

    return tell
