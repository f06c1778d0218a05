"""The ``manent`` command. Exit codes: 0 done, 1 the thing checked is not so or could not be done, 2 wrong use."""

from __future__ import annotations

import os
import sys

import click

from ...engine import EngineError, Invalid, UnknownModel, version
from .help_page import Sections
from .terminal import INTERRUPTED, describe, notice

WRONG_USE = (Invalid, UnknownModel)


SECTIONS = {
    "Talk": {
        "ask": "ask one question",
        "chat": "chat in the terminal, or through a pipe",
        "run": "run conversations from files, and check what they expect",
    },
    "Look": {
        "sessions": "list sessions",
        "show": "show a session: its messages, or every event",
        "transcript": "write a session for people, as a page or Markdown",
        "branches": "show the forks of a session as a tree",
        "explain": "show what the model was sent, and why",
        "tail": "follow events as they are recorded",
        "models": "list the models that can be asked",
        "tools": "list the tools that a model can be offered",
    },
    "Change": {
        "title": "give a session a title",
        "fork": "go on from an earlier version, in a session of its own",
        "hold": "keep a session's words from being erased",
        "erase": "erase the words of a session, and keep the record",
        "retain": "erase the words of what is old",
    },
    "Prove": {
        "verify": "check that nothing on record was changed",
        "proof": "prove that an event is on record",
        "checkpoint": "print the newest signed checkpoint",
        "export": "write a bundle that proves itself, or messages for other tools",
        "import": "verify a bundle, and take it in",
    },
    "Do again": {
        "replay": "do recorded turns again, and compare the answers",
        "suite": "keep named lists of turns to be replayed",
        "review": "go through the differences of a replay",
    },
    "Serve and keep": {
        "serve": "serve the HTTP API",
        "key": "make an API key",
        "migrate": "bring a database to this version, or create it",
        "doctor": "check what durability and evidence hang on",
        "rebuild": "derive again what is derived from the events",
    },
}
"""The commands, and what each does."""

PLACES = {
    "chat": "chat.command",
    "checkpoint": "proof",
    "hold": "change",
    "import": "import_:import_",
    "replay": "replay.command",
    "review": "suite.review",
    "run": "run:run_conversations",
    "suite": "suite.command",
    "title": "change",
    "tools": "models",
}
"""Where commands are that are not in a module of their name: the module below this package, and the name there."""


@click.group(
    cls=Sections,
    sections=SECTIONS,
    places=PLACES,
    package=__package__,
    examples=(
        ('manent ask "What is an event log?"', "ask one question; the answer is recorded in manent.db"),
        ("manent chat", "talk in the terminal"),
        ("manent sessions", "list what was said"),
        ("manent serve", "serve the HTTP API on http://127.0.0.1:8000"),
        ("manent verify", "check that nothing on record was changed"),
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version(), prog_name="manent")
@click.pass_context
def commands(context: click.Context) -> None:
    """An auditable chat backend: every message is on record, and nothing on record can be changed unseen.

    Commands work on a database file, by default manent.db in this folder, or with --url on a server that runs. Exit
    codes: 0 done, 1 the thing checked is not so, the turn failed or the work was refused, 2 wrong use.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


def main() -> None:
    run(commands, "manent")


def run(command: click.Command, name: str) -> None:
    """Run a command; an error that is foreseen is one line on standard error."""
    try:
        code = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        notice(_wrong_use(error, name))
        sys.exit(2)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except (EngineError, UnicodeEncodeError, OSError) as error:
        sys.exit(_told(error))
    sys.exit(code if isinstance(code, int) else 0)


def _told(error: EngineError | UnicodeEncodeError | OSError) -> int:
    """Say what went wrong; the exit code."""
    if isinstance(error, EngineError):
        notice(describe(error))
        return 2 if isinstance(error, WRONG_USE) else 1
    if isinstance(error, UnicodeEncodeError):
        notice("what was given is no text: it is not UTF-8")
        return 2
    notice(f"{error.filename or 'standard output'}: {error.strerror or error}")
    if error.filename is None:
        _give_up_output()
    return 1


def _give_up_output() -> None:
    """Let what standard output still holds go nowhere: Python would try to write it once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _wrong_use(error: click.UsageError, name: str) -> str:
    path = error.ctx.command_path if error.ctx is not None else name
    return f"{' '.join(error.format_message().split()).rstrip('.')}; see {path} --help"
