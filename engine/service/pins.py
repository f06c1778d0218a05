"""Pins: messages that stand in every window. A pin is a mark of the session's, and itself on record."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import EmptyMessage, Erased, EventNotFound
from ..events.types import MessageAppended
from ..events.upcasts import facts_of
from ..log.append import check_expected
from ..log.base import Connection, RecordedEvent
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions.decisions import existing, mark_message
from ..sessions.envelope import Caller, seal
from ..sessions.lineage import event_at
from ..sessions.marks import Marks, marks_at
from ..sessions.state import SessionState
from ..sessions.views import Message, message_view
from ..settings import Settings
from .sessions import expected_of


class PinOrder(msgspec.Struct, frozen=True):
    """The order to pin the message at a version of a session, or to pin it no longer."""

    session: UUID
    version: int
    expected: int | None
    pinned: bool


class Pins:
    """Pins messages of all sessions."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def set(self, caller: Caller, order: PinOrder) -> Message:
        """The message as it is then. What is so already stays so, without an event."""
        work = partial(_set, caller=caller, order=order, clock=self._clock, most=self._settings.max_pins)
        message: Message = await self._store.submit(work)
        return message


def _set(tx: Transaction, *, caller: Caller, order: PinOrder, clock: Clock, most: int) -> Message:
    tenant, session = caller.tenant, order.session
    state = existing(tx.state(tenant, session))
    check_expected(expected_of(order.expected), state.version)
    tx.flush()
    event = _message(tx.connection, tenant, order, state)
    marks = marks_at(tx.connection, tenant, state)
    if order.pinned:
        _check_words(event, marks)
    if order.pinned != (event.position in marks.pinned):
        drafts = mark_message(state, event.position, pin=order.pinned, pinned=len(marks.pinned), most=most)
        tx.record(tenant, session, seal(drafts, caller, clock), state)
    return msgspec.structs.replace(message_view(event), pinned=order.pinned)


def _message(connection: Connection, tenant: str, order: PinOrder, state: SessionState) -> RecordedEvent:
    event = event_at(connection, tenant, state, order.version)
    if event is None or event.type != MessageAppended.event_type:
        raise EventNotFound(f"the session has no message at version {order.version}", version=order.version)
    return event


def _check_words(event: RecordedEvent, marks: Marks) -> None:
    """Raises Erased or EmptyMessage for what no window can show."""
    if event.erased:
        raise Erased("the words of the message are erased", positions=[event.position])
    facts = facts_of(event)
    assert isinstance(facts, MessageAppended)
    if facts.tokens == 0 or event.position in marks.superseded:
        raise EmptyMessage("the message is in no window: it is empty, or was answered anew")
