"""The answers that clients of a vendor's protocol are served by the ids of their turns, until they are hidden."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, insert, literal_column, select, update

from ..clock import id_of
from ..events.turn_types import ClientFacts, Protocol
from ..log.base import RecordedEvent
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared, PreparedRows
from .tables import answers

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)

insert_answers = PreparedRows(insert(answers))
_hide = Prepared(update(answers).values(hidden=literal_column("1")).where(*same(answers, "tenant", "protocol", "turn")))
_shown = same(answers, "tenant", "protocol")
_is_served = Prepared(select(answers.c.hidden).where(*same(answers, "tenant", "protocol", "turn")))
_ahead = Prepared(
    limited(
        select(answers.c.turn)
        .where(*_shown, answers.c.turn > bindparam("after_"), answers.c.hidden == literal_column("0"))
        .order_by(answers.c.turn)
    )
)
_back = Prepared(
    limited(
        select(answers.c.turn)
        .where(*_shown, answers.c.turn < bindparam("before_"), answers.c.hidden == literal_column("0"))
        .order_by(answers.c.turn.desc())
    )
)


def answer_row(event: RecordedEvent, client: ClientFacts) -> tuple[object, ...]:
    """The row of the start of a turn whose answer is stored."""
    return event.tenant, client.protocol, event.id.bytes, 0


def hide_answer(connection: Connection, tenant: str, protocol: Protocol, turn: UUID) -> None:
    """Serve the clients of a protocol the answer of this turn no longer."""
    _hide(connection, tenant, protocol, turn.bytes)


def is_served(connection: Connection, tenant: str, protocol: Protocol, turn: UUID) -> bool:
    """True if the clients of a protocol are served the answer of this turn."""
    row = _is_served(connection, tenant, protocol, turn.bytes).fetchone()
    return row is not None and not row[0]


def served_turns(
    connection: Connection, tenant: str, protocol: Protocol, after: UUID | None, limit: int, *, descending: bool
) -> list[UUID]:
    """The turns whose answers the clients of a protocol are served, in the order in which they started, or back."""
    start = after or (LAST if descending else FIRST)
    rows: Any = (_back if descending else _ahead)(connection, tenant, protocol, start.bytes, limit)
    return [id_of(row[0]) for row in rows]
