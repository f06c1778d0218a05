"""``manent fork``."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
import msgspec

from ...engine import NewSession
from .database import json_option
from .help_page import Documented
from .place import place_of, place_options
from .terminal import notice


@click.command(
    cls=Documented,
    examples=(
        ("manent fork 01a22e55", "go another way from where a session is now"),
        ("manent fork 01a22e55 --version 7 --model echo/echo", "go on from an earlier version, on another model"),
    ),
)
@click.argument("session")
@click.option("--version", type=int, help="Share the history up to here.  [default: the last]")
@click.option("--title", help="Title of the new session.  [default: as there]")
@click.option("--model", help="Model of the new session.  [default: as there]")
@json_option
@place_options
@click.pass_context
def fork(
    context: click.Context,
    /,
    *,
    session: str,
    version: int | None,
    title: str | None,
    model: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Fork a SESSION: a new one shares its history up to a version, and goes on by itself. Nothing is copied.

    Prints the id of the new session; `manent chat --session ID` goes on there. No server may have the file open; with
    --url the server does it.
    """
    fields = NewSession()
    if title is not None:
        fields["title"] = title
    if model is not None:
        fields["model"] = model
    where = place_of(context, **place)
    with closing(where.open()) as record:
        found = record.find(session).id
    with closing(where.open(writes=True)) as record:
        made = record.fork(found, version, fields)
    if as_json:
        click.echo(msgspec.json.encode(made).decode())
    else:
        assert made.parent is not None
        click.echo(made.id)
        notice(f"it shares {made.message_count} message(s) with {made.parent.session_id}, up to {made.parent.version}")
