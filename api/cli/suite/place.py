"""Where a command works: on a database file, or with ``--url`` on a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from ..chat.command import read_api_key
from ..database import caller_for, tenant_option
from ..options import read_settings, settings_options
from .client import Record
from .local import FileRecord
from .remote import ServerRecord

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(path_type=Path)
SETTINGS = ("database",)


class Place(msgspec.Struct, frozen=True):
    """``database`` and ``url`` as they were given, or found in the environment; one of them at most."""

    url: str | None
    api_key_file: Path | None
    tenant: str
    database: str | None

    def open(self, *, writes: bool) -> Record:
        """A record to be closed. Raises what opening a file raises, and Invalid for what is no address."""
        if self.url is not None:
            return ServerRecord(self.url, read_api_key(self.api_key_file))
        return FileRecord(read_settings({"database": self.database}), caller_for(self.tenant), writes=writes)


def place_options(command: F) -> F:
    """The options that ``place_of`` takes."""
    url = click.option("--url", envvar="MANENT_URL", help="work on the server at this address  [MANENT_URL]")
    key = click.option(
        "--api-key-file", envvar="MANENT_API_KEY_FILE", type=FILE, help="file that holds the key for the server"
    )
    return url(key(tenant_option(settings_options(*SETTINGS)(command))))


def place_of(
    context: click.Context, *, url: str | None, api_key_file: Path | None, tenant: str, database: str | None
) -> Place:
    """Raises UsageError where both places are given outright; a file comes before an address of the environment."""
    if database is not None and url is not None:
        if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--url and --database are two places to work on: give one of them")
        url = None
    return Place(url, api_key_file, tenant, database)
