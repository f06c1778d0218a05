"""``manent retain``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, Engine, Invalid, Retained, Settings
from .database import caller_for, json_option, open_existing, tenant_option
from .help_page import Documented
from .options import read_settings, settings_options
from .terminal import notice


@click.command(
    cls=Documented,
    examples=(
        ("manent retain --days 90 --dry-run", "say what would go"),
        ("manent retain --days 90 --tag plan=free", "erase what is old in the sessions of a plan"),
    ),
)
@click.option(
    "--days", type=click.IntRange(min=0, max=36_500), required=True, help="Erase what is older than so many days."
)
@click.option("--tag", metavar="KEY=VALUE", help="Only of sessions with this in their metadata.")
@click.option("--expired", is_flag=True, help="Only sessions that expired so many days ago, and all of them.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be erased, and erase nothing. Reads beside a running server."
)
@json_option
@tenant_option
@settings_options("database")
def retain(
    *, days: int, tag: str | None, expired: bool, dry_run: bool, as_json: bool, tenant: str, **options: Any
) -> None:
    """Erase the words of what was recorded more than so many DAYS ago. The record of them stays.

    Sessions under legal hold are passed over, and named. No server may have the file open, but for --dry-run.
    """
    settings = read_settings(options)
    engine.existing_database(settings)
    policy = partial(Engine.retain, days=days, tag=_pair(tag), expired=expired, dry_run=dry_run)
    asyncio.run(_retain(settings, caller_for(tenant), policy, dry_run=dry_run, as_json=as_json))


async def _retain(
    settings: Settings,
    caller: Caller,
    policy: Callable[..., AsyncGenerator[Retained, None]],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    sessions = events = 0
    opening = open_existing(settings) if dry_run else engine.open(settings, notice=notice)
    async with opening as chat:
        async for each in policy(chat, caller=caller):
            _tell(each, dry_run=dry_run, as_json=as_json)
            sessions, events = sessions + bool(each.versions), events + len(each.versions)
        purged = dry_run or await chat.purge()
    done = "would be erased" if dry_run else "erased"
    notice(f"{events} event(s) of {sessions} session(s) {done}" + ("" if purged else "; their bytes go later"))


def _tell(each: Retained, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(each).decode())
        return
    if each.kept is not None:
        click.echo(f"{each.session_id}: kept, {each.kept}")
    if each.versions:
        click.echo(f"{each.session_id}: {'would erase' if dry_run else 'erased'} {len(each.versions)} event(s)")


def _pair(tag: str | None) -> tuple[str, str] | None:
    if tag is None:
        return None
    key, equals, value = tag.partition("=")
    if not (key and equals):
        raise Invalid("tag", "must be like key=value")
    return key, value
