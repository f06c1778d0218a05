"""``manent export``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Literal
from uuid import UUID

import click

from ... import engine
from ...engine import Caller, CheckpointNotFound, Engine, Invalid, Refused, Settings, StoreLocked
from .database import EVERY, caller_for, find_session, open_existing
from .help_page import Documented
from .options import read_settings, settings_options
from .place import Place, place_of, place_options
from .progress import bytes_written
from .record.server import ServerSessions
from .terminal import notice

Style = Literal["bundle", "openai", "otel"]
HOW_TO_VERIFY = "verify it with verify_bundle.py and --key, which `manent checkpoint --keys` prints"
STANDARD_OUTPUT = Path("-")
IN_MEMORY_BYTES = 8 << 20
"""What goes to standard output is whole before its first byte goes; more than this waits in a file without a name."""


@click.command(
    cls=Documented,
    examples=(
        ("manent export 01a22e55", "write a bundle of a session, named by its id"),
        ("manent export --log --output log.zip", "write a bundle of the whole log"),
        ("manent export 01a22e55 --format openai --output - | jq .", "print a session's messages as OpenAI has them"),
    ),
)
@click.argument("session", required=False)
@click.option("--log", "whole", is_flag=True, help="Export the whole log, instead of one session.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["bundle", "openai", "otel"]),
    default="bundle",
    show_default=True,
    help="What to write: a bundle that proves itself, or messages for other tools.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File to write; - is standard output.  [default: named by what it is]",
)
@place_options
@settings_options("signing_key_file", "checkpoint_file")
@click.pass_context
def export(
    context: click.Context,
    /,
    *,
    session: str | None,
    whole: bool,
    style: Style,
    output: Path | None,
    signing_key_file: str | None,
    checkpoint_file: str | None,
    **place: Any,
) -> None:
    """Export a SESSION, or with --log all there is: as a bundle that proves itself, or as messages for other tools.

    Works beside a running server and on a read-only medium, as far as the checkpoints reach; with --url the server
    writes it. openai and otel are JSON lines, a session a line. A file that is there is never written over.
    """
    if whole == (session is not None):
        raise Invalid("session", "give a session or --log")
    where = place_of(context, **place)
    found: UUID | None
    if where.url is not None:
        found, write = _from_server(where, session, style)
    else:
        beside = {"signing_key_file": signing_key_file, "checkpoint_file": checkpoint_file}
        settings = read_settings({"database": where.database} | beside)
        found, write = _from_file(settings, caller_for(where.tenant), session, style)
    path = output or Path(f"{found or where.tenant}.{'zip' if style == 'bundle' else f'{style}.jsonl'}")
    with _writing(path, style) as file, bytes_written(file, "exporting", "exported") as told:
        said = write(told)
    notice(f"{'standard output' if path == STANDARD_OUTPUT else path}: {said}")


Write = Callable[[IO[bytes]], str]
"""Writes what is asked for, and says what it was."""


def _from_server(place: Place, session: str | None, style: Style) -> tuple[UUID, Write]:
    """Raises Invalid for a whole log, which a server does not give."""
    if session is None:
        raise Invalid("log", "a whole log is exported from its database file: give --database")
    record = ServerSessions(place.url or "", place.api_key)
    found = record.find(session).id

    def write(file: IO[bytes]) -> str:
        record.export(found, style, file)
        return HOW_TO_VERIFY if style == "bundle" else "1 session(s)"

    return found, write


def _from_file(settings: Settings, caller: Caller, session: str | None, style: Style) -> tuple[UUID | None, Write]:
    found = None if session is None else asyncio.run(_find(settings, session, caller))
    return found, lambda file: asyncio.run(_write(settings, caller, found, style, file))


@contextmanager
def _writing(path: Path, style: Style) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole. Raises Invalid for one that cannot be written, and Refused for one
    that is there.
    """
    if path == STANDARD_OUTPUT:
        if style == "bundle" and sys.stdout.isatty():
            raise Invalid("output", "a bundle is not for a terminal: send standard output to a file, or name one")
        with SpooledTemporaryFile(IN_MEMORY_BYTES) as waiting:
            yield waiting
            waiting.seek(0)
            shutil.copyfileobj(waiting, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        return
    if path.is_dir():
        raise Invalid("output", f"{path} cannot be written: it is a folder")
    if path.exists():
        raise Refused(f"{path} is there already: name another file with --output")
    draft = Path(f"{path}.part")
    try:
        with closing(_open(draft)) as file:
            yield file
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def _open(draft: Path) -> IO[bytes]:
    try:
        return draft.open("wb")
    except OSError as error:
        raise Invalid("output", f"cannot be written: {draft}: {error.strerror}") from None


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
