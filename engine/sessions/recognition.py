"""Recognising a history that a client sends again: the longest part of it that is on record, and where to go on
(DESIGN section 11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from ..events.blocks import Content
from ..log.base import Connection
from .prefixes import Known, known_prefixes
from .queries import session_state
from .state import SessionState

Said = tuple[str, Content]
"""A message of a client: its role and its content."""


class Recognised(msgspec.Struct, frozen=True):
    """The first ``count`` messages of a history are on record: they end at ``version`` of ``session``, and that is its
    last message (``goes_on``), or other messages follow, and it is forked there.
    """

    session: UUID
    version: int
    count: int
    goes_on: bool


def recognise(
    connection: Connection,
    tenant: str,
    said: Sequence[Said],
    hashes: Sequence[bytes],
    now_us: int,
    *,
    fork: bool,
    rather: UUID | None = None,
) -> Recognised | None:
    """Find the longest beginning of a history that is on record and ends with an assistant's message, or with a tool's
    where that is its session's last; None: there is none. ``hashes``: of the history up to each message; ``fork``: the
    session is forked in any case; ``rather``: the session that goes before others that hold the same.
    """
    ends = [number for number in range(len(said) - 1, 0, -1) if said[number - 1][0] in {"assistant", "tool"}]
    counts = {hashes[number - 1]: number for number in ends}
    for found in known_prefixes(connection, tenant, list(counts)):
        longest = sorted({counts[each.hash] for each in found}, reverse=True)
        for count in longest:
            places = [each for each in found if counts[each.hash] == count]
            place = _best(connection, tenant, places, now_us, fork=fork, rather=rather)
            if place is not None and (place.goes_on or said[count - 1][0] == "assistant"):
                return msgspec.structs.replace(place, count=count)
    return None


def _best(
    connection: Connection, tenant: str, places: Iterable[Known], now_us: int, *, fork: bool, rather: UUID | None
) -> Recognised | None:
    """Of the sessions that hold a history: ``rather``, else the newest that ends there, else the newest, forked."""
    open_ones: list[tuple[bool, bool, int, Known]] = []
    for each in places:
        state = session_state(connection, tenant, each.session)
        if state is None or not can_go_on(state, now_us):
            continue
        ends = not fork and ends_at(state, each.version)
        open_ones.append((each.session == rather, ends, state.updated_at, each))
    if not open_ones:
        return None
    _, ends, _, place = max(open_ones, key=lambda one: one[:3])
    return Recognised(place.session, place.version, 0, ends)


def can_go_on(state: SessionState, now_us: int) -> bool:
    """True for a session that can be gone on with, or forked."""
    return state.status == "active" and (state.expires_at is None or now_us < state.expires_at)


def ends_at(state: SessionState, version: int) -> bool:
    """True if no message follows the one at a version, and no turn is open that would make one."""
    return state.open_turn is None and state.last is not None and state.last.version == version
