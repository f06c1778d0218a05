"""``manent serve``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import click
import uvloop

from .. import server
from .options import read_settings, settings_options


@click.command()
@settings_options()
def serve(**options: Any) -> None:
    """Serve the HTTP API. The database is created or migrated first."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(read_settings(options), click.echo))
