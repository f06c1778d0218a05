"""The forks of sessions: which there are, and which of them share a version. Lineages are read from a session's state;
this is the way down, from a session to those that share its history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection, func, insert, select

from ..clock import id_of
from ..errors import SessionFull
from ..events.session_types import SessionForked
from ..log.append import check_expected
from ..log.base import Expected, RecordedEvent
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared, PreparedRows
from .decisions import check_forkable
from .queries import session_state
from .state import SessionState
from .tables import forks

insert_forks = PreparedRows(insert(forks))
_of_family = Prepared(
    select(
        *(forks.c.session, forks.c.parent, forks.c.parent_version),
        *(forks.c.position, forks.c.after_message, forks.c.replay),
    )
    .where(*same(forks, "tenant", "root"))
    .order_by(forks.c.position)
)
_size_of_family = Prepared(select(func.count()).select_from(forks).where(*same(forks, "tenant", "root")))


class Fork(msgspec.Struct, frozen=True, gc=False):
    """A session that shares the history of ``parent`` up to ``parent_version``. ``position``: of its first event;
    ``after_message``: of the last message that it shares, 0 if there is none; ``replay``: which made it.
    """

    session: UUID
    parent: UUID
    parent_version: int
    position: int
    after_message: int
    replay: UUID | None


def fork_row(event: RecordedEvent, facts: SessionForked, state: SessionState) -> tuple[object, ...]:
    """The row of a session that was forked, from its state right after."""
    assert state.root is not None
    parent, replay = facts.parent.bytes, facts.replay and facts.replay.bytes
    after = state.last.position if state.last is not None else 0
    place = (facts.parent_version, event.position, after)
    return event.tenant, event.session.bytes, state.root.bytes, parent, *place, replay


def forks_of_family(connection: Connection, tenant: str, root: UUID) -> list[Fork]:
    """The forks in a family, the oldest first."""
    return [_fork(row) for row in _of_family(connection, tenant, root.bytes)]


def _fork(row: Sequence[Any]) -> Fork:
    session, parent, version, position, after, replay = row
    return Fork(id_of(session), id_of(parent), version, position, after, None if replay is None else id_of(replay))


def sharers(forks: Iterable[Fork], session: UUID) -> dict[UUID, int]:
    """Of a family's forks, oldest first, those that share events which stand in ``session``, each up to which
    version.
    """
    shared: dict[UUID, int] = {}
    for fork in forks:
        if fork.parent == session:
            shared[fork.session] = fork.parent_version
        elif fork.parent in shared:
            shared[fork.session] = min(shared[fork.parent], fork.parent_version)
    return shared


class ForkCheck(msgspec.Struct, frozen=True):
    """Checks, inside the append of a fork, that its parent may be forked: see ``log.base.Scratch``. ``expected``: the
    version that the parent must be at; ``most``: how many forks a family may have.
    """

    tenant: str
    parent: UUID
    expected: Expected
    now_us: int
    most: int

    def check(self, connection: Connection) -> None:
        """Raises SessionNotFound, SessionArchived, SessionExpired, VersionConflict and SessionFull."""
        parent = check_forkable(session_state(connection, self.tenant, self.parent), self.now_us)
        check_expected(self.expected, parent.version)
        (forks,) = _size_of_family(connection, self.tenant, (parent.root or parent.id).bytes).fetchone()
        if forks >= self.most:
            detail = f"the family of session {parent.id} has {forks} forks"
            raise SessionFull(detail, limit="max_forks", maximum=self.most)

    def apply(self, connection: Connection) -> None:
        """There is nothing to write beside the events."""
