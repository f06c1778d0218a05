"""Conversations that clients keep here: each is a session, until it is deleted. What is decided on is its state inside
the write transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import UNSET

from ..clock import Clock
from ..errors import TooLarge
from ..events.session_types import SessionStarted
from ..events.types import Draft, NewMessage
from ..log.base import AnyVersion, Append, NewEvent, NoStream, Place, RequestKey
from ..log.store import Store
from ..sessions.decisions import Changes, append_messages, message_draft, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.history import Moment
from ..sessions.state import SessionState
from ..sessions.views import Message, Session
from ..settings import Settings
from . import inputs
from .answers import check_copied, visible
from .drop_in import bytes_of, drop_in_limits, own_blocks
from .inputs import MessageIn
from .messages import Messages
from .session_fields import SessionFields
from .sessions import Sessions, append_to_session


class Conversations:
    """The conversations of clients: begun, added to, and described."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, sessions: Sessions, messages: Messages) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._limits = drop_in_limits(settings)
        self._sessions = sessions
        self._messages = messages

    async def create(
        self,
        caller: Caller,
        messages: Sequence[MessageIn],
        metadata: dict[str, Any] | None,
        request: RequestKey | None,
    ) -> Session:
        """Begin one in a single append, with its messages."""
        inputs.check_tenant(caller.tenant)
        fields = SessionFields(metadata=UNSET if metadata is None else metadata)
        facts, words = await self._sessions.first_event(fields, self._limits)
        news = await self._news(messages)
        decide = partial(self._begun, caller=caller, begins=Draft(facts, words), news=news)
        kept = self._store.keyed(caller.tenant, request)
        session = self._clock.new_id()
        answer = await self._store.append(Append(caller.tenant, session, NoStream(), decide, request=kept))
        if answer.replayed is not None:
            return await self._sessions.read(caller, answer.replayed.id, Moment(answer.replayed.version))
        return await self._sessions.read(caller, session, Moment(answer.state.version))

    async def add(
        self, caller: Caller, session: UUID, messages: Sequence[MessageIn], request: RequestKey | None
    ) -> list[Message]:
        """Append messages to one that is not deleted."""
        news = await self._news(messages)
        return await self._messages.record(caller, session, news, None, request, check=visible)

    async def describe(
        self, caller: Caller, session: UUID, metadata: dict[str, Any] | None, request: RequestKey | None
    ) -> Session:
        """Set the metadata of one that is not deleted."""
        inputs.check_metadata(metadata, self._settings)
        change = Changes({"metadata": metadata})

        def decide(_: Place, state: Any) -> list[NewEvent]:
            return seal(update_session(visible(state), change), caller, self._clock)

        kept = self._store.keyed(caller.tenant, request)
        answer = await append_to_session(
            self._store, Append(caller.tenant, session, AnyVersion(), decide, request=kept)
        )
        version = answer.state.version if answer.replayed is None else answer.replayed.version
        return await self._sessions.read(caller, session, Moment(version))

    async def _news(self, messages: Sequence[MessageIn]) -> list[NewMessage]:
        """Raises Invalid and TooLarge, which name the message."""
        most = self._settings.max_conversation_items
        if len(messages) > most:
            detail = f"messages: {len(messages)}, and max_conversation_items allows {most} at once"
            raise TooLarge(detail, field="messages", limit="max_conversation_items", maximum=most)
        news = [
            await inputs.new_message(message, self._limits, f"messages[{number}].", own_blocks(message.role), each=True)
            for number, message in enumerate(messages)
        ]
        copied = bytes_of(new.content for new in news if new.copied_from)
        check_copied(copied, self._settings.drop_in_max_body_bytes)
        return news

    def _begun(self, _: Place, __: Any, *, caller: Caller, begins: Draft, news: Sequence[NewMessage]) -> list[NewEvent]:
        """The events of one that begins with these messages. Raises what refuses them."""
        facts, now_us = begins.facts, self._clock.now_us()
        assert isinstance(facts, SessionStarted)
        empty = SessionState(
            id=self._clock.new_id(), version=0, position=0, model=facts.model, created_at=now_us, updated_at=now_us
        )
        said = append_messages(empty, news, now_us=now_us)
        drafts = [message_draft(new, told) for new, told in zip(news, said, strict=True)]
        return seal([begins, *drafts], caller, self._clock)
