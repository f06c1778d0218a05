"""What ``manent suite`` and ``manent review`` need of a record: a database file, or a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from ....engine import Replay, Result, Suite, SuiteItem, Turn


class RecordedTurn(msgspec.Struct, frozen=True):
    """A turn of a session, as much of it as is needed. ``ended_at`` None: it is open."""

    id: UUID
    session_id: UUID
    ended_at: str | None


class Record(Protocol):
    """A file or a server. Methods raise EngineError."""

    def suites(self) -> Iterator[Suite]: ...

    def suite(self, name: str) -> Suite | None:
        """None: there is none of this name."""
        ...

    def create(self, name: str, items: Sequence[SuiteItem]) -> Suite: ...

    def change(self, suite: Suite, items: Sequence[SuiteItem]) -> Suite:
        """Refused where somebody else has changed it since."""
        ...

    def turns_of(self, session: str) -> list[RecordedTurn]:
        """The turns of a session, oldest first."""
        ...

    def turn(self, turn: UUID) -> Turn: ...

    def replays(self) -> Iterator[Replay]:
        """The newest first."""
        ...

    def replay_state(self, replay: UUID) -> Replay: ...

    def results(self, replay: UUID) -> Iterator[Result]: ...

    def accept(self, replay: UUID, turn: UUID) -> None: ...

    def close(self) -> None: ...
