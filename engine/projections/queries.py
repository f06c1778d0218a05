"""Reading the projections: sessions and their words, messages, turns, and what usage taught us. Each function is
one query.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Select, select, tuple_
from sqlalchemy import Row as SqlRow

from engine.events import SessionWords
from engine.projections.session import SessionState
from engine.projections.tables import calibrations, messages, session_words, sessions, turns
from engine.projections.turn import TurnState
from engine.projections.window import Row
from engine.store.base import RecordedEvent
from engine.store.reading import as_event
from engine.store.statements import recorded
from engine.store.tables import events

PAGE_ROWS = 128
"""Rows read at once while a window is chosen: about what a window of 8,000 tokens holds."""

Order = Literal["activity", "created"]

_state = msgspec.json.Decoder(SessionState)
_turn = msgspec.json.Decoder(TurnState)
_message_rows = select(
    messages.c.version, messages.c.position, messages.c.role, messages.c.tokens, messages.c.unit, messages.c.left_out
)


def session_state(connection: Connection, tenant: str, session: UUID) -> SessionState | None:
    query = select(sessions.c.state).where(sessions.c.tenant == tenant, sessions.c.session == session.bytes)
    found = connection.execute(query).scalar()
    return None if found is None else _state.decode(found)


def words_of_session(connection: Connection, tenant: str, session: UUID) -> SessionWords:
    """Title, system prompt and metadata."""
    query = select(session_words.c.title, session_words.c.system, session_words.c.metadata).where(
        session_words.c.tenant == tenant, session_words.c.session == session.bytes
    )
    row = connection.execute(query).fetchone()
    return _words(*row) if row is not None else SessionWords()


def list_sessions(
    connection: Connection,
    tenant: str,
    *,
    order: Order,
    status: str | None,
    before: tuple[int, UUID] | None,
    limit: int,
) -> list[tuple[SessionState, SessionWords]]:
    """Sessions, newest first: by last activity, or by creation (ids are in order of time). ``before``:
    (updated_at, id).
    """
    query = select(
        sessions.c.state, session_words.c.title, session_words.c.system, session_words.c.metadata
    ).select_from(
        sessions.outerjoin(
            session_words,
            (session_words.c.tenant == sessions.c.tenant) & (session_words.c.session == sessions.c.session),
        )
    )
    query = query.where(sessions.c.tenant == tenant).limit(limit)
    if status is not None:
        query = query.where(sessions.c.status == status)
    if order == "created":
        query = query.order_by(sessions.c.session.desc())
        if before is not None:
            query = query.where(sessions.c.session < before[1].bytes)
    else:
        query = query.order_by(sessions.c.updated_at.desc(), sessions.c.session.desc())
        if before is not None:
            query = query.where(tuple_(sessions.c.updated_at, sessions.c.session) < tuple_(before[0], before[1].bytes))
    return [(_state.decode(row[0]), _words(*row[1:])) for row in connection.execute(query)]


def list_messages(
    connection: Connection, tenant: str, session: UUID, *, after: int | None, limit: int, descending: bool = False
) -> list[RecordedEvent]:
    """The events of a session's messages, in order of version; ``after``: those that follow it in that order."""
    query = _messages_of(recorded.join(messages, _same_position()), tenant, session).limit(limit)
    query = query.order_by(events.c.version.desc() if descending else events.c.version)
    if after is not None:
        query = query.where(events.c.version < after if descending else events.c.version > after)
    return [as_event(row) for row in connection.execute(query)]


def newest_rows(connection: Connection, tenant: str, session: UUID, *, up_to: int) -> Iterator[Row]:
    """Rows of messages from version ``up_to`` backwards; pages are read only as they are needed."""
    query = (
        _messages_of(_message_rows.join(events, _same_position()), tenant, session)
        .order_by(events.c.version.desc())
        .limit(PAGE_ROWS)
    )
    before = up_to + 1
    while True:
        page = [_row(row) for row in connection.execute(query.where(events.c.version < before))]
        yield from page
        if len(page) < PAGE_ROWS:
            return
        before = page[-1].version


def turn_state(connection: Connection, tenant: str, turn: UUID) -> TurnState | None:
    query = select(turns.c.state).where(turns.c.tenant == tenant, turns.c.turn == turn.bytes)
    found = connection.execute(query).scalar()
    return None if found is None else _turn.decode(found)


def list_turns(
    connection: Connection, tenant: str, session: UUID, *, after: int | None, limit: int, descending: bool = False
) -> list[TurnState]:
    """A session's turns in order of the version at which they started."""
    query = select(turns.c.state).where(turns.c.tenant == tenant, turns.c.session == session.bytes).limit(limit)
    query = query.order_by(turns.c.version.desc() if descending else turns.c.version)
    if after is not None:
        query = query.where(turns.c.version < after if descending else turns.c.version > after)
    return [_turn.decode(state) for state in connection.execute(query).scalars()]


def calibration(connection: Connection, tenant: str, model: str) -> tuple[int, int, int, int]:
    """Sums over a model's attempts that the vendor counted: samples, base tokens, messages, input tokens."""
    query = select(
        calibrations.c.samples, calibrations.c.base_tokens, calibrations.c.messages, calibrations.c.input_tokens
    ).where(calibrations.c.tenant == tenant, calibrations.c.model == model)
    row = connection.execute(query).fetchone()
    return (row[0], row[1], row[2], row[3]) if row is not None else (0, 0, 0, 0)


def _messages_of(query: Select[Any], tenant: str, session: UUID) -> Select[Any]:
    """``query`` for the messages of a session: the log knows what belongs to it, in order of version."""
    return query.where(events.c.tenant == tenant, events.c.session == session.bytes)


def _same_position() -> Any:
    return (messages.c.tenant == events.c.tenant) & (messages.c.position == events.c.position)


def _row(row: SqlRow[Any]) -> Row:
    version, position, role, tokens, unit, left_out = tuple(row)
    return Row(version, position, role, tokens, unit, left_out=bool(left_out))


def _words(title: str | None, system: str | None, metadata: bytes | None) -> SessionWords:
    return SessionWords(title, system, msgspec.json.decode(metadata) if metadata is not None else None)
