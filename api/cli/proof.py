"""``manent proof`` and ``manent checkpoint``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec

from ... import engine
from ...engine import Caller, Consistency, Inclusion, Settings
from .database import caller_for, find_session, json_option, open_existing
from .options import read_settings, settings_options
from .place import Place, place_of, place_options
from .record.server import ServerSessions


@click.command()
@click.argument("session", required=False)
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option(
    "--from", "old", type=click.IntRange(min=0), help="Prove that the log only grew since this size, instead."
)
@click.option(
    "--to", "new", type=click.IntRange(min=0), help="Prove it up to this size.  [default: the newest checkpoint's]"
)
@json_option
@place_options
@click.pass_context
def proof(
    context: click.Context,
    /,
    *,
    session: str | None,
    version: int | None,
    old: int | None,
    new: int | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Prove that the event VERSION of a SESSION is on record, or with --from that the log only grew.

    Prints a C2SP tlog-proof (with --from what C2SP tlog-witness sends). Reads beside a running server; a checkpoint
    must cover the event: see `manent checkpoint`.
    """
    if (old is None) == (session is None or version is None) or (old is not None and session is not None):
        raise click.UsageError("give either SESSION and VERSION, or --from.")
    where = place_of(context, **place)
    if where.url is not None:
        click.echo(_from_server(where, session, version or 0, (old, new), as_json=as_json), nl=as_json)
        return
    settings, caller = where.settings(), where.caller()
    if old is not None:
        found: Inclusion | Consistency = asyncio.run(_consistency(settings, caller, old, new))
    else:
        found = asyncio.run(_inclusion(settings, caller, session or "", version or 0))
    click.echo(msgspec.json.encode(found).decode() if as_json else found.text(), nl=as_json)


def _from_server(
    place: Place, session: str | None, version: int, sizes: tuple[int | None, int | None], *, as_json: bool
) -> str:
    record, form = ServerSessions(place.url or "", place.api_key), "json" if as_json else "c2sp"
    if session is None:
        return record.text("/api/log/consistency", **{"from": sizes[0], "to": sizes[1], "format": form})
    return record.text(f"/api/sessions/{record.find(session).id}/events/{version}/proof", format=form)


async def _inclusion(settings: Settings, caller: Caller, session: str, version: int) -> Inclusion:
    async with open_existing(settings) as chat:
        found = await find_session(chat, session, caller)
        return await chat.evidence.inclusion(found.id, version, caller=caller)


async def _consistency(settings: Settings, caller: Caller, old: int, new: int | None) -> Consistency:
    async with open_existing(settings) as chat:
        return await chat.evidence.consistency(old, new, caller=caller)


@click.command()
@click.option("--new", is_flag=True, help="Make one of the log as it is now. No server may have the file open.")
@click.option("--keys", is_flag=True, help="Print the keys that verify it, instead; the one in use first.")
@click.option(
    "--cosigned",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep the signature of a witness: the checkpoint in this file, signed by it. No server may have the database.",
)
@click.option("--witness", help="Verifier key of that witness (name+hash+key).")
@place_options
@settings_options("checkpoint_file", "signing_key_file")
@click.pass_context
def checkpoint(
    context: click.Context,
    /,
    *,
    new: bool,
    keys: bool,
    cosigned: Path | None,
    witness: str | None,
    checkpoint_file: str | None,
    signing_key_file: str | None,
    **place: Any,
) -> None:
    """Print the newest checkpoint of the log: a C2SP signed note. Reads beside a running server, or with --url asks
    it.
    """
    if (cosigned is None) != (witness is None):
        raise click.UsageError("--cosigned and --witness go together.")
    where = place_of(context, **place)
    if where.url is not None:
        if new or cosigned is not None:
            raise click.UsageError("--new and --cosigned are for a database file that no server has open.")
        record = ServerSessions(where.url, where.api_key)
        click.echo(record.text("/api/log/key" if keys else "/api/log/checkpoint"), nl=False)
        return
    beside = {"checkpoint_file": checkpoint_file, "signing_key_file": signing_key_file}
    settings, caller = read_settings({"database": where.database} | beside), caller_for(where.tenant)
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
