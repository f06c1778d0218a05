"""The projections' rows: sessions and their words, turns, and what usage taught us. Each function is one query, or
changes one row that an erasure has made untrue. Messages have a file of their own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import cache
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy import Connection, LargeBinary, bindparam, select, tuple_, update

from ..clock import id_of
from ..events.types import SessionWords
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared
from ..log.sql.tables import Int
from .state import SessionState
from .tables import HOUR_US, calibrations, session_words, sessions, turns
from .turn_state import TurnState

Order = Literal["activity", "created"]
TURNS_AT_ONCE = 64

_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(SessionState)
_turn = msgspec.json.Decoder(TurnState)
_session_state = Prepared(select(sessions.c.state).where(*same(sessions, "tenant", "session")))
_session_words = Prepared(
    select(session_words.c.title, session_words.c.system, session_words.c.metadata).where(
        *same(session_words, "tenant", "session")
    )
)
_set_words = Prepared(
    update(session_words)
    .values(title=bindparam("title_"), system=bindparam("words_"), metadata=bindparam("metadata_"))
    .where(*same(session_words, "tenant", "session"))
)
_turn_state = Prepared(select(turns.c.state).where(*same(turns, "tenant", "turn")))
_turn_states = Prepared(
    select(turns.c.turn, turns.c.state).where(
        *same(turns, "tenant"), turns.c.turn.in_([bindparam(f"turn_{number}") for number in range(TURNS_AT_ONCE)])
    )
)
_set_turn = Prepared(update(turns).values(state=bindparam("state_")).where(*same(turns, "tenant", "turn")))
_running_turns = Prepared(select(turns.c.turn, turns.c.session).where(*same(turns, "tenant", "status")))
_turns_after = Prepared(
    limited(
        select(turns.c.state)
        .where(*same(turns, "tenant", "session"), turns.c.version > bindparam("after_"))
        .order_by(turns.c.version)
    )
)
_turns_before = Prepared(
    limited(
        select(turns.c.state)
        .where(*same(turns, "tenant", "session"), turns.c.version < bindparam("before_"))
        .order_by(turns.c.version.desc())
    )
)
_calibration = Prepared(
    select(
        calibrations.c.samples, calibrations.c.base_tokens, calibrations.c.messages, calibrations.c.input_tokens
    ).where(*same(calibrations, "tenant", "model"))
)


def session_state(connection: Connection, tenant: str, session: UUID) -> SessionState | None:
    row = _session_state(connection, tenant, session.bytes).fetchone()
    return None if row is None else _state.decode(row[0])


def words_of_session(connection: Connection, tenant: str, session: UUID) -> SessionWords:
    """Title, system prompt and metadata."""
    row = _session_words(connection, tenant, session.bytes).fetchone()
    return _words(*row) if row is not None else SessionWords()


def list_sessions(
    connection: Connection,
    tenant: str,
    *,
    order: Order,
    status: str | None,
    before: tuple[int, UUID] | None,
    limit: int,
) -> Generator[tuple[SessionState, SessionWords], None, None]:
    """Sessions, newest first: by last activity, or by creation (ids are in order of time). ``before``:
    (updated_at, id). They are read only as they are asked for; close the generator when there are enough.
    """
    values: list[object] = [tenant]
    if status is not None:
        values.append(status)
    if before is not None:
        updated_at, session = before
        values += [session.bytes] if order == "created" else [updated_at // HOUR_US, updated_at, session.bytes]
    query = _listing(order, of_status=status is not None, goes_on=before is not None)
    with closing(query(connection, *values, limit)) as rows:
        for state, *words in rows:
            yield _state.decode(state), _words(*words)


@cache
def _listing(order: Order, *, of_status: bool, goes_on: bool) -> Prepared:
    """Sessions of a tenant, and of a status; those that follow one."""
    same_session = (session_words.c.tenant == sessions.c.tenant) & (session_words.c.session == sessions.c.session)
    query = (
        select(sessions.c.state, session_words.c.title, session_words.c.system, session_words.c.metadata)
        .select_from(sessions.outerjoin(session_words, same_session))
        .where(*same(sessions, "tenant", *["status"] * of_status))
    )
    if order == "created":
        query = query.order_by(sessions.c.session.desc())
        beyond = [sessions.c.session < bindparam("last_")]
    else:
        # The hours come from the index, and no more than those that the page needs are sorted.
        query = query.order_by(sessions.c.active_hour.desc(), sessions.c.updated_at.desc(), sessions.c.session.desc())
        last = tuple_(bindparam("updated_", type_=Int), bindparam("last_", type_=LargeBinary))
        beyond = [
            sessions.c.active_hour <= bindparam("hour_"),
            tuple_(sessions.c.updated_at, sessions.c.session) < last,
        ]
    return Prepared(limited(query.where(*beyond) if goes_on else query))


def set_words_of_session(connection: Connection, tenant: str, session: UUID, words: SessionWords) -> None:
    """Make a session's words what is left of them."""
    metadata = None if words.metadata is None else _encode(words.metadata)
    _set_words(connection, words.title, words.system, metadata, tenant, session.bytes)


def set_turn_state(connection: Connection, tenant: str, state: TurnState) -> None:
    """Make a turn's state what is left of it."""
    _set_turn(connection, _encode(state), tenant, state.id.bytes)


def running_turns(connection: Connection, tenant: str) -> list[tuple[UUID, UUID]]:
    """(turn, session) of those that have neither ended nor paused."""
    return [(id_of(turn), id_of(session)) for turn, session in _running_turns(connection, tenant, "running")]


def turn_state(connection: Connection, tenant: str, turn: UUID) -> TurnState | None:
    row = _turn_state(connection, tenant, turn.bytes).fetchone()
    return None if row is None else _turn.decode(row[0])


class _Attempt(msgspec.Struct):
    round: int
    attempt: int
    provider: str
    model: str


class _Attempts(msgspec.Struct):
    """As much of a turn's state as says which models were asked."""

    attempts: tuple[_Attempt, ...] = ()


_attempts = msgspec.json.Decoder(_Attempts)


def models_asked(connection: Connection, tenant: str, turns: Sequence[UUID]) -> dict[tuple[UUID, int, int], str]:
    """The full names of the models that turns have asked, by turn, round and attempt."""
    found: dict[tuple[UUID, int, int], str] = {}
    for start in range(0, len(turns), TURNS_AT_ONCE):
        some = [turn.bytes for turn in turns[start : start + TURNS_AT_ONCE]]
        for turn, state in _turn_states(connection, tenant, *some, *[some[-1]] * (TURNS_AT_ONCE - len(some))):
            for each in _attempts.decode(state).attempts:
                found[id_of(turn), each.round, each.attempt] = f"{each.provider}/{each.model}"
    return found


def list_turns(
    connection: Connection, tenant: str, session: UUID, *, after: int | None, limit: int, descending: bool = False
) -> list[TurnState]:
    """A session's turns in order of the version at which they started."""
    if descending:
        rows = _turns_before(connection, tenant, session.bytes, MAX_SAFE_INTEGER if after is None else after, limit)
    else:
        rows = _turns_after(connection, tenant, session.bytes, after or 0, limit)
    return [_turn.decode(row[0]) for row in rows]


def calibration(connection: Connection, tenant: str, model: str) -> tuple[int, int, int, int]:
    """Sums over a model's attempts that the vendor counted: samples, base tokens, messages, input tokens."""
    return _calibration(connection, tenant, model).fetchone() or (0, 0, 0, 0)


def _words(title: str | None, system: str | None, metadata: bytes | None) -> SessionWords:
    return SessionWords(title, system, msgspec.json.decode(metadata) if metadata is not None else None)
