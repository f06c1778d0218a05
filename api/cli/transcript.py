"""``manent transcript``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import click

from ...engine import Invalid, Refused
from .help_page import Documented
from .place import place_of, place_options
from .record.base import TranscriptForm
from .terminal import notice

STANDARD_OUTPUT = "-"


@click.command(
    cls=Documented,
    examples=(
        ("manent transcript 01a22e55", "write 01a22e55-….html, a page that prints well"),
        ("manent transcript 01a22e55 --format md -o -", "print it as Markdown"),
    ),
)
@click.argument("session")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="A page that prints well, or Markdown.",
)
@click.option("--version", type=click.IntRange(min=1), help="Up to this version of the session.  [default: all of it]")
@click.option("-o", "--output", help="File to write, or - for standard output.  [default: SESSION.html or SESSION.md]")
@place_options
@click.pass_context
def transcript(
    context: click.Context,
    /,
    *,
    session: str,
    form: TranscriptForm,
    version: int | None,
    output: str | None,
    **place: Any,
) -> None:
    """Write the transcript of a SESSION for people: who said what and when, how each turn ended, what was erased by
    whom and why, and the checkpoint that proves it. html is one page that prints well; md is Markdown.

    Reads beside a running server; with --url over its API, which signs a checkpoint if none covers the session yet.
    The beginning of an id will do, if no other session's id begins so.
    """
    with closing(place_of(context, **place).open()) as record:
        found = record.find(session).id
        with _writing(output, found, form) as file:
            for piece in record.transcript(found, form, version):
                file.write(piece)


@contextmanager
def _writing(output: str | None, session: UUID, form: TranscriptForm) -> Iterator[IO[bytes]]:
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
