"""``manent sessions``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from ...engine import Caller, Conversation, Session, Settings
from .database import caller_for, json_option, open_existing, print_array, tenant_option
from .options import read_settings, settings_options
from .terminal import moment, notice, one_line, print_table

MAX_PAGE = 1000


@click.command()
@json_option
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="list at most so many")
@click.option("--status", type=click.Choice(["active", "archived"]), help="only these")
@tenant_option
@settings_options("database")
def sessions(*, as_json: bool, limit: int, status: str | None, tenant: str, **options: Any) -> None:
    """List sessions, the last active first. Reads beside a running server."""
    asyncio.run(_list(read_settings(options), caller_for(tenant), status, limit, as_json=as_json))


async def _list(settings: Settings, caller: Caller, status: str | None, limit: int, *, as_json: bool) -> None:
    async with open_existing(settings) as conversation:
        found = [session async for session in _newest(conversation, caller, status, limit + 1)]
    if as_json:
        await print_array(_each(found[:limit]))
    else:
        print_table(_table(found[:limit]))
    if len(found) > limit:
        notice(f"there are more than these {limit}: see --limit")


async def _newest(
    conversation: Conversation, caller: Caller, status: str | None, limit: int
) -> AsyncGenerator[Session, None]:
    """The newest sessions, as many pages as it takes."""
    before = None
    while limit > 0:
        page, before = await conversation.sessions(caller, status=status, limit=min(limit, MAX_PAGE), before=before)
        for session in page:
            yield session
        if before is None:
            return
        limit -= len(page)


async def _each(found: list[Session]) -> AsyncGenerator[Session, None]:
    for session in found:
        yield session


def _table(found: list[Session]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("session", no_wrap=True, min_width=36)
    table.add_column("last activity (UTC)", no_wrap=True)
    table.add_column("messages", justify="right")
    table.add_column("model", overflow="ellipsis", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True)
    for session in found:
        status = "running" if session.open_turn_id else session.status
        row = (
            str(session.id),
            moment(session.updated_at),
            str(session.message_count),
            session.model,
            status,
            one_line(session.title or ""),
        )
        table.add_row(*map(Text, row))
    return table
