"""``manent chat``: a conversation in a terminal, or through a pipe, with a server or on a database file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

import click
import msgspec

from ....engine import EngineError, Invalid, Session
from ..help_page import Documented
from ..place import Place, place_of, place_options
from ..record.base import last_of
from ..record.server import ServerSessions
from ..terminal import FramePrinter, describe, notice, print_message, printable, short_id
from .answer import Answer, Left, ask_person, cancel, follow
from .client import Question, Talk, Wishes
from .commands import obey
from .lines import Input, Written
from .local import Direct
from .markdown import MarkdownPrinter

HISTORY = 10


@click.command(
    cls=Documented,
    examples=(
        ("manent chat", "begin a conversation in the terminal"),
        ("manent chat --last", "go on with the session that was active last"),
        ("manent chat -c 0190f3c2 -m echo/echo", "go on with a session, on another model"),
        ("manent chat --url http://127.0.0.1:8000", "talk to a server that runs"),
        ("manent chat < questions.txt", "ask each line of a file, and print the answers"),
    ),
)
@click.option("-c", "--session", help="Go on with this session: its id, or the beginning of it.")
@click.option("--last", is_flag=True, help="Go on with the session that was active last.")
@click.option("-m", "--model", help="Model that answers.  [default: the session's]")
@click.option("-s", "--system", help="System prompt of a new session.")
@click.option("--tool", "tools", multiple=True, help="Offer the model this registered tool. May be given again.")
@click.option(
    "--history",
    type=click.IntRange(min=0),
    default=HISTORY,
    show_default=True,
    help="Show so many messages of a session that is gone on with.",
)
@click.option("--plain", is_flag=True, help="Print answers as they come, without rendering Markdown.")
@place_options
@click.pass_context
def chat(
    context: click.Context,
    /,
    *,
    session: str | None,
    last: bool,
    model: str | None,
    system: str | None,
    tools: tuple[str, ...],
    history: int,
    plain: bool,
    **place: Any,
) -> None:
    """Chat in the terminal, or through a pipe: lines in, answers out.

    With --url over the API of a server; else on the database file itself, which no server may have open. The session
    is made with the first message. Answers go to standard output as they are recorded, remarks to standard error.

    A text that is pasted is one message. A message of several lines stands between two lines of three quotes, or
    its lines end in a backslash. Lines that begin with a slash are commands: /help lists them.

    A tool's call that needs a person's yes is asked about: the next line says y or n.

    Exit code 1 if the lines come from a pipe, and one of them was not answered.
    """
    if (session is not None or last) and system is not None:
        raise click.UsageError("--system goes with a new session only: within the chat, /system changes it.")
    if session is not None and last:
        raise click.UsageError("--session and --last name two sessions: give one of them.")
    wishes = Wishes(model, system, tools)
    with closing(open_talk(place_of(context, **place))) as talk:
        found = last_of(talk) if last else talk.find(session) if session is not None else None
        talk.check(None, wishes, None if found is None or found.open_turn_id else found.id)
        conversation = Chat(talk, wishes, Input(), plain=plain)
        done = conversation.run(found, history)
    if not done:
        sys.exit(1)


def open_talk(place: Place) -> Talk:
    """The partner at a place. Raises what opening a file raises, and Invalid for what is no address."""
    if place.url is not None:
        return ServerSessions(place.url, place.api_key)
    return Direct(place.settings(), place.caller())


class Chat:
    """The loop: a message, its answer. An answer that fails is told, and the chat goes on; one that waits for a
    person's yes to a tool asks for it, and so does one that did so when the user left.
    """

    def __init__(self, talk: Talk, wishes: Wishes, given: Input, *, plain: bool) -> None:
        self.talk = talk
        self._wishes = wishes
        self._given = given
        self._session: Session | None = None
        rendered = given.in_terminal and not plain and os.environ.get("TERM", "dumb") != "dumb"
        self._printer = MarkdownPrinter() if rendered else FramePrinter()
        self._failed = False

    def run(self, session: Session | None, history: int) -> bool:
        """Chat until the user leaves; False if something failed that nobody was there to see."""
        self._session = session
        self._introduce()
        try:
            if session is not None:
                self._resume(session, history)
            while (written := self._given.message()) is not None and self._heed(written):
                """Until the input ends, or says that it does."""
        except Left:
            notice("the turn waits on; it is on record")
        if self._session is not None and self._given.in_terminal:
            _say(f"go on later with: {self._resumption(self._session.id)}")
        return not self._failed or self._given.in_terminal

    # --- what commands act on -----------------------------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        return self._wishes.model or (self.talk.default_model if self._session is None else self._session.model)

    @property
    def system(self) -> str | None:
        return self._wishes.system if self._session is None else self._session.system

    @property
    def tools(self) -> tuple[str, ...]:
        return self._wishes.tools

    def set_model(self, name: str) -> None:
        self._wish(msgspec.structs.replace(self._wishes, model=name))

    def set_tools(self, names: tuple[str, ...]) -> None:
        self._wish(msgspec.structs.replace(self._wishes, tools=names))

    def set_system(self, text: str | None) -> None:
        if self._session is None:
            self._wish(msgspec.structs.replace(self._wishes, system=text))
        else:
            self._session = self.talk.update(self._session.id, system=text)

    def renew(self) -> None:
        if self._session is not None:
            self._wishes = msgspec.structs.replace(self._wishes, system=self._session.system)
        self._session = None
        if self._given.in_terminal:
            _say("the next message begins another session")

    def _wish(self, wishes: Wishes) -> None:
        self.talk.check(None, wishes, None if self._session is None else self._session.id)
        self._wishes = wishes

    # --- messages -----------------------------------------------------------------------------------------------------

    def _heed(self, written: Written) -> bool:
        """Send a message, or do what a command says; False: leave."""
        text = written.text
        if not written.whole:
            self._refuse("the input ended in the middle of a message, which was not sent")
        elif written.plain and text.startswith("/") and not text.startswith("//"):
            return self._obey(text)
        elif text.strip():
            self._send(text[1:] if written.plain and text.startswith("//") else text)
        return True

    def _obey(self, line: str) -> bool:
        try:
            return obey(line, self)
        except EngineError as error:
            self._refuse(error.detail if isinstance(error, Invalid) else describe(error))
        return True

    def _send(self, text: str) -> None:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._refuse("that line is not UTF-8, and was not sent")
            return
        self._answer(partial(self._tell, text))

    def _tell(self, question: Question) -> Answer:
        if self._session is None:
            self.talk.check(question, self._wishes, None)
            self._session = self.talk.find(str(self.talk.begin(self._wishes)))
            if not self._given.in_terminal:
                session = self._session.id
                notice(f"session {session}; go on later with: {self._resumption(session)}")
        session = self._session.id
        return self._follow(session, self.talk.start(session, question, self._wishes))

    def _follow(self, session: UUID, turn: UUID) -> Answer:
        answer = follow(self.talk, session, turn, self._printer, ask_person(self._given.line))
        if self._given.in_terminal and answer.turn is not None:
            _say(f"{answer.line()}\n")
        return answer

    def _answer(self, tell: Callable[[], Answer]) -> None:
        try:
            self._failed |= tell().failed
        except KeyboardInterrupt:  # before the turn was known: if it has begun, it is the session's open one
            if self._session is not None:
                cancel(self.talk, self._session.id)
        except EngineError as error:
            self._printer.end_line()
            self._refuse(describe(error))

    def _refuse(self, why: str) -> None:
        self._failed = True
        notice(why)

    # --- what is shown around them ------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        if self._given.in_terminal:
            model = self.model or "the default model"
            _say(f"{printable(model)} · /help lists commands, /quit or Ctrl-D leaves, Ctrl-C cancels an answer")

    def _resume(self, session: Session, history: int) -> None:
        if self._given.in_terminal:
            self._show_history(session, history)
        else:
            notice(f"session {session.id}; go on later with: {self._resumption(session.id)}")
        if session.open_turn_id is not None:
            self._answer(partial(self._follow, session.id, session.open_turn_id))

    def _show_history(self, session: Session, most: int) -> None:
        """The last messages of the session; those of an open turn are told with it."""
        open_turn = session.open_turn_id
        newest = (
            each
            for each in self.talk.messages(session.id, newest=True)
            if each.turn_id is None or each.turn_id != open_turn
        )
        shown = list(islice(newest, most))[::-1]
        left = session.message_count - len(shown)
        if left and most:
            _say(f"{left} earlier messages are not shown: manent show {short_id(session.id)} shows all")
        for message in shown:
            print_message(message)
            if message.role == "user":
                self._given.remember(message.text)
        click.echo()

    def _resumption(self, session: UUID) -> str:
        return f"manent chat {self.talk.address}-c {short_id(session) if self._given.in_terminal else session}"


def _say(text: str) -> None:
    click.secho(text, err=True, dim=True)
