"""``manent import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...engine import import_bundle
from .database import caller_for, tenant_option
from .options import read_settings, settings_options
from .progress import progress


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@tenant_option
@settings_options("database")
def import_(*, file: Path, tenant: str, **options: Any) -> None:
    """Verify a bundle FILE and take it in. No server may have the database open.

    A whole log goes into a database without one, and keeps its hashes. A session comes in as a new one.
    """
    settings = read_settings(options)
    with progress("taking in events", "took in") as tell:
        imported = import_bundle(settings, file, caller=caller_for(tenant), progress=tell)
    place = f"into {settings.database}"
    if imported.session_id is None:
        click.echo(f"log of {imported.tenant}: {imported.events} event(s) {place}")
    else:
        count = f"{imported.events} event(s) {place}, {imported.left_behind} left out"
        click.echo(f"session {imported.session_id}: {count}")
