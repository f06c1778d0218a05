"""Marks on messages: pinned, unpinned, superseded. A mark belongs to the session that made it, at the version at which
it did, and is never a column of the message: what one session says of a message is not said of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, insert, select

from ..events.base import Facts
from ..events.session_types import MessagePinned, MessageUnpinned
from ..events.turn_types import TurnStarted
from ..log.base import RecordedEvent
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared, PreparedRows
from .state import Row
from .tables import marks
from .views import Message

Kind = Literal["pinned", "unpinned", "superseded"]
R = TypeVar("R", bound=Row)

insert_marks = PreparedRows(insert(marks))
_marks = Prepared(
    select(marks.c.position, marks.c.kind)
    .where(*same(marks, "tenant", "session"), marks.c.version <= bindparam("up_to_"))
    .order_by(marks.c.version, marks.c.position)
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


def with_pins(
    connection: Connection, tenant: str, session: UUID, found: Sequence[Message], version: int | None = None
) -> list[Message]:
    """Messages that a session shows, each with whether it is pinned, now or at a version."""
    pinned = marks_at(connection, tenant, session, MAX_SAFE_INTEGER if version is None else version).pinned
    replace = msgspec.structs.replace
    return [replace(each, pinned=True) if each.position in pinned else each for each in found]


def mark_rows(event: RecordedEvent, facts: Facts) -> list[tuple[object, ...]]:
    """The rows of the marks that an event makes."""
    kind: Kind
    match facts:
        case TurnStarted(supersedes=int(position)):
            kind = "superseded"
        case MessagePinned(message=position):
            kind = "pinned"
        case MessageUnpinned(message=position):
            kind = "unpinned"
        case _:
            return []
    return [(event.tenant, event.session.bytes, event.version, position, kind)]


def marks_at(connection: Connection, tenant: str, session: UUID, version: int = MAX_SAFE_INTEGER) -> Marks:
    """The marks on a session's messages, now or at a version."""
    rows = _marks(connection, tenant, session.bytes, version).fetchall()
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
