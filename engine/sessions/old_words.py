"""Words in facts: what schema 1 of events took from models, vendors and clients, and no erasure can reach.

From schema 2 on such names stand in bodies (``events.types``). The older events stay as they were written: here they
are counted, for ``manent doctor``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ..events.session_types import SessionStarted, SessionUpdated
from ..events.turn_types import (
    STOP_REASONS,
    AttemptEnded,
    AttemptStarted,
    ToolApproved,
    ToolCalled,
    ToolRefused,
    ToolReturned,
    TurnCompleted,
    TurnPaused,
    TurnStarted,
)
from ..events.types import BodyErased, MessageAppended
from ..events.upcasts import meaning_of
from ..log.base import Connection
from ..log.sql.scan import facts_of_schema

SCHEMA = 1
"""The last schema whose facts took names from outside."""

IsListed = Callable[[str], bool]
"""True for the full name of a model that the catalogue or the configuration lists."""

_REASONS = {None, *STOP_REASONS}
_WORDS: dict[type, Callable[[Any], tuple[object, ...]]] = {
    MessageAppended: lambda facts: (*facts.calls, *facts.results),
    ToolCalled: lambda facts: (facts.call,),
    ToolReturned: lambda facts: (facts.call,),
    ToolApproved: lambda facts: (facts.call,),
    ToolRefused: lambda facts: (facts.call,),
    TurnPaused: lambda facts: facts.calls,
    BodyErased: lambda facts: facts.closes,
    AttemptStarted: lambda facts: (facts.tool_choice not in {None, "auto", "any", "none"},),
    AttemptEnded: lambda facts: (facts.vendor_code, facts.vendor_stop_reason, facts.stop_reason not in _REASONS),
    TurnStarted: lambda facts: facts.client_tools,
    TurnCompleted: lambda facts: (facts.vendor_stop_reason, facts.stop_reason not in _REASONS),
    SessionStarted: lambda facts: facts.allowed_tools or (),
    SessionUpdated: lambda facts: facts.allowed_tools or (),
}
"""What stands where words stood in schema 1, by type; models are looked at apart."""


class OldWords(msgspec.Struct, frozen=True):
    """Events of one log whose facts hold words: how many, and the positions of the first and of the last."""

    tenant: str
    count: int
    first: int
    last: int


def old_words(connection: Connection, is_listed: IsListed) -> list[OldWords]:
    """The events of each log whose facts hold words for ever. Reads every event of the old schema."""
    found: dict[str, OldWords] = {}
    for tenant, position in _positions(connection, is_listed):
        before = found.get(tenant) or OldWords(tenant, 0, position, position)
        found[tenant] = OldWords(tenant, before.count + 1, before.first, position)
    return list(found.values())


def _positions(connection: Connection, is_listed: IsListed) -> Iterator[tuple[str, int]]:
    for tenant, position, kind, raw in facts_of_schema(connection, SCHEMA):
        if _has_words(meaning_of(kind, SCHEMA, raw), is_listed):
            yield tenant, position


def _has_words(facts: object, is_listed: IsListed) -> bool:
    words = _WORDS.get(type(facts), lambda _: ())(facts)
    return any(words) or not all(map(is_listed, _models_in(facts)))


def _models_in(facts: object) -> Iterator[str]:
    if isinstance(facts, AttemptStarted):
        yield f"{facts.provider}/{facts.model}"
    elif isinstance(facts, TurnStarted | SessionStarted | SessionUpdated):
        names = (facts.model, getattr(facts, "fallback_model", None))
        yield from [name for name in names if name is not None]
