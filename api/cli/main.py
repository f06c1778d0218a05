"""The ``manent`` command. Exit codes: 0 done, 1 the thing checked is not so or could not be done, 2 wrong use."""

from __future__ import annotations

import os
import sys

import click

from ...engine import EngineError, Invalid, UnknownModel, version
from .branches import branches
from .chat.command import chat
from .doctor import doctor
from .erase import erase
from .explain import explain
from .export import export
from .fork import fork
from .import_ import import_
from .key import key
from .migrate import migrate
from .proof import checkpoint, proof
from .rebuild import rebuild
from .replay.command import replay
from .retain import retain
from .run import run_conversations
from .serve import serve
from .sessions import sessions
from .show import show
from .suite.command import suite
from .suite.review import review
from .terminal import notice
from .transcript import transcript
from .verify import verify

WRONG_USE = (Invalid, UnknownModel)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="manent")
@click.pass_context
def commands(context: click.Context) -> None:
    """An auditable chat backend."""
    if os.environ.get("NO_COLOR"):
        context.color = False


for command in (chat, checkpoint, doctor, erase, export, import_, key, migrate, proof, rebuild, retain, serve):
    commands.add_command(command)
for command in (branches, explain, fork, replay, review, run_conversations, sessions, show, suite, transcript, verify):
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
