"""The ``manent`` command. Exit codes: 0 done, 1 the thing checked is not so or could not be done, 2 wrong use."""

from __future__ import annotations

import os
import sys

import click

from api.commands.chat import chat
from api.commands.doctor import doctor
from api.commands.export import export
from api.commands.import_ import import_
from api.commands.key import key
from api.commands.migrate import migrate
from api.commands.proof import checkpoint, proof
from api.commands.rebuild import rebuild
from api.commands.retain import retain
from api.commands.serve import serve
from api.commands.sessions import sessions
from api.commands.show import show
from api.commands.terminal import notice
from api.commands.verify import verify
from engine import EngineError, Invalid, UnknownModel, version

WRONG_USE = (Invalid, UnknownModel)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="manent")
@click.pass_context
def commands(context: click.Context) -> None:
    """An auditable chat backend."""
    if os.environ.get("NO_COLOR"):
        context.color = False


for command in (chat, checkpoint, doctor, export, import_, key, migrate, proof, rebuild, retain, serve):
    commands.add_command(command)
for command in (sessions, show, verify):
    commands.add_command(command)


def main() -> None:
    run(commands, "manent")


def run(command: click.Command, name: str) -> None:
    """Run a command; an error that the engine foresees is one line on standard error."""
    try:
        command.main(prog_name=name)
    except EngineError as error:
        notice(describe(error))
        sys.exit(2 if isinstance(error, WRONG_USE) else 1)


def describe(error: EngineError) -> str:
    """The sentence of an error; where a name was unknown, with the names there are."""
    available = error.extra.get("available")
    names = ", ".join(map(str, available)) if isinstance(available, list) else ""
    return f"{error.detail}; there is {names}" if names else error.detail
