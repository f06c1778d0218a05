"""The statements of the hot path, compiled once per dialect from the tables.

``driver.run`` with a list of tuples costs a fraction of executing constructs, so each statement is
kept as text in the driver's own parameter style. Parameters come in the order of the table's columns unless a
comment says otherwise.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    Connection,
    Dialect,
    FromClause,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from .tables import bodies, events, heads, journal, origins, requests, runs

SAME_BODY = (events.c.tenant == bodies.c.tenant) & (events.c.position == bodies.c.position)

recorded_columns = (*events.c, bodies.c.bytes.label("body"))
"""An event with its body; a missing body row means that the words were erased."""


def with_bodies(rows: FromClause) -> FromClause:
    """Events, and the bodies of those that have one."""
    return rows.outerjoin(bodies, SAME_BODY)


recorded = select(*recorded_columns).select_from(with_bodies(events))


class Statements:
    """SQL text for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        def text(clause: ClauseElement) -> str:
            return str(clause.compile(dialect=dialect))

        self._text = text
        self.insert_event = text(insert(events))
        self.insert_body = text(insert(bodies))
        self.insert_origin = text(insert(origins))
        self.insert_head = text(insert(heads))
        self.insert_request = text(insert(requests))
        self.insert_run = text(insert(runs))
        self.insert_frame = text(insert(journal))

        self.select_head = text(
            select(heads.c.size, heads.c.recorded_at, heads.c.frontier).where(heads.c.tenant == bindparam("tenant"))
        )
        self.select_origin = text(
            select(origins.c.origin)
            .where(origins.c.tenant == bindparam("tenant"))
            .order_by(origins.c.from_position.desc(), origins.c.origin.desc())
        )
        self.select_request = text(
            select(requests.c.salt, requests.c.fingerprint, requests.c.kind, requests.c.id, requests.c.version).where(
                *same(requests, "tenant", "principal", "route", "key")
            )
        )
        # size, recorded_at, frontier, tenant
        self.update_head = text(
            update(heads)
            .values(size=bindparam("size_"), recorded_at=bindparam("recorded_"), frontier=bindparam("frontier_"))
            .where(heads.c.tenant == bindparam("tenant_"))
        )
        self.select_run = text(select(runs.c.owner).where(*same(runs, "tenant", "turn")))
        self.delete_run = text(delete(runs).where(*same(runs, "tenant", "turn")))
        self.delete_frames = text(delete(journal).where(*same(journal, "tenant", "turn")))
        self.whole_run = text(select(runs).where(*same(runs, "tenant", "turn")))
        self.runs_of = text(select(runs).where(runs.c.owner == bindparam("owner_")))
        # lease_until, cancelled_by, checksum, tenant, turn
        self.update_run = text(
            update(runs)
            .values(lease_until=bindparam("until_"), cancelled_by=bindparam("actor_"), checksum=bindparam("checksum_"))
            .where(*same(runs, "tenant", "turn"))
        )

        self.event_by_id = text(recorded.where(*same(events, "tenant", "id")))
        self.event_at_position = text(recorded.where(*same(events, "tenant", "position")))
        self.salt = text(select(bodies.c.salt).where(*same(bodies, "tenant", "position")))
        # tenant, after, up to, limit
        self.log_events = text(
            recorded.where(
                *same(events, "tenant"),
                events.c.position > bindparam("after_"),
                events.c.position <= bindparam("up_to_"),
            )
            .order_by(events.c.position)
            .limit(bindparam("limit_", literal_execute=False))
        )

    @cache  # noqa: B019 - there is one of it
    def count_owned(self, turns: int) -> str:
        """How many of so many turns are an owner's: tenant, owner, the turns."""
        some: list[BindParameter[bytes]] = [bindparam(f"turn_{number}") for number in range(turns)]
        return self._text(select(func.count()).where(*same(runs, "tenant", "owner"), runs.c.turn.in_(some)))


def statements(connection: Connection) -> Statements:
    """The statements for a connection's database."""
    return _for_dialect(connection.dialect.name, connection.dialect)


_compiled: dict[str, Statements] = {}


def _for_dialect(name: str, dialect: Dialect) -> Statements:
    if name not in _compiled:
        _compiled[name] = Statements(dialect)
    return _compiled[name]


def same(table: Table, *columns: str) -> list[ColumnElement[bool]]:
    """Equality of columns with parameters, in this order."""
    return [table.c[name] == bindparam(f"{name}_") for name in columns]
