"""The choice of what an erasure erases, and where else the same words are: in sessions that were made from this one.

Copies are named and not erased: each is somebody's own. Of an import it is known which event comes from which, so the
versions that hold the words are named, and the attempts that sent them; of a run done again it is not, and all that has
words is named. Copies of copies are found in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal
from uuid import UUID

import msgspec

from ..errors import EventNotFound, Invalid
from ..events.turn_types import AttemptEnded, AttemptEndedWords, AttemptStarted
from ..events.types import BodyErased
from ..events.upcasts import facts_of, words_of
from ..log.base import Connection
from ..log.erasure import NO_WORDS_BYTES, Trace, traces
from ..log.sql import reads
from ..sessions.copies import copies_of
from ..sessions.erasure import SETTING_WORDS


class Order(msgspec.Struct, frozen=True):
    """The order to erase of a session: these versions (None: all), or what was recorded ``before_us``."""

    session: UUID
    versions: tuple[int, ...] | None = None
    before_us: int | None = None


class Holder(msgspec.Struct, frozen=True):
    """Another session that holds words of those erased, at these versions: it must be erased by itself. ``relation``:
    it is a copy, imported or run again from the session; or a branch of it.
    """

    session_id: UUID
    relation: Literal["branch", "copy"]
    versions: tuple[int, ...]


def holders(connection: Connection, tenant: str, order: Order) -> tuple[Holder, ...]:
    """The copies that hold what an order names, also where it is erased by now. A copy that has no word left is not
    named, and its own copies are.
    """
    history = traces(connection, tenant, order.session)
    chosen = frozenset(each.raw_id for each in _chosen(order, history))
    found = _held(connection, tenant, order.session, history, chosen)
    return tuple(sorted(found, key=lambda holder: holder.session_id))


def _held(
    connection: Connection, tenant: str, session: UUID, history: Sequence[Trace], chosen: AbstractSet[bytes]
) -> Iterator[Holder]:
    seen, waiting = {session}, [(session, history, chosen)]
    while waiting:
        source, history, chosen = waiting.pop()
        for copy in copies_of(connection, tenant, source, history[0].raw_id):
            if copy in seen or not chosen:
                continue
            seen.add(copy)
            copied = traces(connection, tenant, copy)
            same = [each for each in copied if _tells(each, copied[0], chosen)]
            waiting.append((copy, copied, frozenset(each.raw_id for each in same)))
            positions = {each.position for each in same}
            positions |= _telling(connection, tenant, copied, positions)
            versions = tuple(each.version for each in copied if each.position in positions and each.has_words)
            if versions:
                yield Holder(copy, "copy", versions)


def _tells(event: Trace, first: Trace, chosen: AbstractSet[bytes]) -> bool:
    """True if an event of a copy has the words of one of those chosen; of a run done again, any has."""
    if event.type == BodyErased.event_type:
        return False
    return first.causation is None or event.causation in chosen


def targets_of(connection: Connection, tenant: str, order: Order, history: Sequence[Trace]) -> list[Trace]:
    """The events whose bodies shall go, in order: those that were asked for, and those that tell of their words."""
    positions = {each.position for each in _chosen(order, history) if each.has_words}
    positions |= _telling(connection, tenant, history, positions)
    return [each for each in history if each.position in positions and each.has_words]


def _chosen(order: Order, history: Sequence[Trace]) -> list[Trace]:
    """The events that were asked for, those without words among them."""
    if order.before_us is not None:
        return _old(history, order.before_us)
    if order.versions is not None:
        return _named(history, order.versions)
    return [each for each in history if each.type != BodyErased.event_type]


def _named(history: Sequence[Trace], versions: Collection[int]) -> list[Trace]:
    by_version = {each.version: each for each in history}
    for version in versions:
        if version not in by_version:
            raise EventNotFound(f"the session has no version {version}", version=version, field="versions")
        if by_version[version].length <= NO_WORDS_BYTES:
            raise Invalid("versions", f"version {version} holds no words", version=version)
    return [by_version[version] for version in versions]


def _old(history: Sequence[Trace], before_us: int) -> list[Trace]:
    said = [each for each in history if each.has_words and each.type != BodyErased.event_type]
    old = [each for each in said if each.recorded_at < before_us]
    if len(old) == len(said):
        return old
    return [each for each in old if each.type not in SETTING_WORDS]


def _telling(connection: Connection, tenant: str, history: Sequence[Trace], positions: AbstractSet[int]) -> set[int]:
    """Attempts whose prompt held one of these: the commitment over it, and what a provider said when it refused it."""
    sent: set[tuple[UUID, int, int]] = set()
    telling: set[int] = set()
    for each in history:
        if each.type == AttemptStarted.event_type:
            facts = facts_of(each)
            assert isinstance(facts, AttemptStarted)
            if facts.system in positions or not positions.isdisjoint(facts.positions):
                sent.add((facts.turn, facts.round, facts.attempt))
                telling.add(each.position)
        elif each.type == AttemptEnded.event_type and each.has_words:
            ended = facts_of(each)
            assert isinstance(ended, AttemptEnded)
            if (ended.turn, ended.round, ended.attempt) in sent and _quotes(connection, tenant, each.position):
                telling.add(each.position)
    return telling


def _quotes(connection: Connection, tenant: str, position: int) -> bool:
    """True if an ended attempt kept the provider's answer, or is damaged and may have: damage keeps no erasure up."""
    event = reads.event_at_position(connection, tenant, position)
    if event is None or event.damaged:
        return event is not None
    words = words_of(event)
    return isinstance(words, AttemptEndedWords) and words.upstream is not None
