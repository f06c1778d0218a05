"""The rows of replays and suites, and how they are read."""

from __future__ import annotations

from uuid import UUID

import msgspec
from sqlalchemy import Connection, Integer, bindparam, literal_column, select, union_all

from ..clock import id_of
from ..errors import Conflict
from ..log.sql.clauses import limited, same, upsert
from ..log.sql.driver import Prepared, PreparedRows
from .replay_state import ReplayState, StreamState, SuiteState
from .tables import forks, replays, suites

_encode = msgspec.json.Encoder().encode
_replay = msgspec.json.Decoder(ReplayState).decode
_suite = msgspec.json.Decoder(SuiteState).decode

_upsert_replays = PreparedRows(upsert(replays, ["status", "state"]))
_upsert_suites = PreparedRows(upsert(suites, ["name", "state"]))
# tenant, id, tenant, id: a session that begins is looked for here, too, so that this is one query
_stream = Prepared(
    union_all(
        select(literal_column("1", Integer), replays.c.state).where(*same(replays, "tenant", "replay")),
        select(literal_column("0", Integer), suites.c.state).where(
            suites.c.tenant == bindparam("suite_tenant"), suites.c.suite == bindparam("suite_")
        ),
    )
)
_replay_state = Prepared(select(replays.c.state).where(*same(replays, "tenant", "replay")))
_suite_state = Prepared(select(suites.c.state).where(*same(suites, "tenant", "suite")))
_suite_named = Prepared(select(suites.c.state).where(*same(suites, "tenant", "name")))
_suites_after = Prepared(
    limited(
        select(suites.c.state)
        .where(*same(suites, "tenant"), suites.c.name > bindparam("after_"))
        .order_by(suites.c.name)
    )
)
_replays_before = Prepared(
    limited(
        select(replays.c.state)
        .where(*same(replays, "tenant"), replays.c.position < bindparam("before_"))
        .order_by(replays.c.position.desc())
    )
)
_running = Prepared(
    select(replays.c.tenant, replays.c.state).where(*same(replays, "status")).order_by(replays.c.position)
)
_forks_of = Prepared(
    select(forks.c.session, forks.c.parent_version).where(*same(forks, "tenant", "replay")).order_by(forks.c.position)
)


def stream_state(connection: Connection, tenant: str, stream: UUID) -> StreamState | None:
    """The state of a replay or a suite; None if it has not begun."""
    row = _stream(connection, tenant, stream.bytes, tenant, stream.bytes).fetchone()
    if row is None:
        return None
    return _replay(row[1]) if row[0] else _suite(row[1])


def replay_state(connection: Connection, tenant: str, replay: UUID) -> ReplayState | None:
    row = _replay_state(connection, tenant, replay.bytes).fetchone()
    return None if row is None else _replay(row[0])


def suite_state(connection: Connection, tenant: str, suite: UUID) -> SuiteState | None:
    row = _suite_state(connection, tenant, suite.bytes).fetchone()
    return None if row is None else _suite(row[0])


def suite_named(connection: Connection, tenant: str, name: str) -> SuiteState | None:
    """The suite of this name."""
    row = _suite_named(connection, tenant, name).fetchone()
    return None if row is None else _suite(row[0])


def list_suites(connection: Connection, tenant: str, after: str, limit: int) -> list[SuiteState]:
    """The suites whose names follow another, in order of their names."""
    return [_suite(state) for (state,) in _suites_after(connection, tenant, after, limit)]


def list_replays(connection: Connection, tenant: str, before: int, limit: int) -> list[ReplayState]:
    """The replays that began before a position, the newest first."""
    return [_replay(state) for (state,) in _replays_before(connection, tenant, before, limit)]


def running_replays(connection: Connection) -> list[tuple[str, ReplayState]]:
    """The replays of all tenants that have not ended, each with its tenant."""
    return [(tenant, _replay(state)) for tenant, state in _running(connection, "running")]


def forks_of_replay(connection: Connection, tenant: str, replay: UUID) -> list[tuple[UUID, int]]:
    """The sessions that a replay has forked, in the order in which it did, each with its version before."""
    return [(id_of(session), version) for session, version in _forks_of(connection, tenant, replay.bytes)]


def write_streams(connection: Connection, states: dict[tuple[str, int], StreamState]) -> None:
    """Write the rows of these states."""
    _upsert_replays(
        connection,
        [
            (tenant, state.id.bytes, state.first, state.mode, state.status, _encode(state))
            for (tenant, _), state in states.items()
            if isinstance(state, ReplayState)
        ],
    )
    _upsert_suites(
        connection,
        [
            (tenant, state.id.bytes, state.name, _encode(state))
            for (tenant, _), state in states.items()
            if isinstance(state, SuiteState)
        ],
    )


class SuiteExists(Conflict):
    """Another suite has this name."""

    code = "suite_exists"


class NameCheck(msgspec.Struct, frozen=True):
    """Checks, inside the append of a suite, that no other has its name: see ``log.base.Scratch``."""

    tenant: str
    suite: UUID
    name: str

    def check(self, connection: Connection) -> None:
        """Raises SuiteExists."""
        found = suite_named(connection, self.tenant, self.name)
        if found is not None and found.id != self.suite:
            raise SuiteExists("a suite of this name exists", suite_id=str(found.id))

    def apply(self, connection: Connection) -> None:
        """There is nothing to write beside the events."""
