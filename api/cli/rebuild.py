"""``manent rebuild``."""

from __future__ import annotations

import time
from typing import Any

import click

from ...engine import rebuild_projections
from .options import read_settings, settings_options
from .progress import progress
from .terminal import notice


@click.command()
@settings_options("database")
def rebuild(**options: Any) -> None:
    """Drop what is derived from the events, and derive it again. No server may have the file open.

    All or nothing: one transaction. Says which tables were not what the events say.
    """
    settings, begun_s = read_settings(options), time.monotonic()
    with progress("folding events", "folded") as tell:
        rebuilt = rebuild_projections(settings, tell)
    if rebuilt.differed:
        notice(f"warning: these tables were not what the events say, and are now: {', '.join(rebuilt.differed)}")
    seconds = time.monotonic() - begun_s
    click.echo(f"{settings.database}: rebuilt from {rebuilt.events} events in {seconds:.2f} s")
