"""The ``manent`` command. Exit codes: 0 done, 1 the thing checked is not so or could not be done, 2 wrong use."""

from __future__ import annotations

import sys

import click

from api.commands.serve import serve
from engine import EngineError, Invalid, version


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="manent")
def commands() -> None:
    """An auditable chat backend."""


commands.add_command(serve)


def main() -> None:
    """Run a command; an error that the engine foresees is one line on standard error."""
    try:
        commands.main(prog_name="manent")
    except EngineError as error:
        click.echo(f"manent: {error.detail}", err=True)
        sys.exit(2 if isinstance(error, Invalid) else 1)
