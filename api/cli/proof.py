"""``manent proof`` and ``manent checkpoint``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, Consistency, Inclusion, Settings
from .database import caller_for, find_session, json_option, open_existing, tenant_option
from .options import read_settings, settings_options


@click.command()
@click.argument("session", required=False)
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--from", "old", type=click.IntRange(min=0), help="instead: that the log only grew since this size")
@click.option("--to", "new", type=click.IntRange(min=0), help="... up to this one  [the newest checkpoint's]")
@json_option
@tenant_option
@settings_options("database")
def proof(
    *,
    session: str | None,
    version: int | None,
    old: int | None,
    new: int | None,
    as_json: bool,
    tenant: str,
    **options: Any,
) -> None:
    """Prove that the event VERSION of a SESSION is on record, or with --from that the log only grew.

    Prints a C2SP tlog-proof (with --from what C2SP tlog-witness sends). Reads beside a running server; a checkpoint
    must cover the event: see `manent checkpoint`.
    """
    if (old is None) == (session is None or version is None) or (old is not None and session is not None):
        raise click.UsageError("give either SESSION and VERSION, or --from")
    settings, caller = read_settings(options), caller_for(tenant)
    if old is not None:
        found: Inclusion | Consistency = asyncio.run(_consistency(settings, caller, old, new))
    else:
        found = asyncio.run(_inclusion(settings, caller, session or "", version or 0))
    click.echo(msgspec.json.encode(found).decode() if as_json else found.text(), nl=as_json)


async def _inclusion(settings: Settings, caller: Caller, session: str, version: int) -> Inclusion:
    async with open_existing(settings) as chat:
        found = await find_session(chat, session, caller)
        return await chat.evidence.inclusion(found.id, version, caller=caller)


async def _consistency(settings: Settings, caller: Caller, old: int, new: int | None) -> Consistency:
    async with open_existing(settings) as chat:
        return await chat.evidence.consistency(old, new, caller=caller)


@click.command()
@click.option("--new", is_flag=True, help="make one of the log as it is now; no server may have the file open")
@click.option("--keys", is_flag=True, help="print the keys that verify it, instead; the one in use first")
@click.option(
    "--cosigned",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="keep the signature of a witness: a file with the checkpoint that it signed; no server may have the file open",
)
@click.option("--witness", help="verifier key of that witness (name+hash+key)")
@tenant_option
@settings_options("database", "checkpoint_file", "signing_key_file")
def checkpoint(
    *, new: bool, keys: bool, cosigned: Path | None, witness: str | None, tenant: str, **options: Any
) -> None:
    """Print the newest checkpoint of the log: a C2SP signed note. Reads beside a running server."""
    if (cosigned is None) != (witness is None):
        raise click.UsageError("--cosigned and --witness go together")
    settings, caller = read_settings(options), caller_for(tenant)
    if new or cosigned is not None:
        note = None if cosigned is None else cosigned.read_text("utf-8")
        click.echo(asyncio.run(_write(settings, caller, note, witness or "", new=new)), nl=False)
    elif keys:
        click.echo("\n".join(asyncio.run(_keys(settings, caller))))
    else:
        click.echo(asyncio.run(_read(settings, caller)), nl=False)


async def _write(settings: Settings, caller: Caller, note: str | None, witness: str, *, new: bool) -> str:
    async with engine.open(settings) as chat:
        if note is not None:
            await chat.evidence.cosign(note, witness, caller=caller)
        return await chat.evidence.checkpoint(new=new, caller=caller)


async def _keys(settings: Settings, caller: Caller) -> list[str]:
    async with open_existing(settings) as chat:
        return await chat.evidence.keys(caller=caller)


async def _read(settings: Settings, caller: Caller) -> str:
    async with open_existing(settings) as chat:
        return await chat.evidence.checkpoint(caller=caller)
