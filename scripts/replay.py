#!/usr/bin/env python3
"""Plays a recorded conversation back, or runs it again on another model and prints what differs.

    scripts/replay.py SESSION [--pace 1x|4x|0]     reads only, also beside a running server
    scripts/replay.py SESSION --model MODEL        writes a new session, so no server may have the file open

Exit codes: 0 done, and all answers were the same; 1 an answer differs, or it could not be done; 2 wrong use.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

VENV = Path(__file__).resolve().parent.parent / ".venv"

try:
    import click
    import msgspec

    from manent import engine
    from manent.api.cli.database import caller_for, find_session, open_existing, tenant_option
    from manent.api.cli.main import run
    from manent.api.cli.options import read_settings, settings_options
    from manent.api.cli.terminal import FramePrinter, moment, notice, one_line, print_message, printable
    from manent.engine import Caller, Message, Rerun, Settings
except ModuleNotFoundError as error:
    if error.name not in {"click", "manent"}:
        raise
    # Started with some other Python: go on with the one that scripts/serve and scripts/test make.
    if Path(sys.prefix) != VENV and (VENV / "bin/python").exists():
        os.execv(VENV / "bin/python", [str(VENV / "bin/python"), *sys.argv])  # noqa: S606 - no shell is wanted
    print("manent: run scripts/serve or scripts/test first: they make the environment", file=sys.stderr)
    sys.exit(2)

COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("session")
@click.option("--model", help="run it again on this model, into a new session, and print the differences")
@click.option("--pace", default="1x", show_default=True, help="of playing back: 1x as recorded, 4x faster, 0 at once")
@tenant_option
@settings_options("database")
def replay(*, session: str, model: str | None, pace: str, tenant: str, **options: Any) -> None:
    """Play a SESSION back as it came, or with --model run it again and print what differs."""
    speed, settings, caller = engine.read_pace(pace), read_settings(options), caller_for(tenant)
    if model is None:
        asyncio.run(play_back(settings, caller, session, speed))
    elif not asyncio.run(run_again(settings, caller, session, model)):
        sys.exit(1)


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


async def run_again(settings: Settings, caller: Caller, text: str, model: str) -> bool:
    """Print each exchange with what differs; whether nothing did."""
    counts: Counter[str] = Counter()
    async with open_existing(settings) as chat:  # who is wrong about the session shall not take the lock
        session = await find_session(chat, text, caller)
    async with engine.open(settings, notice=notice) as chat:
        async for rerun in chat.run_again(session.id, model, caller=caller):
            if not counts:
                click.echo(f"running {session.id} again on {model}, as session {rerun.session}")
            counts[show_rerun(rerun)] += 1
    said = ", ".join(f"{count} {how}" for how, count in counts.items()) or "none that was answered"
    click.echo(f"\nexchanges: {said}")
    return counts["the same"] == counts.total()


def show_rerun(rerun: Rerun) -> str:
    """One exchange; how its answers compare."""
    asked = " / ".join(one_line(message.text) or f"[{message.role}]" for message in rerun.inputs)
    click.secho(f"\n{asked}", bold=True)
    if rerun.new is None:
        click.echo(f"left out: {rerun.reason}")
        return "left out"
    if rerun.turn is not None and rerun.turn.status != "completed":
        error = rerun.turn.error
        notice(f"the new turn {rerun.turn.status}" + (f": {error.detail} ({error.code})" if error else ""))
    difference = engine.differences(rerun.old, rerun.new)
    for line in difference.split("\n") if difference else ["the same answer"]:
        click.secho(printable(line), fg=COLOURS.get(line[:1]))
    return "different" if difference else "the same"


if __name__ == "__main__":
    run(replay, "scripts/replay.py")
