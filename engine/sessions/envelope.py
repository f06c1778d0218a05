"""The envelope of an event: from a draft to an event that can be appended, with its id, its actor and its request."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..clock import Clock
from ..events.base import Facts
from ..events.types import Draft
from ..log import codec
from ..log.base import NewEvent


class Caller(msgspec.Struct, frozen=True):
    """The caller on whose behalf events are written. ``actor`` is ``key:ID``, ``turn:ID``, ``system`` or ``local``;
    ``correlation`` is the id of the request (``[A-Za-z0-9._-]{1,128}``). Neither can be erased, so neither may hold a
    name or an address.
    """

    tenant: str = "default"
    actor: str = "local"
    correlation: str | None = None


LOCAL = Caller()


def seal(drafts: Sequence[Draft], caller: Caller, clock: Clock) -> list[NewEvent]:
    """Events from drafts, each with its envelope."""
    return [_sealed(draft, draft.facts, caller, clock) for draft in drafts]


def _sealed(draft: Draft, facts: Facts, caller: Caller, clock: Clock) -> NewEvent:
    return NewEvent(  # its fields in their order, as every event is made here
        draft.id or clock.new_id(),
        facts.event_type,
        facts.schema,
        codec.canonical(facts),
        draft.actor or caller.actor,
        codec.encode_body(draft.words),
        draft.causation,
        caller.correlation,
        facts,
    )
