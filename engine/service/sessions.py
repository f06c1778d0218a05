"""Keeping sessions: create, read, list, change."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import SessionNotFound, VersionConflict
from ..events.session_types import SessionStarted, SessionWords, Source
from ..log.base import AnyVersion, Append, Appended, Connection, Exactly, Expected, NewEvent, NoStream, RequestKey
from ..log.base import Place as LogPlace
from ..log.sql.checkpoints import last_position, newest_origin
from ..log.store import Store
from ..sessions import queries
from ..sessions.decisions import Changes, start_session, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.family import family_then
from ..sessions.history import NOW, Moment, session_at, state_at, system_of, version_then
from ..sessions.listing import Listed, Order, Which, list_sessions
from ..sessions.state import NAMED, SessionState
from ..sessions.views import Session, session_view
from ..sessions.words import ShownWords
from ..settings import Settings
from . import inputs
from .names import Names
from .paging import Bounds, Page, SessionPlace, check_limit, fill, session_after, write_cursor
from .session_fields import SessionFields, check_fields, given

T = TypeVar("T")


class Sessions:
    """Sessions, without their messages."""

    def __init__(self, store: Store, clock: Clock, names: Names, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._names = names
        self._settings = settings

    async def create(
        self,
        caller: Caller,
        fields: SessionFields,
        request: RequestKey | None,
        source: Source | None = None,
        replay: UUID | None = None,
    ) -> Session:
        inputs.check_tenant(caller.tenant)
        facts, words = await self.first_event(fields)
        facts = msgspec.structs.replace(facts, source=source, replay=replay)
        drafts = start_session(facts, words)

        def decide(_: LogPlace, __: Any) -> list[NewEvent]:
            return seal(drafts, caller, self._clock)

        work = Append(
            caller.tenant, self._clock.new_id(), NoStream(), decide, request=self._store.keyed(caller.tenant, request)
        )
        answer = await self._store.append(work)
        if answer.replayed is not None:
            return await self.read(caller, answer.replayed.id, Moment(answer.replayed.version))
        return session_view(answer.state, ShownWords.first(words))

    async def first_event(
        self, fields: SessionFields, limits: Settings | None = None
    ) -> tuple[SessionStarted, SessionWords]:
        """The event that begins a session with these fields, within the server's ``limits`` or others. Raises
        UnknownModel, TooLarge and Invalid.
        """
        check_fields(fields, limits or self._settings)
        system = given(fields.system) or None
        named = self._names.sorted_out({name: given(getattr(fields, name)) for name in NAMED})
        facts = SessionStarted(
            model=named.recorded["model"],
            budget_tokens=given(fields.budget_tokens),
            max_output_tokens=given(fields.max_output_tokens),
            system_tokens=await inputs.count_text(system or ""),
            fallback_model=named.recorded["fallback_model"],
            allowed_tools=named.recorded["allowed_tools"],
            expires_at=fields.expires_us(self._clock.now_us()),
            max_messages=given(fields.max_messages),
            max_tokens=given(fields.max_tokens),
        )
        names = (given(fields.user_id), given(fields.agent_id))
        return facts, SessionWords(given(fields.title), system, given(fields.metadata), *names, **named.words)

    async def as_source(self, caller: Caller, session: UUID) -> Source:
        """Name a session as the source of one that is to be made from it. Raises SessionNotFound."""

        def look(connection: Connection) -> Source:
            must_exist(connection, caller.tenant, session)
            origin = newest_origin(connection, caller.tenant)
            assert origin is not None, "a log that has begun has a name"
            return Source(session, origin, last_position(connection, caller.tenant))

        return await self._store.read(look)

    async def read(self, caller: Caller, session: UUID, moment: Moment = NOW) -> Session:
        def look(connection: Connection) -> Listed:
            version = version_then(connection, caller.tenant, session, moment)
            state, words = session_at(connection, caller.tenant, session, version)
            return state, words, family_then(connection, caller.tenant, state, moment)

        return session_view(*await self._store.read(look))

    async def system(self, caller: Caller, session: UUID) -> str | None:
        """The system prompt as it was recorded: a session's view has it from the projection."""

        def look(connection: Connection) -> str | None:
            return system_of(connection, caller.tenant, state_at(connection, caller.tenant, session))

        return await self._store.read(look)

    async def page(
        self, caller: Caller, order: Order, which: Which, limit: int, after: UUID | str | None
    ) -> Page[Session]:
        check_limit(limit)
        start = session_after(after, by_creation=order == "created")
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Listed], bool]:
            found = list_sessions(connection, caller.tenant, order=order, which=which, before=start, limit=limit + 1)
            return fill(found, _told_bytes, bounds)

        found, more = await self._store.read(look)
        return Page([session_view(*each) for each in found], write_cursor(_place(found[-1])) if more else None)

    async def changes(self, fields: SessionFields) -> Changes:
        """The changes that these fields make. Raises UnknownModel, TooLarge and Invalid."""
        check_fields(fields, self._settings)
        values = fields.set_values(self._clock.now_us())
        named = self._names.sorted_out({name: values[name] for name in NAMED if name in values})
        recorded = {name: named.recorded[name] for name in named.words}
        return Changes(values | named.values, await inputs.count_text(values.get("system") or ""), recorded)

    async def update(
        self, caller: Caller, session: UUID, fields: SessionFields, expected: int | None, request: RequestKey | None
    ) -> Session:
        change = await self.changes(fields)

        def decide(_: LogPlace, state: Any) -> list[NewEvent]:
            return seal(update_session(state, change), caller, self._clock)

        work = Append(
            caller.tenant, session, expected_of(expected), decide, request=self._store.keyed(caller.tenant, request)
        )
        answer = await append_to_session(self._store, work)
        version = answer.state.version if answer.replayed is None else answer.replayed.version
        return await self.read(caller, session, Moment(version))


def must_exist(connection: Connection, tenant: str, session: UUID) -> SessionState:
    """A session's state as it is folded. Raises SessionNotFound."""
    state = queries.session_state(connection, tenant, session)
    if state is None:
        raise SessionNotFound("there is no such session", session_id=str(session))
    return state


async def append_to_session(store: Store, work: Append) -> Appended:
    """Record events in a session that has begun. Raises SessionNotFound, or VersionConflict where it is elsewhere."""
    try:
        return await store.append(work)
    except VersionConflict as conflict:
        if conflict.current_version:
            raise
        raise SessionNotFound("there is no such session", session_id=str(work.session)) from None


def expected_of(version: int | None) -> Expected:
    return AnyVersion() if version is None else Exactly(version)


def _place(found: Listed) -> SessionPlace:
    return found[0].updated_at, found[0].id


def _told_bytes(found: Listed) -> int:
    return len(msgspec.json.encode(session_view(*found)))
