"""Lists of sessions: in which order, and which of them. Of a family the newest of those is shown, or all."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cache
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)

from ..clock import id_of
from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared
from ..log.sql.tables import Int
from .family import family_with
from .queries import WORDS, decode_state, decode_words
from .state import SessionState, SessionStatus
from .tables import HOUR_US, forks, session_words, sessions
from .views import Family
from .words import ShownWords

Order = Literal["activity", "created"]
ORDERS = get_args(Order)
Shown = Literal["family", "all"]
Kind = Literal["conversation", "replay", "any"]
SHOWN, KINDS = get_args(Shown), get_args(Kind)
PASSED_OVER, MOST_AT_ONCE = 32, 1024
"""Rows that are looked at with one query beside those of the page, and in all: where families are large, many of them
are passed over.
"""

Listed = tuple[SessionState, ShownWords, Family | None]
"""A session as it is listed."""

_ASCII_LOWER = str.maketrans({letter: letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
_ZERO = literal_column("0", Integer)
_ESCAPE = "!"


class Which(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which sessions: those of which all that is given is true. ``title_contains`` takes no notice of the case of A to
    Z. ``waiting``: a turn waits for a person; ``has_failed``: a turn has failed. ``kind``: a ``replay`` is a fork that
    a replay made. ``branches``: of the members of a family of which it is true ``all``, or that with the newest
    activity.
    """

    status: SessionStatus | None = None
    model: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    title_contains: str | None = None
    has_failed: bool | None = None
    waiting: bool | None = None
    kind: Kind = "conversation"
    branches: Shown = "family"

    def asked(self) -> tuple[str, ...]:
        """The names of the conditions on its own row and words; a truth value is part of its name."""
        given = [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in {"kind", "branches"}]
        return tuple(
            f"{'' if value else 'not '}{name}" if isinstance(value, bool) else name
            for name, value in given
            if value is not None
        )

    def values(self, tenant: str) -> list[object]:
        """The values of the conditions, in their order."""
        found: list[object] = [value for value in (self.status, self.model) if value is not None]
        for owner in (self.user_id, self.agent_id):
            found += [] if owner is None else [tenant, owner]
        if self.title_contains is not None:
            found.append(_pattern(self.title_contains))
        return found


EVERY = Which()


def _owned(name: str) -> ColumnElement[bool]:
    """Of one user or agent: they are few, and the index finds them before the others are looked at."""
    owned = session_words.alias(f"by_{name}")
    return sessions.c.session.in_(select(owned.c.session).where(*_by(owned, name)))


def _by(words: FromClause, name: str) -> list[ColumnElement[bool]]:
    return [words.c.tenant == bindparam(f"{name}_tenant"), words.c[name] == bindparam(f"{name}_owner")]


_CONDITIONS: dict[str, list[ColumnElement[bool]]] = {
    "status": [sessions.c.status == bindparam("status_")],
    "model": [sessions.c.model == bindparam("model_")],
    "user_id": [_owned("user_id")],
    "agent_id": [_owned("agent_id")],
    "title_contains": [func.lower(session_words.c.title).like(bindparam("title_"), escape=_ESCAPE)],
    "has_failed": [sessions.c.failed > _ZERO],
    "not has_failed": [sessions.c.failed == _ZERO],
    "waiting": [sessions.c.waiting > _ZERO],
    "not waiting": [sessions.c.waiting == _ZERO],
}
_OF_MEMBERS = _CONDITIONS | {name: _by(session_words, name) for name in ("user_id", "agent_id")}
"""Of a family's members, which are found already."""
_KINDS: dict[str, list[ColumnElement[bool]]] = {
    "conversation": [forks.c.replay.is_(None)],
    "replay": [forks.c.replay.is_not(None)],
    "any": [],
}


def _same_session(table: FromClause, other: FromClause) -> ColumnElement[bool]:
    return (table.c.tenant == other.c.tenant) & (table.c.session == other.c.session)


_WITH_WORDS = sessions.outerjoin(session_words, _same_session(session_words, sessions))
_WITH_FORKS = _WITH_WORDS.outerjoin(forks, _same_session(forks, sessions))
_MEMBERS = forks.join(sessions, _same_session(sessions, forks)).outerjoin(
    session_words, _same_session(session_words, sessions)
)
_any_fork = Prepared(limited(select(forks.c.session).where(*same(forks, "tenant"))))


def list_sessions(
    connection: Connection,
    tenant: str,
    *,
    order: Order,
    which: Which = EVERY,
    before: tuple[int, UUID] | None,
    limit: int,
) -> Generator[Listed, None, None]:
    """Sessions, newest first: by last activity, or by creation (ids are in order of time). ``before``:
    (updated_at, id). They are read only as they are asked for; close the generator when there are enough.
    """
    if _any_fork(connection, tenant, 1).fetchone() is not None:
        yield from _with_families(connection, tenant, order, which, before, limit)
    elif which.kind != "replay":
        after = None if before is None else (before[0], before[1].bytes)
        query = _listing(order, which.asked(), goes_on=after is not None)
        with closing(query(connection, tenant, *which.values(tenant), *_begin(order, after), limit)) as rows:
            for state, *words in rows:
                yield decode_state(state), decode_words(words), None


def _with_families(
    connection: Connection, tenant: str, order: Order, which: Which, before: tuple[int, UUID] | None, limit: int
) -> Iterator[Listed]:
    """The same where there are forks. Members of a family that are not shown are passed over, so that the rows of one
    query may not be enough.
    """
    families, count = _Families(connection, tenant, which), limit + PASSED_OVER
    after = None if before is None else (before[0], before[1].bytes)
    while count:
        query, passed = _listing_of_families(order, which.kind, which.asked(), goes_on=after is not None), 0
        with closing(query(connection, tenant, *which.values(tenant), *_begin(order, after), count)) as rows:
            for session, updated_at, root, is_root, state, *words in rows:
                passed, after = passed + 1, (updated_at, session)
                if root is None and not is_root:
                    yield decode_state(state), decode_words(words), None
                elif families.shows(root or session, session):
                    yield decode_state(state), decode_words(words), families.family(root or session)
        count = 0 if passed < count else max(count, min(2 * count, MOST_AT_ONCE))


class _Families:
    """What is read once of each family on a page."""

    def __init__(self, connection: Connection, tenant: str, which: Which) -> None:
        self._connection = connection
        self._tenant = tenant
        self._which = which
        self._newest: dict[bytes, bytes] = {}
        self._found: dict[bytes, Family | None] = {}

    def family(self, root: bytes) -> Family | None:
        if root not in self._found:
            self._found[root] = family_with(self._connection, self._tenant, id_of(root))
        return self._found[root]

    def shows(self, root: bytes, session: bytes) -> bool:
        """True for the member that stands for its family, or if every member is listed."""
        if self._which.branches == "all":
            return True
        if root not in self._newest:
            _, self._newest[root] = max(self._candidates(root))
        return session == self._newest[root]

    def _candidates(self, root: bytes) -> Iterator[tuple[int, bytes]]:
        """(last activity, session): the root, and the newest of its forks, as far as they are asked for."""
        kind, asked = self._which.kind, self._which.asked()
        values = (self._tenant, root, *self._which.values(self._tenant))
        yield from _root(kind, asked)(self._connection, *values)
        yield from _newest_fork(kind, asked)(self._connection, *values, 1)


def _begin(order: Order, after: tuple[int, bytes] | None) -> list[object]:
    """The values that say after which session a list goes on."""
    if after is None:
        return []
    updated_at, session = after
    return [session] if order == "created" else [updated_at // HOUR_US, updated_at, session]


@cache
def _listing(order: Order, asked: tuple[str, ...], *, goes_on: bool) -> Prepared:
    """Sessions of a tenant of which some things are true; those that follow one."""
    query = select(sessions.c.state, *WORDS).select_from(_WITH_WORDS).where(*same(sessions, "tenant"))
    return Prepared(_ordered(query.where(*_conditions(_CONDITIONS, asked)), order, goes_on=goes_on))


@cache
def _listing_of_families(order: Order, kind: Kind, asked: tuple[str, ...], *, goes_on: bool) -> Prepared:
    """The same of a kind, and where each stands in its family. First which, and then what there is of them: an hour
    that is sorted may hold many more than the page.
    """
    place = (sessions.c.tenant, sessions.c.session, sessions.c.updated_at, forks.c.root)
    chosen = select(*place).select_from(_WITH_FORKS).where(*same(sessions, "tenant"))
    chosen = chosen.where(*_conditions(_CONDITIONS, asked), *_KINDS[kind])
    page = _ordered(chosen, order, goes_on=goes_on).subquery("page")
    shown, branches = sessions.alias("shown"), forks.alias("branches")
    is_root = exists().where(
        branches.c.tenant == page.c.tenant, branches.c.root == page.c.session, branches.c.position > _ZERO
    )
    rows = page.join(shown, _same_session(shown, page)).outerjoin(session_words, _same_session(session_words, page))
    found = select(page.c.session, page.c.updated_at, page.c.root, is_root, shown.c.state, *WORDS).select_from(rows)
    return Prepared(found.order_by(*([] if order == "created" else [page.c.updated_at.desc()]), page.c.session.desc()))


def _ordered(query: Select[Any], order: Order, *, goes_on: bool) -> Select[Any]:
    """Sessions in an order; those that follow one."""
    if order == "created":
        query = query.order_by(sessions.c.session.desc())
        beyond = [sessions.c.session < bindparam("last_")]
    else:
        # The hours come from the index, and no more than those that the page needs are sorted.
        query = query.order_by(sessions.c.active_hour.desc(), sessions.c.updated_at.desc(), sessions.c.session.desc())
        last = tuple_(bindparam("updated_", type_=Int), bindparam("last_", type_=LargeBinary))
        beyond = [
            sessions.c.active_hour <= bindparam("hour_"),
            tuple_(sessions.c.updated_at, sessions.c.session) < last,
        ]
    return limited(query.where(*beyond) if goes_on else query)


@cache
def _root(kind: Kind, asked: tuple[str, ...]) -> Prepared:
    """The session that a family began with, if some things are true of it."""
    query = select(sessions.c.updated_at, sessions.c.session).select_from(_WITH_FORKS)
    query = query.where(*same(sessions, "tenant", "session"))
    return Prepared(query.where(*_conditions(_OF_MEMBERS, asked), *_KINDS[kind]))


@cache
def _newest_fork(kind: Kind, asked: tuple[str, ...]) -> Prepared:
    """The fork in a family of which some things are true that was active last."""
    query = select(sessions.c.updated_at, sessions.c.session).select_from(_MEMBERS)
    # Without the position SQLite would not take the index by root, and look through every fork of the tenant.
    query = query.where(*same(forks, "tenant", "root"), forks.c.position > _ZERO)
    query = query.where(*_conditions(_OF_MEMBERS, asked), *_KINDS[kind])
    return Prepared(limited(query.order_by(sessions.c.updated_at.desc(), sessions.c.session.desc())))


def _conditions(conditions: dict[str, list[ColumnElement[bool]]], asked: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [condition for name in asked for condition in conditions[name]]


def _pattern(text: str) -> str:
    """A LIKE pattern for what contains a text."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text.translate(_ASCII_LOWER)}%"
