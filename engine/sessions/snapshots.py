"""Snapshots: the state of a session at every 128th of its versions, and where it was forked, so that reading the past
folds few events.

They hold no words: what a state knows of words is read anew from the events that its ``set_at`` names. So an erasure
has nothing to take out of them, and folding the log again gives the same bytes whatever was erased since.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, insert, select

from ..events.base import Facts
from ..events.session_types import SessionForked
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared, PreparedRows
from .queries import decode_state
from .state import SessionState, without_words
from .tables import snapshots

VERSIONS_APART = 128
"""Another number would be another projection."""

insert_snapshots = PreparedRows(insert(snapshots))
_encode = msgspec.json.Encoder().encode
_newest = Prepared(
    limited(
        select(snapshots.c.state)
        .where(*same(snapshots, "tenant", "session"), snapshots.c.version <= bindparam("up_to_"))
        .order_by(snapshots.c.version.desc())
    )
)


def is_kept(state: SessionState, facts: Facts) -> bool:
    """True for a state that is kept, after an event of which the facts are given."""
    return not state.version % VERSIONS_APART or isinstance(facts, SessionForked)


def snapshot_row(tenant: str, state: SessionState) -> tuple[object, ...]:
    """The row that keeps a state."""
    return tenant, state.id.bytes, state.version, _encode(without_words(state))


def newest_snapshot(connection: Connection, tenant: str, session: UUID, up_to: int) -> SessionState | None:
    """The newest state of a session, up to a version, that was kept; without words."""
    row = _newest(connection, tenant, session.bytes, up_to, 1).fetchone()
    return None if row is None else decode_state(row[0])
