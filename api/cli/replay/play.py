"""A session played back in a terminal: as it came, at its pace."""

from __future__ import annotations

import click
import msgspec

from ....engine import Caller, Message, Settings
from ..database import find_session, open_existing
from ..terminal import FramePrinter, moment, print_message


async def play_back(settings: Settings, caller: Caller, text: str, pace: float) -> None:
    """Print the conversation, its answers at their pace."""
    printer = FramePrinter()
    async with open_existing(settings) as chat:
        session = await find_session(chat, text, caller)
        async for thing in chat.play_back(session.id, pace=pace, caller=caller):
            if isinstance(thing, Message):
                print_message(thing)
                continue
            if thing.type == "turn.started":
                turn = msgspec.json.decode(thing.data)
                click.secho(f"\nanswer of {turn['model']}  {moment(turn['started_at'])}", bold=True)
            printer.show(thing)
    printer.end_line()
