"""Checking bodies against their commitments: what does not match was not recorded so, and is neither shown nor sent.

It is done where rows are read, so that nobody who reads can forget it. What is erased has neither body nor salt, and a
row in ``erasures``; a body that is missing without one is damage, too. Whether the commitment itself is the one that
was recorded is for verifying to say: it stands in the leaf.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256

from sqlalchemy import Connection, select

from ..base import Erasure
from .clauses import same, with_bodies
from .driver import Prepared
from .tables import bodies, erasures, events

DAMAGE = "manent.damage"
"""Under which name a connection carries the register of damage (``Connection.info``)."""

SALT_BYTES = 16

Found = Callable[[str, int], None]
"""Told the tenant and the position of a damaged row. It is called on the thread that reads."""

_erased_by = Prepared(select(erasures.c.by_position).where(*same(erasures, "tenant", "position")))
_erasing = Prepared(
    select(
        *(events.c.position, events.c.schema, events.c.actor, events.c.recorded_at),
        *(events.c.commitment, bodies.c.salt, bodies.c.bytes),
    )
    .select_from(with_bodies(events))
    .where(*same(events, "tenant", "position"))
)


class Damage:
    """The damaged rows that were read so far. Each is told of once; no more than ``most`` are told apart, and what
    comes then is not counted.
    """

    def __init__(self, most: int, found: Found) -> None:
        self._most = most
        self._found = found
        self._rows: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, tenant: str, position: int) -> None:
        """Count a row, and tell of it, if it was not noted before."""
        with self._lock:
            if (tenant, position) in self._rows or len(self._rows) >= self._most:
                return
            self._rows.add((tenant, position))
        self._found(tenant, position)


def is_sound(
    connection: Connection, tenant: str, position: int, committed: bytes, salt: bytes | None, body: bytes | None
) -> bool:
    """True if a body is the one that was committed to, or is erased. A row that is neither is noted."""
    # Bytes moved from body to salt would hash the same. ``codec.commitment`` is written out: it is done for every row.
    if body is None or salt is None:
        sound = erased_by(connection, tenant, position) is not None
    else:
        sound = sha256(salt + body).digest() == committed and len(salt) == SALT_BYTES
    if sound:
        return True
    damage: Damage | None = connection.info.get(DAMAGE)
    if damage is not None:
        damage.note(tenant, position)
    return False


def erased_by(connection: Connection, tenant: str, position: int) -> int | None:
    """The position of the event that tells of this one's erasure; None: it is not erased."""
    row = _erased_by(connection, tenant, position).fetchone()
    return None if row is None else int(row[0])


def erasure_of(connection: Connection, tenant: str, position: int) -> Erasure | None:
    """The event that tells of an erasure; None: there is none."""
    by_position = erased_by(connection, tenant, position)
    row = None if by_position is None else _erasing(connection, tenant, by_position).fetchone()
    if row is None:
        return None
    at, schema, actor, recorded_at, committed, salt, body = row
    sound = is_sound(connection, tenant, at, committed, salt, body)
    return Erasure(at, schema, actor, recorded_at, body if sound else None)
