"""Keeping sessions: create, read, list, change."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from ..clock import Clock
from ..errors import Invalid, SessionNotFound, UnknownModel, VersionConflict
from ..events.types import SessionStarted, SessionWords
from ..log.base import AnyVersion, Append, Appended, Connection, Exactly, Expected, NewEvent, NoStream, RequestKey
from ..log.base import Place as LogPlace
from ..log.store import Store
from ..providers.registry import Providers, ResolvedModel, resolve
from ..sessions import queries
from ..sessions.decisions import Changes, start_session, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.history import session_at, state_at, system_of
from ..sessions.queries import Order
from ..sessions.state import NAMED, SessionState, SessionStatus
from ..sessions.views import Session, session_view
from ..settings import Settings
from ..tools.registry import Tools
from . import inputs
from .paging import Bounds, Page, SessionPlace, check_limit, fill, session_after, write_cursor

T = TypeVar("T")

Found = tuple[SessionState, SessionWords]


class SessionFields(msgspec.Struct, frozen=True):
    """Fields of a session as a caller gives them; UNSET: left out. None sets null, and for ``model`` the default
    one.
    """

    model: str | UnsetType | None = UNSET
    system: str | UnsetType | None = UNSET
    title: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    budget_tokens: int | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    fallback_model: str | UnsetType | None = UNSET
    allowed_tools: tuple[str, ...] | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    legal_hold: bool | UnsetType = UNSET


class NamedSettings(msgspec.Struct, frozen=True):
    """Settings that name models and tools: their ``values``, what facts hold of them (``recorded``), and those among
    the values that are ``words``, because facts cannot hold them.
    """

    values: dict[str, Any]
    recorded: dict[str, Any]
    words: dict[str, Any]


class Sessions:
    """Sessions, without their messages. ``default_model`` is that of a session that names none."""

    def __init__(
        self, store: Store, clock: Clock, providers: Providers, tools: Tools, settings: Settings, default_model: str
    ) -> None:
        self._tools = tools
        self._store = store
        self._clock = clock
        self._providers = providers
        self._settings = settings
        self._default_model = default_model

    async def create(self, caller: Caller, fields: SessionFields, request: RequestKey | None) -> Session:
        self._check(fields)
        inputs.check_tenant(caller.tenant)
        system = _given(fields.system) or None
        named = self._named({name: _given(getattr(fields, name)) for name in NAMED})
        facts = SessionStarted(
            model=named.recorded["model"],
            budget_tokens=_given(fields.budget_tokens),
            max_output_tokens=_given(fields.max_output_tokens),
            system_tokens=await inputs.count_text(system or ""),
            fallback_model=named.recorded["fallback_model"],
            allowed_tools=named.recorded["allowed_tools"],
        )
        words = SessionWords(_given(fields.title), system, _given(fields.metadata), **named.words)
        drafts = start_session(facts, words)

        def decide(_: LogPlace, __: Any) -> list[NewEvent]:
            return seal(drafts, caller, self._clock)

        work = Append(
            caller.tenant, self._clock.new_id(), NoStream(), decide, request=self._store.keyed(caller.tenant, request)
        )
        answer = await self._store.append(work)
        if answer.replayed is not None:
            return await self.read(caller, answer.replayed.id, answer.replayed.version)
        return session_view(answer.state, words)

    async def read(self, caller: Caller, session: UUID, version: int | None) -> Session:
        state, words = await self._store.read(
            lambda connection: session_at(connection, caller.tenant, session, version)
        )
        return session_view(state, words)

    async def system(self, caller: Caller, session: UUID) -> str | None:
        """The system prompt as it was recorded: a session's view has it from the projection."""

        def look(connection: Connection) -> str | None:
            return system_of(connection, caller.tenant, state_at(connection, caller.tenant, session))

        return await self._store.read(look)

    async def page(
        self, caller: Caller, order: Order, status: SessionStatus | None, limit: int, after: UUID | str | None
    ) -> Page[Session]:
        check_limit(limit)
        start = session_after(after, by_creation=order == "created")
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Found], bool]:
            found = queries.list_sessions(
                connection, caller.tenant, order=order, status=status, before=start, limit=limit + 1
            )
            return fill(found, _told_bytes, bounds)

        found, more = await self._store.read(look)
        return Page([session_view(*each) for each in found], write_cursor(_place(found[-1])) if more else None)

    async def update(
        self, caller: Caller, session: UUID, fields: SessionFields, expected: int | None, request: RequestKey | None
    ) -> Session:
        self._check(fields)
        values = {name: value for name, value in msgspec.structs.asdict(fields).items() if value is not UNSET}
        if values.get("status", "active") not in {"active", "archived"}:
            raise Invalid("status", "must be active or archived")
        if "system" in values:
            values["system"] = values["system"] or None
        named = self._named({name: values[name] for name in NAMED if name in values})
        recorded = {name: named.recorded[name] for name in named.words}
        change = Changes(values | named.values, await inputs.count_text(values.get("system") or ""), recorded)

        def decide(_: LogPlace, state: Any) -> list[NewEvent]:
            return seal(update_session(state, change), caller, self._clock)

        work = Append(
            caller.tenant, session, expected_of(expected), decide, request=self._store.keyed(caller.tenant, request)
        )
        answer = await append_to_session(self._store, work)
        version = answer.state.version if answer.replayed is None else answer.replayed.version
        return await self.read(caller, session, version)

    def _named(self, given: dict[str, Any]) -> NamedSettings:
        """Sort out which of these settings facts may hold. Raises UnknownModel, which names its field."""
        values, recorded = dict(given), dict(given)
        if "model" in given:
            model = resolve(self._providers, given["model"] or self._default_model)
            values["model"], recorded["model"] = model.name, model.recorded
        if given.get("fallback_model") is not None:
            fallback = self._fallback(given["fallback_model"])
            values["fallback_model"] = fallback.name
            recorded["fallback_model"] = fallback.name if fallback.info.listed else None
        if given.get("allowed_tools") is not None:
            registered = self._tools.names()
            recorded["allowed_tools"] = tuple(name for name in given["allowed_tools"] if name in registered)
        words = {name: value for name, value in values.items() if value != recorded[name]}
        return NamedSettings(values, recorded, words)

    def _fallback(self, name: str) -> ResolvedModel:
        try:
            return resolve(self._providers, name)
        except UnknownModel as error:
            raise UnknownModel(error.detail, **error.extra | {"field": "fallback_model"}) from None

    def _check(self, fields: SessionFields) -> None:
        inputs.check_title(_given(fields.title), self._settings)
        inputs.check_system(_given(fields.system), self._settings)
        inputs.check_metadata(_given(fields.metadata), self._settings)
        inputs.check_allowed_tools(_given(fields.allowed_tools), self._settings)
        inputs.check_budget(_given(fields.budget_tokens), self._settings, "budget_tokens")
        inputs.check_budget(_given(fields.max_output_tokens), self._settings, "max_output_tokens")


def must_exist(connection: Connection, tenant: str, session: UUID) -> None:
    """Raises SessionNotFound."""
    if queries.session_state(connection, tenant, session) is None:
        raise SessionNotFound("there is no such session", session_id=str(session))


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


def _given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _place(found: Found) -> SessionPlace:
    return found[0].updated_at, found[0].id


def _told_bytes(found: Found) -> int:
    return len(msgspec.json.encode(session_view(*found)))
