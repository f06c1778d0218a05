"""What is commanded of a turn, and what came of it: the values that ``turn_decisions`` makes events of. Pure."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from ..errors import EngineError
from ..events.blocks import Content
from ..events.turn_types import AttemptEndedWords, AttemptStarted, AttemptWords
from ..events.types import BlockStart
from ..events.usage import Usage
from .calls import NONE_READ, CallIds


class TurnPlace(msgspec.Struct, frozen=True):
    """The place of a turn's next events: after this frame, from this position on. ``calls``: ordinals that the session
    has given; ``ids``: the vendor's ids of the turn's open calls.
    """

    frame: int
    position: int
    calls: int = 0
    ids: CallIds = NONE_READ


class StartAttempt(msgspec.Struct, frozen=True):
    """An attempt that is about to be made: all that decides the bytes of its request."""

    facts: AttemptStarted
    words: AttemptWords


class TurnStop(msgspec.Struct, frozen=True):
    """A stop of a turn from outside: its kind, and the actor that ordered it."""

    kind: Literal["cancelled", "shutdown", "server_lost"]
    actor: str


class ReceivedMessage(msgspec.Struct, frozen=True):
    """As much of a model's message as is on disk. ``blocks``: where each began; ``cuts``: how it came in, packed."""

    id: UUID
    content: Content
    blocks: tuple[BlockStart, ...] = ()
    cuts: bytes = b""


class AttemptResult(msgspec.Struct, frozen=True):
    """The result of an attempt. ``outcome`` is ``completed`` or a code; ``message``: what is on disk of the answer."""

    outcome: str
    duration_ms: int | None = None
    message: ReceivedMessage | None = None
    first_chunk_ms: int | None = None
    stop: TurnStop | None = None
    error: EngineError | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    usage: Usage | None = None
    words: AttemptEndedWords | None = None


class TurnEnd(msgspec.Struct, frozen=True):
    """The end of a turn: stopped from outside, or failed with an error, or else completed for a stop reason.
    ``attempt``: the result of its last attempt, where that is not recorded yet.
    """

    stop: TurnStop | None = None
    error: EngineError | None = None
    stop_reason: str | None = None
    vendor_stop_reason: str | None = None
    attempt: AttemptResult | None = None

    @classmethod
    def with_attempt(cls, result: AttemptResult) -> TurnEnd:
        """The end of a turn that ends as its last attempt did."""
        return cls(result.stop, result.error, result.stop_reason, result.vendor_stop_reason, result)

    @property
    def has_completed(self) -> bool:
        return self.stop is None and self.error is None

    @property
    def outcome(self) -> str:
        """The outcome of an attempt that the turn's end breaks off."""
        return self.stop.kind if self.stop else self.error.code if self.error else "completed"


class Decision(msgspec.Struct, frozen=True):
    """A person's decision on one call, and the reason for it."""

    call: str
    approve: bool
    reason: str | None = None
