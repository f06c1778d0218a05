"""The projections' rows: sessions and their words, turns, and what usage taught us. Each function is one query, or
changes one row that an erasure has made untrue. Messages have a file of their own.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, null, select, update

from ..clock import id_of
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared
from ..log.sql.session_index import Stretch
from .state import SessionState
from .tables import WAITING, calibrations, session_words, sessions, turns
from .turn_state import TurnState
from .words import WORD_FIELDS, ShownWords

TURNS_AT_ONCE = 64
LAST_ID = b"\xff" * 16


def _between(version: ColumnElement[int]) -> list[ColumnElement[bool]]:
    return [version > bindparam("after_"), version <= bindparam("up_to_")]


_encode = msgspec.json.Encoder().encode
decode_state = msgspec.json.Decoder(SessionState).decode
_turn = msgspec.json.Decoder(TurnState)
_session_state = Prepared(select(sessions.c.state).where(*same(sessions, "tenant", "session")))
WORDS = tuple(session_words.c[name] for name in ShownWords.__struct_fields__)
"""The columns of a session's words, as ``decode_words`` takes them."""
_session_words = Prepared(select(*WORDS).where(*same(session_words, "tenant", "session")))
# in the order of their columns, which an UPDATE keeps
_set_words = Prepared(
    update(session_words)
    .values({name: bindparam(f"{name}_words") for name in WORD_FIELDS})
    .where(*same(session_words, "tenant", "session"))
)
_forget_preview = Prepared(
    update(session_words).values(preview=null()).where(*same(session_words, "tenant", "session"))
)
# state, model, tenant, session
_set_state = Prepared(
    update(sessions)
    .values(state=bindparam("state_"), model=bindparam("model_"))
    .where(*same(sessions, "tenant", "session"))
)
_turn_state = Prepared(select(turns.c.state).where(*same(turns, "tenant", "turn")))
_turn_states = Prepared(
    select(turns.c.turn, turns.c.state).where(
        *same(turns, "tenant"), turns.c.turn.in_([bindparam(f"turn_{number}") for number in range(TURNS_AT_ONCE)])
    )
)
_set_turn = Prepared(update(turns).values(state=bindparam("state_")).where(*same(turns, "tenant", "turn")))
_running_turns = Prepared(select(turns.c.turn, turns.c.session).where(*same(turns, "tenant", "status")))
# tenant, before, limit; of one status: tenant, status, before, limit
_newest_turns, _newest_of_status = (
    Prepared(
        limited(
            select(turns.c.state)
            .where(*same(turns, *columns), turns.c.turn < bindparam("before_"))
            .order_by(turns.c.turn.desc())
        )
    )
    for columns in (("tenant",), ("tenant", "status"))
)
_newest_waiting = Prepared(
    limited(
        select(turns.c.state)
        .where(*same(turns, "tenant"), turns.c.turn < bindparam("before_"), WAITING)
        .order_by(turns.c.turn.desc())
    )
)
_turns_after = Prepared(
    limited(
        select(turns.c.state)
        .where(*same(turns, "tenant", "session"), *_between(turns.c.version))
        .order_by(turns.c.version)
    )
)
_turns_before = Prepared(
    limited(
        select(turns.c.state)
        .where(*same(turns, "tenant", "session"), *_between(turns.c.version))
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
    return None if row is None else decode_state(row[0])


def words_of_session(connection: Connection, tenant: str, session: UUID) -> ShownWords:
    """Title, system prompt, metadata and such."""
    row = _session_words(connection, tenant, session.bytes).fetchone()
    return decode_words(row) if row is not None else ShownWords()


def set_words_of_session(connection: Connection, tenant: str, session: UUID, words: ShownWords) -> None:
    """Make what a session was given in words what is left of it."""
    values = {name: getattr(words, name) for name in WORD_FIELDS}
    if words.metadata is not None:
        values["metadata"] = _encode(words.metadata)
    _set_words(connection, *values.values(), tenant, session.bytes)


def forget_named(connection: Connection, tenant: str, state: SessionState, positions: Container[int]) -> None:
    """Make the settings that a session has by name what is left of them, where events at these positions named them."""
    named = {name: each for name, each in state.named.items() if each.position not in positions}
    if len(named) < len(state.named):
        left = msgspec.structs.replace(state, named=named)
        _set_state(connection, _encode(left), left.setting("model"), tenant, state.id.bytes)


def forget_preview(connection: Connection, tenant: str, session: UUID) -> None:
    """Make the beginning of what was said null."""
    _forget_preview(connection, tenant, session.bytes)


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
    named: str | None = None


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
                found[id_of(turn), each.round, each.attempt] = f"{each.provider}/{each.named or each.model}"
    return found


def turns_between(
    connection: Connection, tenant: str, stretch: Stretch, limit: int, *, descending: bool = False
) -> list[TurnState]:
    """The turns that a session started in a stretch of its versions, in order of these."""
    query = _turns_before if descending else _turns_after
    rows = query(connection, tenant, stretch.session.bytes, stretch.after, stretch.up_to, limit)
    return [_turn.decode(row[0]) for row in rows]


def list_all_turns(
    connection: Connection, tenant: str, *, status: str | None, before: UUID | None, limit: int
) -> list[TurnState]:
    """A tenant's turns, newest first (ids are in order of time); with ``status`` only those. An index helps with those
    that wait; for another status the turns before the page are looked through.
    """
    last = LAST_ID if before is None else before.bytes
    if status is None:
        rows = _newest_turns(connection, tenant, last, limit)
    elif status == "requires_action":
        rows = _newest_waiting(connection, tenant, last, limit)
    else:
        rows = _newest_of_status(connection, tenant, status, last, limit)
    return [_turn.decode(row[0]) for row in rows]


def calibration(connection: Connection, tenant: str, model: str) -> tuple[int, int, int, int]:
    """Sums over a model's attempts that the vendor counted: samples, base tokens, messages, input tokens."""
    return _calibration(connection, tenant, model).fetchone() or (0, 0, 0, 0)


def decode_words(row: Sequence[Any]) -> ShownWords:
    """A session's words from their columns."""
    words = ShownWords(*row)
    if words.metadata is None:
        return words
    return msgspec.structs.replace(words, metadata=msgspec.json.decode(row[WORD_FIELDS.index("metadata")]))
