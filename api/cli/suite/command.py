"""``manent suite``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from ....engine import EngineError, Erased, Invalid, RecordDamaged, Suite, SuiteItem, SuiteNotFound, TurnNotFound
from ..chat.remote import ServerRefused
from ..database import json_option, print_array
from ..place import Place, place_of, place_options
from ..replay.command import replay
from ..terminal import moment, notice, one_line, print_table
from .client import Record, RecordedTurn
from .place import open_record

FILE = click.Path(path_type=Path)


@click.group()
def suite() -> None:
    """Keep suites: named lists of recorded turns, to be replayed again and again.

    A suite refers to turns and copies nothing: what is erased of them is skipped, and counted.
    """


@suite.command()
@click.argument("name")
@click.argument("sessions", nargs=-1, required=True, metavar="SESSION…")
@click.option("--turn", "numbers", type=click.IntRange(min=1), multiple=True, help="Only this turn, counted from 1.")
@place_options
@click.pass_context
def add(
    context: click.Context, /, *, name: str, sessions: tuple[str, ...], numbers: tuple[int, ...], **place: Any
) -> None:
    """Add the turns of some SESSIONs to the suite NAME, which is made if need be.

    Turns that have not ended are left out, and said. With --turn, which may be given again, only some of one session.
    """
    if numbers and len(sessions) > 1:
        raise click.UsageError("--turn goes with one session")
    with closing(open_record(place_of(context, **place), writes=True)) as record:
        turns = [turn for session in sessions for turn in _chosen(record.turns_of(session), session, numbers)]
        before = record.suite(name)
        held = () if before is None else before.items
        news = [SuiteItem(turn.session_id, turn.id) for turn in turns]
        items = list(dict.fromkeys([*held, *news]))
        after = record.create(name, items) if not held else _changed(record, before, items)
    click.echo(f"suite {one_line(name)}: {len(after.items) - len(held)} turns added, {len(after.items)} in it")


@suite.command("list")
@json_option
@place_options
@click.pass_context
def list_(context: click.Context, /, *, as_json: bool, **place: Any) -> None:
    """List suites by name. Reads beside a running server."""
    with closing(open_record(place_of(context, **place), writes=False)) as record:
        found = list(record.suites())
    if as_json:
        asyncio.run(print_array(_each(found)))
        return
    table = _table(("suite", "turns", "changed (UTC)"))
    for each in found:
        table.add_row(*map(Text, (one_line(each.name), str(len(each.items)), moment(each.updated_at))))
    print_table(table)


@suite.command()
@click.argument("name")
@json_option
@place_options
@click.pass_context
def show(context: click.Context, /, *, name: str, as_json: bool, **place: Any) -> None:
    """Show the turns of the suite NAME. Reads beside a running server."""
    with closing(open_record(place_of(context, **place), writes=False)) as record:
        found = _there(record, name)
        if as_json:
            click.echo(msgspec.json.encode(found))
            return
        table = _table(("turn", "session", "started (UTC)", "model", "status", "answer"))
        for item in found.items:
            table.add_row(*map(Text, (str(item.turn_id), str(item.session_id), *_told(record, item))))
    print_table(table)


@suite.command()
@click.argument("name")
@place_options
@click.pass_context
def remove(context: click.Context, /, *, name: str, **place: Any) -> None:
    """Empty the suite NAME. Its past stays on record, and its name may be filled again."""
    with closing(open_record(place_of(context, **place), writes=True)) as record:
        found = _there(record, name)
        record.change(found, ())
    click.echo(f"suite {one_line(name)}: {len(found.items)} turns removed")


@suite.command()
@click.argument("name")
@click.option(
    "--mode",
    type=click.Choice(["recorded", "forced", "free"]),
    help="recorded: the log answers; forced: a model answers each turn on the recorded history; free: on its own.  "
    "[default: forced with --model, else recorded]",
)
@click.option("--model", help="Ask this model.  [default: each turn's own]")
@click.option("--repeat", type=click.IntRange(0, 20), default=0, help="Ask the recorded model so often before.")
@click.option("--tools", default="recorded", show_default=True, help="recorded, refuse, or live:NAME,NAME.")
@click.option("--jobs", type=click.IntRange(min=1), help="Turns at once.")
@click.option("--max-turns", type=click.IntRange(min=1), help="Refuse more turns than that.")
@click.option("--max-cost-micros", type=click.IntRange(min=1), help="Ask no more once so much is spent.")
@click.option("--baseline", type=FILE, help="Differences that this file (of --json) knows are no findings.")
@click.option("--report", type=FILE, help="Write the report there, as one HTML page; - is standard output.")
@click.option("--junit", "junit_file", type=FILE, help="Write the results there, as JUnit's XML; - is standard output.")
@click.option("--json", "json_file", type=FILE, help="Write the results there, as JSON; - is standard output.")
@place_options
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    name: str,
    url: str | None,
    api_key_file: Path | None,
    tenant: str,
    database: str | None,
    **wishes: Any,
) -> None:
    """Replay the turns of the suite NAME, and tell how the answers compare; as manent replay --suite NAME.

    Exit code 1 if an answer is not the one that the suite refers to, or not all turns were done.
    """
    place = place_of(context, url=url, api_key_file=api_key_file, tenant=tenant, database=database)
    context.invoke(replay, suite=name, sessions=(), where=(), **wishes, **_as_options(place))


def _as_options(place: Place) -> dict[str, Any]:
    return msgspec.structs.asdict(place)


# --- turns and suites -------------------------------------------------------------------------------------------------


def _chosen(turns: list[RecordedTurn], session: str, numbers: tuple[int, ...]) -> Iterator[RecordedTurn]:
    """The turns of a session that are to be added. Raises Invalid for a number that none has, or an open one."""
    for number in numbers:
        if number > len(turns):
            raise Invalid("turn", f"session {one_line(session)} has {len(turns)} turns, and none of number {number}")
        if turns[number - 1].ended_at is None:
            raise Invalid("turn", f"turn {number} of session {one_line(session)} has not ended")
        yield turns[number - 1]
    for turn in turns if not numbers else ():
        if turn.ended_at is None:
            notice(f"turn {turn.id} has not ended, and is left out")
        else:
            yield turn


def _changed(record: Record, before: Suite | None, items: list[SuiteItem]) -> Suite:
    assert before is not None, "it holds turns"
    return record.change(before, items)


def _there(record: Record, name: str) -> Suite:
    """Raises SuiteNotFound."""
    found = record.suite(name)
    if found is None:
        raise SuiteNotFound(f"there is no suite {name!r}", available=[each.name for each in record.suites()])
    return found


def _told(record: Record, item: SuiteItem) -> tuple[str, str, str, str]:
    """When a turn was started, its model, how it ended, and what it said."""
    try:
        turn = record.turn(item.turn_id)
    except (RecordDamaged, Erased, TurnNotFound, ServerRefused) as error:
        return "", "", "", _reason(error)
    erased = turn.message is not None and turn.message.erased is not None
    return moment(turn.started_at), turn.model, turn.status, "[erased]" if erased else one_line(turn.text)


def _reason(error: EngineError) -> str:
    return f"[{one_line(error.detail)}]"


async def _each(found: list[Suite]) -> AsyncGenerator[Suite, None]:
    for each in found:
        yield each


def _table(columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    return table
