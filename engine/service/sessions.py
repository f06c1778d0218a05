"""Keeping sessions: create, read, list, change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from ..clock import Clock
from ..errors import Invalid, SessionNotFound, UnknownModel, VersionConflict
from ..events.session_types import SessionStarted, SessionWords, Source
from ..log.base import AnyVersion, Append, Appended, Connection, Exactly, Expected, NewEvent, NoStream, RequestKey
from ..log.base import Place as LogPlace
from ..log.sql.checkpoints import last_position, newest_origin
from ..log.store import Store
from ..providers.registry import Providers
from ..sessions import queries
from ..sessions.decisions import Changes, start_session, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.history import state_at
from ..sessions.queries import Order
from ..sessions.state import SessionState, SessionStatus
from ..sessions.views import Session, session_view
from ..settings import Settings
from . import inputs
from .paging import Bounds, Page, SessionPlace, check_limit, fill, session_after, write_cursor

T = TypeVar("T")

Found = tuple[SessionState, SessionWords]


class NewSession(TypedDict, total=False):
    """Fields of a session that begins. A field that is left out is null, or for ``model`` the default one."""

    model: str | None
    system: str | None
    title: str | None
    metadata: dict[str, Any] | None
    budget_tokens: int | None
    max_output_tokens: int | None
    fallback_model: str | None
    allowed_tools: Sequence[str] | None


class SessionChanges(NewSession, total=False):
    """Fields of a session that are set; one that is left out stays as it is."""

    status: SessionStatus
    legal_hold: bool


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


def read_fields(given: NewSession, known: type[NewSession]) -> SessionFields:
    """Raises TypeError for a field that there is not, as a call with a misspelt keyword does."""
    names = get_type_hints(known)
    values: dict[str, Any] = {**given}
    for name in values:
        if name not in names:
            raise TypeError(f"{name!r} is not a field of a session; there is {', '.join(names)}")
    if values.get("allowed_tools"):
        values["allowed_tools"] = tuple(values["allowed_tools"])
    return SessionFields(**values)


class Sessions:
    """Sessions, without their messages. ``default_model`` is that of a session that names none."""

    def __init__(
        self, store: Store, clock: Clock, providers: Providers, settings: Settings, default_model: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._providers = providers
        self._settings = settings
        self._default_model = default_model

    async def create(
        self, caller: Caller, fields: SessionFields, request: RequestKey | None, source: Source | None = None
    ) -> Session:
        self._check(fields)
        inputs.check_tenant(caller.tenant)
        system = _given(fields.system) or None
        facts = SessionStarted(
            model=self._model(_given(fields.model)),
            budget_tokens=_given(fields.budget_tokens),
            max_output_tokens=_given(fields.max_output_tokens),
            system_tokens=await inputs.count_text(system or ""),
            fallback_model=self._fallback(_given(fields.fallback_model)),
            allowed_tools=_given(fields.allowed_tools),
            source=source,
        )
        words = SessionWords(_given(fields.title), system, _given(fields.metadata))
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

    async def as_source(self, caller: Caller, session: UUID) -> Source:
        """Name a session as the source of one that is to be made from it. Raises SessionNotFound."""

        def look(connection: Connection) -> Source:
            must_exist(connection, caller.tenant, session)
            origin = newest_origin(connection, caller.tenant)
            assert origin is not None, "a log that has begun has a name"
            return Source(session, origin, last_position(connection, caller.tenant))

        return await self._store.read(look)

    async def read(self, caller: Caller, session: UUID, version: int | None) -> Session:
        state, words = await self._store.read(lambda connection: state_at(connection, caller.tenant, session, version))
        return session_view(state, words)

    async def page(
        self, caller: Caller, order: Order, status: SessionStatus | None, limit: int, after: UUID | str | None
    ) -> Page[Session]:
        check_limit(limit)
        start = session_after(after, by_creation=order == "created")
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Found], bool]:
            def read(before: SessionPlace | None, count: int) -> list[Found]:
                return queries.list_sessions(
                    connection, caller.tenant, order=order, status=status, before=before, limit=count
                )

            return fill(read, start, place=_place, weigh=_weight, bounds=bounds)

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
        if "model" in values:
            values["model"] = self._model(values["model"])
        if "fallback_model" in values:
            values["fallback_model"] = self._fallback(values["fallback_model"])
        change = Changes(values, await inputs.count_text(values.get("system") or ""))

        def decide(_: LogPlace, state: Any) -> list[NewEvent]:
            return seal(update_session(state, change), caller, self._clock)

        work = Append(
            caller.tenant, session, expected_of(expected), decide, request=self._store.keyed(caller.tenant, request)
        )
        answer = await append_to_session(self._store, work)
        version = answer.state.version if answer.replayed is None else answer.replayed.version
        return await self.read(caller, session, version)

    def _model(self, name: str | None) -> str:
        return self._providers.canonical(name or self._default_model)

    def _fallback(self, name: str | None) -> str | None:
        """Raises UnknownModel, which names this field and not the other."""
        try:
            return None if name is None else self._providers.canonical(name)
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


def _weight(found: Found) -> int:
    return len(msgspec.json.encode(found[1]))
