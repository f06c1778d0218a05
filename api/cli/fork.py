"""``manent fork``."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, NewSession, Session, Settings
from .database import caller_for, find_session, json_option, tenant_option
from .options import read_settings, settings_options
from .terminal import notice


@click.command()
@click.argument("session")
@click.option("--version", type=int, help="share the history up to here  [default: the last]")
@click.option("--title", help="title of the new session  [default: as there]")
@click.option("--model", help="model of the new session  [default: as there]")
@json_option
@tenant_option
@settings_options("database")
def fork(
    *,
    session: str,
    version: int | None,
    title: str | None,
    model: str | None,
    as_json: bool,
    tenant: str,
    **options: Any,
) -> None:
    """Fork a SESSION: a new one shares its history up to a version, and goes on by itself. Nothing is copied.

    No server may have the file open. Prints the id of the new session; `manent chat --session ID` goes on there.
    """
    settings = read_settings(options)
    engine.existing_database(settings)
    fields = NewSession()
    if title is not None:
        fields["title"] = title
    if model is not None:
        fields["model"] = model
    made = asyncio.run(_fork(settings, caller_for(tenant), session, version, fields))
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
    else:
        assert made.parent is not None
        click.echo(made.id)
        notice(f"it shares {made.message_count} message(s) with {made.parent.session_id}, up to {made.parent.version}")


async def _fork(settings: Settings, caller: Caller, session: str, version: int | None, fields: NewSession) -> Session:
    async with engine.open(settings, notice=notice) as chat:
        found = await find_session(chat, session, caller)
        return await chat.fork(found.id, version=version, caller=caller, **fields)
