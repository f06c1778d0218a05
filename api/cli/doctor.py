"""``manent doctor``."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from ...engine import Finding, Settings, accept_break, examine_database
from .database import json_option
from .options import read_settings, settings_options
from .terminal import print_table

STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


@click.command()
@click.option(
    "--accept-break",
    "accepting",
    is_flag=True,
    help="Instead, record that the database is not the one its checkpoints outside speak of, and go on under a new "
    "name. No server may have the file open.",
)
@json_option
@settings_options("database", "checkpoint_file", "signing_key_file")
def doctor(*, as_json: bool, accepting: bool, **options: Any) -> None:
    """Say what durability and evidence hang on, what it is, and what it should be; exit code 1 if something is wrong.

    Changes nothing, and works beside a running server.
    """
    settings = read_settings(options)
    if accepting:
        _accept(settings, as_json=as_json)
        return
    findings = examine_database(settings)
    wrong = [finding.name for finding in findings if finding.state == "wrong"]
    if as_json:
        report = {"database": settings.database, "ok": not wrong, "findings": findings}
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(settings.database, findings, wrong)
    sys.exit(1 if wrong else 0)


def _accept(settings: Settings, *, as_json: bool) -> None:
    accepted = accept_break(settings)
    if as_json:
        click.echo(msgspec.json.encode({"database": settings.database, "accepted": accepted}).decode())
        return
    for each in accepted:
        whose = f"{each.problem.tenant}: the log " if each.problem.tenant else ""
        click.echo(f"accepted: {whose}{each.problem.detail}")
        if each.origin is not None:
            click.echo(f"{each.problem.tenant}: from position {each.from_position} on it is {each.origin}")
    if not accepted:
        click.echo(f"{settings.database}: there is no break to accept")


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
