"""``manent branches``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.table import Table
from rich.text import Text

from ...engine import Branch, Branches
from .database import json_option
from .place import place_of, place_options
from .terminal import moment, one_line, print_table

ID_CHARS = 8
"""Characters of an id that are shown at the least."""
MOST_DEEP = 24
"""Levels that are indented; what lies deeper says how deep."""
SAID_CHARS = 60


@click.command()
@click.argument("session")
@click.option("--at", help="Show it as it was at a time, like 2026-12-31T23:59:59Z.")
@json_option
@place_options
@click.pass_context
def branches(context: click.Context, /, *, session: str, at: str | None, as_json: bool, **place: Any) -> None:
    """Show the family of a SESSION as a tree: all sessions that share a history with it. Reads beside a running server.

    Each with the version of its parent at which it begins, its own, and what it begins with. The beginnings of ids
    that are shown tell the members of this family from each other; `*` marks the one that was asked for.
    """
    with closing(place_of(context, **place).open()) as record:
        asked = record.find(session).id
        family = record.branches(asked, at)
    if as_json:
        click.echo(msgspec.json.encode(family).decode())
    else:
        print_table(_table(family, asked))


def _table(family: Branches, asked: UUID) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("session", no_wrap=True)
    table.add_column("from", justify="right")
    table.add_column("version", justify="right")
    table.add_column("messages", justify="right")
    table.add_column("last activity (UTC)", no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True)
    chars = _id_chars([node.session_id for node in family.nodes])
    for indent, node in _drawn(family.nodes):
        mark = " *" if node.session_id == asked else ""
        row = (
            f"{indent}{str(node.session_id)[:chars]}{mark}",
            "" if node.parent is None else str(node.parent.version),
            str(node.version),
            str(node.message_count),
            moment(node.updated_at),
            _said(node),
        )
        table.add_row(*map(Text, row))
    return table


def _said(node: Branch) -> str:
    """What a member is called, what it begins with, and if a replay made it."""
    said = one_line(node.preview or "")
    shown = f"{said[:SAID_CHARS]}…" if len(said) > SAID_CHARS else said
    kind = "(replay)" if node.kind == "replay" else ""
    return "  ".join(part for part in (kind, one_line(node.title or ""), shown) if part)


def _drawn(nodes: Sequence[Branch]) -> Iterator[tuple[str, Branch]]:
    """The members, each below its parent, with what is drawn before it."""
    below: dict[UUID | None, list[Branch]] = {}
    for node in reversed(nodes):
        below.setdefault(None if node.parent is None else node.parent.session_id, []).append(node)
    left = [(node, "", "") for node in below.get(None, ())]
    depths = {node.session_id: 0 for node, *_ in left}
    while left:
        node, own, under = left.pop()
        yield own, node
        children, depth = below.get(node.session_id, []), depths[node.session_id] + 1
        depths |= dict.fromkeys((child.session_id for child in children), depth)
        if depth > MOST_DEEP:
            left += [(child, f"{under[: 3 * MOST_DEEP]}… {depth} deep: ", under) for child in children]
            continue
        last = children[0].session_id if children else None
        for child in children:
            is_last = child.session_id == last
            left.append((child, under + ("└─ " if is_last else "├─ "), under + ("   " if is_last else "│  ")))


def _id_chars(ids: Sequence[UUID]) -> int:
    """How many characters of these ids tell each from the others."""
    texts = sorted(map(str, ids))
    shared = (
        next(at for at, pair in enumerate(zip(*two, strict=True)) if pair[0] != pair[1]) for two in pairwise(texts)
    )
    return max(ID_CHARS, *(at + 1 for at in shared), 0)
