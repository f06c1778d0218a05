"""What a terminal chat talks to: a session that answers, behind a server's API or in a file of one's own.

Calls block, and may be interrupted by Ctrl-C (KeyboardInterrupt) anywhere: what was asked goes on and is on record,
``cancel`` stops it, and ``frames`` takes a turn up again after any frame. Every failure is an EngineError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

import msgspec

from engine import Frame

LAST_FRAMES = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted", "turn.paused", "error"})
"""After one of these a stream of frames is over; without one it broke off."""


class Wishes(msgspec.Struct, frozen=True):
    """What the user wants of a chat. ``session``: go on with this one. ``system`` is for new sessions only."""

    session: str | None = None
    model: str | None = None
    system: str | None = None


class Talk(Protocol):
    """One conversation partner. ``address`` is how it is named on a command line."""

    address: str

    def resume(self, session: str) -> UUID:
        """Go on with a session that exists."""
        ...

    def begin(self, model: str | None, system: str | None) -> UUID:
        """Begin a new session."""
        ...

    def start(self, session: UUID, text: str, model: str | None) -> UUID:
        """Send a message and run the model; the turn, once its start is on record."""
        ...

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        """A turn's frames after a number, up to its end."""
        ...

    def cancel(self, session: UUID) -> None:
        """Cancel the session's running turn, if there is one."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
