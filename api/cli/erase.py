"""``manent erase``."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, Erasure, Settings
from .database import caller_for, find_session, json_option, tenant_option
from .options import read_settings, settings_options
from .terminal import notice


@click.command()
@click.argument("session")
@click.option("--reason", required=True, help="why: it is recorded, and can itself be erased later")
@click.option("--version", "versions", type=click.IntRange(min=1), multiple=True, help="only this event (repeatable)")
@click.option("--dry-run", is_flag=True, help="say what would be erased, and erase nothing")
@json_option
@tenant_option
@settings_options("database")
def erase(
    *,
    session: str,
    reason: str,
    versions: tuple[int, ...],
    dry_run: bool,
    as_json: bool,
    tenant: str,
    **options: Any,
) -> None:
    """Erase the words of a SESSION, or of some of its events. No server may have the file open.

    The record of them stays. Branches that show them are named, and lose them too; copies are named, and keep theirs.
    """
    settings = read_settings(options)
    engine.existing_database(settings)
    done = asyncio.run(_erase(settings, caller_for(tenant), session, reason, versions or None, dry_run=dry_run))
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
    else:
        _tell(done)


async def _erase(
    settings: Settings, caller: Caller, session: str, reason: str, versions: tuple[int, ...] | None, *, dry_run: bool
) -> Erasure:
    async with engine.open(settings, notice=notice) as chat:
        found = await find_session(chat, session, caller)
        return await chat.erase(found.id, reason, versions=versions, dry_run=dry_run, caller=caller)


def _tell(done: Erasure) -> None:
    verb = "would erase" if done.dry_run else "erased"
    later = "" if done.purged or done.dry_run else "; their bytes go later"
    click.echo(f"{done.session_id}: {verb} {len(done.erased)} event(s){later}")
    for each in done.sessions:
        kept = "keeps" if each.relation == "copy" else ("would lose" if done.dry_run else "has lost")
        click.echo(f"{each.session_id}: a {each.relation} that {kept} the words of {len(each.versions)} event(s)")
    notice(f"out of reach: {', '.join(done.out_of_reach)}")
