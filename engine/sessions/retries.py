"""The turns that clients' requests have started: an automatic retry is given the same one, also after a restart.

A request is known by a keyed hash, and forgotten after a while: who sends the same words again asks anew.
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, delete, select

from ..clock import id_of
from ..log.sql.clauses import same, upsert
from ..log.sql.driver import Prepared
from .tables import retries

_find = Prepared(select(retries.c.turn).where(*same(retries, "tenant", "key")))
_write = Prepared(upsert(retries, ["turn", "at"]))
_forget = Prepared(delete(retries).where(*same(retries, "tenant"), retries.c.at < bindparam("before_")))
_forget_turn = Prepared(delete(retries).where(*same(retries, "tenant", "turn")))


FORGETTING = 16
"""Of 256: so often a request has the older ones forgotten. What is too old is not asked for in the meantime."""


class RememberTurn(msgspec.Struct, frozen=True):
    """Remembers, in the append that starts a turn, which request has started it: see ``log.base.Scratch``. Older ones
    are forgotten, not by each.
    """

    tenant: str
    key: bytes
    turn: UUID
    at_us: int
    kept_us: int

    def check(self, connection: Connection) -> None:
        """There is nothing that would refuse it."""

    def apply(self, connection: Connection) -> None:
        """Write it down."""
        if self.key[0] < FORGETTING:
            _forget(connection, self.tenant, self.at_us - self.kept_us)
        _write(connection, self.tenant, self.key, self.turn.bytes, self.at_us)


def turn_of_request(connection: Connection, tenant: str, key: bytes) -> UUID | None:
    """The turn that a request has started last; None: it is not known, or not any more."""
    row = _find(connection, tenant, key).fetchone()
    return None if row is None else id_of(row[0])


def forget_turn(connection: Connection, tenant: str, turn: UUID) -> None:
    """Forget the requests that have started a turn: words that they held are erased."""
    _forget_turn(connection, tenant, turn.bytes)
