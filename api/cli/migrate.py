"""``manent migrate``."""

from __future__ import annotations

from typing import Any

import click

from ...engine import migrate_database
from .options import read_settings, settings_options
from .progress import progress


@click.command()
@settings_options("database")
def migrate(**options: Any) -> None:
    """Bring a database file to this version's schema, or create it. No server may have it open."""
    settings = read_settings(options)
    with progress("taking in events", "took in") as tell:
        before, now = migrate_database(settings, tell)
    if before is None:
        click.echo(f"{settings.database}: created, at revision {now}")
    elif before == now:
        click.echo(f"{settings.database}: is at revision {now}, the newest")
    else:
        click.echo(f"{settings.database}: migrated from revision {before} to {now}")
