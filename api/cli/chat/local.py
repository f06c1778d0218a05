"""Talking to a database file: the engine runs in this process, on a thread of its own, while the user thinks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from uuid import UUID

import msgspec

from .... import engine
from ....engine import Caller, Frame, Settings
from ..database import EVERY, ID_DIGITS, first_above, only_one, read_prefix
from ..terminal import notice
from .client import Wishes


class Direct:
    """See ``client.Talk``. Raises StoreLocked where a server has the file."""

    def __init__(self, settings: Settings, caller: Caller) -> None:
        self.address = f"--database {shlex.quote(settings.database)}"
        self._caller = caller
        # Who leaves does not want to wait for an answer; it is interrupted, and what came of it is on record.
        self._chat = engine.open_sync(msgspec.structs.replace(settings, drain_s=0), notice=notice)

    def resume(self, session: str) -> UUID:
        prefix = read_prefix(session)
        if len(prefix) == ID_DIGITS:
            return self._chat.session(prefix, caller=self._caller).id
        newest = self._chat.sessions(order="created", after=first_above(prefix), limit=2, caller=self._caller, **EVERY)
        return only_one(newest.items, session).id

    def begin(self, model: str | None, system: str | None) -> UUID:
        return self._chat.create_session(model=model, system=system, caller=self._caller).id

    def start(self, session: UUID, text: str, wishes: Wishes) -> UUID:
        return self._chat.start_turn(session, text, model=wishes.model, tools=wishes.tools, caller=self._caller).turn

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        for batch in self._chat.frames(turn, after=after, caller=self._caller):
            yield from batch

    def open_turn(self, session: UUID) -> UUID | None:
        return self._chat.session(session, caller=self._caller).open_turn_id

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        self._chat.decide(turn, call, approve=approve, caller=self._caller)

    def cancel(self, session: UUID) -> None:
        turn = self.open_turn(session)
        if turn is not None:
            self._chat.cancel(turn, caller=self._caller)

    def close(self) -> None:
        self._chat.close()
