"""``manent title`` and ``manent hold``: changing a session."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click
import msgspec

from ...engine import Session, SessionChanges
from .database import json_option
from .place import Place, place_of, place_options
from .terminal import one_line


@click.command()
@click.argument("session")
@click.argument("text")
@json_option
@place_options
@click.pass_context
def title(context: click.Context, /, *, session: str, text: str, as_json: bool, **place: Any) -> None:
    """Give a SESSION the title TEXT; an empty one takes its title away.

    The change is on record, like everything else. No server may have the file open; with --url the server does it.
    """
    changed = _change(place_of(context, **place), session, SessionChanges(title=text or None))
    said = f"is called {one_line(changed.title)}" if changed.title else "has no title"
    _tell(changed, said, as_json=as_json)


@click.command()
@click.argument("session")
@click.option("--off", is_flag=True, help="Let go of the session again.")
@json_option
@place_options
@click.pass_context
def hold(context: click.Context, /, *, session: str, off: bool, as_json: bool, **place: Any) -> None:
    """Put a SESSION under legal hold: its words cannot be erased until it is let go of with --off.

    The change is on record. No server may have the file open; with --url the server does it, for a key with the scope
    erase.
    """
    changed = _change(place_of(context, **place), session, SessionChanges(legal_hold=not off))
    _tell(changed, "is under legal hold" if changed.legal_hold else "is under no legal hold", as_json=as_json)


def _change(place: Place, text: str, changes: SessionChanges) -> Session:
    """Who is wrong about a session shall not take the file's lock."""
    with closing(place.open()) as record:
        found = record.find(text).id
    with closing(place.open(writes=True)) as record:
        return record.update(found, **changes)


def _tell(session: Session, said: str, *, as_json: bool) -> None:
    click.echo(msgspec.json.encode(session).decode() if as_json else f"session {session.id} {said}")
