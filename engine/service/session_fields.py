"""The fields of a session as callers give them, and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import Invalid
from ..log.codec import MAX_SAFE_INTEGER
from ..sessions.listing import KINDS, SHOWN, Kind, Shown, Which
from ..sessions.state import SessionStatus
from ..settings import Settings
from . import inputs
from .moments import Time, microseconds

T = TypeVar("T")


class NewSession(TypedDict, total=False):
    """Fields of a session that begins. A field that is left out is null, or for ``model`` the default one.

    After ``expires_at``, or ``ttl_s`` from now, nothing is appended and no turn starts. ``user_id`` and ``agent_id``
    are for finding it. ``max_messages`` and ``max_tokens`` bound what it holds.
    """

    model: str | None
    system: str | None
    title: str | None
    metadata: dict[str, Any] | None
    budget_tokens: int | None
    max_output_tokens: int | None
    fallback_model: str | None
    allowed_tools: Sequence[str] | None
    user_id: str | None
    agent_id: str | None
    expires_at: Time | None
    ttl_s: int | None
    max_messages: int | None
    max_tokens: int | None


class SessionChanges(NewSession, total=False):
    """Fields of a session that are set; one that is left out stays as it is."""

    status: SessionStatus
    legal_hold: bool


class SessionFilter(TypedDict, total=False):
    """Which sessions are listed: those of which all that is given is true. ``title_contains`` takes no notice of the
    case of A to Z; ``waiting``: a turn waits for a person; ``has_failed``: a turn has failed. ``kind``: by default
    ``conversation``; a ``replay`` is a fork that a replay made. ``branches``: by default ``family``, of each family the
    one with the newest activity.
    """

    status: SessionStatus | None
    model: str | None
    user_id: str | None
    agent_id: str | None
    title_contains: str | None
    has_failed: bool | None
    waiting: bool | None
    kind: Kind
    branches: Shown


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
    user_id: str | UnsetType | None = UNSET
    agent_id: str | UnsetType | None = UNSET
    expires_at: Time | UnsetType | None = UNSET
    ttl_s: int | UnsetType | None = UNSET
    max_messages: int | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    status: str | UnsetType = UNSET
    legal_hold: bool | UnsetType = UNSET

    def set_values(self, now_us: int) -> dict[str, Any]:
        """Names and values of the fields that are given; a time in microseconds."""
        values = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}
        if "ttl_s" in values or "expires_at" in values:
            values.pop("ttl_s", None)
            values["expires_at"] = self.expires_us(now_us)
        if "system" in values:
            values["system"] = values["system"] or None
        return values

    def expires_us(self, now_us: int) -> int | None:
        """When the session expires, in microseconds. Raises Invalid."""
        at, ttl_s = given(self.expires_at), given(self.ttl_s)
        if ttl_s is not None:
            if at is not None:
                raise Invalid("ttl_s", "goes without expires_at")
            return _in_range(now_us + ttl_s * 1_000_000, "ttl_s")
        return None if at is None else _in_range(microseconds(at, "expires_at"), "expires_at")


def given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def read_filter(which: SessionFilter) -> Which:
    """Raises TypeError for what cannot be asked for, and Invalid for a status, kind or view that there is not."""
    if which.get("status") not in {None, "active", "archived"}:
        raise Invalid("status", "must be active or archived")
    if which.get("kind", "any") not in KINDS:
        raise Invalid("kind", "must be conversation, replay or any")
    if which.get("branches", "all") not in SHOWN:
        raise Invalid("branches", "must be family or all")
    return Which(**which)


def read_fields(fields: NewSession, known: type[NewSession]) -> SessionFields:
    """Raises TypeError for a field that there is not, as a call with a misspelt keyword does."""
    names = get_type_hints(known)
    values: dict[str, Any] = {**fields}
    for name in values:
        if name not in names:
            raise TypeError(f"{name!r} is not a field of a session; there is {', '.join(names)}")
    if values.get("allowed_tools"):
        values["allowed_tools"] = tuple(values["allowed_tools"])
    return SessionFields(**values)


def check_fields(fields: SessionFields, settings: Settings) -> None:
    """Raises Invalid or TooLarge, which name the field."""
    inputs.check_title(given(fields.title), settings)
    inputs.check_system(given(fields.system), settings)
    inputs.check_metadata(given(fields.metadata), settings)
    inputs.check_allowed_tools(given(fields.allowed_tools), settings)
    inputs.check_budget(given(fields.budget_tokens), settings, "budget_tokens")
    inputs.check_budget(given(fields.max_output_tokens), settings, "max_output_tokens")
    inputs.check_name(given(fields.user_id), settings, "user_id")
    inputs.check_name(given(fields.agent_id), settings, "agent_id")
    for name in ("ttl_s", "max_messages", "max_tokens"):
        inputs.check_count(given(getattr(fields, name)), name)
    if fields.status is not UNSET and fields.status not in {"active", "archived"}:
        raise Invalid("status", "must be active or archived")


def _in_range(time_us: int, field: str) -> int:
    if not 0 <= time_us < MAX_SAFE_INTEGER:
        raise Invalid(field, "must lie between 1970 and 2255")
    return time_us
