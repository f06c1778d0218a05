"""A session's messages as they are read: pages of them to be shown, and the newest first for a window.

What is shown comes from events. What a window is chosen by, and what a model is sent, stands in the projection and in
the bodies, and is read without the events: that is what every turn waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import starmap, takewhile
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, FromClause, bindparam, literal_column, or_, select

from ..clock import id_of
from ..errors import SessionNotFound
from ..events.types import MessageAppended, MessageWords
from ..events.upcasts import MESSAGES
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.clauses import same, with_bodies
from ..log.sql.driver import Prepared
from ..log.sql.session_index import SessionQuery, SessionRows
from ..log.sql.tables import bodies, events
from .marks import NO_MARKS, Marks
from .queries import session_state
from .state import Row, SessionState
from .tables import messages
from .views import Message, message_of

SCHEMA = 1
"""Of all messages, so that what a model is sent is read without looking it up."""
assert MessageAppended.schema == SCHEMA, "the schema of a message must be read from its event"


class SentRow(Row, frozen=True, gc=False):
    """A message with what a model is sent of it."""

    complete: int = 1
    body: bytes | None = None

    def words(self) -> MessageWords:
        """Raises StoreCorrupt for a body that cannot be read."""
        return MESSAGES.words(self.position, SCHEMA, self.body or b"")


class ShownRow(Row, frozen=True, gc=False):
    """A message with what is shown of it: columns of its event, and its body."""

    raw_id: bytes = b""
    schema: int = SCHEMA
    actor: str = ""
    recorded_at: int = 0
    facts: bytes = b""
    body: bytes | None = None

    def view(self, session: UUID) -> Message:
        """Raises StoreCorrupt for facts or a body that cannot be read."""
        position, schema = self.position, self.schema
        facts, event_id = MESSAGES.facts(position, schema, self.facts), id_of(self.raw_id)
        message = message_of(
            session, position, self.version, schema, event_id, self.actor, self.recorded_at, facts, self.body
        )
        return msgspec.structs.replace(message, pinned=True) if self.pinned else message


_IS_MESSAGE = [events.c.type == literal_column(f"'{MessageAppended.event_type}'")]
_SHOWN = (events.c.id, events.c.schema, events.c.actor, events.c.recorded_at, events.c.facts, bodies.c.bytes)
_FIGURES: tuple[ColumnElement[Any], ...] = (  # the fields of a row, in their order
    messages.c.version,
    messages.c.position,
    messages.c.role,
    messages.c.tokens,
    messages.c.unit,
    literal_column("0"),  # whether it is pinned: a mark
    or_(bodies.c.bytes.is_(None), messages.c.left_out <= bindparam("now_")),  # null: it is not left out
)


def _with_figures(rows: FromClause) -> FromClause:
    same_message = (messages.c.tenant == events.c.tenant) & (messages.c.position == events.c.position)
    return with_bodies(rows).join(messages, same_message)


def _with_words(rows: FromClause) -> FromClause:
    return rows.outerjoin(bodies, (messages.c.tenant == bodies.c.tenant) & (messages.c.position == bodies.c.position))


_after = SessionQuery((events.c.position, events.c.version, *_SHOWN), with_bodies, _IS_MESSAGE)
_before = SessionQuery((events.c.position, events.c.version, *_SHOWN), with_bodies, _IS_MESSAGE, descending=True)
_newest_shown = SessionQuery((*_FIGURES, *_SHOWN), _with_figures, descending=True)
_shown = SessionQuery((*_FIGURES, *_SHOWN), _with_figures)
_SENT = (*_FIGURES, messages.c.complete, bodies.c.bytes)
_newest_sent = SessionQuery(_SENT, _with_words, descending=True, over=messages)
_sent = SessionQuery(_SENT, _with_words, over=messages)
_unit = Prepared(select(messages.c.unit).where(*same(messages, "tenant", "position")))
_is_present = Prepared(select(bodies.c.tenant).where(*same(bodies, "tenant", "position")))


def message_page(
    connection: Connection,
    *,
    tenant: str,
    session: UUID,
    after: int | None,
    limit: int,
    most_bytes: int,
    descending: bool = False,
) -> tuple[list[Message], bool]:
    """A session's messages in order of version, those that follow ``after`` in that order: up to ``limit`` that hold
    ``most_bytes`` together, one at the least; and whether there are more.

    Raises SessionNotFound.
    """
    state = session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    if descending:
        up_to = MAX_SAFE_INTEGER if after is None else after - 1
        rows = _before(connection, tenant, session, 0, up_to, limit + 1, end=state.position)
    else:
        rows = _after(connection, tenant, session, after or 0, limit=limit + 1, end=state.position)
    found: list[Message] = []
    size, read_facts = 0, MESSAGES.facts
    with closing(rows):
        for position, version, raw_id, schema, actor, recorded_at, facts, body in rows:
            size += len(facts) + len(body or b"")
            if found and (size > most_bytes or len(found) == limit):
                return found, True
            said = read_facts(position, schema, facts)
            found.append(message_of(session, position, version, schema, id_of(raw_id), actor, recorded_at, said, body))
    return found, False


class Reading(msgspec.Struct, frozen=True):
    """How messages are read for a window: ``SHOWN``, each with what is shown of it, or ``SENT``, with what a model is
    sent. They are read only as they are asked for.
    """

    row: type[Row]
    newest_first: SessionQuery
    oldest_first: SessionQuery

    @contextmanager
    def newest(
        self, connection: Connection, tenant: str, state: SessionState, marks: Marks = NO_MARKS
    ) -> Iterator[Iterator[Row]]:
        """A session's messages from the version of a state backwards."""
        with closing(_rows(self.newest_first, connection, tenant, state)) as rows:
            found = starmap(self.row, rows)
            yield found if marks is NO_MARKS else map(marks.on, found)

    def pinned(self, connection: Connection, tenant: str, state: SessionState, marks: Marks) -> list[Row]:
        """Every message of every unit in which one is pinned, up to the version of a state."""
        units = {_unit(connection, tenant, position).fetchone()[0] for position in marks.pinned}
        found: list[Row] = []
        for unit in sorted(units):
            with closing(_rows(self.oldest_first, connection, tenant, state, after=unit - 1)) as rows:
                found += map(marks.on, takewhile(partial(_is_of, unit), starmap(self.row, rows)))
        return found


def _is_of(unit: int, row: Row) -> bool:
    return row.unit == unit


def _rows(query: SessionQuery, connection: Connection, tenant: str, state: SessionState, after: int = 0) -> SessionRows:
    version = state.version
    return query(connection, tenant, state.id, after, version, of_columns=[version], end=state.position)


SHOWN = Reading(ShownRow, _newest_shown, _shown)
SENT = Reading(SentRow, _newest_sent, _sent)


def last_user(connection: Connection, tenant: str, state: SessionState) -> Row | None:
    """The newest user message of a session that can be sent: its words may have been erased since."""
    last = state.last_user
    if last is None:
        return None
    if _is_present(connection, tenant, last.position).fetchone():
        return Row(last.version, last.position, "user", last.tokens, last.unit)
    with SENT.newest(connection, tenant, state) as rows:
        found = next((row for row in rows if row.role == "user" and not row.left_out), None)
    return None if found is None else Row(found.version, found.position, found.role, found.tokens, found.unit)
