"""``manent show``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import click
import msgspec

from ...engine import Caller, Engine, Event, Invalid, Message, RecordDamaged, Session, Settings, Turn
from .database import caller_for, find_session, json_option, open_existing, print_array, tenant_option
from .options import read_settings, settings_options
from .terminal import DAMAGED, moment, one_line, print_message, print_session, printable


@click.command()
@click.argument("session")
@click.option("--events", "as_events", is_flag=True, help="every event, instead of the messages")
@click.option("--damaged", is_flag=True, help="what there is beside damaged rows, which are named in their places")
@click.option("--version", type=int, help="as it was at a version")
@click.option("--at", help="as it was at a time, like 2026-12-31T23:59:59Z")
@json_option
@tenant_option
@settings_options("database")
def show(
    *,
    session: str,
    as_events: bool,
    damaged: bool,
    version: int | None,
    at: str | None,
    as_json: bool,
    tenant: str,
    **options: Any,
) -> None:
    """Show a SESSION: its messages, or with --events all that is on record. Reads beside a running server.

    The beginning of an id will do, if no other session's id begins so. Words that are not those that were recorded are
    never shown: without --damaged the command ends at the first such row. With --version or --at what came later is
    left out; words erased since are not shown.
    """
    form = _Form(as_events=as_events, as_json=as_json, damaged=damaged, version=version, at=at)
    if form.damaged and form.of_the_past:
        raise Invalid("damaged", "goes without --version and --at")
    asyncio.run(_show(read_settings(options), caller_for(tenant), session, form))


class _Form(msgspec.Struct, frozen=True):
    """What is shown, and how."""

    as_events: bool
    as_json: bool
    damaged: bool
    version: int | None = None
    at: str | None = None

    @property
    def of_the_past(self) -> bool:
        return self.version is not None or self.at is not None


async def _show(settings: Settings, caller: Caller, text: str, form: _Form) -> None:
    async with open_existing(settings) as chat:
        session = await find_session(chat, text, caller)
        if form.of_the_past:
            session = await chat.session(session.id, version=form.version, at=form.at, caller=caller)
        events, messages = _read(chat, session, caller, form)
        if form.as_events and form.as_json:
            await print_array(events)
        elif form.as_events:
            async for event in events:
                _print_event(event)
        elif form.as_json:
            found = [message async for message in messages]
            click.echo(msgspec.json.encode({"session": session, "messages": found}).decode())
        else:
            turn = None if form.of_the_past else await _turn(chat, session.open_turn_id, caller, form)
            print_session(session, turn)
            async for message in messages:
                print_message(message, await _remark(chat, message, caller, form))


def _read(
    chat: Engine, session: Session, caller: Caller, form: _Form
) -> tuple[AsyncIterator[Event], AsyncIterator[Message]]:
    """The events and the messages of a session that are shown."""
    if form.damaged:
        return chat.salvage.events(session.id, caller=caller), chat.salvage.messages(session.id, caller=caller)
    events = chat.iter_events(session.id, caller=caller)
    if not form.of_the_past:
        return events, chat.iter_messages(session.id, caller=caller)
    return _up_to(events, session.version), chat.iter_messages(session.id, version=session.version, caller=caller)


async def _up_to(events: AsyncGenerator[Event, None], version: int) -> AsyncIterator[Event]:
    async with aclosing(events):
        async for event in events:
            if event.version > version:
                return
            yield event


async def _turn(chat: Engine, turn: UUID | None, caller: Caller, form: _Form) -> Turn | None:
    """A turn; None where there is none, or a row of it is damaged."""
    try:
        return None if turn is None else await chat.turn(turn, caller=caller)
    except RecordDamaged:
        if form.damaged:
            return None
        raise


async def _remark(chat: Engine, message: Message, caller: Caller, form: _Form) -> str:
    """How the turn ended that left a message incomplete."""
    turn = None if message.complete else await _turn(chat, message.turn_id, caller, form)
    if turn is None:
        return ""
    return turn.status if turn.error is None else f"{turn.status}, {turn.error.code}"


def _print_event(event: Event) -> None:
    """Place, time, type and actor in one line, the facts in the next; of the words, only whether they are there."""
    words = "erased" if event.erased else f"{len(bytes(event.body))} bytes of words" if event.body else "no words"
    words = DAMAGED.format(event.position) if event.damaged is True else words
    click.secho(f"{event.position:>6}  #{event.version:<5} {moment(event.recorded_at)}  {event.type}", bold=True)
    click.echo(f"        by {event.actor}, {words}")
    click.echo(f"        {one_line(printable(bytes(event.facts).decode()))}")
