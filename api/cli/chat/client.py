"""The partner of a terminal chat: a session that answers, behind a server's API or in a file of one's own.

Calls block, and may be interrupted by Ctrl-C (KeyboardInterrupt) anywhere: what was asked goes on and is on record,
``cancel`` stops it, and ``frames`` takes a turn up again after any frame. Every failure is an EngineError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from uuid import UUID

import msgspec

from ....engine import Frame
from ..record.base import Sessions

LAST_FRAMES = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted", "error"})
"""After one of these a stream of frames is over; without one it broke off, or the turn waits for a person."""

Question = str | tuple[bytes, ...]
"""A message to the model: its text, or its content blocks as JSON."""


class Awaited:
    """The decisions that a turn waits for, as its frames tell: ``calls`` are the ids of tool calls that a person
    must decide on.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []

    def see(self, frame: Frame) -> None:
        """One more frame, in order."""
        if frame.type == "turn.paused":
            self.calls = [call["tool_use_id"] for call in msgspec.json.decode(frame.data)["pending_approvals"]]
        elif frame.type in {"tool.approved", "tool.refused"} and self.calls:
            decided = msgspec.json.decode(frame.data)["tool_use_id"]
            self.calls = [call for call in self.calls if call != decided]
        elif frame.type in LAST_FRAMES:
            self.calls = []


class Wishes(msgspec.Struct, frozen=True):
    """The options of a conversation. ``model`` None: the session's; ``system`` is for new sessions only; ``tools``:
    names of those that the model is offered.
    """

    model: str | None = None
    system: str | None = None
    tools: tuple[str, ...] = ()


class Talk(Sessions, Protocol):
    """One conversation partner. ``address`` is how it is named on a command line, with a blank after it, or nothing
    where that is the default.
    """

    address: str

    @property
    def default_model(self) -> str | None:
        """The model of a session that names none; None: a server does not say."""
        ...

    def check(self, question: Question | None, wishes: Wishes, session: UUID | None) -> None:
        """Raise what would keep a question from being answered, as far as it is known before: in a session, or in a
        new one. None: whatever will be asked.
        """
        ...

    def begin(self, wishes: Wishes) -> UUID:
        """Begin a new session."""
        ...

    def start(self, session: UUID, question: Question, wishes: Wishes) -> UUID:
        """Send a message and run the model; the turn, once its start is on record."""
        ...

    def frames(self, turn: UUID, after: int) -> Iterator[Frame]:
        """A turn's frames after a number, up to its end, or to where it waits for a person."""
        ...

    def open_turn(self, session: UUID) -> UUID | None:
        """The session's turn that runs, or waits for a person."""
        ...

    def decide(self, turn: UUID, call: str, *, approve: bool) -> None:
        """Say yes or no to a tool call; with the last decision that it waits for, the turn goes on."""
        ...

    def cancel(self, session: UUID) -> None:
        """Cancel the session's open turn, if there is one."""
        ...
