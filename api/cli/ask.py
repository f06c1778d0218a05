"""``manent ask``: one question, one answer."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec

from ...engine import EngineError, Frame, Invalid, Settings, env_name
from .attachments import blocks_of
from .chat.answer import Answer, Left, ask_person, cancel, follow
from .chat.client import Question, Talk, Wishes
from .chat.command import open_talk
from .chat.lines import Input
from .database import json_option
from .help_page import Documented
from .place import Place, place_of, place_options
from .record.base import last_of
from .terminal import INTERRUPTED, FramePrinter, notice, short_id


@click.command(
    cls=Documented,
    examples=(
        ('manent ask "What is an event log?"', "ask the default model, on a file in this folder"),
        ("git diff | manent ask 'Write a commit message.'", "ask about what comes through a pipe"),
        ("manent ask -a scan.png 'What does this say?' -m openai/gpt-5", "ask a model about a picture"),
        ('manent ask -c "And why?"', "go on with the session that was active last"),
        ('manent ask --url http://127.0.0.1:8000 "Who are you?"', "ask a server that runs"),
    ),
)
@click.argument("words", nargs=-1, metavar="[QUESTION]")
@click.option("-m", "--model", help="Model that answers.  [default: the session's]")
@click.option("-s", "--system", help="System prompt of the new session.")
@click.option(
    "-a",
    "--attach",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Send this file, too: an image (png, jpeg, gif, webp) or a text. May be given again.",
)
@click.option("-c", "--continue", "goes_on", is_flag=True, help="Go on with the session that was active last.")
@click.option("--session", help="Go on with this session: its id, or the beginning of it.")
@click.option("--tool", "tools", multiple=True, help="Offer the model this registered tool. May be given again.")
@json_option
@place_options
@click.pass_context
def ask(  # noqa: PLR0913 - an option each
    context: click.Context,
    /,
    *,
    words: tuple[str, ...],
    model: str | None,
    system: str | None,
    files: tuple[Path, ...],
    goes_on: bool,
    session: str | None,
    tools: tuple[str, ...],
    as_json: bool,
    **place: Any,
) -> None:
    """Ask a model one QUESTION. The answer goes to standard output as it comes, and is on record.

    A text from a pipe or a file is the question, or follows it. With --url a server is asked; else the database file
    itself, which no server may have open. Ctrl-C cancels the answer; what came of it is on record.

    Exit code 1 if the turn failed, or waits for a person; 130 after Ctrl-C.
    """
    if goes_on and session is not None:
        raise click.UsageError("--continue and --session name two sessions: give one of them.")
    if (goes_on or session is not None) and system is not None:
        raise click.UsageError("--system goes with a new session only.")
    where = place_of(context, **place)
    question = _question(" ".join(words), files, where)
    try:
        with closing(open_talk(where)) as talk:
            found = last_of(talk) if goes_on else talk.find(session) if session is not None else None
            wishes = Wishes(model, system, tools)
            answer = _ask(talk, question, wishes, None if found is None else found.id, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if answer.cancelled:
        sys.exit(INTERRUPTED)
    if answer.failed:
        sys.exit(1)


def _ask(talk: Talk, question: Question, wishes: Wishes, session: UUID | None, *, as_json: bool) -> Answer:
    printer = Silent() if as_json else FramePrinter()
    talk.check(question, wishes, session)
    begun = talk.begin(wishes) if session is None else None
    session = begun or session
    assert session is not None, "it was given, or has begun"
    try:
        turn = _started(talk, session, question, wishes, begun)
        answer = _followed(talk, session, turn, printer)
    except KeyboardInterrupt:
        cancel(talk, session)
        raise
    if as_json:
        click.echo(msgspec.json.encode(talk.turn(turn)).decode())
    elif sys.stdout.isatty() and answer.turn is not None:
        click.secho(f"{answer.line()} · session {short_id(session)}", err=True, dim=True)
    return answer


def _started(talk: Talk, session: UUID, question: Question, wishes: Wishes, begun: UUID | None) -> UUID:
    """The turn. A server says only now what it refuses: then nobody is to go on in a session that has begun for it."""
    try:
        return talk.start(session, question, wishes)
    except EngineError:
        if begun is not None:
            talk.update(begun, status="archived")
        raise


def _followed(talk: Talk, session: UUID, turn: UUID, printer: FramePrinter) -> Answer:
    try:
        return follow(talk, session, turn, printer, ask_person(_line_of_person()))
    except Left:
        notice(f"the turn waits for a person: decide with manent chat {talk.address}-c {session}")
        return Answer()


class Silent(FramePrinter):
    """Prints nothing of an answer; remarks go to standard error all the same."""

    def _delta(self, kind: str, text: str) -> None:
        """Nothing."""

    def show(self, frame: Frame) -> None:
        if frame.type.startswith(("turn.", "attempt.", "error")):
            super().show(frame)


def _line_of_person() -> Any:
    """Lines of a person; nothing where standard input is the question."""
    given = Input()
    return given.line if given.in_terminal else lambda: None


# --- the question -----------------------------------------------------------------------------------------------------


def _question(words: str, files: tuple[Path, ...], place: Place) -> Question:
    """The words, what comes through a pipe, and the files. Raises Invalid, and UsageError where there is nothing."""
    settings = place.settings()
    piped = _piped(settings, always=not words and not files)
    text = "\n\n".join(part for part in (words, piped.strip("\n")) if part.strip())
    if not text and not files:
        raise click.UsageError("there is no question: give one, or send one through a pipe.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid("question", "is not UTF-8") from None
    if not files:
        return text
    if place.url is not None:  # the server has a bound of its own for a message
        return blocks_of(text, files, settings.max_body_bytes, env_name("max_body_bytes"))
    return blocks_of(text, files, settings.max_message_bytes, env_name("max_message_bytes"))


def _piped(settings: Settings, *, always: bool) -> str:
    """The text that comes through a pipe or from a file; where there is a question already, nothing else is read."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (always or stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return ""
    data = sys.stdin.buffer.read(settings.max_body_bytes + 1)
    if len(data) > settings.max_body_bytes:
        limit = f"{settings.max_body_bytes} bytes, which is {env_name('max_body_bytes')}"
        raise Invalid("question", f"what comes through the pipe is larger than {limit}")
    return data.decode("utf-8", "surrogateescape")
