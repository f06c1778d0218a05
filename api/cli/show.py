"""``manent show``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from itertools import takewhile
from typing import Any, TypeVar

import click
import msgspec

from ...engine import Event, Invalid, Message, Session, Turn
from .database import json_option, print_array
from .help_page import Documented
from .place import place_of, place_options
from .record.base import Sessions
from .record.file import FileSessions
from .terminal import DAMAGED, moment, one_line, print_message, print_session, printable

T = TypeVar("T")
WELL = frozenset({"completed", "running", "requires_action"})
"""States of a turn that need no line of their own."""


@click.command(
    cls=Documented,
    examples=(
        ("manent show 01a22e55", "show a session by the beginning of its id"),
        ("manent show 01a22e55 --events", "show every event of it"),
        ("manent show 01a22e55 --at 2026-12-31T23:59:59Z", "show it as it was at the end of that year"),
    ),
)
@click.argument("session")
@click.option("--events", "as_events", is_flag=True, help="Show every event, instead of the messages.")
@click.option(
    "--damaged", is_flag=True, help="Show what there is beside damaged rows, which are named in their places."
)
@click.option("--version", type=int, help="Show it as it was at a version.")
@click.option("--at", help="Show it as it was at a time, like 2026-12-31T23:59:59Z.")
@json_option
@place_options
@click.pass_context
def show(
    context: click.Context,
    /,
    *,
    session: str,
    as_events: bool,
    damaged: bool,
    version: int | None,
    at: str | None,
    as_json: bool,
    **place: Any,
) -> None:
    """Show a SESSION: its messages, or with --events all that is on record. Reads beside a running server.

    The beginning of an id will do, if no other session's id begins so. An answer is shown with its model, and with how
    it ended if that was early; a turn that failed, or was cut off, has a line of its own.

    Words that are not those that were recorded are never shown: without --damaged the command ends at the first such
    row. With --version or --at what came later is left out; words erased since are not shown.
    """
    form = Form(as_events=as_events, as_json=as_json, damaged=damaged, version=version, at=at)
    if form.damaged and form.of_the_past:
        raise Invalid("damaged", "goes without --version and --at")
    with closing(place_of(context, **place).open()) as record:
        _show(record, record.find(session), form)


class Form(msgspec.Struct, frozen=True):
    """What is shown, and how."""

    as_events: bool
    as_json: bool
    damaged: bool
    version: int | None = None
    at: str | None = None

    @property
    def of_the_past(self) -> bool:
        return self.version is not None or self.at is not None


def _show(record: Sessions, session: Session, form: Form) -> None:
    if form.of_the_past:
        session = record.then(session.id, version=form.version, at=form.at)
    if form.as_events:
        _show_events(_events(record, session, form), form)
        return
    messages = _messages(record, session, form)
    if form.as_json:
        click.echo(msgspec.json.encode({"session": session, "messages": list(messages)}).decode())
        return
    turns = [] if form.damaged else list(record.turns(session.id))
    open_turn = next((turn for turn in turns if turn.id == session.open_turn_id), None)
    print_session(session, None if form.of_the_past else open_turn)
    _show_messages(messages, turns, session)


def _messages(record: Sessions, session: Session, form: Form) -> Iterator[Message]:
    if form.damaged:
        here = _on_file(record)
        return here.chat.salvage.messages(session.id, caller=here.caller)
    return record.messages(session.id, version=session.version if form.of_the_past else None)


def _events(record: Sessions, session: Session, form: Form) -> Iterator[Event]:
    if form.damaged:
        here = _on_file(record)
        return here.chat.salvage.events(session.id, caller=here.caller)
    events = record.events(session.id)
    return takewhile(lambda event: event.version <= session.version, events) if form.of_the_past else events


def _on_file(record: Sessions) -> FileSessions:
    if not isinstance(record, FileSessions):
        raise Invalid("damaged", "goes with a database file: a server shows no damaged rows")
    return record


def _show_messages(messages: Iterator[Message], turns: list[Turn], session: Session) -> None:
    """Messages, and after those of a turn that did not end well how it did."""
    ended = {turn.id: turn for turn in turns}
    left = [turn for turn in turns if turn.status not in WELL and (turn.ended_at or "") <= session.updated_at]
    for message in messages:
        while left and (left[0].ended_at or "") < message.created_at:
            print_turn(left.pop(0))
        print_message(message, _remark(ended, message))
    for turn in left:
        print_turn(turn)


def print_turn(turn: Turn) -> None:
    """A line for a turn that did not end well."""
    error = turn.error
    why = f": {one_line(error.detail or 'no detail')} ({error.code})" if error is not None else ""
    click.secho(
        f"\n[the turn was {turn.status}{why}]" if turn.status != "failed" else f"\n[the turn failed{why}]", fg="red"
    )


def _remark(turns: dict[Any, Turn], message: Message) -> str:
    """How the turn ended that left a message incomplete."""
    turn = None if message.complete else turns.get(message.turn_id)
    if turn is None:
        return ""
    return turn.status if turn.error is None else f"{turn.status}, {turn.error.code}"


def _show_events(events: Iterator[Event], form: Form) -> None:
    if form.as_json:
        asyncio.run(print_array(_each(events)))
        return
    for event in events:
        print_event(event)


async def _each(items: Iterator[T]) -> AsyncGenerator[T, None]:
    for item in items:
        yield item


def print_event(event: Event) -> None:
    """Place, time, type and actor in one line, the facts in the next; of the words, only whether they are there."""
    words = "erased" if event.erased else f"{len(bytes(event.body))} bytes of words" if event.body else "no words"
    words = DAMAGED.format(event.position) if event.damaged is True else words
    click.secho(f"{event.position:>6}  #{event.version:<5} {moment(event.recorded_at)}  {event.type}", bold=True)
    click.echo(f"        by {event.actor}, {words}")
    click.echo(f"        {one_line(printable(bytes(event.facts).decode()))}")
