"""Runs: the turns now open, and the process that runs each. Scratch that belongs to appends, and what recovery
reads.
"""

from __future__ import annotations

import logging
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from ..clock import id_of
from ..errors import TurnNotOpen
from .base import Reference, RequestKey
from .sql.checksums import checked
from .sql.clauses import same
from .sql.driver import Prepared
from .sql.idempotency import find_request, remember_request
from .sql.tables import journal, runs
from .transaction import Transaction

log = logging.getLogger("manent.store")

_THIS_RUN = same(runs, "tenant", "turn")
_insert_run = Prepared(insert(runs))
_owner = Prepared(select(runs.c.owner).where(*_THIS_RUN))
_run = Prepared(select(runs).where(*_THIS_RUN))
_runs_of = Prepared(select(runs).where(*same(runs, "owner")))
_all_runs = Prepared(select(runs).order_by(runs.c.tenant, runs.c.turn))
# lease_until, cancelled_by, checksum, tenant, turn
_update_run = Prepared(
    update(runs)
    .values(lease_until=bindparam("until_"), cancelled_by=bindparam("actor_"), checksum=bindparam("checksum_"))
    .where(*_THIS_RUN)
)
_delete_run = Prepared(delete(runs).where(*_THIS_RUN))
_delete_frames = Prepared(delete(journal).where(*same(journal, "tenant", "turn")))


class OpenRun(msgspec.Struct, frozen=True):
    """A turn begins, in this process. The table itself allows one run for each session."""

    tenant: str
    turn: UUID
    session: UUID
    owner: UUID
    lease_until: int

    def check(self, connection: Connection) -> None:
        """Nothing: that no turn is open is decided on the session's state."""

    def apply(self, connection: Connection) -> None:
        values = (self.tenant, self.turn.bytes, self.session.bytes, self.owner.bytes, self.lease_until, None)
        _insert_run(connection, *checked(values))


class CloseRun(msgspec.Struct, frozen=True):
    """A turn ends, or is paused: its journal and its run go in the same transaction. ``owner`` fences: whoever has
    lost the run may not end it. ``owner`` None is for recovery, which takes what nobody owns any more.
    """

    tenant: str
    turn: UUID
    owner: UUID | None

    def check(self, connection: Connection) -> None:
        row = _owner(connection, self.tenant, self.turn.bytes).fetchone()
        if row is None or (self.owner is not None and row[0] != self.owner.bytes):
            raise TurnNotOpen("the turn has ended, or another process runs it now")

    def apply(self, connection: Connection) -> None:
        _delete_frames(connection, self.tenant, self.turn.bytes)
        _delete_run(connection, self.tenant, self.turn.bytes)


class KeepRun(msgspec.Struct, frozen=True):
    """A round ends and the turn goes on: its journal goes in the same transaction. ``owner`` fences."""

    tenant: str
    turn: UUID
    owner: UUID

    def check(self, connection: Connection) -> None:
        CloseRun(self.tenant, self.turn, self.owner).check(connection)

    def apply(self, connection: Connection) -> None:
        _delete_frames(connection, self.tenant, self.turn.bytes)


class Run(msgspec.Struct, frozen=True):
    """A row of ``runs``. ``cancelled_by`` is the actor who asked for it to be cancelled."""

    tenant: str
    turn: UUID
    session: UUID
    owner: UUID
    lease_until: int
    cancelled_by: str | None


def request_cancel(tx: Transaction, tenant: str, turn: UUID, actor: str, request: RequestKey | None = None) -> bool:
    """Note that a turn shall be cancelled, if it is open; the first to ask is kept. Whether it is open.

    Raises IdempotencyMismatch for a ``request`` that came before with another body.
    """
    if request is not None and find_request(tx.connection, tenant, request) is None:
        remember_request(tx.connection, tenant, request, Reference("turn", turn, 0), tx.salt())
    row = _run(tx.connection, tenant, turn.bytes).fetchone()
    if row is None:
        return False
    *before, cancelled_by, _ = row
    after = checked((*before, cancelled_by or actor))
    _update_run(tx.connection, *after[4:], tenant, turn.bytes)
    return True


def open_runs(connection: Connection) -> list[Run]:
    """Every run there is."""
    return [
        Run(tenant, id_of(turn), id_of(session), id_of(owner), lease_until, cancelled_by)
        for tenant, turn, session, owner, lease_until, cancelled_by, _ in _all_runs(connection)
    ]


def owner_of(tx: Transaction, tenant: str, turn: UUID) -> UUID | None:
    """The process that runs a turn, or None if nobody does."""
    row = _owner(tx.connection, tenant, turn.bytes).fetchone()
    return None if row is None else id_of(row[0])


class ExtendLeases(msgspec.Struct, frozen=True):
    """A sign of life: every run of ``owner`` is its own until ``until_us``."""

    owner: UUID
    until_us: int


def extend_leases(tx: Transaction, work: ExtendLeases) -> None:
    rows = _runs_of(tx.connection, work.owner.bytes).fetchall()
    for tenant, turn, session, owner, _, cancelled_by, _ in rows:
        row = checked((tenant, turn, session, owner, work.until_us, cancelled_by))
        _update_run(tx.connection, *row[4:], tenant, turn)
