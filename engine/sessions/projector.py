"""The rows of the projections: the store's ``Projector``, and how its tables are read."""

from __future__ import annotations

from functools import cache, partial
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, Dialect, bindparam, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert_into
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ..events.types import (
    AttemptEnded,
    BodyErased,
    Facts,
    MessageAppended,
    SessionStarted,
    SessionUpdated,
    SessionWords,
    TurnStarted,
)
from ..events.upcasts import facts_of, words_of
from ..log.base import RecordedEvent
from ..log.sql import driver
from .state import SessionState, evolve
from .tables import HOUR_US, PROJECTIONS, calibrations, messages, session_words, sessions, turns

_encode = msgspec.json.Encoder().encode
_state = msgspec.json.Decoder(SessionState)

Row = tuple[object, ...]
Key = tuple[str, int]


class Catalog:
    """Folds events and writes the rows of a whole batch at once. See ``store.base.Projector``."""

    def __init__(self) -> None:
        self._sql = _Statements(SQLiteDialect_pysqlite())
        self.forget()

    def load(self, connection: Connection, tenant: str, session: UUID) -> SessionState | None:
        row = driver.run(connection, self._sql.select_state, (tenant, session.bytes)).fetchone()
        return None if row is None else _state.decode(row[0])

    def fold(self, state: SessionState | None, event: RecordedEvent, meaning: Any = None) -> SessionState:
        facts: Facts = meaning or facts_of(event)
        after = evolve(state, event, facts)
        key = (event.tenant, event.session.int)
        self._sessions[key] = after
        if state is None or state.updated_at // HOUR_US != after.updated_at // HOUR_US:
            self._moved.add(key)
        if isinstance(facts, MessageAppended):
            self._messages.append(_message_row(event, facts, after))
        elif isinstance(facts, SessionStarted | SessionUpdated):
            self._remember_words(event, facts)
        elif isinstance(facts, TurnStarted) and facts.supersedes is not None:
            self._left_out.append((event.version, event.tenant, facts.supersedes))
        elif isinstance(facts, BodyErased):
            self._left_out += [(event.version, event.tenant, position) for position in facts.targets]
        elif isinstance(facts, AttemptEnded):
            self._calibrate(event.tenant, after)
        if after.turn is not None:
            self._turns[event.tenant, after.turn.id.int] = after
        return after

    def flush(self, connection: Connection) -> None:
        insert = partial(driver.insert_rows, connection)
        moved, rows = self._moved, [(key, _session_row(key, state)) for key, state in self._sessions.items()]
        insert(self._sql.upsert_session, [row for key, row in rows if key not in moved])
        insert(self._sql.move_session, [row for key, row in rows if key in moved])
        insert(self._sql.insert_message, self._messages)
        insert(self._sql.upsert_turn, [_turn_row(key[0], state) for key, state in self._turns.items()])
        insert(self._sql.add_calibration, self._calibrations)
        if self._left_out:
            driver.run(connection, self._sql.leave_out, self._left_out)
        for statement, values in self._words:
            driver.run(connection, statement, values)
        self.forget()

    def forget(self) -> None:
        self._sessions: dict[Key, SessionState] = {}
        self._moved: set[Key] = set()
        self._messages: list[Row] = []
        self._left_out: list[Row] = []
        self._turns: dict[Key, SessionState] = {}
        self._calibrations: list[Row] = []
        self._words: list[tuple[str, Row]] = []

    def _remember_words(self, event: RecordedEvent, facts: SessionStarted | SessionUpdated) -> None:
        """Title, system and metadata; those erased become null."""
        names = facts.changed if isinstance(facts, SessionUpdated) else ("title", "system", "metadata")
        words = words_of(event) or SessionWords()
        values: dict[str, object] = {
            name: getattr(words, name) for name in ("title", "system", "metadata") if name in names
        }
        if not values:
            return
        if values.get("metadata") is not None:
            values["metadata"] = _encode(values["metadata"])
        row = (event.tenant, event.session.bytes, *values.values())
        self._words.append((self._sql.upsert_words(tuple(values)), row))

    def _calibrate(self, tenant: str, state: SessionState) -> None:
        attempt = state.turn.attempts[-1] if state.turn is not None else None
        if attempt is None or attempt.usage is None or attempt.usage.estimated or not attempt.usage.input_tokens:
            return
        model = f"{attempt.provider}/{attempt.model}"
        self._calibrations.append((tenant, model, 1, attempt.base_tokens, attempt.messages, attempt.usage.input_tokens))


class _Statements:
    """Hot statements as text, as in ``store.statements``."""

    def __init__(self, dialect: Dialect) -> None:
        def text(clause: Any) -> str:
            return str(clause.compile(dialect=dialect))

        self._text = text
        self.select_state = text(
            select(sessions.c.state).where(
                sessions.c.tenant == bindparam("tenant"), sessions.c.session == bindparam("session")
            )
        )
        self.upsert_session = text(_upsert(sessions, ["tenant", "session"], ["status", "updated_at", "state"]))
        # An index is written anew whenever its columns are set, changed or not.
        self.move_session = text(
            _upsert(sessions, ["tenant", "session"], ["status", "updated_at", "active_hour", "state"])
        )
        self.upsert_turn = text(_upsert(turns, ["tenant", "turn"], ["status", "state"]))
        self.insert_message = text(messages.insert())
        self.leave_out = "UPDATE messages SET left_out = coalesce(left_out, ?) WHERE tenant = ? AND position = ?"
        add = upsert_into(calibrations)
        sums = {
            name: calibrations.c[name] + add.excluded[name]
            for name in ("samples", "base_tokens", "messages", "input_tokens")
        }
        self.add_calibration = text(add.on_conflict_do_update(index_elements=["tenant", "model"], set_=sums))

    @cache  # noqa: B019 - there is one of it
    def upsert_words(self, names: tuple[str, ...]) -> str:
        """Sets these columns of a session's words, in this order after its key."""
        key = ["tenant", "session"]
        return self._text(_upsert(session_words, key, list(names), [*key, *names]))


def _upsert(table: Any, keys: list[str], changed: list[str], columns: list[str] | None = None) -> Any:
    statement = upsert_into(table)
    if columns is not None:
        statement = statement.values({name: bindparam(name) for name in columns})
    return statement.on_conflict_do_update(
        index_elements=keys, set_={name: statement.excluded[name] for name in changed}
    )


def clear(connection: Connection) -> None:
    """Drop every row of every projection."""
    for table in PROJECTIONS:
        connection.execute(delete(table))


def _session_row(key: Key, state: SessionState) -> Row:
    return key[0], state.id.bytes, state.status, state.updated_at, state.updated_at // HOUR_US, _encode(state)


def _message_row(event: RecordedEvent, facts: MessageAppended, state: SessionState) -> Row:
    assert state.last is not None
    return (
        event.tenant,
        event.position,
        event.session.bytes,
        event.version,
        facts.role,
        facts.tokens,
        state.base_tokens,
        state.last.unit,
        int(facts.complete),
        event.version if facts.tokens == 0 else None,
    )


def _turn_row(tenant: str, state: SessionState) -> Row:
    turn = state.turn
    assert turn is not None
    return tenant, turn.id.bytes, turn.session.bytes, turn.version, turn.status, _encode(turn)
