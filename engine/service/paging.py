"""A page of a list: bounded in items and in bytes, read a piece at a time from one snapshot.

How large items are is known only when they are read, so a page begins with a few of them, and goes on with as many as
should fit by what those were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from ..log.base import Connection
from ..log.sql import reads
from ..sessions import queries
from ..sessions.state import SessionState
from ..sessions.views import Turn
from ..streams.backlog import read_turns

T = TypeVar("T")

FIRST_READ = 24
"""Items that are read before it is known how large they are."""


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """A list: ``read`` gives the items that follow a place, which is its argument ``begins``; ``place`` is where an
    item stands, and ``weigh`` tells the bytes that it holds.
    """

    read: Callable[..., list[T]]
    place: Callable[[T], Any]
    weigh: Callable[[T], int]
    begins: str = "after"


def read_page(
    connection: Connection, *, tenant: str, listing: Listing[T], limit: int, most_bytes: int, **arguments: Any
) -> tuple[list[T], bool]:
    """Up to ``limit`` items that hold ``most_bytes`` together, one at the least; and whether there are more."""
    found: list[T] = []
    size, at_once = 0, FIRST_READ
    while True:
        wanted = min(at_once, limit + 1 - len(found))
        items = listing.read(connection, tenant=tenant, limit=wanted, **arguments)
        for item in items:
            size += listing.weigh(item)
            if found and (size > most_bytes or len(found) == limit):
                return found, True
            found.append(item)
        if len(items) < wanted:
            return found, False
        arguments[listing.begins] = listing.place(items[-1])
        at_once = max(1, (most_bytes - size) * len(found) // max(1, size))


def _stored(event: Any) -> int:
    return len(event.facts) + len(event.body or b"")


def _version(event: Any) -> int:
    return int(event.version)


def _turn_bytes(item: tuple[int, Turn]) -> int:
    """Its last answer is told twice."""
    turn = item[1]
    told = turn.messages if turn.message is None else (*turn.messages, turn.message)
    return sum(len(bytes(block)) for message in told for block in message.content)


def _session_bytes(item: tuple[SessionState, Any]) -> int:
    return len(msgspec.json.encode(item[1]))


SESSIONS: Listing[Any] = Listing(
    queries.list_sessions, lambda item: (item[0].updated_at, item[0].id), _session_bytes, "before"
)
EVENTS: Listing[Any] = Listing(reads.session_events, _version, _stored)
EVENTS_OF_TYPES: Listing[Any] = Listing(reads.session_events_of_types, _version, _stored)
LOG_EVENTS: Listing[Any] = Listing(reads.log_events, lambda event: event.position, _stored)
TURNS: Listing[Any] = Listing(read_turns, lambda item: item[0], _turn_bytes)
