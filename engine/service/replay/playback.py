"""Playing a recorded session back: its messages, and each turn's frames at the pace they came."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ...errors import Invalid
from ...events.cuts import unpack_cuts
from ...events.types import Facts, MessageAppended, MessageWords, TurnStarted
from ...events.upcasts import facts_of, words_of
from ...log.base import RecordedEvent
from ...sessions.envelope import LOCAL, Caller
from ...sessions.views import Event, Message, message_view
from ...streams.frames import Frame
from ...streams.transcript import Transcript
from ..engine import Conversation

PAGE_EVENTS = 200

AS_FAST_AS_POSSIBLE: Final = 0.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PACE = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)x?")


def read_pace(text: str) -> float:
    """``1x`` is the pace of the record, ``4x`` four times as fast, ``0`` without any pause. Raises Invalid."""
    match = _PACE.fullmatch(text)
    if match is None:
        raise Invalid("pace", "must be like 1x, 4x or 0.5x, or 0 for no pause at all")
    return float(match[1])


async def play_back(
    conversation: Conversation, session: UUID, pace: float = AS_FAST_AS_POSSIBLE, caller: Caller = LOCAL
) -> AsyncGenerator[Message | Frame, None]:
    """A session once more: appended messages, and each turn's frames with the numbers and texts they had.

    Deltas come at the recorded pace times ``pace``; between messages nobody waits. Of erased words the deltas are
    gone, and of a turn that still runs what is on record is given.
    """
    transcript: Transcript | None = None
    async for event in _recorded_events(conversation, session, caller):
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


async def _recorded_events(
    conversation: Conversation, session: UUID, caller: Caller
) -> AsyncGenerator[RecordedEvent, None]:
    after, more = 0, True
    while more:
        page, more = await conversation.events(session, caller, after=after, limit=PAGE_EVENTS)
        for event in page:
            yield _recorded(event, caller.tenant)
            after = event.version


def _recorded(event: Event, tenant: str) -> RecordedEvent:
    """An event as the log has it, from the view of it: ``views.event_view`` backwards."""
    body = bytes(event.body) if event.body is not None else b""
    return RecordedEvent(
        tenant=tenant,
        position=event.position,
        session=event.session_id,
        version=event.version,
        id=event.id,
        type=event.type,
        schema=event.schema,
        actor=event.actor,
        recorded_at=(datetime.fromisoformat(event.recorded_at) - _EPOCH) // timedelta(microseconds=1),
        causation=event.causation_id,
        correlation=event.correlation_id,
        facts=bytes(event.facts),
        length=len(body),
        commitment=bytes.fromhex(event.commitment),
        leaf_hash=bytes.fromhex(event.leaf_hash),
        body=None if event.erased else body,
        erased=event.erased,
    )


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
