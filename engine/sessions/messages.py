"""A session's messages as they are read: pages of them to be shown, and the newest first for a window.

What is shown comes from events. What a window is chosen by, and what a model is sent, stands in the projection and in
the bodies, and is read without the events: that is what every turn waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import takewhile
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, FromClause, and_, bindparam, exists, literal_column, or_, select

from ..clock import id_of
from ..errors import RecordDamaged
from ..events.turn_types import AttemptEnded
from ..events.types import MessageAppended, MessageWords
from ..events.upcasts import ATTEMPT_ENDS, MESSAGES, WORDS_STEPS
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.clauses import same, with_bodies
from ..log.sql.damage import erased_by, erasure_of, is_sound
from ..log.sql.driver import Prepared
from ..log.sql.session_index import SessionQuery, SessionRows
from ..log.sql.tables import bodies, erasures, events
from .lineage import stretches, stretches_back
from .marks import NO_MARKS, Marks, marks_at
from .queries import models_asked
from .state import Row, SessionState
from .tables import messages
from .views import Message, answer_of, erased_view, message_of

SCHEMA = MessageAppended.schema
"""Of all messages: the words of every schema are read alike, so what a model is sent is read without looking it up."""
assert not any(kind == MessageAppended.event_type for kind, _ in WORDS_STEPS), "the schema must be read from the event"


MESSAGE_BYTES = 450
"""What a message is told in besides its actor and its words."""


class SentRow(Row, frozen=True, gc=False):
    """A message with what a model is sent of it. ``body`` None: it is left out, or damaged."""

    complete: int = 1
    commitment: bytes = b""
    salt: bytes | None = None
    body: bytes | None = None

    def words(self) -> MessageWords:
        """Raises RecordDamaged, and StoreCorrupt for a body that cannot be read."""
        return MESSAGES.words(self.position, SCHEMA, _body_of(self))


class PastRow(Row, frozen=True, gc=False):
    """A message as a window saw it at some version. ``superseded`` is one of the ways to be ``left_out``."""

    superseded: bool = False


class Then(msgspec.Struct, frozen=True):
    """A session's messages as they were at an event: how many, their base tokens, and the ``rows``, the newest first,
    which are read only as they are asked for.
    """

    count: int
    tokens: int
    rows: Iterator[PastRow]


class ShownRow(Row, frozen=True, gc=False):
    """A message with what is shown of it: columns of its event, and its body (None: it is left out, or damaged)."""

    raw_id: bytes = b""
    schema: int = SCHEMA
    actor: str = ""
    recorded_at: int = 0
    facts: bytes = b""
    commitment: bytes = b""
    salt: bytes | None = None
    body: bytes | None = None

    def view(self, session: UUID) -> Message:
        """Raises RecordDamaged, and StoreCorrupt for facts or a body that cannot be read."""
        position, schema, body = self.position, self.schema, _body_of(self)
        facts, event_id = MESSAGES.facts(position, schema, self.facts), id_of(self.raw_id)
        message = message_of(
            session, position, self.version, schema, event_id, self.actor, self.recorded_at, facts, body
        )
        return replace(message, pinned=True) if self.pinned else message


_IS_MESSAGE = [events.c.type == literal_column(f"'{MessageAppended.event_type}'")]
_WORDS = (events.c.commitment, bodies.c.salt, bodies.c.bytes)
_SHOWN = (events.c.id, events.c.schema, events.c.actor, events.c.recorded_at, events.c.facts, *_WORDS)
_IS_ERASED = exists().where(erasures.c.tenant == messages.c.tenant, erasures.c.position == messages.c.position)
_FIGURES: tuple[ColumnElement[Any], ...] = (  # the fields of a row, in their order
    messages.c.version,
    messages.c.position,
    messages.c.role,
    messages.c.tokens,
    messages.c.unit,
    literal_column("0"),  # whether it is pinned: a mark
    # Null: it is not left out. What has no body and is not erased is not left out either: it is damaged.
    or_(messages.c.left_out <= bindparam("now_"), and_(bodies.c.bytes.is_(None), _IS_ERASED)),
)


def _with_figures(rows: FromClause) -> FromClause:
    same_message = (messages.c.tenant == events.c.tenant) & (messages.c.position == events.c.position)
    return with_bodies(rows).join(messages, same_message)


def _with_words(rows: FromClause) -> FromClause:
    same_event = (events.c.tenant == messages.c.tenant) & (events.c.position == messages.c.position)
    same_body = (messages.c.tenant == bodies.c.tenant) & (messages.c.position == bodies.c.position)
    return rows.join(events, same_event).outerjoin(bodies, same_body)


_PAGED = (events.c.position, events.c.version, events.c.session, *_SHOWN)
_after = SessionQuery(_PAGED, with_bodies, _IS_MESSAGE)
_before = SessionQuery(_PAGED, with_bodies, _IS_MESSAGE, descending=True)
_newest_shown = SessionQuery((*_FIGURES, *_SHOWN), _with_figures, descending=True)
_shown = SessionQuery((*_FIGURES, *_SHOWN), _with_figures)
_SENT = (*_FIGURES, messages.c.complete, *_WORDS)
_newest_sent = SessionQuery(_SENT, _with_words, descending=True, over=messages)
_sent = SessionQuery(_SENT, _with_words, over=messages)
_THEN = (*_FIGURES[:5], messages.c.left_out <= bindparam("now_"))
_newest_then = SessionQuery(_THEN, descending=True, over=messages)
_unit = Prepared(select(messages.c.unit).where(*same(messages, "tenant", "position")))

_ENDS_AT_ONCE = 64
_ends = Prepared(
    select(events.c.position, events.c.schema, events.c.facts).where(
        *same(events, "tenant", "type"),
        events.c.position.in_([bindparam(f"position_{number}") for number in range(_ENDS_AT_ONCE)]),
    )
)


def message_page(
    connection: Connection,
    *,
    tenant: str,
    state: SessionState,
    after: int | None,
    limit: int,
    most_bytes: int,
    descending: bool = False,
    damaged: bool = False,
) -> tuple[list[Message], bool]:
    """The messages of a session at a state of it, in order of version, those that follow ``after`` in that order: up to
    ``limit`` that are told in ``most_bytes`` together, one at the least; and whether there are more. ``damaged``: those
    that are damaged, too, without their words.

    Raises RecordDamaged.
    """
    query, first, last = _after, after or 0, state.version
    if descending:
        query, first, last = _before, 0, last if after is None else min(after - 1, last)
    rows = _rows(query, connection, tenant, state, first, up_to=last, limit=limit + 1, of_columns=())
    found: list[Message] = []
    size, read_facts, own = 0, MESSAGES.facts, state.id.bytes
    with closing(rows):
        for position, version, stands_in, raw_id, schema, actor, recorded_at, facts, committed, salt, body in rows:
            session = state.id if stands_in == own else id_of(stands_in)
            size += MESSAGE_BYTES + len(actor) + len(body or b"")
            if found and (size > most_bytes or len(found) == limit):
                return with_answers(connection, tenant, found), True
            sound = is_sound(connection, tenant, position, committed, salt, body)
            if not (sound or damaged):
                raise RecordDamaged.at(position)
            said, words = read_facts(position, schema, facts), body if sound else None
            message = message_of(session, position, version, schema, id_of(raw_id), actor, recorded_at, said, words)
            if words is None:
                erasure = erasure_of(connection, tenant, position)
                size += len((erasure and erasure.body) or b"")
                message = replace(message, erased=erased_view(erasure)) if sound else replace(message, damaged=True)
            found.append(message)
    return with_answers(connection, tenant, found), False


class Reading(msgspec.Struct, frozen=True):
    """How messages are read for a window: ``SHOWN``, each with what is shown of it, or ``SENT``, with what a model is
    sent. They are read only as they are asked for.
    """

    row: type[SentRow | ShownRow]
    newest_first: SessionQuery
    oldest_first: SessionQuery

    @contextmanager
    def newest(
        self, connection: Connection, tenant: str, state: SessionState, marks: Marks = NO_MARKS
    ) -> Iterator[Iterator[Row]]:
        """A session's messages from the version of a state backwards."""
        with closing(_rows(self.newest_first, connection, tenant, state)) as rows:
            found = _checked(self.row, connection, tenant, rows)
            yield found if marks is NO_MARKS else map(marks.on, found)

    def pinned(self, connection: Connection, tenant: str, state: SessionState, marks: Marks) -> list[Row]:
        """Every message of every unit in which one is pinned, up to the version of a state."""
        units = {_unit(connection, tenant, position).fetchone()[0] for position in marks.pinned}
        found: list[Row] = []
        for unit in sorted(units):
            with closing(_rows(self.oldest_first, connection, tenant, state, unit - 1)) as rows:
                found += map(marks.on, takewhile(partial(_is_of, unit), _checked(self.row, connection, tenant, rows)))
        return found


@contextmanager
def rows_then(connection: Connection, tenant: str, state: SessionState) -> Iterator[Then]:
    """The messages of a session at a state of it, as they were then: what is erased since was not."""
    marks = marks_at(connection, tenant, state)
    with closing(_rows(_newest_then, connection, tenant, state)) as rows:
        yield Then(state.message_count, state.base_tokens, (_past(row, marks) for row in rows))


def _past(row: Sequence[Any], marks: Marks) -> PastRow:
    version, position, role, tokens, unit, left_out = row
    superseded = position in marks.superseded
    return PastRow(
        version, position, role, tokens, unit, position in marks.pinned, bool(left_out) or superseded, superseded
    )


def _is_of(unit: int, row: Row) -> bool:
    return row.unit == unit


def _rows(
    query: SessionQuery,
    connection: Connection,
    tenant: str,
    state: SessionState,
    after: int = 0,
    *,
    up_to: int | None = None,
    limit: int = MAX_SAFE_INTEGER,
    of_columns: Sequence[object] | None = None,
) -> SessionRows:
    """Rows of a session's history at a state of it, along its lineage."""
    last = state.version if up_to is None else up_to
    columns = [state.position] if of_columns is None else of_columns
    if not state.lineage:
        return query(connection, tenant, state.id, after, last, limit, of_columns=columns, end=state.position)
    if query.descending:
        back = stretches_back(connection, tenant, state, after, last)
        return query.along(connection, tenant, back, limit, of_columns=columns)
    along = stretches(connection, tenant, state, after, last)
    return query.along(connection, tenant, along, limit, of_columns=columns)


SHOWN = Reading(ShownRow, _newest_shown, _shown)
SENT = Reading(SentRow, _newest_sent, _sent)


def _checked(kind: type[SentRow | ShownRow], connection: Connection, tenant: str, rows: SessionRows) -> Iterator[Row]:
    """Rows as they are read: the body of one that is damaged goes no further."""
    for row in rows:
        if is_sound(connection, tenant, row[1], row[-3], row[-2], row[-1]):
            yield kind(*row)
        else:
            yield kind(*row[:-1])


def _body_of(row: SentRow | ShownRow) -> bytes:
    if row.body is None:
        raise RecordDamaged.at(row.position)
    return row.body


def with_answers(connection: Connection, tenant: str, messages: Sequence[Message]) -> list[Message]:
    """Messages, the answers of models among them with ``model`` and ``stop_reason``, where their own facts do not say
    so: the end of an attempt is recorded right before its answer, and the models that were asked stand with the turn.
    """
    ends = _ends_at(connection, tenant, [message.position - 1 for message in messages if _is_unnamed(message)])
    if not ends:
        return list(messages)
    models = models_asked(connection, tenant, list({end.turn for end in ends.values()}))
    found = []
    for message in messages:
        end = ends.get(message.position - 1)
        if end is None or end.turn != message.turn_id or not _is_unnamed(message):
            found.append(message)
        else:
            found.append(answer_of(message, models.get((end.turn, end.round, end.attempt)), end))
    return found


def _is_unnamed(message: Message) -> bool:
    """True for an answer whose own facts do not say which model gave it."""
    return message.turn_id is not None and message.role == "assistant" and message.model is None


def _ends_at(connection: Connection, tenant: str, positions: Sequence[int]) -> dict[int, AttemptEnded]:
    """The attempts' ends among the events at these positions."""
    found: dict[int, AttemptEnded] = {}
    for start in range(0, len(positions), _ENDS_AT_ONCE):
        some = positions[start : start + _ENDS_AT_ONCE]
        rows: Any = _ends(connection, tenant, AttemptEnded.event_type, *some, *[some[-1]] * (_ENDS_AT_ONCE - len(some)))
        for position, schema, facts in rows:
            found[position] = ATTEMPT_ENDS.facts(position, schema, facts)
    return found


def last_user(connection: Connection, tenant: str, state: SessionState) -> Row | None:
    """The newest user message of a session that can be sent: its words may have been erased since."""
    last = state.last_user
    if last is None:
        return None
    if erased_by(connection, tenant, last.position) is None:
        return Row(last.version, last.position, "user", last.tokens, last.unit)
    with SENT.newest(connection, tenant, state) as rows:
        found = next((row for row in rows if row.role == "user" and not row.left_out), None)
    return None if found is None else Row(found.version, found.position, found.role, found.tokens, found.unit)
