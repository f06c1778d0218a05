"""``manent models`` and ``manent tools``: what can be named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from typing import Any, TypeVar

import click
from rich.table import Table
from rich.text import Text

from ...engine import Price, ToolInfo
from .database import json_option, print_array
from .place import Place, place_of, place_options
from .record.base import Sessions
from .record.file import TemporarySessions
from .record.server import ServerSessions
from .terminal import one_line, print_table

T = TypeVar("T")


@click.command()
@json_option
@place_options
@click.pass_context
def models(context: click.Context, /, *, as_json: bool, **place: Any) -> None:
    """List the models that can be asked, with what is known of them. No database is needed.

    The list depends on the settings: a vendor's models are there once its key is. A provider may serve others, too.
    Prices are those of today, for a million tokens in and out.
    """
    with closing(_open(place_of(context, **place))) as record:
        found = record.models()
    if as_json:
        asyncio.run(print_array(_each(found)))
        return
    table = _table("model", "context", "most output", "price in / out", "can")
    for each in found:
        cells = (
            one_line(each.name),
            _count(each.context_tokens),
            _count(each.max_output_tokens),
            _price(each.price),
            ", ".join(each.capabilities or ()),
        )
        table.add_row(*map(Text, cells))
    print_table(table)


@click.command()
@json_option
@place_options
@click.pass_context
def tools(context: click.Context, /, *, as_json: bool, **place: Any) -> None:
    """List the tools that a model can be offered. No database is needed.

    Offer one with --tool NAME. Those of MCP servers are there if MANENT_MCP_SERVERS_FILE names the servers.
    """
    with closing(_open(place_of(context, **place))) as record:
        found = record.tools()
    if as_json:
        asyncio.run(print_array(_each(found)))
        return
    table = _table("tool", "a person decides", "what it does")
    for each in found:
        table.add_row(*map(Text, (one_line(each.name), _approval(each), one_line(each.description))))
    print_table(table)


def _open(place: Place) -> Sessions:
    """The models and tools of a server, or those that the settings give here."""
    if place.url is not None:
        return ServerSessions(place.url, place.api_key)
    return TemporarySessions(place.settings(), place.caller())


async def _each(found: Sequence[T]) -> AsyncGenerator[T, None]:
    for each in found:
        yield each


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column in {"context", "most output"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _count(tokens: int | None) -> str:
    return "" if tokens is None else f"{tokens:,}"


def _price(price: Price | None) -> str:
    if price is None:
        return ""
    return f"{price.input / 1e6:.2f} / {price.output / 1e6:.2f} {price.currency}"


def _approval(tool: ToolInfo) -> str:
    return "yes" if tool.approval else ""
