"""The checks of a replay that need the record, the models and the tools, all made before anything is written."""

from __future__ import annotations

import msgspec

from ...events.replay_types import ReplayStarted, ReplayWords
from ...events.turn_types import OTHER
from ...log.base import Connection
from ...providers.registry import Providers, ResolvedModel, resolve
from ...tools.registry import Tools
from .orders import Found, Order, find_turns
from .record import model_of


class Checked(msgspec.Struct, frozen=True):
    """A replay that can start: what is put on record of it, and the full name of the model that is asked."""

    facts: ReplayStarted
    words: ReplayWords | None
    model: str | None


def check_order(connection: Connection, *, tenant: str, order: Order, providers: Providers, tools: Tools) -> Checked:
    """Find the turns, and check that the models are served and the tools registered. Raises as ``find_turns``, and
    UnknownModel, and Invalid for a tool that is missing.
    """
    tools.allowed(order.live, None)
    model = None if order.model is None else resolve(providers, order.model)
    found = find_turns(connection, tenant, order)
    if order.mode != "recorded" and (model is None or order.repeat):
        for name in sorted({model_of(connection, tenant, turn) for turn in found.turns}):
            if not name.endswith(f"/{OTHER}"):  # it is erased, and its turns are skipped
                resolve(providers, name)
    return Checked(_facts(order, found, model), _words(found, model), None if model is None else model.name)


def _facts(order: Order, found: Found, model: ResolvedModel | None) -> ReplayStarted:
    return ReplayStarted(
        mode=order.mode,
        turns=found.turns,
        model=None if model is None else model.recorded,
        repeat=order.repeat,
        tools=order.tools,
        live=order.live,
        jobs=order.jobs,
        max_turns=order.max_turns,
        max_cost_micros=order.max_cost_micros,
        sessions=found.sessions,
        suite=found.suite,
    )


def _words(found: Found, model: ResolvedModel | None) -> ReplayWords | None:
    words = ReplayWords(None if model is None else model.words, found.where)
    return None if words == ReplayWords() else words
