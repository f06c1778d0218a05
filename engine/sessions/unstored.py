"""Turns whose words are to be erased when they have ended, since their client asked that nothing be stored: those of
them that still have words.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, insert, or_, select

from ..clock import id_of
from ..events.turn_types import ClientFacts
from ..log.base import RecordedEvent
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared, PreparedRows
from .tables import unstored

insert_unstored = PreparedRows(insert(unstored))
_forget = Prepared(delete(unstored).where(*same(unstored, "tenant", "turn")))
_is_there = Prepared(select(unstored.c.turn).where(*same(unstored, "tenant", "turn")))
# tenant, tenant, turn
_after = Prepared(
    limited(
        select(unstored.c.tenant, unstored.c.turn)
        .where(
            or_(
                unstored.c.tenant > bindparam("after_"),
                (unstored.c.tenant == bindparam("tenant_")) & (unstored.c.turn > bindparam("turn_")),
            )
        )
        .order_by(unstored.c.tenant, unstored.c.turn)
    )
)

Place = tuple[str, UUID]
"""A turn, and its tenant."""

BEFORE_ALL: Place = ("", UUID(int=0))


def asks_to_forget(client: ClientFacts) -> bool:
    """True if a client said that nothing is to be stored: in Responses alone that means so much."""
    return client.protocol == "responses" and not client.stored


def unstored_row(event: RecordedEvent) -> tuple[object, ...] | None:
    """The row of such a turn's start; None: it is erased."""
    return None if event.erased else (event.tenant, event.id.bytes)


def forget_unstored(connection: Connection, tenant: str, turn: bytes) -> None:
    """Note that a turn's words are gone."""
    _forget(connection, tenant, turn)


def has_words(connection: Connection, tenant: str, turn: UUID) -> bool:
    """True if such a turn still has words."""
    return _is_there(connection, tenant, turn.bytes).fetchone() is not None


def unstored_turns(connection: Connection, after: Place, limit: int) -> list[Place]:
    """The turns that still have words, in order, after one of them."""
    tenant, turn = after
    return [(row[0], id_of(row[1])) for row in _after(connection, tenant, tenant, turn.bytes, limit)]
