"""Reading a session in which rows are damaged: all that is sound, and which rows are not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from ..sessions.envelope import LOCAL, Caller
from ..sessions.views import Event, Message
from .events import Events
from .ids import Id, session_id
from .messages import Messages
from .paging import EACH_LIMIT, each_item


class Salvage:
    """Gives what ``iter_messages`` and ``iter_events`` give; where those raise RecordDamaged, the row itself is given,
    with ``damaged`` set and without its words.
    """

    def __init__(self, messages: Messages, events: Events) -> None:
        self._messages = messages
        self._events = events

    def messages(self, session: Id, *, caller: Caller = LOCAL) -> AsyncGenerator[Message, None]:
        """Iterate over a session's messages. Raises SessionNotFound."""
        turn_page = partial(self._messages.page, limit=EACH_LIMIT, damaged=True)
        return each_item(lambda place: turn_page(caller, session_id(session), place), None)

    def events(self, session: Id, *, caller: Caller = LOCAL) -> AsyncGenerator[Event, None]:
        """Iterate over a session's events. Raises SessionNotFound."""
        turn_page = partial(self._events.page, limit=EACH_LIMIT, types=(), damaged=True)
        return each_item(lambda place: turn_page(caller, session_id(session), place), None)
