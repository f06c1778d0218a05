"""The service that routes and scripts call: sessions, messages, windows and turns.

``Conversation`` is what ``engine.open`` gives. Every call is made on behalf of a ``Caller`` (by default the local
user of the default tenant), and does all it says or raises an ``EngineError`` and has done nothing. What it
returns are the values of ``engine.views``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import UUID

from engine import inputs, intake, planning, reading_along
from engine.asking import Ask, Started, TurnStarter
from engine.clock import Clock
from engine.decisions import Changes, NewMessage, check_messages, message_draft, start_session, update_session
from engine.envelope import LOCAL, Caller, seal
from engine.errors import EngineError, Invalid, SessionNotFound, VersionConflict
from engine.events import SessionStarted, SessionWords
from engine.intake import MessageIn
from engine.planning import Limits
from engine.projections import queries
from engine.providers.models import Providers
from engine.reading_along import Follower
from engine.record import Record
from engine.settings import Settings
from engine.store import reading
from engine.store.base import (
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
from engine.store.log import Store
from engine.store.works import probe
from engine.supervisor import Supervisor
from engine.views import Event, Frame, Message, Session, Turn, Window, event_view, message_view, session_view

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

SessionCursor = tuple[int, UUID]
"""(updated_at in microseconds, id): where a page of sessions ended."""


class Conversation:
    """An open engine."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        providers: Providers,
        clock: Clock,
        settings: Settings,
        default_model: str,
        record: Record,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self.store = store
        self.clock = clock
        self._starter = TurnStarter(store, supervisor, providers, clock, settings)
        self._follower = Follower(store, supervisor, settings)
        self.providers = providers
        self.settings = settings
        self.default_model = default_model
        self.record = record

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def create_session(
        self, caller: Caller = LOCAL, *, request: RequestKey | None = None, **fields: Any
    ) -> Session:
        """Begin a session. Fields: ``model`` (None: the default one), ``system``, ``title``, ``metadata``,
        ``budget_tokens``, ``max_output_tokens``.
        """
        self._check_fields(fields)
        inputs.check_tenant(caller.tenant)
        facts = SessionStarted(
            model=self.providers.canonical(fields.get("model") or self.default_model),
            budget_tokens=fields.get("budget_tokens"),
            max_output_tokens=fields.get("max_output_tokens"),
            system_tokens=await intake.count_text(fields.get("system") or ""),
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
        state, words = await self._read(planning.state_at, caller, session=session, version=version)
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
        page, more = await self._page(queries.list_sessions, caller, limit, order=order, status=status, before=before)
        cursor = (page[-1][0].updated_at, page[-1][0].id) if more else None
        return [session_view(state, words) for state, words in page], cursor

    async def update_session(
        self, session: UUID, changes: dict[str, Any], caller: Caller = LOCAL, *, expected: int | None = None
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
        change = Changes(values, await intake.count_text(values.get("system") or ""))

        def decide(_: Place, state: Any) -> list[NewEvent]:
            return seal(update_session(state, change), caller, self._clock)

        answer = await self._append(caller, session, _expected(expected), decide)
        return await self.session(session, caller, version=answer.state.version)

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
        news = await intake.new_messages(messages, self.settings)
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
        events: Sequence[RecordedEvent] = answer.events
        if answer.replayed is not None and not events:
            last = answer.replayed.version
            events = await self._read(
                reading.session_events, caller, session=answer.replayed.id, after=last - len(news), up_to=last
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
        arguments = {"session": session, "after": after, "descending": descending}
        events, more = await self._page(queries.list_messages, caller, limit, **arguments)
        return [message_view(event) for event in events], more

    async def new_message(self, message: MessageIn) -> NewMessage:
        """A message checked and counted, ready to be decided on."""
        return await intake.new_message(message, self.settings)

    async def window(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        budget_tokens: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Window:
        """What a model would be sent now, or at a version."""
        inputs.check_budget(budget_tokens, self.settings, "budget_tokens")
        arguments = {"session": session, "limits": Limits(budget_tokens), "model": model, "version": version}
        found: Window = await self._read(
            planning.window, caller, providers=self.providers, settings=self.settings, **arguments
        )
        return found

    # --- turns --------------------------------------------------------------------------------------------------------

    async def start_turn(
        self,
        session: UUID,
        ask: Ask,
        caller: Caller = LOCAL,
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
    ) -> Started:
        """Run the model; returns when the turn's start is durable. It goes on whether or not anybody reads along."""
        inputs.check_budget(ask.limits.budget_tokens, self.settings, "budget_tokens")
        inputs.check_budget(ask.limits.max_output_tokens, self.settings, "max_output_tokens")
        inputs.check_temperature(ask.temperature)
        inputs.check_stop(ask.stop)
        return await self._starter.start(caller, session, ask, expected=expected, request=request)

    async def say(self, session: UUID, content: str, caller: Caller = LOCAL, **options: Any) -> Turn:
        """Send a message of text and wait for the answer: the ended turn. ``options`` are those of ``Ask``."""
        message = await self.new_message(MessageIn(content))
        started = await self.start_turn(session, Ask(message=message, **options), caller)
        return await self.ended(started.turn, caller)

    async def turn(self, turn: UUID, caller: Caller = LOCAL) -> Turn:
        """A turn as it is now."""
        found: Turn = await self._read(reading_along.read_turn, caller, turn=turn)
        return found

    async def ended(self, turn: UUID, caller: Caller = LOCAL) -> Turn:
        """A turn once it has ended, or waits for a decision."""
        async for _ in self._follower.frames(caller.tenant, turn, present=False):
            pass
        return await self.turn(turn, caller)

    async def turns(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        after: int | None = None,
        limit: int = DEFAULT_LIMIT,
        descending: bool = False,
    ) -> tuple[list[Turn], int | None]:
        """A session's turns in the order they started, and the version after which the next page begins (None: the
        last).
        """
        arguments = {"session": session, "after": after, "descending": descending}
        page, more = await self._page(reading_along.read_turns, caller, limit, **arguments)
        return [turn for _, turn in page], page[-1][0] if more else None

    async def cancel(self, turn: UUID, caller: Caller = LOCAL) -> Turn:
        """Cancel a turn; one that has ended stays as it is."""
        await self._follower.turn_state(caller.tenant, turn)
        await self._supervisor.cancel(caller.tenant, turn, caller.actor)
        return await self.turn(turn, caller)

    async def read_to_end(self, turn: UUID, cursor: int, caller: Caller = LOCAL) -> bool:
        """Whether a turn has ended and its last frame is at or before the cursor."""
        state = await self._follower.turn_state(caller.tenant, turn)
        return state.status != "running" and cursor >= state.frame

    async def frames(self, turn: UUID, caller: Caller = LOCAL, *, after: int = 0) -> AsyncGenerator[list[Frame], None]:
        """A turn's frames after a number, in batches, live or from the record, up to its end."""
        async with aclosing(self._follower.frames(caller.tenant, turn, after)) as batches:
            async for batch in batches:
                yield batch

    # --- events -------------------------------------------------------------------------------------------------------

    async def events(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        after: int = 0,
        limit: int = DEFAULT_LIMIT,
        types: Sequence[str] = (),
    ) -> tuple[list[Event], bool]:
        """A session's events after a version, and whether there are more."""
        function = partial(reading.session_events_of_types, types=types) if types else reading.session_events
        found, more = await self._page(function, caller, limit, session=session, after=after)
        return [event_view(event) for event in found], more

    async def log_events(
        self, caller: Caller = LOCAL, *, after: int = 0, limit: int = DEFAULT_LIMIT
    ) -> tuple[list[Event], bool]:
        """The whole log's events after a position, and whether there are more."""
        found, more = await self._page(reading.log_events, caller, limit, after=after)
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

    # --- life ---------------------------------------------------------------------------------------------------------

    async def ready(self) -> bool:
        """Whether turns may start: the engine can write, which is tried, and is not shutting down."""
        if self._supervisor.draining:
            return False
        try:
            await self._store.do(probe)
        except EngineError:
            return False
        return True

    def admit_reader(self) -> None:
        """Raises Overloaded where there is no room for one more reader: to be asked before a stream is promised."""
        self._follower.admit()

    async def drain(self) -> None:
        """Take no more turns, let those that run end, interrupt the rest, and let go of all readers."""
        self._follower.close()
        await self._supervisor.drain()

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

    async def _page(self, function: Any, caller: Caller, limit: int, **arguments: Any) -> tuple[list[Any], bool]:
        """Up to ``limit`` items, and whether there are more; of a session that exists, if it is one's."""
        if not 1 <= limit <= MAX_LIMIT:
            raise Invalid("limit", f"must be from 1 to {MAX_LIMIT}")
        if "session" in arguments:
            await self._must_exist(caller, arguments["session"])
        found = await self._read(function, caller, limit=limit + 1, **arguments)
        return found[:limit], len(found) > limit

    async def _must_exist(self, caller: Caller, session: UUID) -> None:
        if await self._read(queries.session_state, caller, session=session) is None:
            raise SessionNotFound("there is no such session", session_id=str(session))

    def _check_fields(self, fields: dict[str, Any]) -> None:
        inputs.check_title(fields.get("title"), self.settings)
        inputs.check_system(fields.get("system"), self.settings)
        inputs.check_metadata(fields.get("metadata"), self.settings)
        for name in ("budget_tokens", "max_output_tokens"):
            inputs.check_budget(fields.get(name), self.settings, name)


def _expected(version: int | None) -> Expected:
    return AnyVersion() if version is None else Exactly(version)
