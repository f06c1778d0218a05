"""The rows of the projections: the store's ``Projector``, and how its tables are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Table, bindparam, func, insert, update

from ..events.base import Facts
from ..events.session_types import (
    MessagePinned,
    MessageUnpinned,
    SessionForked,
    SessionStarted,
    SessionUpdated,
    SessionWords,
)
from ..events.turn_types import OTHER, AnswerDeleted, AttemptEnded, AttemptStarted, Protocol, TurnStarted
from ..events.types import BodyErased, MessageAppended
from ..events.upcasts import facts_of, words_left
from ..log.base import Inherited, RecordedEvent
from ..log.sql.clauses import same, upsert
from ..log.sql.documents import SALTED_SINCE, Use, add_uses
from ..log.sql.driver import Prepared, PreparedRows
from .aliases import alias_row, insert_aliases
from .answers import answer_row, hide_answer, insert_answers
from .copies import copy_row, insert_copies
from .forks import fork_row, insert_forks
from .history import inherited_at
from .lineage import as_erased
from .marks import insert_marks, mark_rows
from .prefixes import chain_at, chained, insert_prefixes, prefix_row
from .queries import session_state, words_of_session
from .replay_state import StreamState, begins_stream, evolve_stream
from .replays import stream_state, write_streams
from .snapshots import insert_snapshots, is_kept, snapshot_row
from .state import SessionState, evolve, inherit
from .tables import HOUR_US, KEYED, PROJECTIONS, calibrations, messages, session_words, sessions, turns
from .unstored import asks_to_forget, insert_unstored, unstored_row
from .words import changed_words, merged, preview_of

_encode = msgspec.json.Encoder().encode

State = SessionState | StreamState
Row = tuple[object, ...]
Key = tuple[str, int]
Sums = tuple[int, int, int, int]
"""Samples, base tokens, messages and input tokens."""

_LISTED = ("state", "model", "failed", "waiting")
_upsert_sessions = PreparedRows(upsert(sessions, ["status", "updated_at", *_LISTED]))
# An index is written anew whenever its columns are set, changed or not.
_move_sessions = PreparedRows(upsert(sessions, ["status", "updated_at", "active_hour", *_LISTED]))
_upsert_turns = PreparedRows(upsert(turns, ["status", "state"]))
_insert_messages = PreparedRows(insert(messages))
_add_calibrations = PreparedRows(upsert(calibrations, [], added=["samples", "base_tokens", "messages", "input_tokens"]))
# by position, tenant, position
_leave_out = Prepared(
    update(messages)
    .values(left_out=func.coalesce(messages.c.left_out, bindparam("by_")))
    .where(*same(messages, "tenant", "position"))
)


@cache
def _upsert_words(names: tuple[str, ...]) -> Prepared:
    """Sets these columns of a session's words, in this order after its key."""
    return Prepared(upsert(session_words, names, columns=("tenant", "session", *names)))


class Catalog:
    """Folds events and writes the rows of a whole batch at once. See ``store.base.Projector``. ``key``: of the hashes
    by which histories and clients' names are recognised; None: there are none.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self.forget()

    def load(self, connection: Connection, tenant: str, session: UUID) -> State | None:
        state = session_state(connection, tenant, session)
        if state is None:
            return stream_state(connection, tenant, session)
        return self._chained(connection, tenant, state)

    def inherited(self, first: RecordedEvent) -> Inherited | None:
        facts = facts_of(first)
        return Inherited(facts.parent, facts.parent_version) if isinstance(facts, SessionForked) else None

    def inherit(
        self, log: Connection, derived: Connection, tenant: str, session: UUID, source: Inherited
    ) -> SessionState:
        parent, words = inherited_at(log, derived, tenant, source)
        values = msgspec.structs.asdict(words)
        if words.metadata is not None:
            values["metadata"] = _encode(words.metadata)
        self._inherited[tenant, session.int] = values
        return inherit(self._chained(derived, tenant, parent), session)

    def current(self, connection: Connection, tenant: str, state: State) -> State:
        return as_erased(connection, tenant, state) if isinstance(state, SessionState) else state

    def fold(self, state: State | None, event: RecordedEvent) -> State:
        facts = facts_of(event)
        if isinstance(state, SessionState) or (state is None and not begins_stream(facts)):
            return self._fold(state, event, facts)
        stream = self._streams[event.tenant, event.session.int] = evolve_stream(state, event, facts)
        return stream

    def _chained(self, connection: Connection, tenant: str, state: SessionState) -> SessionState:
        """The state with the hash of its history; without the key there are none, whatever an older server has kept."""
        if self._key is None or not state.drop_in:
            return state
        return replace(state, chain=chain_at(connection, tenant, state))

    def _fold(self, state: SessionState | None, event: RecordedEvent, facts: Facts) -> SessionState:
        after = chained(self._key, state, event, facts, evolve(state, event, facts))
        key = (event.tenant, event.session.int)
        self._sessions[key] = after
        row = prefix_row(event, facts, after) if after.drop_in else None
        self._prefixes += [] if row is None else [row]
        if is_kept(after, facts):
            self._snapshots.append(snapshot_row(event.tenant, after))
        if state is None or state.updated_at // HOUR_US != after.updated_at // HOUR_US:
            self._moved.add(key)
        if isinstance(facts, MessageAppended):
            self._remember_message(event, facts, after)
            self._marks += mark_rows(event, facts)
        elif isinstance(facts, SessionStarted | SessionForked | SessionUpdated):
            self._remember_words(event, facts, after)
        elif isinstance(facts, TurnStarted | MessagePinned | MessageUnpinned):
            self._marks += mark_rows(event, facts)
        elif isinstance(facts, BodyErased):
            self._left_out += [(event.position, event.tenant, position) for position in facts.targets]
        elif isinstance(facts, AttemptStarted):
            self._remember_use(event, facts)
        elif isinstance(facts, AttemptEnded):
            self._calibrate(event.tenant, after)
        self._remember_client(event, facts)
        if after.turn is not None:
            self._turns[event.tenant, after.turn.id.int] = after
        return after

    def flush(self, connection: Connection) -> None:
        moved, rows = self._moved, [(key, _session_row(key, state)) for key, state in self._sessions.items()]
        _upsert_sessions(connection, [row for key, row in rows if key not in moved])
        _move_sessions(connection, [row for key, row in rows if key in moved])
        _insert_messages(connection, self._messages)
        _upsert_turns(connection, [_turn_row(key[0], state) for key, state in self._turns.items()])
        insert_copies(connection, self._copies)
        insert_forks(connection, self._forks)
        insert_marks(connection, self._marks)
        insert_prefixes(connection, self._prefixes)
        insert_aliases(connection, self._aliases)
        insert_answers(connection, self._answers)
        insert_unstored(connection, self._unstored)
        insert_snapshots(connection, self._snapshots)
        _add_calibrations(connection, [(*key, *sums) for key, sums in self._calibrations.items()])
        add_uses(connection, self._uses)
        for values in self._left_out:
            _leave_out(connection, *values)
        for hidden in self._hidden:
            hide_answer(connection, *hidden)
        for set_words in self._words:
            set_words(connection)
        write_streams(connection, self._streams)
        self.forget()

    def forget(self) -> None:
        self._sessions: dict[Key, SessionState] = {}
        self._moved: set[Key] = set()
        self._messages: list[Row] = []
        self._left_out: list[Row] = []
        self._copies: list[Row] = []
        self._forks: list[Row] = []
        self._marks: list[Row] = []
        self._prefixes: list[Row] = []
        self._aliases: list[Row] = []
        self._answers: list[Row] = []
        self._unstored: list[Row] = []
        self._hidden: list[tuple[str, Protocol, UUID]] = []
        self._snapshots: list[Row] = []
        self._turns: dict[Key, SessionState] = {}
        self._calibrations: dict[tuple[str, str], Sums] = {}
        self._inherited: dict[Key, dict[str, object]] = {}
        self._words: list[Callable[[Connection], object]] = []
        self._uses: list[Use] = []
        self._streams: dict[Key, StreamState] = {}

    def _remember_message(self, event: RecordedEvent, facts: MessageAppended, after: SessionState) -> None:
        self._messages.append(_message_row(event, facts, after))
        if event.position == after.first_user:
            self._set_words(event, {"preview": preview_of(event)})

    def _remember_words(
        self, event: RecordedEvent, facts: SessionStarted | SessionForked | SessionUpdated, after: SessionState
    ) -> None:
        """What an event says of a session in words; those erased or damaged become null."""
        if isinstance(facts, SessionForked):
            self._forks.append(fork_row(event, facts, after))
            self._set_words(event, self._inherited.pop((event.tenant, event.session.int)))
        words = words_left(event) or SessionWords()
        assert isinstance(words, SessionWords)
        values: dict[str, object] = {name: getattr(words, name) for name in changed_words(facts)}
        if isinstance(facts, SessionUpdated) and facts.merges:
            self._words.append(partial(_merge_metadata, event=event, patch=words.metadata))
            values = {}
        elif values.get("metadata") is not None:
            values["metadata"] = _encode(values["metadata"])
        if values:
            self._set_words(event, values)
        copy = copy_row(event, facts) if isinstance(facts, SessionStarted) else None
        if copy is not None:
            self._copies.append(copy)

    def _set_words(self, event: RecordedEvent, values: dict[str, object]) -> None:
        row = (event.tenant, event.session.bytes, *values.values())
        self._words.append(lambda connection: _upsert_words(tuple(values))(connection, *row))

    def _remember_client(self, event: RecordedEvent, facts: Facts) -> None:
        """Where a client finds a turn again: by its id, and under the client's name of the conversation."""
        if isinstance(facts, AnswerDeleted):
            self._hidden.append((event.tenant, facts.protocol, facts.turn))
        if not isinstance(facts, TurnStarted) or facts.client is None:
            return
        if facts.client.stored:
            self._answers.append(answer_row(event, facts.client))
        row = unstored_row(event) if asks_to_forget(facts.client) else None
        self._unstored += [] if row is None else [row]
        alias = None if self._key is None else alias_row(self._key, event, facts.client)
        self._aliases += [] if alias is None else [alias]

    def _remember_use(self, event: RecordedEvent, facts: AttemptStarted) -> None:
        """Of the document that an attempt names, unless its own words are erased."""
        if facts.tools is not None and event.schema >= SALTED_SINCE and not event.erased:
            self._uses.append((event.tenant, bytes.fromhex(facts.tools), event.position))

    def _calibrate(self, tenant: str, state: SessionState) -> None:
        attempt = state.turn.attempts[-1] if state.turn is not None else None
        if attempt is None or attempt.usage is None or attempt.usage.estimated or not attempt.usage.input_tokens:
            return
        if attempt.model == OTHER:  # any of a provider's models that nobody lists: they count differently
            return
        key = (tenant, f"{attempt.provider}/{attempt.model}")
        samples, base, sent, counted = self._calibrations.get(key, (0, 0, 0, 0))
        self._calibrations[key] = (
            samples + 1,
            base + attempt.base_tokens,
            sent + attempt.messages,
            counted + attempt.usage.input_tokens,
        )


def _merge_metadata(connection: Connection, event: RecordedEvent, patch: dict[str, Any] | None) -> None:
    """Merge a patch into a session's metadata; an erased or damaged one changes nothing."""
    if patch:
        before = words_of_session(connection, event.tenant, event.session).metadata
        row = (event.tenant, event.session.bytes, _encode(merged(before, patch)))
        _upsert_words(("metadata",))(connection, *row)


def _session_row(key: Key, state: SessionState) -> Row:
    times = (state.updated_at, state.updated_at // HOUR_US)
    kept = state if state.chain is None else replace(state, chain=None)
    listed = (_encode(kept), state.setting("model"), state.failed_count, int(state.waiting))
    return key[0], state.id.bytes, state.status, *times, *listed


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
        event.position if facts.tokens == 0 else None,
    )


def _turn_row(tenant: str, state: SessionState) -> Row:
    turn = state.turn
    assert turn is not None
    return tenant, turn.id.bytes, turn.session.bytes, turn.version, turn.status, _encode(turn)


def derived(prefix_key: bytes | None) -> tuple[Catalog, tuple[Table, ...]]:
    """What folds a log, and the tables that are derived by it: those of keyed hashes only where there is the key."""
    tables = tuple(table for table in PROJECTIONS if table not in KEYED or prefix_key is not None)
    return Catalog(prefix_key), tables
