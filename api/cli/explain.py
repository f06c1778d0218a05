"""``manent explain``."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.table import Table

from ...engine import Invalid, LeftOut, NotFound, SentPrompt, SentWindow, SessionNotFound, TurnNotFound
from .chat.remote import ServerRefused
from .database import ID_DIGITS, json_option, read_prefix
from .help_page import Documented
from .place import place_of, place_options
from .record.base import Sessions
from .terminal import notice, one_line, print_table, printable


@click.command(
    cls=Documented,
    examples=(
        ("manent explain 01a22e55", "explain the last turn of a session"),
        ("manent explain 01a22e55 --attempt 1 --json", "print the first request of that turn, and all about it"),
    ),
)
@click.argument("turn")
@click.option(
    "--attempt", type=click.IntRange(min=1), help="Which one, counted along the turn from 1.  [default: last]"
)
@json_option
@place_options
@click.pass_context
def explain(context: click.Context, /, *, turn: str, attempt: int | None, as_json: bool, **place: Any) -> None:
    """Explain what the model was sent in a TURN: the exact request, derived from the record again, and why each message
    was in it or not. Reads beside a running server.

    TURN is the id of a turn; or of a session, or the beginning of that, whose last turn is meant.

    Exit code 1 if the request is not the one that was recorded, or words that it held are erased.
    """
    with closing(place_of(context, **place).open()) as record:
        prompt = _explain(record, turn, attempt)
    if as_json:
        click.echo(msgspec.json.encode(prompt).decode())
    else:
        _print(prompt)
    if not prompt.matches:
        notice("the request is not the one that was recorded: its commitment is another")
        sys.exit(1)


def _explain(record: Sessions, text: str, attempt: int | None) -> SentPrompt:
    try:
        digits = read_prefix(text)
    except Invalid:
        raise Invalid(
            "turn", f"{text!r} is not the id of a turn or a session, or the beginning of a session's"
        ) from None
    if len(digits) == ID_DIGITS:
        try:
            return record.explain(UUID(digits), attempt)
        except TurnNotFound:
            if attempt is not None and _is_turn(record, UUID(digits)):
                raise
        except ServerRefused as refused:
            if refused.extra.get("problem") != TurnNotFound.code or _is_turn(record, UUID(digits)):
                raise
    return record.explain(_last_turn(record, text), attempt)


def _is_turn(record: Sessions, turn: UUID) -> bool:
    try:
        record.turn(turn)
    except (NotFound, ServerRefused):
        return False
    return True


def _last_turn(record: Sessions, text: str) -> UUID:
    """Raises TurnNotFound for what is no session, or one without turns."""
    try:
        session = record.find(text).id
    except SessionNotFound:
        raise TurnNotFound(f"there is no turn, and no session, {text}: manent sessions lists the sessions") from None
    turns = [turn.id for turn in record.turns(session)]
    if not turns:
        raise TurnNotFound(f"session {text} has no turns")
    return turns[-1]


def _print(prompt: SentPrompt) -> None:
    click.secho(f"turn {prompt.turn_id}, attempt {prompt.attempt}", bold=True)
    click.echo(f"{one_line(prompt.model)}, request by {prompt.renderer}, {len(prompt.request_bytes)} bytes")
    matches = "is the recorded one" if prompt.matches else f"and recorded is {prompt.recorded_commitment}"
    click.echo(f"commitment {prompt.commitment} {matches}")
    given = msgspec.to_builtins(prompt.parameters)
    parameters = [f"{name} {value}" for name, value in given.items() if value not in (None, [], ())]
    click.echo(f"parameters: {one_line(', '.join(parameters)) or 'none'}")
    click.echo(f"tools: {one_line(', '.join(tool.name for tool in prompt.tools)) or 'none'}")
    _print_window(prompt.window, prompt.counter)
    click.secho("\nrequest", bold=True)
    if prompt.request is None:
        click.echo("(not JSON: see --json)")
    else:
        click.echo(printable(msgspec.json.format(bytes(prompt.request), indent=2).decode()))


def _print_window(window: SentWindow, counter: str) -> None:
    click.secho("\nwindow", bold=True)
    sent = f"{window.base_tokens} x {window.factor_permille} / 1000 + {window.overhead} x {len(window.included)}"
    click.echo(f"{window.policy}, counted by {counter}: {sent} = {window.used_tokens} tokens")
    click.echo(f"of {window.budget_tokens}, {window.reserve_tokens} of them reserved for the reply")
    table = _table()
    for each in window.included:
        table.add_row(*_cells(each.version, each.position, each.role, each.tokens, each.reason))
    if window.tool_tokens:
        table.add_row(*_cells("", "", "schemas of tools", window.tool_tokens, "tools"))
    print_table(table)
    _print_left_out(window.omitted)


def _print_left_out(omitted: LeftOut) -> None:
    reasons = [f"{reason} {each.count} ({each.tokens})" for reason, each in omitted.by_reason.items()]
    why = f": {', '.join(reasons)}" if reasons else ""
    click.echo(f"left out: {omitted.count} messages, {omitted.tokens} base tokens{why}")
    if not omitted.items:
        return
    table = _table()
    for each in reversed(omitted.items):
        table.add_row(*_cells(each.version, each.position, each.role, each.tokens, each.reason))
    if len(omitted.items) < omitted.count:
        click.echo(f"the nearest {len(omitted.items)}:")
    print_table(table)


def _table() -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("version", "position", "role", "base tokens", "reason"):
        table.add_column(name, justify="left" if name in {"role", "reason"} else "right")
    return table


def _cells(*values: object) -> tuple[str, ...]:
    return tuple(map(str, values))
