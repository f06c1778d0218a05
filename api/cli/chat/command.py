"""``manent chat``: a conversation in a terminal, or through a pipe, with a server or on a database file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from click.core import ParameterSource

from ....engine import EngineError, Invalid, Settings, StoreLocked
from ..database import caller_for, tenant_option
from ..options import read_settings, settings_options
from ..terminal import FramePrinter, notice
from .client import Awaited, Talk, Wishes
from .local import Direct
from .remote import Remote

with suppress(ImportError):  # not everywhere; where it is, input() edits lines with it
    import readline  # noqa: F401

PROMPT = "> "
HELP = "/new begins a new session, /quit or Ctrl-D leaves, Ctrl-C cancels an answer"


@click.command()
@click.option("--session", help="go on with this session")
@click.option("--model", help="model to talk to  [default: the session's]")
@click.option("--system", help="system prompt of new sessions")
@click.option("--tool", "tools", multiple=True, help="offer the model this registered tool; may be given again")
@click.option("--url", envvar="MANENT_URL", help="talk to the server at this address  [MANENT_URL]")
@click.option(
    "--api-key-file",
    envvar="MANENT_API_KEY_FILE",
    type=click.Path(path_type=Path),
    help="file that holds the key for the server  [MANENT_API_KEY_FILE, or the key itself in MANENT_API_KEY]",
)
@tenant_option
@settings_options("database")
@click.pass_context
def chat(
    context: click.Context,
    /,
    *,
    session: str | None,
    model: str | None,
    system: str | None,
    tools: tuple[str, ...],
    url: str | None,
    api_key_file: Path | None,
    tenant: str,
    **options: Any,
) -> None:
    """Chat in the terminal. Lines come from standard input, answers go to standard output as they are recorded.

    With --url over the API of a server; else on the database file itself, which no server may have open.
    Remarks go to standard error, so that answers can be piped. /new begins a new session, /quit leaves. A tool's call
    that needs a person's yes is asked about: the next line says y or n.
    """
    wishes = Wishes(session, model, system, tools)
    if session is not None and system is not None:
        raise click.UsageError("--system goes with a new session only")
    if options["database"] is not None and url is not None:
        if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--url and --database are two places to talk to: give one of them")
        url = None
    settings = read_settings(options)
    talk: Talk = Remote(url, read_api_key(api_key_file)) if url else _direct(settings, tenant)
    with closing(talk):
        Chat(talk, wishes, read_lines()).run()


def _direct(settings: Settings, tenant: str) -> Direct:
    try:
        return Direct(settings, caller_for(tenant))
    except StoreLocked as error:
        address = f"http://{settings.host}:{settings.port}"
        raise StoreLocked(f"{error.detail}; talk to it with --url {address}", **error.extra) from None


def read_api_key(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("MANENT_API_KEY")
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid("api_key_file", f"cannot be read: {type(error).__name__}") from None


class Left(Exception):
    """The user has left in the middle of a question."""


class Chat:
    """The loop: a line, its answer. An answer that fails is told, and the chat goes on; one that waits for a person's
    yes to a tool asks for it, and so does one that did so when the user left.
    """

    def __init__(self, talk: Talk, wishes: Wishes, lines: Iterator[str]) -> None:
        self._talk = talk
        self._lines = lines
        self._wishes = wishes
        self._printer = FramePrinter()
        self._session = talk.resume(wishes.session) if wishes.session is not None else self._begin()

    def run(self) -> None:
        self._introduce()
        try:
            open_turn = None if self._wishes.session is None else self._talk.open_turn(self._session)
            if open_turn is not None:
                self._answer(partial(self._follow, open_turn))
            self._converse()
        except Left:
            notice("the turn waits on; it is on record")

    def _converse(self) -> None:
        for line in self._lines:
            if line == "/quit":
                return
            if line == "/new":
                self._session = self._begin()
                self._introduce()
            elif line.strip():
                self._answer(partial(self._tell, line))

    def _begin(self) -> UUID:
        return self._talk.begin(self._wishes.model, self._wishes.system)

    def _introduce(self) -> None:
        notice(f"session {self._session}; go on later with: manent chat {self._talk.address} --session {self._session}")
        if sys.stdin.isatty():
            notice(HELP)

    def _answer(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except UnicodeEncodeError:
            notice("that line is not UTF-8, and was not sent")
        except KeyboardInterrupt:  # before the turn was known: if it has begun, it is the session's open one
            self._cancel()
        except EngineError as error:
            self._printer.end_line()
            notice(error.detail)

    def _tell(self, text: str) -> None:
        text.encode()
        self._follow(self._talk.start(self._session, text, self._wishes))

    def _follow(self, turn: UUID) -> None:
        after, ended, awaited = 0, False, Awaited()
        while not ended:
            try:
                for frame in self._talk.frames(turn, after):
                    after = frame.number or after
                    awaited.see(frame)
                    self._printer.show(frame)
                ended = not awaited.calls
                for call in awaited.calls:
                    self._talk.decide(turn, call, approve=self._asked(call))
                awaited.calls = []
            except KeyboardInterrupt:
                self._cancel()
        self._printer.end_line()

    def _asked(self, call: str) -> bool:
        """Ask the user for approval of a tool call. Raises Left."""
        self._printer.end_line()
        while True:
            notice(f"shall {call} run? y or n")
            line = next(self._lines, "/quit").strip().lower()
            if line == "/quit":
                raise Left
            if line in {"y", "yes", "n", "no"}:
                return line.startswith("y")

    def _cancel(self) -> None:
        """Stop the answer; what was said until then, and that it was stopped, is still to be read."""
        with suppress(EngineError):
            self._talk.cancel(self._session)


def read_lines() -> Iterator[str]:
    """Lines from a terminal, edited there, or from a pipe or a file. Bytes that are no UTF-8 become surrogates."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        return
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
