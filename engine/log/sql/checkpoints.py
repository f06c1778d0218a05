"""Rows about a log's checkpoints: what was signed, by which keys, and under which names. Plain functions, a query each.

They are history: inserted once, and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, literal_column, select, update

from ..codec import MAX_SAFE_INTEGER
from ..merkle import Frontier
from .checksums import checked
from .clauses import same
from .driver import Prepared
from .tables import checkpoints, cosignatures, events, heads, origins, verifiers
from .tree import stored_frontier

_size = Prepared(select(heads.c.size).where(*same(heads, "tenant")))
_sizes = Prepared(select(heads.c.tenant, heads.c.size))
_last = Prepared(select(func.max(events.c.position)).where(*same(events, "tenant")))
_count = Prepared(select(func.count()).select_from(events).where(*same(events, "tenant")))
_names = Prepared(
    select(origins.c.from_position, origins.c.origin)
    .where(*same(origins, "tenant"))
    .order_by(origins.c.from_position, origins.c.origin)
)
_name = Prepared(insert(origins))
_last_time = (
    select(events.c.recorded_at)
    .where(events.c.tenant == heads.c.tenant, events.c.position == bindparam("last_"))
    .scalar_subquery()
)
# size, the same, frontier, tenant
_set_head = Prepared(
    update(heads)
    .values(size=bindparam("size_"), recorded_at=_last_time, frontier=bindparam("frontier_"))
    .where(*same(heads, "tenant"))
)
# tenant, origin, at least, at most
_newest = Prepared(
    select(checkpoints)
    .where(
        *same(checkpoints, "tenant", "origin"),
        checkpoints.c.size >= bindparam("least_"),
        checkpoints.c.size <= bindparam("most_"),
    )
    .order_by(checkpoints.c.size.desc(), checkpoints.c.made_at.desc())
)
_checkpoint = Prepared(select(checkpoints.c.size).where(*same(checkpoints, "tenant", "origin", "size", "key_id")))
_checkpoints = Prepared(select(checkpoints).where(*same(checkpoints, "tenant")).order_by(checkpoints.c.size))
_keep_checkpoint = Prepared(insert(checkpoints))
_keys = Prepared(
    select(verifiers.c.public).where(*same(verifiers, "tenant", "origin")).order_by(verifiers.c.since_size.desc())
)
_all_keys = Prepared(
    select(verifiers.c.origin, verifiers.c.public, verifiers.c.since_size).where(*same(verifiers, "tenant"))
)
_keep_key = Prepared(insert(verifiers))
_cosignatures = Prepared(
    select(cosignatures)
    .where(*same(cosignatures, "tenant", "origin", "size"))
    .order_by(cosignatures.c.name, cosignatures.c.key_id)
)
_all_cosignatures = Prepared(select(cosignatures).where(*same(cosignatures, "tenant")).order_by(cosignatures.c.size))
_keep_cosignature = Prepared(insert(cosignatures))


class SignedRow(msgspec.Struct, frozen=True):
    """A checkpoint as it is kept; ``note`` is the signed text."""

    tenant: str
    origin: str
    size: int
    key_id: bytes
    root: bytes
    made_at: int
    note: bytes


class WitnessRow(msgspec.Struct, frozen=True):
    """A witness's signature of a checkpoint; ``public`` is the type and the key, as in a verifier key."""

    tenant: str
    origin: str
    size: int
    name: str
    key_id: bytes
    signature: bytes
    public: bytes


class LogEnd(msgspec.Struct, frozen=True):
    """The end of a log in one snapshot. ``size`` and ``root`` are the head row's own; ``last`` is the last position of
    its events.
    """

    tenant: str
    origin: str | None
    size: int
    last: int
    root: bytes


def log_end(connection: Connection, tenant: str) -> LogEnd:
    """Raises StoreCorrupt where the head's row cannot be read."""
    frontier = stored_frontier(connection, tenant)
    row = _size(connection, tenant).fetchone()
    size = 0 if row is None else row[0]
    return LogEnd(tenant, newest_origin(connection, tenant), size, last_position(connection, tenant), frontier.root())


def last_position(connection: Connection, tenant: str) -> int:
    return _last(connection, tenant).fetchone()[0] or 0


def log_names(connection: Connection, tenant: str) -> list[tuple[int, str]]:
    """(first position, origin) of a log's names, oldest first: names sort by the time they were made."""
    return [(row[0], row[1]) for row in _names(connection, tenant)]


def newest_origin(connection: Connection, tenant: str) -> str | None:
    names = log_names(connection, tenant)
    return names[-1][1] if names else None


def newest_checkpoint(
    connection: Connection, tenant: str, origin: str, *, at_least: int = 0, exactly: int | None = None
) -> SignedRow | None:
    """The last that was made under a name, of those that cover so many leaves."""
    least, most = (at_least, MAX_SAFE_INTEGER) if exactly is None else (max(at_least, exactly), exactly)
    row = _newest(connection, tenant, origin, least, most).fetchone()
    return None if row is None else _signed(row)


def all_checkpoints(connection: Connection, tenant: str) -> Iterator[SignedRow]:
    """Every checkpoint of a log, by size."""
    yield from map(_signed, _checkpoints(connection, tenant))


def public_keys(connection: Connection, tenant: str, origin: str) -> list[bytes]:
    """The keys that signed for a log under a name, the newest first."""
    return [row[0] for row in _keys(connection, tenant, origin)]


def all_keys(connection: Connection, tenant: str) -> dict[tuple[str, bytes], int]:
    """Every key that signed for a log, by the name under which it did: from which size on."""
    return {(row[0], row[1]): row[2] for row in _all_keys(connection, tenant)}


def cosignatures_of(connection: Connection, tenant: str, origin: str, size: int) -> list[WitnessRow]:
    return [_witness(row) for row in _cosignatures(connection, tenant, origin, size)]


def all_cosignatures(connection: Connection, tenant: str) -> Iterator[WitnessRow]:
    yield from map(_witness, _all_cosignatures(connection, tenant))


def keep_checkpoint(connection: Connection, row: SignedRow, public: bytes) -> None:
    """Write a checkpoint down, and the key that signed it; one that is kept already is passed over."""
    if public not in public_keys(connection, row.tenant, row.origin):
        _keep_key(connection, row.tenant, row.origin, public, row.size)
    if _checkpoint(connection, row.tenant, row.origin, row.size, row.key_id).fetchone() is None:
        _keep_checkpoint(connection, *checked(msgspec.structs.astuple(row)))


def keep_cosignature(connection: Connection, row: WitnessRow) -> None:
    """Write a witness's signature down; the first one of a witness stays."""
    kept = cosignatures_of(connection, row.tenant, row.origin, row.size)
    if (row.name, row.key_id) not in {(each.name, each.key_id) for each in kept}:
        _keep_cosignature(connection, *msgspec.structs.astuple(row))


def add_origin(connection: Connection, tenant: str, from_position: int, origin: str) -> None:
    """Give a log a new name from a position on."""
    _name(connection, tenant, from_position, origin)


def log_sizes(connection: Connection) -> dict[str, int]:
    """Size of each log that has begun."""
    return {row[0]: row[1] for row in _sizes(connection)}


class Standing(msgspec.Struct, frozen=True):
    """How a log stands: its size, and when the oldest event was recorded that no checkpoint under the log's newest name
    covers (None: all are covered).
    """

    tenant: str
    size: int
    uncovered_since: int | None


def standings(connection: Connection) -> list[Standing]:
    """How each log stands that has begun."""
    logs = _standings(connection).fetchall()
    return [
        Standing(tenant, size, _recorded_at(connection, tenant, covered + 1) if covered < size else None)
        for tenant, size, covered in logs
    ]


def _covered() -> Any:
    """The size of a head's newest checkpoint under its newest name; 0 where there is none."""
    names = select(origins.c.origin).where(origins.c.tenant == heads.c.tenant).correlate(heads)
    newest = (
        names.order_by(origins.c.from_position.desc(), origins.c.origin.desc())
        .limit(literal_column("1"))
        .offset(literal_column("0"))
        .scalar_subquery()
    )
    sizes = select(func.coalesce(func.max(checkpoints.c.size), literal_column("0"))).correlate(heads)
    return sizes.where(checkpoints.c.tenant == heads.c.tenant, checkpoints.c.origin == newest).scalar_subquery()


_standings = Prepared(select(heads.c.tenant, heads.c.size, _covered()).order_by(heads.c.tenant))
_time_at = Prepared(select(events.c.recorded_at).where(*same(events, "tenant", "position")))


def _recorded_at(connection: Connection, tenant: str, position: int) -> int | None:
    row = _time_at(connection, tenant, position).fetchone()
    return None if row is None else row[0]


def set_head(connection: Connection, tenant: str, frontier: Frontier) -> None:
    """Make a log's head what its events say."""
    _set_head(connection, frontier.size, frontier.size, frontier.to_bytes(), tenant)


def count_events(connection: Connection, tenant: str) -> int:
    return int(_count(connection, tenant).fetchone()[0])


def _signed(row: Any) -> SignedRow:
    return SignedRow(*row[:-1])


def _witness(row: Any) -> WitnessRow:
    return WitnessRow(*row)
