"""Following an answer: its frames are printed as they come, a person is asked where one must decide, and Ctrl-C cancels
it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec

from ....engine import EngineError, Frame
from ..terminal import FramePrinter, notice, one_line
from .client import LAST_FRAMES, Awaited, Talk


class Left(Exception):
    """The user has left in the middle of a question."""


class Answer(msgspec.Struct):
    """How an answer ended. ``turn``: as its last frame tells of it, without messages; None: none came.
    ``cancelled``: the user has said so.
    """

    turn: dict[str, Any] | None = None
    cancelled: bool = False

    @property
    def failed(self) -> bool:
        """True if the turn did not end well, and nobody here wanted that."""
        status = None if self.turn is None else self.turn.get("status")
        return status != "completed" and not self.cancelled

    def line(self) -> str:
        """The model, what it read and wrote, what it cost and how long it took."""
        turn = self.turn or {}
        usage = turn.get("usage") or {}
        counts = {"in": usage.get("input_tokens"), "out": usage.get("output_tokens")}
        counted = [f"{count} {word}" for word, count in counts.items() if count is not None]
        about = "about " * bool(usage.get("estimated"))
        parts = [one_line(str(turn.get("model"))), *[f"tokens: {about}{', '.join(counted)}"] * bool(counted)]
        parts += [f"{cost['micros'] / 1e6:.6f} {cost['currency']}" for cost in turn.get("costs") or ()]
        if turn.get("duration_ms") is not None:
            parts.append(f"{turn['duration_ms'] / 1000:.1f} s")
        return " · ".join(parts)


Approve = Callable[[str], bool]
"""Asks a person whether a tool call may run. Raises Left."""


def follow(talk: Talk, session: UUID, turn: UUID, printer: FramePrinter, approve: Approve) -> Answer:
    """Print a turn to its end. Ctrl-C cancels it; what was said until then, and that it was stopped, is still read.

    Raises Left, with which the turn waits on.
    """
    after, ended, awaited, answer = 0, False, Awaited(), Answer()

    def see(frame: Frame) -> None:
        nonlocal after
        after = frame.number or after
        awaited.see(frame)
        printer.show(frame)
        if frame.type in LAST_FRAMES and frame.type != "error":
            answer.turn = msgspec.json.decode(frame.data)

    try:
        while not ended:
            try:
                for frame in talk.frames(turn, after):
                    see(frame)
                ended = not awaited.calls
                for call in awaited.calls:
                    printer.end_line()
                    talk.decide(turn, call, approve=approve(call))
                awaited.calls = []
            except KeyboardInterrupt:
                answer.cancelled = True
                cancel(talk, session)
    finally:
        printer.end_line()
    return answer


def cancel(talk: Talk, session: UUID) -> None:
    """Stop the session's answer."""
    with suppress(EngineError):
        talk.cancel(session)


def ask_person(line: Callable[[], str | None]) -> Approve:
    """Ask on standard error, and read y or n. The end of the input leaves."""

    def ask(call: str) -> bool:
        while True:
            notice(f"shall {call} run? y or n")
            said = line()
            if said is None or said.strip() == "/quit":
                raise Left
            if said.strip().lower() in {"y", "yes", "n", "no"}:
                return said.strip().lower().startswith("y")

    return ask
