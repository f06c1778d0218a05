"""Lists of sessions: in which order, and which of them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from functools import cache
from typing import Literal, get_args
from uuid import UUID

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
)

from ..log.sql.clauses import limited, same
from ..log.sql.driver import Prepared
from ..log.sql.tables import Int
from .queries import WORDS, decode_state, decode_words
from .state import SessionState, SessionStatus
from .tables import HOUR_US, session_words, sessions
from .words import ShownWords

Order = Literal["activity", "created"]
ORDERS = get_args(Order)

_ASCII_LOWER = str.maketrans({letter: letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
_ZERO = literal_column("0", Integer)
_ESCAPE = "!"


class Which(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which sessions: those of which all that is given is true. ``title_contains`` takes no notice of the case of A to
    Z. ``waiting``: a turn waits for a person; ``has_failed``: a turn has failed.
    """

    status: SessionStatus | None = None
    model: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    title_contains: str | None = None
    has_failed: bool | None = None
    waiting: bool | None = None

    def asked(self) -> tuple[str, ...]:
        """The names of what is given; a truth value is part of its name."""
        given = [(name, getattr(self, name)) for name in self.__struct_fields__]
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
    of_owner = (owned.c.tenant == bindparam(f"{name}_tenant")) & (owned.c[name] == bindparam(f"{name}_owner"))
    return sessions.c.session.in_(select(owned.c.session).where(of_owner))


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "status": sessions.c.status == bindparam("status_"),
    "model": sessions.c.model == bindparam("model_"),
    "user_id": _owned("user_id"),
    "agent_id": _owned("agent_id"),
    "title_contains": func.lower(session_words.c.title).like(bindparam("title_"), escape=_ESCAPE),
    "has_failed": sessions.c.failed > _ZERO,
    "not has_failed": sessions.c.failed == _ZERO,
    "waiting": sessions.c.waiting > _ZERO,
    "not waiting": sessions.c.waiting == _ZERO,
}


def list_sessions(
    connection: Connection,
    tenant: str,
    *,
    order: Order,
    which: Which = EVERY,
    before: tuple[int, UUID] | None,
    limit: int,
) -> Generator[tuple[SessionState, ShownWords], None, None]:
    """Sessions, newest first: by last activity, or by creation (ids are in order of time). ``before``:
    (updated_at, id). They are read only as they are asked for; close the generator when there are enough.
    """
    values: list[object] = [tenant, *which.values(tenant)]
    if before is not None:
        updated_at, session = before
        values += [session.bytes] if order == "created" else [updated_at // HOUR_US, updated_at, session.bytes]
    query = _listing(order, which.asked(), goes_on=before is not None)
    with closing(query(connection, *values, limit)) as rows:
        for state, *words in rows:
            yield decode_state(state), decode_words(words)


@cache
def _listing(order: Order, asked: tuple[str, ...], *, goes_on: bool) -> Prepared:
    """Sessions of a tenant of which some things are true; those that follow one."""
    same_session = (session_words.c.tenant == sessions.c.tenant) & (session_words.c.session == sessions.c.session)
    query = select(sessions.c.state, *WORDS).select_from(sessions.outerjoin(session_words, same_session))
    query = query.where(*same(sessions, "tenant"), *[_CONDITIONS[name] for name in asked])
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
    return Prepared(limited(query.where(*beyond) if goes_on else query))


def _pattern(text: str) -> str:
    """A LIKE pattern for what contains a text."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text.translate(_ASCII_LOWER)}%"
