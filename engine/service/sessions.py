"""The part of the service that keeps sessions: create, change, append, list, follow. No model runs here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import UUID

from ..errors import Invalid, SessionNotFound, UnknownModel, VersionConflict
from ..events.types import NewMessage, SessionStarted, SessionWords
from ..log.base import (
    AnyVersion,
    Append,
    Appended,
    Decide,
    Exactly,
    Expected,
    NewEvent,
    NoStream,
    Place,
    RecordedEvent,
    Reference,
    RequestKey,
)
from ..log.sql import reads
from ..sessions import queries
from ..sessions.decisions import Changes, check_messages, message_draft, start_session, update_session
from ..sessions.envelope import LOCAL, Caller, seal
from ..sessions.history import state_at
from ..sessions.messages import message_page
from ..sessions.views import Event, Message, Session, event_view, message_view, session_view
from ..streams.follow import Follower
from ..turns.supervisor import Supervisor
from . import inputs
from .inputs import MessageIn
from .paging import EVENTS, EVENTS_OF_TYPES, LOG_EVENTS, SESSIONS, Listing, read_page

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

SessionCursor = tuple[int, UUID]
"""(updated_at in microseconds, id): where a page of sessions ended."""


class Desk:
    """What ``Conversation`` can do without a model."""

    def __init__(self, supervisor: Supervisor, default_model: str) -> None:
        kit = supervisor.kit
        self._store = kit.store
        self._clock = kit.clock
        self._follower = Follower(kit.store, kit.settings, find=supervisor.find, running=supervisor.running)
        self.providers = kit.providers
        self.settings = kit.settings
        self.default_model = default_model

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def create_session(
        self, caller: Caller = LOCAL, *, request: RequestKey | None = None, **fields: Any
    ) -> Session:
        """Begin a session. Fields: ``model`` (None: the default one), ``system``, ``title``, ``metadata``,
        ``budget_tokens``, ``max_output_tokens``, ``fallback_model`` (which answers where the model cannot),
        ``allowed_tools`` (None: every registered tool).
        """
        self._check_fields(fields)
        inputs.check_tenant(caller.tenant)
        facts = SessionStarted(
            model=self.providers.canonical(fields.get("model") or self.default_model),
            budget_tokens=fields.get("budget_tokens"),
            max_output_tokens=fields.get("max_output_tokens"),
            system_tokens=await inputs.count_text(fields.get("system") or ""),
            fallback_model=self._fallback(fields.get("fallback_model")),
            allowed_tools=fields.get("allowed_tools"),
        )
        words = SessionWords(fields.get("title"), fields.get("system") or None, fields.get("metadata"))
        drafts = start_session(facts, words)
        answer = await self._append(
            caller, self._clock.new_id(), NoStream(), lambda _, __: seal(drafts, caller, self._clock), request
        )
        if answer.replayed is not None:
            return await self.session(answer.replayed.id, caller, version=answer.replayed.version)
        return session_view(answer.state, words)

    async def session(self, session: UUID, caller: Caller = LOCAL, *, version: int | None = None) -> Session:
        """A session now, or as it was at a version."""
        state, words = await self._read(state_at, caller, session=session, version=version)
        return session_view(state, words)

    async def sessions(
        self,
        caller: Caller = LOCAL,
        *,
        order: queries.Order = "activity",
        status: str | None = None,
        limit: int = DEFAULT_LIMIT,
        before: SessionCursor | None = None,
    ) -> tuple[list[Session], SessionCursor | None]:
        """Sessions, newest first, and where the next page begins (None: this was the last)."""
        page, more = await self._page(SESSIONS, caller, limit, order=order, status=status, before=before)
        cursor = (page[-1][0].updated_at, page[-1][0].id) if more else None
        return [session_view(state, words) for state, words in page], cursor

    async def update_session(
        self,
        session: UUID,
        changes: dict[str, Any],
        caller: Caller = LOCAL,
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
    ) -> Session:
        """Set fields of a session (None sets null): those of ``create_session``, and ``status``."""
        self._check_fields(changes)
        values = dict(changes)
        if values.get("status", "active") not in {"active", "archived"}:
            raise Invalid("status", "must be active or archived")
        if "system" in values:
            values["system"] = values["system"] or None
        if "model" in values:
            values["model"] = self.providers.canonical(values["model"] or self.default_model)
        if "fallback_model" in values:
            values["fallback_model"] = self._fallback(values["fallback_model"])
        change = Changes(values, await inputs.count_text(values.get("system") or ""))

        def decide(_: Place, state: Any) -> list[NewEvent]:
            return seal(update_session(state, change), caller, self._clock)

        answer = await self._append(caller, session, _expected(expected), decide, request)
        version = answer.state.version if answer.replayed is None else answer.replayed.version
        return await self.session(session, caller, version=version)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def append_messages(
        self,
        session: UUID,
        messages: Sequence[MessageIn],
        caller: Caller = LOCAL,
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
    ) -> list[Message]:
        """Append messages without running a model: all of them or none."""
        news = await inputs.new_messages(messages, self.settings)
        sealed = seal([message_draft(message) for message in news], caller, self._clock)

        def decide(_: Place, state: Any) -> list[NewEvent]:
            check_messages(state, news)
            return sealed

        answer = await self._store_append(
            Append(
                caller.tenant,
                session,
                _expected(expected),
                decide,
                known=sealed if messages[0].id else (),
                request=request,
                reference=Reference("messages", session, 0),
            )
        )
        if answer.replayed is None:
            return [message_view(event) for event in answer.events]
        events: Sequence[RecordedEvent] = answer.events
        if not events:
            last = answer.replayed.version
            events = await self._read(
                reads.session_events, caller, session=answer.replayed.id, after=last - len(news), up_to=last
            )
        return [message_view(event) for event in events]

    async def append_message(
        self, session: UUID, content: str, caller: Caller = LOCAL, *, role: str = "user"
    ) -> Message:
        """Append one message of text."""
        return (await self.append_messages(session, [MessageIn(content, role)], caller))[0]

    async def messages(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        after: int | None = None,
        limit: int = DEFAULT_LIMIT,
        descending: bool = False,
    ) -> tuple[list[Message], bool]:
        """A session's messages in order of version, after one of them in that order; and whether there are more."""
        _check_limit(limit)
        bounds = {"after": after, "limit": limit, "most_bytes": self.settings.max_page_bytes}
        found: tuple[list[Message], bool] = await self._read(
            message_page, caller, session=session, descending=descending, **bounds
        )
        return found

    async def new_message(self, message: MessageIn) -> NewMessage:
        """A message checked and counted, ready to be decided on."""
        return await inputs.new_message(message, self.settings)

    # --- events -------------------------------------------------------------------------------------------------------

    async def events(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        after: int = 0,
        limit: int = DEFAULT_LIMIT,
        types: Sequence[str] = (),
        wait_s: float = 0,
    ) -> tuple[list[Event], bool]:
        """A session's events after a version, and whether there are more. Where there is none it waits for one, at most
        ``wait_s``.
        """
        listing, chosen = (EVENTS_OF_TYPES, {"types": types}) if types else (EVENTS, {})
        look = partial(self._page, listing, caller, limit, session=session, after=after, **chosen)
        found, more = await (self._follower.first(caller.tenant, session, look, wait_s) if wait_s else look())
        return [event_view(event) for event in found], more

    async def log_events(
        self, caller: Caller = LOCAL, *, after: int = 0, limit: int = DEFAULT_LIMIT, wait_s: float = 0
    ) -> tuple[list[Event], bool]:
        """The whole log's events after a position, and whether there are more; it waits as ``events`` does."""
        look = partial(self._page, LOG_EVENTS, caller, limit, after=after)
        found, more = await (self._follower.first(caller.tenant, None, look, wait_s) if wait_s else look())
        return [event_view(event) for event in found], more

    async def follow(
        self, session: UUID | None, caller: Caller = LOCAL, *, after: int | None = None
    ) -> AsyncGenerator[list[Event], None]:
        """Events as they are committed, of a session or (None) of the whole log: after a version (a position), or
        from the newest. An empty batch says that all there is was given.
        """
        async with aclosing(self._follower.events(caller.tenant, session, after)) as batches:
            async for batch in batches:
                yield [event_view(event) for event in batch]

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _append(
        self,
        caller: Caller,
        session: UUID,
        expected: Expected,
        events: Decide,
        request: RequestKey | None = None,
    ) -> Appended:
        return await self._store_append(Append(caller.tenant, session, expected, events, request=request))

    async def _store_append(self, work: Append) -> Appended:
        try:
            return await self._store.append(work)
        except VersionConflict as conflict:
            if conflict.current_version:
                raise
            raise SessionNotFound("there is no such session", session_id=str(work.session)) from None

    async def _read(self, function: Any, caller: Caller, **arguments: Any) -> Any:
        return await self._store.read(partial(function, tenant=caller.tenant, **arguments))

    async def _page(
        self, listing: Listing[Any], caller: Caller, limit: int, **arguments: Any
    ) -> tuple[list[Any], bool]:
        """Up to ``limit`` items, fewer where they are large, and whether there are more; of a session that exists, if
        it is one's.
        """
        _check_limit(limit)
        bounds = {"limit": limit, "most_bytes": self.settings.max_page_bytes}
        page: tuple[list[Any], bool] = await self._read(read_page, caller, listing=listing, **bounds, **arguments)
        if "session" in arguments and not page[0]:
            await self._must_exist(caller, arguments["session"])
        return page

    async def _must_exist(self, caller: Caller, session: UUID) -> None:
        if await self._read(queries.session_state, caller, session=session) is None:
            raise SessionNotFound("there is no such session", session_id=str(session))

    def _fallback(self, model: str | None) -> str | None:
        """Raises UnknownModel, which names this field and not the other."""
        try:
            return None if model is None else self.providers.canonical(model)
        except UnknownModel as error:
            raise UnknownModel(error.detail, **error.extra | {"field": "fallback_model"}) from None

    def _check_fields(self, fields: dict[str, Any]) -> None:
        inputs.check_title(fields.get("title"), self.settings)
        inputs.check_system(fields.get("system"), self.settings)
        inputs.check_metadata(fields.get("metadata"), self.settings)
        inputs.check_allowed_tools(fields.get("allowed_tools"), self.settings)
        for name in ("budget_tokens", "max_output_tokens"):
            inputs.check_budget(fields.get(name), self.settings, name)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid("limit", f"must be from 1 to {MAX_LIMIT}")


def _expected(version: int | None) -> Expected:
    return AnyVersion() if version is None else Exactly(version)
