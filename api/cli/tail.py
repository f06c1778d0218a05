"""``manent tail``: events as they are recorded."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from typing import Any

import click
import msgspec

from ...engine import EVENT_TYPES, Event, Invalid
from .database import json_option
from .help_page import Documented
from .place import place_of, place_options
from .terminal import DAMAGED, moment, one_line, short_id

SAID_CHARS = 80


@click.command(
    cls=Documented,
    examples=(
        ("manent tail", "follow all that is recorded from now on"),
        ("manent tail 01a22e55 --after 0", "print all events of a session, and follow it"),
        ("manent tail --type turn.failed --url http://127.0.0.1:8000", "wait for turns that fail on a server"),
    ),
)
@click.argument("session", required=False)
@click.option(
    "--after",
    type=click.IntRange(min=0),
    help="Begin after this version of the session, or position of the log.  [default: with what comes]",
)
@click.option("-n", "--lines", type=click.IntRange(min=0), default=0, help="Print so many of the session's last first.")
@click.option("--type", "types", multiple=True, help="Print only events of this type. May be given again.")
@json_option
@place_options
@click.pass_context
def tail(
    context: click.Context,
    /,
    *,
    session: str | None,
    after: int | None,
    lines: int,
    types: tuple[str, ...],
    as_json: bool,
    **place: Any,
) -> None:
    """Follow the events of a SESSION, or of the whole log, as they are recorded. Reads beside a running server.

    A line for each: time, session, version, type, and the beginning of its words. With --json each is an Event of the
    HTTP API. Ends with Ctrl-C. On a server the whole log needs a key with the scope audit.
    """
    unknown = sorted(set(types) - EVENT_TYPES.keys())
    if unknown:
        raise Invalid("type", f"there is no event {unknown[0]!r}", available=list(EVENT_TYPES))
    if lines and (session is None or after is not None):
        raise click.UsageError("--lines goes with a session, and without --after.")
    with closing(place_of(context, **place).open()) as record:
        found = None if session is None else record.find(session).id
        if lines and found is not None:
            last = deque(record.events(found), lines)
            after = last[0].version - 1 if last else None
        for event in record.follow(found, after):
            if not types or event.type in types:
                _print(event, as_json=as_json)


def _print(event: Event, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(event).decode())
        return
    place = f"{moment(event.recorded_at)}  {short_id(event.session_id)}  #{event.version:<4}"
    click.echo(f"{place} {event.type:<18} {_said(event)}".rstrip())


def _said(event: Event) -> str:
    """The role and the first words of a message; of another event, what it is about."""
    if event.damaged is True:
        return DAMAGED.format(event.position)
    facts = msgspec.json.decode(event.facts)
    words = "[erased]" if event.erased else _words(msgspec.json.decode(event.body)) if event.body else ""
    known = [str(facts[name]) for name in ("role", "model", "outcome", "code") if facts.get(name)]
    said = one_line(" ".join([*known, words]))
    return f"{said[:SAID_CHARS]}…" if len(said) > SAID_CHARS else said


def _words(body: Any) -> str:
    content = body.get("content") if isinstance(body, dict) else None
    texts = [
        block.get("text", "") for block in content or () if isinstance(block, dict) and block.get("type") == "text"
    ]
    return " ".join(texts)
