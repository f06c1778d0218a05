"""``manent doctor``."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from api.commands.reading import json_option
from api.commands.settings import read_settings, settings_options
from api.commands.terminal import print_table
from engine import Finding, examine_database

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@json_option
@settings_options("database")
def doctor(*, as_json: bool, **options: Any) -> None:
    """Say what durability hangs on, what it is, and what it should be; exit code 1 if something is wrong.

    Changes nothing, and works beside a running server.
    """
    settings = read_settings(options)
    findings = examine_database(settings)
    wrong = [finding.name for finding in findings if finding.state == "wrong"]
    if as_json:
        report = {"database": settings.database, "ok": not wrong, "findings": findings}
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(settings.database, findings, wrong)
    sys.exit(1 if wrong else 0)


def _print(database: str, findings: list[Finding], wrong: list[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "what", "is", "should be"):
        table.add_column(name)
    notes: dict[str, list[str]] = {}
    for finding in findings:
        state = Text(finding.state, style=STYLES[finding.state])
        table.add_row(state, *map(Text, (finding.name, finding.value, finding.expected)))
        if finding.note:
            notes.setdefault(finding.note, []).append(finding.name)
    click.echo(database)
    print_table(table)
    click.echo()
    for note, names in notes.items():
        click.echo(f"{', '.join(names)}: {note}")
    click.echo(f"wrong: {', '.join(wrong)}" if wrong else "nothing is wrong")
