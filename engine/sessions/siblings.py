"""Messages that stand in each other's place: those of a family that follow the same message. Each is the next in the
session where that message stands, or the first that is a fork's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy import Connection, FromClause

from ..clock import id_of
from ..log.codec import MAX_SAFE_INTEGER
from ..log.sql.session_index import SessionQuery, Stretch
from ..log.sql.tables import events
from .family import root_of
from .forks import Fork, forks_of_family
from .lineage import stretches_back
from .state import SessionState
from .tables import messages
from .views import Message, Sibling


class _Place(NamedTuple):
    """Where a message stands. ``position`` 0: before every message of a family, in its root."""

    session: UUID
    version: int
    position: int


def _with_events(rows: FromClause) -> FromClause:
    return rows.join(events, (events.c.tenant == messages.c.tenant) & (events.c.position == messages.c.position))


_next_own = SessionQuery((events.c.id, messages.c.version, messages.c.position), _with_events, over=messages)
_before = SessionQuery((messages.c.session, messages.c.version, messages.c.position), descending=True, over=messages)


def with_siblings(
    connection: Connection, tenant: str, state: SessionState, found: Sequence[Message], up_to: int
) -> list[Message]:
    """Messages that follow each other in a session's history, in either order, with their siblings among the messages
    that were recorded up to a position.
    """
    forks = [fork for fork in forks_of_family(connection, tenant, root_of(state)) if fork.position <= up_to]
    if not (found and forks):
        return [replace(message, siblings=()) for message in found]
    family = _Family(connection, tenant, forks, up_to)
    ordered = sorted(found, key=lambda message: message.version)
    places = [_place_before(connection, tenant, state, ordered[0].version)]
    places += [_Place(message.session_id, message.version, message.position) for message in ordered]
    siblings = {message.id: family.siblings(message, place) for message, place in zip(ordered, places, strict=False)}
    return [replace(message, siblings=siblings[message.id]) for message in found]


class _Family:
    """The forks of a family, by the message that they follow."""

    def __init__(self, connection: Connection, tenant: str, forks: Sequence[Fork], up_to: int) -> None:
        self._connection = connection
        self._tenant = tenant
        self._up_to = up_to
        self._said_in_conversations = _said_in_conversations(forks)
        self._following: dict[int, list[Stretch]] = {}
        for fork in forks:
            own = Stretch(fork.session, fork.parent_version, MAX_SAFE_INTEGER, fork.position, up_to)
            self._following.setdefault(fork.after_message, []).append(own)

    def siblings(self, message: Message, after: _Place) -> tuple[Sibling, ...]:
        """The others that follow a place, of which a message is one."""
        own = Stretch(after.session, after.version, MAX_SAFE_INTEGER, after.position, self._up_to)
        others = [
            each for each in (own, *self._following.get(after.position, ())) if each.session != message.session_id
        ]
        found = [sibling for each in others for sibling in self._first(each)]
        return tuple(sorted(found, key=lambda sibling: sibling.position))

    def _first(self, own: Stretch) -> Iterable[Sibling]:
        """The first message in a part of a session, if it is a conversation's."""
        up_to = self._said_in_conversations.get(own.session, MAX_SAFE_INTEGER)
        with closing(_next_own.along(self._connection, self._tenant, [own], 1)) as rows:
            for raw_id, version, position in rows:
                if version <= up_to and position <= self._up_to:
                    yield Sibling(own.session, id_of(raw_id), version, position)


def _said_in_conversations(forks: Sequence[Fork]) -> dict[UUID, int]:
    """Of the sessions that replays made, the version up to which a conversation shares them; 0: none does."""
    shared = {fork.session: 0 for fork in forks if fork.replay is not None}
    for fork in reversed(forks):  # a fork comes after its parent
        if fork.parent in shared and shared.get(fork.session, 1):
            shared[fork.parent] = max(shared[fork.parent], fork.parent_version)
    return shared


def _place_before(connection: Connection, tenant: str, state: SessionState, version: int) -> _Place:
    """The place of the message before a version of a session's history."""
    back = stretches_back(connection, tenant, state, 0, version - 1)
    with closing(_before.along(connection, tenant, back, 1)) as rows:
        for session, at, position in rows:
            return _Place(id_of(session), at, position)
    return _Place(root_of(state), 0, 0)
