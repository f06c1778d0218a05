"""Erasing words of replays and suites: the conditions by which a replay found its sessions, the names of suites and of
models that facts cannot hold. Each is a stream of its own, which no branch shows and no copy repeats.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import EventNotFound, Invalid
from ..events.types import BodyErased, Draft, ErasureWords
from ..log.base import Connection
from ..log.erasure import Trace, erase_bodies, forget_requests, traces
from ..log.transaction import Transaction
from ..sessions.envelope import Caller, seal
from ..sessions.replay_state import ReplayState, SuiteState
from ..sessions.replays import stream_state
from .reach import Order

RUNNING = "replay_running"
"""Why a policy keeps the words of a replay: it still goes by them."""


class Retained(msgspec.Struct, frozen=True):
    """The part of one session that a policy erased, or would erase; ``kept``: why it could not, or not all of it, as
    branches under legal hold, or with an open turn, show the rest. A replay or a suite is named by its id, too.
    """

    session_id: UUID
    versions: tuple[int, ...] = ()
    kept: str | None = None


class ErasedStream(msgspec.Struct, frozen=True):
    """The event that tells of an erasure, and the versions erased."""

    event: UUID
    versions: tuple[int, ...]


def erase_stream(
    tx: Transaction, order: Order, words: ErasureWords, caller: Caller, clock: Clock
) -> ErasedStream | None:
    """Erase the words of a replay or a suite, inside the write transaction; None: there are none. Raises EventNotFound,
    and Invalid for a version without words.
    """
    tenant, stream = caller.tenant, order.session
    history = traces(tx.connection, tenant, stream)
    targets = _targets(order, history)
    if not targets:
        return None
    positions = tuple(each.position for each in targets)
    draft = Draft(BodyErased(positions), words, id=clock.new_id())
    (event,), _ = tx.record(tenant, stream, seal([draft], caller, clock), tx.state(tenant, stream))
    erase_bodies(tx, tenant, [(position, event.position) for position in positions])
    forget_requests(tx, tenant, stream, history, frozenset(positions), {"replay", "suite"})
    return ErasedStream(event.id, tuple(each.version for each in targets))


def stream_versions(connection: Connection, tenant: str, order: Order) -> tuple[int, ...]:
    """The versions that would be erased. Raises as ``erase_stream``."""
    return tuple(each.version for each in _targets(order, traces(connection, tenant, order.session)))


def plan_stream(connection: Connection, tenant: str, order: Order, *, whole: bool) -> Retained | None:
    """Plan what a policy would erase of a replay or a suite; None: nothing. The name of a suite that holds turns stays,
    and so do the words of a replay that runs. ``whole``: the policy is for sessions with a tag, or expired ones.
    """
    state = stream_state(connection, tenant, order.session)
    if whole or state is None or (isinstance(state, SuiteState) and state.turns):
        return None
    versions = stream_versions(connection, tenant, order)
    if not versions:
        return None
    if isinstance(state, ReplayState) and state.status == "running":
        return Retained(order.session, kept=RUNNING)
    return Retained(order.session, versions)


def _targets(order: Order, history: list[Trace]) -> list[Trace]:
    said = [each for each in history if each.has_words and each.type != BodyErased.event_type]
    if order.versions is None:
        return [each for each in said if order.before_us is None or each.recorded_at < order.before_us]
    by_version = {each.version: each for each in history}
    for version in order.versions:
        if version not in by_version:
            raise EventNotFound(f"there is no version {version}", version=version, field="versions")
        if not by_version[version].length:
            raise Invalid("versions", f"version {version} holds no words", version=version)
    return [each for each in said if each.version in order.versions]
