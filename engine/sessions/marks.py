"""Marks on messages: pinned, unpinned, superseded, copied. A mark belongs to the session that made it, at the version
at which it did, and is never a column of the message: what one session says of a message is not said of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, insert, not_, select

from ..clock import id_of
from ..events.base import Facts
from ..events.session_types import MessagePinned, MessageUnpinned
from ..events.turn_types import TurnStarted
from ..events.types import MessageAppended
from ..log.base import RecordedEvent
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared, PreparedRows
from .lineage import segments_back
from .state import Row, SessionState
from .tables import COPIED, marks
from .views import Message

Kind = Literal["pinned", "unpinned", "superseded", "copied"]
R = TypeVar("R", bound=Row)

insert_marks = PreparedRows(insert(marks))
POSITIONS_AT_ONCE = 64
_marks = Prepared(
    select(marks.c.position, marks.c.kind)
    .where(*same(marks, "tenant", "session"), marks.c.version <= bindparam("up_to_"), not_(COPIED))
    .order_by(marks.c.version, marks.c.position)
)
_copied = Prepared(
    select(marks.c.session, marks.c.version)
    .where(
        *same(marks, "tenant"),
        marks.c.position.in_([bindparam(f"position_{number}") for number in range(POSITIONS_AT_ONCE)]),
        COPIED,
    )
    .order_by(marks.c.session, marks.c.version)
)


class Marks(msgspec.Struct, frozen=True):
    """The marks on a session's messages at a version: their positions."""

    pinned: frozenset[int] = frozenset()
    superseded: frozenset[int] = frozenset()

    def on(self, row: R) -> R:
        """A message's row with the marks on it."""
        pinned, superseded = row.position in self.pinned, row.position in self.superseded
        if not (pinned or superseded):
            return row
        return msgspec.structs.replace(row, pinned=pinned, left_out=row.left_out or superseded)


NO_MARKS = Marks()


def with_pins(found: Sequence[Message], marks: Marks) -> list[Message]:
    """Messages, each with whether it is pinned."""
    replace, pinned = msgspec.structs.replace, marks.pinned
    return [replace(each, pinned=True) if each.position in pinned else each for each in found]


def mark_rows(event: RecordedEvent, facts: Facts) -> list[tuple[object, ...]]:
    """The rows of the marks that an event makes."""
    kind: Kind
    match facts:
        case MessageAppended(copied_from=positions):
            return [(event.tenant, event.session.bytes, event.version, each, "copied") for each in positions]
        case TurnStarted(supersedes=int(position)):
            kind = "superseded"
        case MessagePinned(message=position):
            kind = "pinned"
        case MessageUnpinned(message=position):
            kind = "unpinned"
        case _:
            return []
    return [(event.tenant, event.session.bytes, event.version, position, kind)]


def marks_at(connection: Connection, tenant: str, state: SessionState) -> Marks:
    """The marks on a session's messages at a state of it: its own, and those of its ancestors on what it shares."""
    rows = _own_rows(connection, tenant, state.id, state.version)
    for segment in segments_back(connection, tenant, state):
        if not segment.marked:
            break
        rows = [*_own_rows(connection, tenant, segment.session, segment.up_to), *rows]
    return _marks_of(rows)


def own_marks(connection: Connection, tenant: str, session: UUID) -> Marks:
    """The marks that a session itself has made."""
    return _marks_of(_own_rows(connection, tenant, session, MAX_SAFE_INTEGER))


def copied_marks(connection: Connection, tenant: str, positions: Sequence[int]) -> Iterator[tuple[UUID, int]]:
    """The messages that hold words of those at these positions, as (session, version); one may come several times."""
    for start in range(0, len(positions), POSITIONS_AT_ONCE):
        some = positions[start : start + POSITIONS_AT_ONCE]
        padding = [some[-1]] * (POSITIONS_AT_ONCE - len(some))
        yield from ((id_of(raw), version) for raw, version in _copied(connection, tenant, *some, *padding))


def _own_rows(connection: Connection, tenant: str, session: UUID, up_to: int) -> list[Sequence[Any]]:
    """(position, kind) of the marks that a session has made up to a version, in order."""
    rows: list[Sequence[Any]] = _marks(connection, tenant, session.bytes, up_to).fetchall()
    return rows


def _marks_of(rows: Sequence[Sequence[Any]]) -> Marks:
    if not rows:
        return NO_MARKS
    pinned: set[int] = set()
    superseded: set[int] = set()
    for position, kind in rows:
        if kind == "superseded":
            superseded.add(position)
        elif kind == "pinned":
            pinned.add(position)
        else:
            pinned.discard(position)
    return Marks(frozenset(pinned), frozenset(superseded))
