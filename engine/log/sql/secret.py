"""Which secret a database belongs to: its id, never the secret (see ``audit.secret``)."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from .driver import Prepared
from .tables import secret

_bound = Prepared(select(secret.c.id))
_bind = Prepared(insert(secret))


def bound_to(connection: Connection) -> bytes | None:
    """The id of the database's secret; None: it has not been served with one yet."""
    row = _bound(connection).fetchone()
    return None if row is None else bytes(row[0])


def bind(connection: Connection, secret_id: bytes) -> None:
    """Name the secret, once and for all."""
    _bind(connection, secret_id)
