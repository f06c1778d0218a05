"""``manent transcript``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID

import click
from click.core import ParameterSource

from ...engine import Caller, Invalid, Refused, Settings
from .chat.command import read_api_key
from .chat.remote import Remote
from .database import caller_for, find_session, open_existing, tenant_option
from .options import read_settings, settings_options
from .terminal import notice

Form = Literal["html", "md"]
FILE = click.Path(path_type=Path, dir_okay=False)
STANDARD_OUTPUT = "-"
CHUNK_BYTES = 1 << 16


@click.command()
@click.argument("session")
@click.option("--format", "form", type=click.Choice(["html", "md"]), default="html", show_default=True)
@click.option("--version", type=click.IntRange(min=1), help="up to this version of the session  [all of it]")
@click.option("-o", "--output", help="file to write, or - for standard output  [SESSION.html or SESSION.md]")
@click.option("--url", envvar="MANENT_URL", help="ask the server at this address  [MANENT_URL]")
@click.option("--api-key-file", envvar="MANENT_API_KEY_FILE", type=FILE, help="file that holds the key for the server")
@tenant_option
@settings_options("database")
@click.pass_context
def transcript(
    context: click.Context,
    /,
    *,
    session: str,
    form: Form,
    version: int | None,
    output: str | None,
    url: str | None,
    api_key_file: Path | None,
    tenant: str,
    **options: Any,
) -> None:
    """Write the transcript of a SESSION for people: who said what and when, how each turn ended, what was erased by
    whom and why, and the checkpoint that proves it. html is one page that prints well; md is Markdown.

    Reads beside a running server; with --url over its API, which signs a checkpoint if none covers the session yet.
    The beginning of an id will do on the file, if no other session's id begins so.
    """
    if options["database"] is not None and url is not None:
        if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--url and --database are two places to read from: give one of them")
        url = None
    if url is not None:
        _over_api(RemoteTranscripts(url, read_api_key(api_key_file)), session, form, version, output)
    else:
        asyncio.run(_from_file(read_settings(options), caller_for(tenant), session, form, version, output))


class RemoteTranscripts(Remote):
    """Transcripts from a server, over its API."""

    def pieces(self, session: UUID, form: Form, version: int | None) -> Iterator[bytes]:
        """Raises ServerRefused."""
        until = "" if version is None else f"&version={version}"
        with self._request("GET", f"/api/sessions/{session}/transcript?format={form}{until}") as response:
            while piece := response.read(CHUNK_BYTES):
                yield piece


def _over_api(server: RemoteTranscripts, text: str, form: Form, version: int | None, output: str | None) -> None:
    session = server.resume(text)
    with _writing(output, session, form) as file:
        for piece in server.pieces(session, form, version):
            file.write(piece)


async def _from_file(
    settings: Settings, caller: Caller, text: str, form: Form, version: int | None, output: str | None
) -> None:
    async with open_existing(settings) as chat:
        session = (await find_session(chat, text, caller)).id
        with _writing(output, session, form) as file:
            async for piece in chat.transcript(session, form, version=version, caller=caller):
                file.write(piece.encode())


@contextmanager
def _writing(output: str | None, session: UUID, form: Form) -> Iterator[IO[bytes]]:
    """Where it goes. A file has its name when it is whole; what is there already stays. Raises Refused and Invalid."""
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        return
    path = Path(output or f"{session}.{form}")
    if path.exists():
        raise Refused(f"{path} is there already")
    draft = Path(f"{path}.part")
    try:
        with _opened(draft) as file:
            yield file
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    notice(f"{path}: written")


def _opened(draft: Path) -> IO[bytes]:
    try:
        return draft.open("wb")
    except OSError as error:
        raise Invalid("output", f"cannot be written: {error.strerror}") from None
