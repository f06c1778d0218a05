"""Where a command works: on a database file, or with ``--url`` on a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from ...engine import Caller, Invalid, Settings
from .database import caller_for, tenant_option
from .options import read_settings, settings_options
from .record.base import Sessions
from .record.file import FileSessions
from .record.server import ServerSessions

F = TypeVar("F", bound=Callable[..., Any])
SETTINGS = ("database",)


class Place(msgspec.Struct, frozen=True):
    """``database`` and ``url`` as they were given, or found in the environment; one of them at most."""

    url: str | None
    api_key_file: Path | None
    tenant: str
    database: str | None

    @property
    def api_key(self) -> str | None:
        """The key for the server. Raises Invalid for a file that cannot be read."""
        return read_api_key(self.api_key_file)

    def settings(self) -> Settings:
        """The settings of the environment, on this database. Raises Invalid."""
        return read_settings({"database": self.database})

    def caller(self) -> Caller:
        """Whose log it is, on a file. Raises Invalid."""
        return caller_for(self.tenant)

    def open(self, *, writes: bool = False) -> Sessions:
        """The sessions there, to be closed. Raises StoreUnavailable where there is no such file, StoreLocked where a
        server has one that is to be written, and Invalid for what is no address.
        """
        if self.url is not None:
            return ServerSessions(self.url, self.api_key)
        return FileSessions(self.settings(), self.caller(), writes=writes)


def place_options(command: F) -> F:
    """The options that ``place_of`` takes."""
    url = click.option(
        "--url", envvar="MANENT_URL", help="Work on the server at this address, not on a file.  [MANENT_URL]"
    )
    key = click.option(
        "--api-key-file",
        envvar="MANENT_API_KEY_FILE",
        type=click.Path(path_type=Path),
        help="File that holds the key for the server.  [MANENT_API_KEY_FILE, or the key itself in MANENT_API_KEY]",
    )
    return url(key(tenant_option(settings_options(*SETTINGS)(command))))


def place_of(
    context: click.Context, *, url: str | None, api_key_file: Path | None, tenant: str, database: str | None
) -> Place:
    """Raises UsageError where both places are given outright; a file comes before an address of the environment."""
    given = ParameterSource.COMMANDLINE
    if database is not None and url is not None:
        if context.get_parameter_source("url") is given:
            raise click.UsageError("--url and --database are two places to work on: give one of them.")
        url = None
    if url is not None and context.get_parameter_source("tenant") is given:
        raise click.UsageError("--tenant goes with a database file: on a server the key says whose log it is.")
    return Place(url or None, api_key_file, tenant, database)


def read_api_key(path: Path | None) -> str | None:
    """The key for a server: from a file, or from the environment. Raises Invalid."""
    if path is None:
        named, key = "MANENT_API_KEY", os.environ.get("MANENT_API_KEY")
    else:
        named, key = f"{path}", _text_of(path)
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise Invalid("api_key", f"{named} holds no key: a key is one line of printable ASCII")
    return key


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise Invalid("api_key_file", f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Invalid("api_key_file", f"{path} cannot be read: it is no text") from None
