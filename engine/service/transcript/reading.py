"""Reading a session for its transcript: its events in pages, each told as soon as it is read, then the proof.

What is held is one page of events (``max_page_bytes``), however long the session is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal
from uuid import UUID

from ...audit.notes import parse_note
from ...audit.proof import Inclusion
from ...clock import Clock, rfc3339
from ...errors import AuditError, CheckpointNotFound, StoreError
from ...log.base import RecordedEvent
from ...sessions.envelope import Caller
from ...sessions.history import Moment
from ..events import Events
from ..evidence import Evidence
from ..sessions import Sessions
from .base import Ending, Heading, Proof, Signed, Writer
from .html import Html
from .markdown import Markdown
from .telling import Teller

TranscriptFormat = Literal["html", "md"]
"""The notations of a transcript: one HTML page, or Markdown."""

WRITERS: dict[TranscriptFormat, type[Writer]] = {"html": Html, "md": Markdown}


class Transcripts:
    """Reads transcripts."""

    def __init__(self, clock: Clock, sessions: Sessions, events: Events, evidence: Evidence) -> None:
        self._clock = clock
        self._sessions = sessions
        self._events = events
        self._evidence = evidence

    async def read(
        self, caller: Caller, session: UUID, form: TranscriptFormat, moment: Moment
    ) -> AsyncGenerator[str, None]:
        """The transcript, in pieces. Raises SessionNotFound, NotYet and Invalid before the first."""
        then = await self._sessions.read(caller, session, moment)
        now = await self._sessions.read(caller, session)
        made_at = rfc3339(self._clock.now_us())
        heading = Heading(then, caller.tenant, now.version, made_at, caller.actor)
        writer, teller, seen = WRITERS[form](), Teller(), 0
        yield writer.head(heading)
        async with aclosing(self._events.recorded(caller, session)) as events:
            async for event in events:
                if event.version > then.version:
                    break
                if then.parent is not None and event.version == then.parent.version + 1:
                    yield writer.fork(heading)
                entry = teller.tell(event)
                seen = max(seen, _last_position(event))
                yield writer.silent(event.position) if entry is None else writer.entry(entry)
        yield writer.end(await self._ending(caller, session, then.version, seen))

    async def _ending(self, caller: Caller, session: UUID, version: int, seen: int) -> Ending:
        """``seen``: the last position that was told of, which may be that of an erasure in another session."""
        try:
            found = await self._evidence.inclusion(session, version, caller=caller)
            if found.size < seen:
                await self._evidence.checkpoint(new=True, caller=caller)
                found = await self._evidence.inclusion(session, version, caller=caller)
        except (CheckpointNotFound, AuditError, StoreError) as error:
            return Ending(session, version, None, error.detail)
        return Ending(session, version, _proof(found))


def _last_position(event: RecordedEvent) -> int:
    return event.position if event.erasure is None else max(event.position, event.erasure.position)


def _proof(found: Inclusion) -> Proof:
    signed = tuple(Signed(each.name, each.key_id.hex()) for each in parse_note(found.checkpoint).signatures)
    return Proof(found.origin, found.size, found.root, found.checkpoint, signed, found.position, found.leaf_hash)
