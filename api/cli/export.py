"""``manent export``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID

import click

from ... import engine
from ...engine import Caller, CheckpointNotFound, Engine, Invalid, Refused, Settings, StoreLocked
from .database import EVERY, caller_for, find_session, open_existing, tenant_option
from .options import read_settings, settings_options
from .terminal import notice

Style = Literal["bundle", "openai", "otel"]
HOW_TO_VERIFY = "verify it with verify_bundle.py and --key, which `manent checkpoint --keys` prints"


@click.command()
@click.argument("session", required=False)
@click.option("--log", "whole", is_flag=True, help="the whole log, instead of one session")
@click.option("--format", "style", type=click.Choice(["bundle", "openai", "otel"]), default="bundle", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="file to write  [named by what it is]")
@tenant_option
@settings_options("database", "signing_key_file", "checkpoint_file")
def export(*, session: str | None, whole: bool, style: Style, output: Path | None, tenant: str, **options: Any) -> None:
    """Export a SESSION, or with --log all there is: as a bundle that proves itself, or as messages for other tools.

    Works beside a running server and on a read-only medium, as far as the checkpoints reach. openai and otel are JSON
    lines, a session a line.
    """
    if whole == (session is not None):
        raise Invalid("session", "give a session or --log")
    settings, caller = read_settings(options), caller_for(tenant)
    found = None if session is None else asyncio.run(_find(settings, session, caller))
    path = output or Path(f"{found or tenant}.{'zip' if style == 'bundle' else f'{style}.jsonl'}")
    if path.exists():
        raise Refused(f"{path} is there already")
    draft = Path(f"{path}.part")
    try:
        with _writing(draft) as file:
            said = asyncio.run(_write(settings, caller, found, style, file))
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    notice(f"{path}: {said}")


def _writing(draft: Path) -> IO[bytes]:
    try:
        return draft.open("wb")
    except OSError as error:
        raise Invalid("output", f"cannot be written: {error.strerror}") from None


async def _find(settings: Settings, session: str, caller: Caller) -> UUID:
    async with open_existing(settings) as chat:
        return (await find_session(chat, session, caller)).id


async def _write(settings: Settings, caller: Caller, session: UUID | None, style: Style, file: IO[bytes]) -> str:
    """Write what is asked for; what it was, in words."""
    if style == "bundle":
        return f"{await _bundle(settings, caller, session, file)} event(s); {HOW_TO_VERIFY}"
    count = 0
    async with open_existing(settings) as chat:
        async for each in _sessions(chat, caller, session):
            count += 1
            async for piece in chat.export_messages(each, style, caller=caller):
                file.write(piece)
    return f"{count} session(s)"


async def _bundle(settings: Settings, caller: Caller, session: UUID | None, file: IO[bytes]) -> int:
    """Beside a server, and where nothing can be written, the checkpoints that there are must do; else one is made that
    covers all.
    """
    missing = "none can be made where nothing can be written"
    if os.access(engine.existing_database(settings).parent, os.W_OK):
        missing = f"the server that runs makes one every {settings.checkpoint_every_s} s"
        async with open_existing(settings):
            """A file that is none, or an older one, is named before anything is written to it."""
        try:
            async with engine.open(settings, notice=notice) as chat:
                return await chat.export(file, session, caller=caller)
        except StoreLocked:
            pass
    try:
        async with open_existing(settings) as chat:
            return await chat.export(file, session, caller=caller)
    except CheckpointNotFound as error:
        raise CheckpointNotFound(f"no checkpoint covers this yet: {missing}") from error


async def _sessions(chat: Engine, caller: Caller, session: UUID | None) -> AsyncGenerator[UUID, None]:
    """That one, or all, the newest first."""
    if session is not None:
        yield session
        return
    async for each in chat.iter_sessions(order="created", caller=caller, **EVERY):
        yield each.id
