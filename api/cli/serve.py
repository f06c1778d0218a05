"""``manent serve``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import click
import uvloop

from .. import server
from ..announcement import Announcer
from ..observability.log_lines import Lines, logging_to_stderr
from .help_page import Documented
from .options import read_settings, settings_options


@click.command(cls=Documented)
@settings_options()
def serve(**options: Any) -> None:
    """Serve the HTTP API. The database is created or migrated first.

    Standard output gets one line, `listening on ADDRESS`, as soon as the server answers. All else goes to standard
    error.
    """
    ignored: list[str] = []
    settings = read_settings(options, ignored.append)
    with (
        logging_to_stderr(settings.log_format, settings.log_level) as lines,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        announcer = Announcer(settings, partial(_say, lines), _listens)
        for line in ignored:
            announcer.notice(line)
        runner.run(server.serve(settings, announcer))


def _say(lines: Lines, text: str) -> None:
    lines.flush()  # what was logged before comes before
    click.echo(text, err=True)


def _listens(address: str) -> None:
    click.echo(f"listening on {address}")
