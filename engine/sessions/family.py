"""The family of a session: all that share a history with it, now or as it was.

Nothing of it is kept with the sessions: it is read from the forks. So a session that is forked is not written to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from uuid import UUID

import msgspec
from sqlalchemy import Connection, bindparam, func, literal_column, select

from ..clock import rfc3339
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql import reads
from ..log.sql.checkpoints import last_position
from ..log.sql.clauses import same
from ..log.sql.driver import Prepared
from ..log.sql.session_index import SessionQuery, Stretch
from ..log.sql.tables import events
from .history import NOW, Moment, session_at, state_at, version_then, words_at
from .queries import decode_state, session_state, words_of_session
from .state import SessionState
from .tables import forks, messages, session_words, sessions
from .views import Branch, Branches, Family, Parent, Session, session_view
from .words import preview_of

_members_of_family = Prepared(
    select(func.count(), func.count(forks.c.replay)).where(
        *same(forks, "tenant", "root"), forks.c.position <= bindparam("up_to_")
    )
)
_first_position = Prepared(select(forks.c.position).where(*same(forks, "tenant", "session")))
_time = Prepared(select(events.c.recorded_at).where(*same(events, "tenant", "position")))
_IS_USERS = [messages.c.role == literal_column("'user'")]
_first_of_user = SessionQuery((messages.c.position,), conditions=_IS_USERS, over=messages)
_SHOWN = (session_words.c.title, session_words.c.preview)
_states_of_family = Prepared(
    select(sessions.c.state, *_SHOWN, forks.c.position)
    .select_from(
        forks.join(sessions, (sessions.c.tenant == forks.c.tenant) & (sessions.c.session == forks.c.session)).outerjoin(
            session_words, (session_words.c.tenant == forks.c.tenant) & (session_words.c.session == forks.c.session)
        )
    )
    .where(*same(forks, "tenant", "root"), forks.c.position <= bindparam("up_to_"))
    .order_by(forks.c.position)
)


def family_then(connection: Connection, tenant: str, state: SessionState, moment: Moment = NOW) -> Family | None:
    """The family of a session at a moment, at which it had this state; None: it was alone."""
    up_to = MAX_SAFE_INTEGER if moment == NOW else position_then(connection, tenant, state, moment)
    return family_with(connection, tenant, root_of(state), up_to)


def family_with(connection: Connection, tenant: str, root: UUID, up_to: int = MAX_SAFE_INTEGER) -> Family | None:
    """The family that began with a session, with the forks that had begun by a position; None: there are none."""
    begun, of_replays = _members_of_family(connection, tenant, root.bytes, up_to).fetchone()
    return Family(root, 1 + begun - of_replays) if begun else None


def view_at(connection: Connection, tenant: str, session: UUID, version: int | None = None) -> Session:
    """A session with its family, as an answer to a change tells of it: at the version that it made, or (None) the last.

    Raises SessionNotFound, and RecordDamaged for words at a version.
    """
    state, words = session_at(connection, tenant, session, version)
    moment = NOW if version is None else Moment(state.version)
    return session_view(state, words, family_then(connection, tenant, state, moment))


def root_of(state: SessionState) -> UUID:
    """The session that a session's family began with."""
    return state.root or state.id


def position_then(connection: Connection, tenant: str, state: SessionState, moment: Moment) -> int:
    """The position up to which the log is looked at for a session's family at a moment, at which it had this state: by
    a version, when that was recorded, or where the session shares it, when its first own was.
    """
    if moment == NOW:
        return MAX_SAFE_INTEGER
    if moment.time_us is not None:
        positions = range(1, last_position(connection, tenant) + 1)
        return bisect_right(positions, moment.time_us, key=partial(_recorded_at, connection, tenant))
    row = _first_position(connection, tenant, state.id.bytes).fetchone()
    return state.position if row is None else max(state.position, row[0])


def _recorded_at(connection: Connection, tenant: str, position: int) -> int:
    return int(_time(connection, tenant, position).fetchone()[0])


# --- the family as a tree ---------------------------------------------------------------------------------------------


class _Member(msgspec.Struct, frozen=True, gc=False):
    """A session of a family with what is shown of its words. ``began``: the position of its first event; of the root,
    None.
    """

    state: SessionState
    title: str | None
    preview: str | None
    began: int | None


def branches_at(connection: Connection, tenant: str, session: UUID, moment: Moment) -> Branches:
    """The family of a session, now or as it was at a time: each member that had begun by then, as it was then.

    Raises SessionNotFound, and NotYet for a time before the session began.
    """
    version_then(connection, tenant, session, moment)
    state = state_at(connection, tenant, session)
    root, up_to = root_of(state), position_then(connection, tenant, state, moment)
    members = [_then(connection, tenant, each, moment) for each in _members(connection, tenant, root, up_to)]
    own = _own_previews(connection, tenant, members)
    return Branches(root, tuple(_branch(each, own) for each in members))


def _members(connection: Connection, tenant: str, root: UUID, up_to: int) -> Iterator[_Member]:
    """Those that had begun by a position as they are now, the oldest first."""
    first, words = session_state(connection, tenant, root), words_of_session(connection, tenant, root)
    assert first is not None, "a family begins with a session"
    yield _Member(first, words.title, words.preview, None)
    with closing(_states_of_family(connection, tenant, root.bytes, up_to)) as rows:
        for state, *shown in rows:
            yield _Member(decode_state(state), *shown)


def _then(connection: Connection, tenant: str, member: _Member, moment: Moment) -> _Member:
    """A member as it was; most have not changed since."""
    now = member.state
    if moment.time_us is None or moment.time_us >= now.updated_at:
        return member
    state = state_at(connection, tenant, now.id, version_then(connection, tenant, now.id, moment))
    words = words_at(connection, tenant, state, damaged=True)
    return _Member(state, words.title, words.preview, member.began)


def _own_previews(connection: Connection, tenant: str, members: Sequence[_Member]) -> dict[UUID, str | None]:
    """The beginning of the first user message that is a fork's own, for those that have one."""
    places = [place for each in members for place in _first_of_its_own(connection, tenant, each)]
    found: dict[UUID, str | None] = {}
    for start in range(0, len(places), reads.POSITIONS_AT_ONCE):  # words may be large: no more of them at once
        some = places[start : start + reads.POSITIONS_AT_ONCE]
        found |= {event.session: preview_of(event) for event in reads.events_at_positions(connection, tenant, some)}
    return found


def _first_of_its_own(connection: Connection, tenant: str, member: _Member) -> list[int]:
    """The position of the first user message that is a fork's own."""
    state, shared = member.state, member.state.parent_version
    if member.began is None or shared is None:
        return []
    own = Stretch(state.id, shared, state.version, member.began, state.position)
    with closing(_first_of_user.along(connection, tenant, [own], 1)) as rows:
        return [position for (position,) in rows]


def _branch(member: _Member, own: dict[UUID, str | None]) -> Branch:
    state, parent = member.state, None
    if state.parent_session is not None and state.parent_version is not None:
        parent = Parent(state.parent_session, state.parent_version)
    return Branch(
        session_id=state.id,
        parent=parent,
        version=state.version,
        title=member.title,
        preview=own.get(state.id, member.preview),
        message_count=state.message_count,
        updated_at=rfc3339(state.updated_at),
        kind="conversation" if state.replay is None else "replay",
    )
