"""``manent sessions``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Literal

import click
from rich.table import Table
from rich.text import Text

from ...engine import Caller, Session, SessionFilter, Settings
from .database import caller_for, json_option, open_existing, print_array, tenant_option
from .options import read_settings, settings_options
from .terminal import moment, notice, one_line, print_table

Status = Literal["active", "archived"]
Shown = Literal["family", "all"]
Kind = Literal["conversation", "replay", "any"]


@click.command()
@json_option
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="list at most so many")
@click.option("--status", type=click.Choice(["active", "archived"]), help="only these")
@click.option(
    "--branches",
    type=click.Choice(["family", "all"]),
    default="family",
    show_default=True,
    help="of sessions that share a history only the last active, or all",
)
@click.option(
    "--kind",
    type=click.Choice(["conversation", "replay", "any"]),
    default="conversation",
    show_default=True,
    help="a replay is a session that a replay made",
)
@tenant_option
@settings_options("database")
def sessions(
    *, as_json: bool, limit: int, status: Status | None, branches: Shown, kind: Kind, tenant: str, **options: Any
) -> None:
    """List sessions, the last active first. Reads beside a running server."""
    which = SessionFilter(status=status, branches=branches, kind=kind)
    asyncio.run(_list(read_settings(options), caller_for(tenant), which, limit, as_json=as_json))


async def _list(settings: Settings, caller: Caller, which: SessionFilter, limit: int, *, as_json: bool) -> None:
    async with open_existing(settings) as chat:
        found = [session async for session in _first(chat.iter_sessions(caller=caller, **which), limit + 1)]
    if as_json:
        await print_array(_each(found[:limit]))
    else:
        print_table(_table(found[:limit]))
    if len(found) > limit:
        notice(f"there are more than these {limit}: see --limit")


async def _first(found: AsyncGenerator[Session, None], count: int) -> AsyncGenerator[Session, None]:
    async for session in found:
        yield session
        count -= 1
        if not count:
            return


async def _each(found: list[Session]) -> AsyncGenerator[Session, None]:
    for session in found:
        yield session


def _table(found: list[Session]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("session", no_wrap=True, min_width=36)
    table.add_column("last activity (UTC)", no_wrap=True)
    table.add_column("messages", justify="right")
    table.add_column("branches", justify="right")
    table.add_column("model", overflow="ellipsis", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    for session in found:
        status = "running" if session.open_turn_id else session.status
        row = (
            str(session.id),
            moment(session.updated_at),
            str(session.message_count),
            str(session.family.size) if session.family else "",
            session.model,
            status,
            one_line(session.title or ""),
        )
        table.add_row(*map(Text, row))
    return table
