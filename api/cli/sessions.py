"""``manent sessions``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from itertools import islice, pairwise
from typing import Any, Literal

import click
from rich.table import Table
from rich.text import Text

from ...engine import Session, SessionFilter
from .database import json_option, print_array
from .help_page import Documented
from .place import place_of, place_options
from .terminal import SHORT_ID_CHARS, moment, notice, one_line, print_table

Status = Literal["active", "archived"]
Shown = Literal["family", "all"]
Kind = Literal["conversation", "replay", "any"]

SAID_CHARS = 60


@click.command(
    cls=Documented,
    examples=(
        ("manent sessions", "list the sessions of manent.db in this folder"),
        ("manent sessions --limit 5 --url http://127.0.0.1:8000", "list the last five of a server"),
        ("manent sessions --json | jq -r '.[].id'", "print the whole ids"),
    ),
)
@json_option
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="List at most so many.")
@click.option("--status", type=click.Choice(["active", "archived"]), help="List only these.")
@click.option(
    "--branches",
    type=click.Choice(["family", "all"]),
    default="family",
    show_default=True,
    help="Of sessions that share a history list only the last active, or all.",
)
@click.option(
    "--kind",
    type=click.Choice(["conversation", "replay", "any"]),
    default="conversation",
    show_default=True,
    help="A replay is a session that a replay made.",
)
@place_options
@click.pass_context
def sessions(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    status: Status | None,
    branches: Shown,
    kind: Kind,
    **place: Any,
) -> None:
    """List sessions, the last active first. Reads beside a running server.

    Each with the beginning of its id, which every command takes in its place, and with its title or the beginning of
    its first message.
    """
    which = SessionFilter(status=status, branches=branches, kind=kind)
    with closing(place_of(context, **place).open()) as record:
        found = list(islice(record.list(which), limit + 1))
    shown = found[:limit]
    if as_json:
        asyncio.run(print_array(_each(shown)))
    elif shown:
        print_table(_table(shown))
    else:
        notice("there are no sessions yet: begin one with manent chat or manent ask")
    if len(found) > limit:
        notice(f"there are more than these {limit}: see --limit")


async def _each(found: list[Session]) -> AsyncGenerator[Session, None]:
    for session in found:
        yield session


def _table(found: list[Session]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    chars = id_chars(found)
    table.add_column("session", no_wrap=True, min_width=chars)
    table.add_column("last activity (UTC)", no_wrap=True, min_width=19)
    table.add_column("messages", justify="right")
    if any(session.family for session in found):
        table.add_column("branches", justify="right")
    table.add_column("model", overflow="ellipsis", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("title or first words", overflow="ellipsis", no_wrap=True)
    for session in found:
        table.add_row(*map(Text, _row(session, chars, branches=any(each.family for each in found))))
    return table


def _row(session: Session, chars: int, *, branches: bool) -> Iterator[str]:
    yield str(session.id)[:chars]
    yield moment(session.updated_at)
    yield str(session.message_count)
    if branches:
        yield str(session.family.size) if session.family else ""
    yield one_line(session.model)
    yield _status(session)
    said = one_line(session.title or session.preview or "")
    yield f"{said[:SAID_CHARS]}…" if len(said) > SAID_CHARS else said


def _status(session: Session) -> str:
    status = "running" if session.open_turn_id else session.status
    held = ", held" * session.legal_hold
    return f"{status}{held}" + (f", {session.failed_count} failed" if session.failed_count else "")


def id_chars(found: list[Session]) -> int:
    """How many characters of their ids tell these sessions from each other."""
    texts = sorted(str(session.id) for session in found)
    shared = (
        next(at for at, two in enumerate(zip(*pair, strict=True)) if two[0] != two[1]) for pair in pairwise(texts)
    )
    return max(SHORT_ID_CHARS, *(at + 1 for at in shared), 0)
