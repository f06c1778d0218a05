"""The backlog of a turn: the frames that are not in its tail, read from the record and the journal.

The backlog is read in pages. Each event is read and decoded once, however long the turn is and however slowly it is
read. A reader holds one page, a part of the log, and the messages that the turn has shown so far, because the turn's
end shows all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from uuid import UUID

import msgspec

from ..errors import TurnNotFound
from ..log.base import Connection, RecordedEvent
from ..log.journal import journal_rows
from ..log.sql import reads
from ..sessions import queries
from ..sessions.lineage import list_turns
from ..sessions.marks import own_marks, with_pins
from ..sessions.state import SessionState
from ..sessions.turn_state import TurnState, TurnStatus
from ..sessions.turn_views import Turn, with_messages
from .frames import START, Frame, frame_of
from .transcript import Transcript

FRAMES_AT_ONCE = 512
"""Most frames in one batch for a reader."""

BYTES_AT_ONCE = 256 << 10
"""Bytes from which on a page is full: at most one event, or one frame, goes beyond."""


class Backlog:
    """One reader's backlog of one turn. ``read`` runs on a reading thread, one call at a time."""

    def __init__(self, tenant: str, turn_id: UUID) -> None:
        self._tenant = tenant
        self._turn_id = turn_id
        self._transcript = Transcript(turn_id)
        self._version: int | None = None
        self._frames: Iterator[Frame] = iter(())
        self._types: dict[int, str] = {}
        self._typed = 0
        self.running = True
        """True if more frames may come, as of the last page."""

    def read(self, connection: Connection, after: int, limit: int = FRAMES_AT_ONCE) -> list[Frame]:
        """The next frames after a number, which never decreases; none if there are no more now. One snapshot. Raises
        TurnNotFound, and RecordDamaged when all frames before the damage are read.
        """
        page = _page(self._frames, after, limit)
        while not page:
            state = queries.turn_state(connection, self._tenant, self._turn_id)
            if state is None:
                raise TurnNotFound("there is no such turn", turn_id=str(self._turn_id))
            read = state.version - 1 if self._version is None else self._version
            events = reads.session_events(
                connection,
                self._tenant,
                state.session,
                after=read,
                **({} if state.end_version is None else {"up_to": state.end_version}),
                most_bytes=BYTES_AT_ONCE,
            )
            if not events:
                self.running = state.status == "running"
                return self._journalled(connection, after, limit) if state.end_version is None else []
            events = up_to_damage(events)
            self._version = events[-1].version
            self._types, self._typed = {}, 0
            self._frames = frames_of_events(self._transcript, events, after)
            page = _page(self._frames, after, limit)
        return page

    def _journalled(self, connection: Connection, after: int, limit: int) -> list[Frame]:
        """The frames of the round that runs now: journalled frames follow the recorded ones."""
        starts = journal_rows(connection, self._tenant, self._turn_id, after=self._typed, kind=START)
        for row in starts:
            self._types[row.block] = str(msgspec.json.decode(row.text)["type"])
            self._typed = row.frame
        after = max(after, self._transcript.state.frame)
        rows = journal_rows(connection, self._tenant, self._turn_id, after=after, limit=limit)
        return [frame_of(row, self._types[row.block]) for row in rows]


def frames_of_events(transcript: Transcript, events: Sequence[RecordedEvent], after: int) -> Iterator[Frame]:
    """The frames of these events whose numbers are above ``after``, one by one."""
    for event in events:
        yield from transcript.deltas(event, after)
        for frame in transcript.add(event):
            if frame.number > after:
                yield frame


def up_to_damage(events: list[RecordedEvent]) -> list[RecordedEvent]:
    """Events before the first that is damaged, or that one alone: what comes before it is read before it is refused."""
    for number, event in enumerate(events):
        if event.damaged:
            return events[: max(number, 1)]
    return events


def _page(frames: Iterator[Frame], after: int, limit: int) -> list[Frame]:
    page: list[Frame] = []
    size = 0
    for frame in frames:
        if frame.number <= after:
            continue
        page.append(frame)
        size += len(frame.data)
        if len(page) >= limit or size >= BYTES_AT_ONCE:
            break
    return page


def turn_events(connection: Connection, tenant: str, state: TurnState) -> list[RecordedEvent]:
    """The session's events from a turn's start to its end, or to now."""
    up_to = {} if state.end_version is None else {"up_to": state.end_version}
    return reads.session_events(connection, tenant, state.session, after=state.version - 1, **up_to)


def read_turn(connection: Connection, *, tenant: str, turn_id: UUID) -> Turn:
    state = queries.turn_state(connection, tenant, turn_id)
    if state is None:
        raise TurnNotFound("there is no such turn", turn_id=str(turn_id))
    return turn_of(connection, tenant, state)


def read_turns(
    connection: Connection, *, tenant: str, session: SessionState, after: int | None, limit: int, descending: bool
) -> Generator[tuple[int, Turn], None, None]:
    """The turns of a session's history, with the versions at which they started; each is read only when it is asked
    for.
    """
    for state in list_turns(connection, tenant, session, after=after, limit=limit, descending=descending):
        yield state.version, turn_of(connection, tenant, state)


def read_all_turns(
    connection: Connection, *, tenant: str, status: TurnStatus | None, before: UUID | None, limit: int
) -> Generator[Turn, None, None]:
    """The turns of a tenant, newest first; each is read only when it is asked for."""
    for state in queries.list_all_turns(connection, tenant, status=status, before=before, limit=limit):
        yield turn_of(connection, tenant, state)


def turn_of(connection: Connection, tenant: str, state: TurnState) -> Turn:
    transcript = Transcript(state.id)
    for event in turn_events(connection, tenant, state):
        transcript.add(event)
    marks = own_marks(connection, tenant, state.session)
    return with_messages(transcript.view(), with_pins(transcript.messages, marks))
