"""The messages that a model was sent for a client's turn, as clients are served them."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import msgspec

from ..errors import StoreCorrupt
from ..events.blocks import Content, text_content
from ..events.session_types import SessionWords
from ..events.turn_types import AttemptStarted
from ..events.upcasts import facts_of, words_of
from ..log.base import Connection
from ..log.sql import reads
from ..sessions.turn_state import TurnState
from ..sessions.views import message_view
from .paging import Bounds, fill


class AskedMessage(msgspec.Struct, frozen=True):
    """A message that a model was sent. ``place``: from 0, with the system prompt, where there is one, as the first;
    ``content`` is empty if it is ``erased``.
    """

    place: int
    role: str
    content: Content
    erased: bool = False


def asked_page(
    connection: Connection, tenant: str, turn: TurnState, after: int | None, bounds: Bounds, *, descending: bool
) -> tuple[list[AskedMessage], bool]:
    """A page of the messages that a turn's last attempt sent, and whether there are more. ``after``: the place after
    which it begins. Raises RecordDamaged.
    """
    positions = _positions(connection, tenant, turn)
    places: Iterable[int] = range(0 if after is None else after + 1, len(positions))
    if descending:
        places = range((len(positions) if after is None else min(after, len(positions))) - 1, -1, -1)
    return fill(_messages(connection, tenant, positions, places), _size, bounds)


def _positions(connection: Connection, tenant: str, turn: TurnState) -> list[int]:
    """Where in the log the messages stand: that which set the system prompt, and those of the session."""
    types, last = (AttemptStarted.event_type,), len(turn.attempts)
    events = reads.session_events_of_types(
        connection, tenant, turn.session, types, after=turn.version - 1, limit=max(last, 1)
    )
    if not events:
        return []
    facts = facts_of(events[-1])
    assert isinstance(facts, AttemptStarted)
    return [*([] if facts.system is None else [facts.system]), *facts.positions]


def _messages(
    connection: Connection, tenant: str, positions: list[int], places: Iterable[int]
) -> Generator[AskedMessage, None, None]:
    for place in places:
        event = reads.event_at_position(connection, tenant, positions[place])
        if event is None:
            raise StoreCorrupt(f"there is no event {positions[place]}")
        words = words_of(event)
        if isinstance(words, SessionWords):
            yield AskedMessage(place, "system", text_content(words.system or ""))
        elif event.erasure is not None:
            role = getattr(facts_of(event), "role", "system")
            yield AskedMessage(place, role, (), erased=True)
        else:
            message = message_view(event)
            yield AskedMessage(place, message.role, message.blocks())


def _size(message: AskedMessage) -> int:
    return len(msgspec.json.encode(message.content))
