"""``manent export``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID

import click

import engine
from api.commands.reading import caller_for, find_session, open_existing, tenant_option
from api.commands.settings import read_settings, settings_options
from api.commands.terminal import notice
from engine import Caller, CheckpointNotFound, Conversation, Invalid, Refused, Settings, StoreLocked

FORMATS = ("bundle", "openai", "otel")
PAGE = 1000


@click.command()
@click.argument("session", required=False)
@click.option("--log", "whole", is_flag=True, help="the whole log, instead of one session")
@click.option("--format", "style", type=click.Choice(FORMATS), default="bundle", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="the file to write  [named by what it is]"
)
@tenant_option
@settings_options("database", "signing_key_file", "checkpoint_file")
def export(*, session: str | None, whole: bool, style: str, output: Path | None, tenant: str, **options: Any) -> None:
    """Export a SESSION, or with --log all there is: as a bundle that proves itself, or as messages for other tools.

    Works beside a running server, as far as its checkpoints reach. openai and otel are JSON lines, a session a line.
    """
    if whole == (session is not None):
        raise Invalid("session", "give a session or --log")
    settings, caller = read_settings(options), caller_for(tenant)
    asyncio.run(_export(settings, caller, session, style, output))


async def _export(settings: Settings, caller: Caller, text: str | None, style: str, output: Path | None) -> None:
    async with open_existing(settings) as conversation:
        session = None if text is None else (await find_session(conversation, text, caller)).id
        suffix = "zip" if style == "bundle" else f"{style}.jsonl"
        path = output or Path(f"{session or caller.tenant}.{suffix}")
        if path.exists():
            raise Refused(f"{path} is there already")
        if style != "bundle":
            await _write_messages(conversation, caller, session, style, path)
            return
    draft = Path(f"{path}.part")
    try:
        with draft.open("xb") as file:
            count = await _bundle(settings, caller, session, file)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    notice(f"{path}: {count} event(s); check it with: python3 verify_bundle.py {path}")


async def _bundle(settings: Settings, caller: Caller, session: UUID | None, file: Any) -> int:
    """Beside a server its checkpoints must do; else one is made that covers all."""
    try:
        async with engine.open(settings, notice=notice) as conversation:
            return await engine.export_bundle(conversation, file, session, caller)
    except StoreLocked:
        pass
    try:
        async with open_existing(settings) as conversation:
            return await engine.export_bundle(conversation, file, session, caller)
    except CheckpointNotFound as error:
        every = f"the server that runs makes one every {settings.checkpoint_every_s} s"
        raise CheckpointNotFound(f"no checkpoint covers this yet: {every}") from error


async def _write_messages(
    conversation: Conversation, caller: Caller, session: UUID | None, style: Any, path: Path
) -> None:
    with path.open("xb") as file:
        async for each in _sessions(conversation, caller, session):
            async for piece in engine.export_messages(conversation, each, style, caller):
                file.write(piece)
    notice(f"{path}: written")


async def _sessions(conversation: Conversation, caller: Caller, session: UUID | None) -> AsyncGenerator[UUID, None]:
    """That one, or all, the newest first."""
    if session is not None:
        yield session
        return
    before = None
    while True:
        page, before = await conversation.sessions(caller, order="created", limit=PAGE, before=before)
        for each in page:
            yield each.id
        if before is None:
            return
