"""Talking to a database file: the engine runs in this process, on a thread of its own, while the user thinks."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec

from .... import engine
from ....engine import Caller, Frame, MessageIn, Settings, StoreUnavailable, SyncEngine
from ..database import open_temporary, open_to_write
from ..record.file import FileSessions
from .client import Question, Wishes

ANYTHING = "?"
"""Stands for a question that is not known yet."""


class Direct(FileSessions):
    """See ``client.Talk``. Raises StoreLocked where a server has the file.

    A file that is not there yet is made with the first session: until then the engine runs on a temporary one, so that
    a conversation that does not come about leaves nothing behind.
    """

    def __init__(self, settings: Settings, caller: Caller) -> None:
        is_default = settings.database == Settings().database
        self.address = "" if is_default else f"--database {shlex.quote(settings.database)} "
        self.caller = caller
        # Who leaves does not want to wait for an answer; it is interrupted, and what came of it is on record.
        self._settings = msgspec.structs.replace(settings, drain_s=0)
        path = engine.database_path(settings.database)
        self._is_there = path.exists()
        if not self._is_there:
            _check_folder(path)
        given = self._settings
        self.chat = open_to_write(given) if self._is_there else SyncEngine(lambda: open_temporary(given))

    @property
    def default_model(self) -> str | None:
        return self.chat.default_model

    def check(self, question: Question | None, wishes: Wishes, session: UUID | None) -> None:
        new = {"system": wishes.system} if session is None else {}
        message = _message(ANYTHING if question is None else question)
        self.chat.check_turn(message, session, **_options(wishes), **new, caller=self.caller)

    def begin(self, wishes: Wishes) -> UUID:
        if not self._is_there:
            self.chat.close()
            self.chat = open_to_write(self._settings)
            self._is_there = True
        return self.chat.create_session(model=wishes.model, system=wishes.system, caller=self.caller).id

    def start(self, session: UUID, question: Question, wishes: Wishes) -> UUID:
        return self.chat.start_turn(session, _message(question), **_options(wishes), caller=self.caller).turn

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        for batch in self.chat.frames(turn, after=after, caller=self.caller):
            yield from batch

    def open_turn(self, session: UUID) -> UUID | None:
        return self.chat.session(session, caller=self.caller).open_turn_id

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        self.chat.decide(turn, call, approve=approve, caller=self.caller)

    def cancel(self, session: UUID) -> None:
        turn = self.open_turn(session)
        if turn is not None:
            self.chat.cancel(turn, caller=self.caller)


def _message(question: Question) -> MessageIn:
    return MessageIn(question)


def _options(wishes: Wishes) -> engine.TurnOptions:
    return {"model": wishes.model, "tools": wishes.tools}


def _check_folder(path: Path) -> None:
    """Raises StoreUnavailable for a folder in which no database can be made."""
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"{path} cannot be made: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise StoreUnavailable(f"{path} cannot be made: the folder {folder} cannot be written")
