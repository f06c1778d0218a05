"""What the commands need of the sessions of a database file or of a server.

Methods raise EngineError. A session that a user names is found by its id, or by the beginning of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, Unpack
from uuid import UUID

from ....engine import (
    Branches,
    Erasure,
    Event,
    Message,
    Model,
    NewSession,
    NotFound,
    SentPrompt,
    Session,
    SessionChanges,
    SessionFilter,
    ToolInfo,
    Turn,
)

TranscriptForm = Literal["html", "md"]

LAST = SessionFilter(branches="all", status="active")
"""The sessions that one may go on with."""


class Sessions(Protocol):
    """The sessions of a file, or of a server."""

    def list(self, which: SessionFilter) -> Iterator[Session]:
        """Those of which so much is true, the last active first."""
        ...

    def find(self, text: str) -> Session:
        """The one whose id is, or begins with, this text. Raises Invalid, SessionNotFound, Refused for several."""
        ...

    def then(self, session: UUID, *, version: int | None, at: str | None) -> Session:
        """A session as it was."""
        ...

    def messages(self, session: UUID, *, version: int | None = None, newest: bool = False) -> Iterator[Message]:
        """A session's messages, the oldest first; ``newest``: the newest first."""
        ...

    def events(self, session: UUID, *, after: int = 0) -> Iterator[Event]: ...

    def turns(self, session: UUID) -> Iterator[Turn]: ...

    def turn(self, turn: UUID) -> Turn: ...

    def follow(self, session: UUID | None, after: int | None) -> Iterator[Event]:
        """Events as they are recorded, for ever: after a version, or of the whole log (None) after a position; None:
        those to come.
        """
        ...

    def update(self, session: UUID, **changes: Unpack[SessionChanges]) -> Session: ...

    def erase(self, session: UUID, reason: str, versions: Sequence[int] | None, *, dry_run: bool) -> Erasure: ...

    def fork(self, session: UUID, version: int | None, fields: NewSession) -> Session: ...

    def branches(self, session: UUID, at: str | None) -> Branches: ...

    def explain(self, turn: UUID, attempt: int | None) -> SentPrompt: ...

    def transcript(self, session: UUID, form: TranscriptForm, version: int | None) -> Iterator[bytes]:
        """A session for people, in pieces."""
        ...

    def models(self) -> Sequence[Model]: ...

    def tools(self) -> Sequence[ToolInfo]: ...

    def close(self) -> None: ...


def last_of(sessions: Sessions) -> Session:
    """The conversation that was active last. Raises NotFound where there is none."""
    last = next(sessions.list(LAST), None)
    if last is None:
        raise NotFound("there is no session to go on with: begin one with manent chat or manent ask")
    return last
