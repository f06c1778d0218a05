"""Sessions of a database file: read beside a server, changed where none has the file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar, Unpack
from uuid import UUID

from .... import engine
from ....engine import (
    Branches,
    Caller,
    Erasure,
    Event,
    Message,
    Model,
    NewSession,
    Page,
    SentPrompt,
    Session,
    SessionChanges,
    SessionFilter,
    SessionNotFound,
    Settings,
    SyncEngine,
    ToolInfo,
    Turn,
)
from ..database import (
    EVERY,
    ID_DIGITS,
    first_above,
    no_session,
    only_one,
    open_temporary,
    open_to_write,
    read_prefix,
)
from .base import TranscriptForm

T = TypeVar("T")

LOOK_AGAIN_S = 0.5
"""Another process that writes rings no bell here: whoever follows looks again."""


class FileSessions:
    """See ``base.Sessions``."""

    def __init__(self, settings: Settings, caller: Caller, *, writes: bool) -> None:
        """Raises StoreUnavailable where there is no such file, and for one that ``writes`` StoreLocked."""
        engine.existing_database(settings)
        self.caller = caller
        self.chat = open_to_write(settings) if writes else SyncEngine(lambda: engine.open_beside(settings))

    def list(self, which: SessionFilter) -> Iterator[Session]:
        return self.chat.iter_sessions(caller=self.caller, **which)

    def find(self, text: str) -> Session:
        prefix = read_prefix(text)
        if len(prefix) == ID_DIGITS:
            try:
                return self.chat.session(prefix, caller=self.caller)
            except SessionNotFound:
                raise no_session(text) from None
        newest = self.chat.sessions(order="created", after=first_above(prefix), limit=2, caller=self.caller, **EVERY)
        return only_one(newest.items, text)

    def then(self, session: UUID, *, version: int | None, at: str | None) -> Session:
        return self.chat.session(session, version=version, at=at, caller=self.caller)

    def messages(self, session: UUID, *, version: int | None = None, newest: bool = False) -> Iterator[Message]:
        return self.chat.iter_messages(session, version=version, descending=newest, caller=self.caller)

    def events(self, session: UUID, *, after: int = 0) -> Iterator[Event]:
        return self.chat.iter_events(session, after=after, caller=self.caller)

    def turns(self, session: UUID) -> Iterator[Turn]:
        return self.chat.iter_turns(session, caller=self.caller)

    def turn(self, turn: UUID) -> Turn:
        return self.chat.turn(turn, caller=self.caller)

    def follow(self, session: UUID | None, after: int | None) -> Iterator[Event]:
        place = self._newest(session) if after is None else after
        while True:
            page = self._page(session, place)
            for event in page.items:
                yield event
                place = event.version if session is not None else event.position
            if page.next is None:
                time.sleep(LOOK_AGAIN_S)

    def update(self, session: UUID, **changes: Unpack[SessionChanges]) -> Session:
        return self.chat.update_session(session, caller=self.caller, **changes)

    def erase(self, session: UUID, reason: str, versions: Sequence[int] | None, *, dry_run: bool) -> Erasure:
        return self.chat.erase(session, reason, versions=versions, dry_run=dry_run, caller=self.caller)

    def fork(self, session: UUID, version: int | None, fields: NewSession) -> Session:
        return self.chat.fork(session, version=version, caller=self.caller, **fields)

    def branches(self, session: UUID, at: str | None) -> Branches:
        return self.chat.branches(session, at=at, caller=self.caller)

    def explain(self, turn: UUID, attempt: int | None) -> SentPrompt:
        return self.chat.explain(turn, attempt=attempt, caller=self.caller)

    def transcript(self, session: UUID, form: TranscriptForm, version: int | None) -> Iterator[bytes]:
        for piece in self.chat.transcript(session, form, version=version, caller=self.caller):
            yield piece.encode()

    def models(self) -> Sequence[Model]:
        return self.chat.models()

    def tools(self) -> Sequence[ToolInfo]:
        return self.chat.tools(caller=self.caller)

    def close(self) -> None:
        self.chat.close()

    def _page(self, session: UUID | None, after: int) -> Page[Event]:
        if session is None:
            return self.chat.log_events(after=after, caller=self.caller)
        return self.chat.events(session, after=after, caller=self.caller)

    def _newest(self, session: UUID | None) -> int:
        """The version, or position, of what is there already."""
        if session is not None:
            return self.chat.session(session, caller=self.caller).version
        place, step = 0, 1 << 40
        while step:  # positions are dense, so the last one is found by halving
            there = self.chat.log_events(after=place + step - 1, limit=1, caller=self.caller).items
            place, step = (place + step, step) if there else (place, step // 2)
        return place


class TemporarySessions(FileSessions):
    """The same of a database that is gone afterwards: it knows the models and tools that the settings give."""

    def __init__(self, settings: Settings, caller: Caller) -> None:
        self.caller = caller
        self.chat = SyncEngine(lambda: open_temporary(settings))
