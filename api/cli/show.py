"""``manent show``."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from ...engine import Caller, Engine, Event, Message, Settings
from .database import caller_for, find_session, json_option, open_existing, print_array, tenant_option
from .options import read_settings, settings_options
from .terminal import moment, one_line, print_message, print_session, printable


@click.command()
@click.argument("session")
@click.option("--events", "as_events", is_flag=True, help="every event, instead of the messages")
@json_option
@tenant_option
@settings_options("database")
def show(*, session: str, as_events: bool, as_json: bool, tenant: str, **options: Any) -> None:
    """Show a SESSION: its messages, or with --events all that is on record. Reads beside a running server.

    The beginning of an id will do, if no other session's id begins so.
    """
    asyncio.run(_show(read_settings(options), caller_for(tenant), session, as_events=as_events, as_json=as_json))


async def _show(settings: Settings, caller: Caller, text: str, *, as_events: bool, as_json: bool) -> None:
    async with open_existing(settings) as chat:
        session = await find_session(chat, text, caller)
        if as_events and as_json:
            await print_array(chat.iter_events(session.id, caller=caller))
        elif as_events:
            async for event in chat.iter_events(session.id, caller=caller):
                _print_event(event)
        elif as_json:
            messages = [message async for message in chat.iter_messages(session.id, caller=caller)]
            click.echo(msgspec.json.encode({"session": session, "messages": messages}).decode())
        else:
            open_turn = session.open_turn_id
            print_session(session, await chat.turn(open_turn, caller=caller) if open_turn else None)
            async for message in chat.iter_messages(session.id, caller=caller):
                print_message(message, await _remark(chat, message, caller))


async def _remark(chat: Engine, message: Message, caller: Caller) -> str:
    """How the turn ended that left a message incomplete."""
    if message.complete or message.turn_id is None:
        return ""
    turn = await chat.turn(message.turn_id, caller=caller)
    return turn.status if turn.error is None else f"{turn.status}, {turn.error.code}"


def _print_event(event: Event) -> None:
    """Place, time, type and actor in one line, the facts in the next; of the words, only whether they are there."""
    words = "erased" if event.erased else f"{len(bytes(event.body))} bytes of words" if event.body else "no words"
    click.secho(f"{event.position:>6}  #{event.version:<5} {moment(event.recorded_at)}  {event.type}", bold=True)
    click.echo(f"        by {event.actor}, {words}")
    click.echo(f"        {one_line(printable(bytes(event.facts).decode()))}")
