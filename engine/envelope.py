"""From a draft to an event that can be appended: who, on whose request, under which id."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine import codec
from engine.clock import Clock
from engine.events import Draft
from engine.store.base import NewEvent


class Caller(msgspec.Struct, frozen=True):
    """On whose behalf something is written. ``actor`` is ``key:ID``, ``turn:ID``, ``system`` or ``local``;
    ``correlation`` is the id of the request (``[A-Za-z0-9._-]{1,128}``). Neither can be erased, so neither may
    hold a name or an address.
    """

    tenant: str = "default"
    actor: str = "local"
    correlation: str | None = None


LOCAL = Caller()


def seal(drafts: Sequence[Draft], caller: Caller, clock: Clock) -> list[NewEvent]:
    """Drafts with their envelope."""
    return [
        NewEvent(
            id=draft.id or clock.new_id(),
            type=draft.facts.event_type,
            schema=draft.facts.schema,
            facts=codec.canonical(draft.facts),
            actor=draft.actor or caller.actor,
            body=codec.encode_body(draft.words),
            causation=draft.causation,
            correlation=caller.correlation,
            meaning=draft.facts,
        )
        for draft in drafts
    ]
