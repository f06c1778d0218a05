"""``manent erase``."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
import msgspec

from ...engine import Erasure
from .database import json_option
from .help_page import Documented
from .place import place_of, place_options
from .terminal import notice


@click.command(
    cls=Documented,
    examples=(
        ('manent erase 01a22e55 --reason "asked to, case 12" --dry-run', "say what would go, and who else shows it"),
        ('manent erase 01a22e55 --reason "asked to, case 12"', "erase all words of a session"),
        ('manent erase 01a22e55 --reason "a password" --version 7', "erase the words of one event"),
    ),
)
@click.argument("session")
@click.option("--reason", required=True, help="Why. It is recorded, and can itself be erased later.")
@click.option(
    "--version", "versions", type=click.IntRange(min=1), multiple=True, help="Only this event. May be given again."
)
@click.option("--dry-run", is_flag=True, help="Say what would be erased, and erase nothing. Reads beside a server.")
@json_option
@place_options
@click.pass_context
def erase(
    context: click.Context,
    /,
    *,
    session: str,
    reason: str,
    versions: tuple[int, ...],
    dry_run: bool,
    as_json: bool,
    **place: Any,
) -> None:
    """Erase the words of a SESSION, or of some of its events. The record of them stays.

    Branches that show them are named, and lose them too; copies are named, and keep theirs. No server may have the file
    open; with --url the server does it, for a key with the scope erase.
    """
    where = place_of(context, **place)
    with closing(where.open()) as record:
        found = record.find(session).id
        done = record.erase(found, reason, versions or None, dry_run=True)
    if not dry_run:
        with closing(where.open(writes=True)) as record:
            done = record.erase(found, reason, versions or None, dry_run=False)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
    else:
        _tell(done)


def _tell(done: Erasure) -> None:
    verb = "would erase" if done.dry_run else "erased"
    later = "" if done.purged or done.dry_run else "; their bytes go later"
    click.echo(f"{done.session_id}: {verb} {len(done.erased)} event(s){later}")
    for each in done.sessions:
        kept = "keeps" if each.relation == "copy" else ("would lose" if done.dry_run else "has lost")
        click.echo(f"{each.session_id}: a {each.relation} that {kept} the words of {len(each.versions)} event(s)")
    notice(f"out of reach: {', '.join(done.out_of_reach)}")
