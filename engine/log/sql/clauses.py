"""Parts of statements, for every database: conditions, joins, limits, and inserts that change what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Dialect,
    FromClause,
    Integer,
    Select,
    Table,
    bindparam,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from .tables import bodies, events

S = TypeVar("S", bound=Select[Any])

SAME_BODY = (events.c.tenant == bodies.c.tenant) & (events.c.position == bodies.c.position)

recorded_columns = (*events.c, bodies.c.bytes.label("body"), bodies.c.salt)
"""An event with its body and the salt of its commitment; there are none where the words were erased."""

_INSERTS: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def with_bodies(rows: FromClause) -> FromClause:
    """Events, and the bodies of those that have one."""
    return rows.outerjoin(bodies, SAME_BODY)


recorded = select(*recorded_columns).select_from(with_bodies(events))


def same(table: FromClause, *columns: str) -> list[ColumnElement[bool]]:
    """Equality of columns with parameters, in this order."""
    return [table.c[name] == bindparam(f"{name}_") for name in columns]


def limited(query: S) -> S:
    """A query that is given, as its last value, how many rows it has at most."""
    # SQLite's compiler writes an OFFSET beside every LIMIT, and would make a parameter of it.
    return query.limit(bindparam("limit_", type_=Integer)).offset(literal_column("0", Integer))


def upsert(
    table: Table, changed: Sequence[str], *, columns: Sequence[str] = (), added: Sequence[str] = ()
) -> Callable[[Dialect], ClauseElement]:
    """An INSERT that, where there is a row of the same key, sets the columns ``changed`` and adds to those ``added``.
    ``columns``: those that are given, in this order, if not all are.
    """

    def make(dialect: Dialect) -> ClauseElement:
        insert: Any = _INSERTS[dialect.name](table)
        if columns:
            insert = insert.values({name: bindparam(name) for name in columns})
        new = insert.excluded
        values = {name: new[name] for name in changed} | {name: table.c[name] + new[name] for name in added}
        made: ClauseElement = insert.on_conflict_do_update(index_elements=[*table.primary_key.columns], set_=values)
        return made

    return make
