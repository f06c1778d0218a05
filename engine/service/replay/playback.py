"""Playing a recorded session back: its messages, and each turn's frames at the pace they came."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Final
from uuid import UUID

from ...errors import Invalid
from ...events.base import Facts
from ...events.cuts import unpack_cuts
from ...events.turn_types import TurnStarted
from ...events.types import MessageAppended, MessageWords
from ...events.upcasts import facts_of, words_of
from ...log.base import RecordedEvent
from ...sessions.envelope import Caller
from ...sessions.views import Message, message_view
from ...streams.frames import Frame
from ...streams.transcript import Transcript
from ..events import Events

AS_FAST_AS_POSSIBLE: Final = 0.0

_PACE = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)x?")


def read_pace(text: str) -> float:
    """``1x`` is the pace of the record, ``4x`` four times as fast, ``0`` without any pause. Raises Invalid."""
    match = _PACE.fullmatch(text)
    if match is None:
        raise Invalid("pace", "must be like 1x, 4x or 0.5x, or 0 for no pause at all")
    return float(match[1])


async def play_back(
    events: Events, caller: Caller, session: UUID, pace: float
) -> AsyncGenerator[Message | Frame, None]:
    """A session once more: appended messages, and each turn's frames with the numbers and texts they had.

    Deltas come at the recorded pace times ``pace``; between messages nobody waits. Of erased words the deltas are
    gone, and of a turn that still runs what is on record is given.
    """
    transcript: Transcript | None = None
    async for event in events.recorded(caller, session):
        facts = facts_of(event)
        if isinstance(facts, TurnStarted):
            transcript = Transcript(event.id)
        if transcript is not None:
            metronome, pauses = _Metronome(pace), _pauses(event, facts)
            for frame in transcript.add(event, deltas_after=0):
                if frame.type == "delta":
                    await metronome.wait(next(pauses))
                yield frame
        if isinstance(facts, MessageAppended) and facts.turn is None:
            yield message_view(event)


class _Metronome:
    """Waits by the clock and not pause by pause: small delays would add up."""

    def __init__(self, pace: float) -> None:
        self._pace = pace
        self._now_s = asyncio.get_running_loop().time
        self._due_s = self._now_s()

    async def wait(self, pause_ms: int) -> None:
        if self._pace:
            self._due_s += pause_ms / 1000 / self._pace
            await asyncio.sleep(self._due_s - self._now_s())


def _pauses(event: RecordedEvent, facts: Facts) -> Iterator[int]:
    """Milliseconds before each delta of a message."""
    words = words_of(event) if isinstance(facts, MessageAppended) else None
    return (cut.pause_ms for cut in unpack_cuts(words.cuts)) if isinstance(words, MessageWords) else iter(())
