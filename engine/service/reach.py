"""The choice of what an erasure erases, and where else the same words are: in the branches that show them, and in
sessions that were made from one of these.

A branch shows words that stand in another session: they go there, for all branches at once, and what tells of them goes
in each. Copies (``copied_words``) are named and not erased: each is somebody's own. Of an import it is known which
event comes from which, so the versions that hold the words are named, and the attempts that sent them; of a run done
again it is not, and all that has words is named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal
from uuid import UUID

import msgspec

from ..errors import EventNotFound, Invalid
from ..events.types import BodyErased, MessageAppended
from ..log.base import Connection
from ..log.erasure import NO_WORDS_BYTES, Trace, traces
from ..sessions.erasure import SETTING_WORDS
from ..sessions.forks import forks_of_family, sharers
from ..sessions.lineage import stands_in
from ..sessions.state import SessionState
from .copied_words import copies_that_keep, telling_of

StateOf = Callable[[UUID], SessionState]
"""The state of a session that there is."""


class Order(msgspec.Struct, frozen=True):
    """The order to erase of a session: these versions of its history (None: all that is its own), or what was recorded
    ``before_us``. ``passes_over``: what another branch shows that may not be erased there stays; else the whole is
    refused.
    """

    session: UUID
    versions: tuple[int, ...] | None = None
    before_us: int | None = None
    passes_over: bool = False


class Holder(msgspec.Struct, frozen=True):
    """Another session that holds words of those erased, at these versions. A ``branch`` shows them, or told of them:
    they are gone there, too. A ``copy``, imported or run again, keeps them, and must be erased by itself.
    """

    session_id: UUID
    relation: Literal["branch", "copy"]
    versions: tuple[int, ...]


class Reach(msgspec.Struct, frozen=True):
    """The reach of an erasure. ``targets``: the events whose bodies go, by the session in which they stand;
    ``histories``: the own events of the sessions that it reaches, the first of which it was ordered for; ``shown``: of
    each of them, up to which version of the sessions with targets it shows their events. ``chosen``: ids of the events
    that were asked for, also where they are erased by now. ``held``: branches for which something was passed over;
    ``replays``: those of the sessions that a replay has made.
    """

    targets: dict[UUID, list[Trace]]
    histories: dict[UUID, list[Trace]]
    shown: dict[UUID, dict[UUID, int]]
    chosen: frozenset[bytes]
    held: tuple[UUID, ...] = ()
    replays: frozenset[UUID] = frozenset()

    @property
    def positions(self) -> frozenset[int]:
        """The positions of all targets."""
        return frozenset(each.position for targets in self.targets.values() for each in targets)

    def shown_in(self, session: UUID) -> list[Trace]:
        """The targets that a session shows and that stand elsewhere."""
        bounds = self.shown.get(session, {})
        return [
            each for owner, up_to in bounds.items() for each in self.targets.get(owner, ()) if each.version <= up_to
        ]

    def versions_in(self, session: UUID) -> tuple[int, ...]:
        """The versions at which a session has targets, its own and those that it shows."""
        return tuple(sorted(each.version for each in (*self.shown_in(session), *self.targets.get(session, ()))))


def reach_of(connection: Connection, tenant: str, order: Order, state_of: StateOf) -> Reach:
    """Find what an order reaches. Raises EventNotFound and Invalid for versions that cannot be erased."""
    state = state_of(order.session)
    forks = forks_of_family(connection, tenant, state.root or state.id)
    histories = {order.session: traces(connection, tenant, order.session)}
    chosen = _chosen(connection, tenant, order, state, histories)
    bounds = {owner: sharers(forks, owner) for owner in chosen}
    held: tuple[UUID, ...] = ()
    if order.passes_over:
        held = _held_back(chosen, bounds, state_of)
    shown: dict[UUID, dict[UUID, int]] = {}
    for owner, found in bounds.items():
        first = min((each.version for each in chosen[owner]), default=None)
        for branch, up_to in found.items():
            if first is not None and up_to >= first:
                shown.setdefault(branch, {})[owner] = up_to
    for branch in shown:
        histories.setdefault(branch, traces(connection, tenant, branch))
    positions = {each.position for found in chosen.values() for each in found if each.has_words}
    targets = _targets(connection, tenant, histories, positions)
    ids = frozenset(each.raw_id for found in chosen.values() for each in found)
    replays = frozenset(fork.session for fork in forks if fork.replay is not None) & shown.keys()
    return Reach(targets, histories, shown, ids, held, replays)


def _targets(
    connection: Connection, tenant: str, histories: Mapping[UUID, Sequence[Trace]], chosen: AbstractSet[int]
) -> dict[UUID, list[Trace]]:
    """The events whose bodies shall go, in order: those that were asked for, and those that tell of their words."""
    targets = {}
    for session, history in histories.items():
        telling = telling_of(connection, tenant, history, chosen)
        found = [each for each in history if each.has_words and (each.position in chosen or each.position in telling)]
        if found:
            targets[session] = found
    return targets


def _held_back(
    chosen: dict[UUID, list[Trace]], bounds: Mapping[UUID, Mapping[UUID, int]], state_of: StateOf
) -> tuple[UUID, ...]:
    """Take out of what was chosen what a branch shows that may not be erased there; those branches."""
    held = []
    for owner, found in bounds.items():
        for branch, up_to in found.items():
            state = state_of(branch)
            if state.legal_hold or state.open_turn is not None:
                kept = [each for each in chosen[owner] if each.version > up_to]
                held += [branch] * (len(kept) < len(chosen[owner]))
                chosen[owner] = kept
    return tuple(held)


def holders(connection: Connection, tenant: str, session: UUID, reach: Reach) -> tuple[Holder, ...]:
    """The other sessions that an erasure reached, and the copies that keep what it erased, also where that was done
    before. A copy that has no word left is not named, and its own copies are.
    """
    branches = [
        Holder(each, "branch", versions)
        for each in reach.histories
        if each != session and (versions := reach.versions_in(each))
    ]
    kept = copies_that_keep(connection, tenant, reach.histories, reach.chosen, reach.positions)
    for again, said in _done_again(reach):
        kept.setdefault(again, set()).update(said)
    copies = [Holder(each, "copy", tuple(sorted(found))) for each, found in kept.items()]
    return tuple(sorted((*branches, *copies), key=lambda holder: (holder.session_id, holder.relation)))


def _done_again(reach: Reach) -> Iterator[tuple[UUID, list[int]]]:
    """The answers that replays were given to what is erased, by the session: they may say it again, and stay."""
    for session in reach.replays:
        gone = {each.position for each in reach.targets.get(session, ())}
        said = [each for each in reach.histories[session] if each.type == MessageAppended.event_type and each.has_words]
        versions = [each.version for each in said if each.position not in gone]
        if versions:
            yield session, versions


def _chosen(
    connection: Connection, tenant: str, order: Order, state: SessionState, histories: dict[UUID, list[Trace]]
) -> dict[UUID, list[Trace]]:
    """The events that were asked for, those without words among them, by the session in which they stand; the own
    events of those sessions are added to ``histories``.
    """
    own = histories[order.session]
    if order.before_us is not None:
        return {order.session: _old(own, order.before_us)}
    if order.versions is None:
        return {order.session: [each for each in own if each.type != BodyErased.event_type]}
    owners: dict[UUID, list[int]] = {}
    for version in order.versions:
        if not 1 <= version <= state.version:
            raise EventNotFound(f"the session has no version {version}", version=version, field="versions")
        owners.setdefault(stands_in(connection, tenant, state, version), []).append(version)
    for owner in owners:
        histories.setdefault(owner, traces(connection, tenant, owner))
    return {owner: _named(histories[owner], versions) for owner, versions in owners.items()}


def _named(history: Sequence[Trace], versions: Collection[int]) -> list[Trace]:
    by_version = {each.version: each for each in history}
    for version in versions:
        if by_version[version].length <= NO_WORDS_BYTES:
            raise Invalid("versions", f"version {version} holds no words", version=version)
    return [by_version[version] for version in versions]


def _old(history: Sequence[Trace], before_us: int) -> list[Trace]:
    said = [each for each in history if each.has_words and each.type != BodyErased.event_type]
    old = [each for each in said if each.recorded_at < before_us]
    if len(old) == len(said):
        return old
    return [each for each in old if each.type not in SETTING_WORDS]
