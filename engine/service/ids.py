"""Ids as callers give them: a UUID, or its text. Text that is no id names nothing, as over HTTP: it is not found."""

from __future__ import annotations

from uuid import UUID

from ..errors import NotFound, SessionNotFound, TurnNotFound
from ..sessions.replay_decisions import ReplayNotFound

Id = UUID | str


def session_id(given: Id) -> UUID:
    """The id of a session. Raises SessionNotFound for text that is no id."""
    return _id(given, "session_id", SessionNotFound)


def turn_id(given: Id) -> UUID:
    """The id of a turn. Raises TurnNotFound for text that is no id."""
    return _id(given, "turn_id", TurnNotFound)


def replay_id(given: Id) -> UUID:
    """The id of a replay. Raises ReplayNotFound for text that is no id."""
    return _id(given, "replay_id", ReplayNotFound)


def _id(given: Id, field: str, missing: type[NotFound]) -> UUID:
    if isinstance(given, UUID):
        return given
    if not isinstance(given, str):
        raise TypeError(f"{field}: must be a UUID or its text, not {type(given).__name__}")
    try:
        return UUID(given)
    except ValueError:
        raise missing(f"{field}: is not an id (a UUID)", field=field) from None
