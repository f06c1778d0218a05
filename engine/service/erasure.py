"""Erasing words: chosen events of a session, or all of it. The record of them stays, and proves as before.

In one transaction: the ``body.erased`` event (which, by whom, why), then bodies and their salts, and every projection
that held the words. What could give the words away to somebody who guesses them goes too, though nobody named it: the
salts of the requests in which they came, and the bodies of the attempts that sent them to a model, whose commitment is
over the very prompt. So what a model was sent there can no longer be derived, and says so (``Erased``). With the last
attempt that names them go the schemas of its tools, which may be a client's own text.

Afterwards the purge clears the file's bytes (``engine.log.sqlite.purge``). Backups and what was exported before are
out of reach, and the answer says so.

A session under *legal hold* refuses erasure; so does one with an open turn, whose words are still on their way.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import EventNotFound, Invalid, LegalHold, TurnAlreadyOpen
from ..events.types import (
    AttemptEnded,
    AttemptEndedWords,
    AttemptStarted,
    BodyErased,
    Draft,
    ErasureWords,
    MessageAppended,
)
from ..events.upcasts import facts_of, words_of
from ..log.append import check_expected
from ..log.base import AnyVersion, Connection, Exactly, Reference, RequestKey
from ..log.erasure import NO_WORDS_BYTES, Trace, erase_bodies, forget_requests, sessions_with_words, traces
from ..log.sql import reads
from ..log.sql.documents import erase_documents
from ..log.sql.idempotency import find_request, remember_request
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.decisions import check_erasable, erase_words
from ..sessions.envelope import Caller, seal
from ..sessions.erasure import SETTING_WORDS, forget_words, release_documents
from ..sessions.state import SessionState
from .inputs import check_text

MAX_REASON_CHARS = 1000
TARGETS_PER_EVENT = 1000
"""A longer list becomes several events: a leaf must stay small."""

DAY_US = 86_400_000_000

Erased = tuple[int, tuple[int, ...]]
"""A session's version afterwards, and the versions erased."""

OUT_OF_REACH = ("backups", "earlier exports")


class Erasure(msgspec.Struct, frozen=True):
    """The result of an erasure. ``versions``: the events whose words are gone now, those among them that nobody
    named but that told of the same words. ``purged``: no file of the server holds them any more, not even as stray
    bytes; else that will be so as soon as a reader lets go of the file.
    """

    session_id: UUID
    version: int
    versions: tuple[int, ...]
    purged: bool
    out_of_reach: tuple[str, ...] = OUT_OF_REACH


class Retained(msgspec.Struct, frozen=True):
    """The part of one session that a policy erased, or would erase; ``kept``: why it could not."""

    session_id: UUID
    versions: tuple[int, ...] = ()
    kept: str | None = None


class Order(msgspec.Struct, frozen=True):
    """The order to erase of a session: these versions (None: all), or what was recorded ``before_us``."""

    session: UUID
    versions: tuple[int, ...] | None = None
    before_us: int | None = None


class Erasures:
    """Erases words of sessions, one by one or by age."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def erase(
        self,
        caller: Caller,
        session: UUID,
        reason: str,
        versions: Sequence[int] | None,
        expected: int | None,
        request: RequestKey | None,
    ) -> Erasure:
        order = Order(session, None if versions is None else tuple(versions))
        version, erased = await self._erase(order, _reason(reason), caller, expected, request)
        return Erasure(session, version, erased, purged=await self.purge())

    async def retain(
        self, caller: Caller, days: int, tag: tuple[str, str] | None, *, dry_run: bool
    ) -> AsyncGenerator[Retained, None]:
        before_us = self._clock.now_us() - days * DAY_US
        words = _reason(f"retention: recorded more than {days} days ago")
        read = partial(sessions_with_words, tenant=caller.tenant, before_us=before_us, but=BodyErased.event_type)
        for session in await self._store.read(read):
            order = Order(session, before_us=before_us)
            plan = await self._store.read(partial(_plan, order=order, tenant=caller.tenant, tag=tag))
            if plan is None:
                continue
            if plan.versions and not dry_run:
                try:
                    _, erased = await self._erase(order, words, caller)
                except (LegalHold, TurnAlreadyOpen) as refusal:
                    plan = Retained(session, kept=refusal.code)
                else:
                    plan = Retained(session, erased)
            yield plan

    async def purge(self) -> bool:
        return await self._store.purge()

    async def _erase(
        self,
        order: Order,
        words: ErasureWords,
        caller: Caller,
        expected: int | None = None,
        request: RequestKey | None = None,
    ) -> Erased:
        erased: Erased = await self._store.submit(
            partial(
                _erase,
                order=order,
                words=words,
                caller=caller,
                expected=expected,
                request=self._store.keyed(caller.tenant, request),
                clock=self._clock,
            )
        )
        return erased


# --- inside the write transaction -------------------------------------------------------------------------------------


def _erase(
    tx: Transaction,
    *,
    order: Order,
    words: ErasureWords,
    caller: Caller,
    clock: Clock,
    expected: int | None = None,
    request: RequestKey | None = None,
) -> Erased:
    tenant, session = caller.tenant, order.session
    tx.flush()
    before = find_request(tx.connection, tenant, request)
    if before is not None:
        return before.version, _erased_then(tx.connection, tenant, session, before)
    state = tx.state(tenant, session)
    check_erasable(state)
    check_expected(AnyVersion() if expected is None else Exactly(expected), state.version)
    history = traces(tx.connection, tenant, session)
    targets = _targets(tx.connection, tenant, order, history)
    if not targets:
        return state.version, ()
    pieces = [targets[at : at + TARGETS_PER_EVENT] for at in range(0, len(targets), TARGETS_PER_EVENT)]
    lost = release_documents(tx.connection, tenant, pieces)
    drafts = [draft for piece, names in zip(pieces, lost, strict=True) for draft in _drafts(piece, state, words, names)]
    events, after = tx.record(tenant, session, seal(drafts, caller, clock), state)
    told = [(each.position, event.position) for piece, event in zip(pieces, events, strict=True) for each in piece]
    erase_bodies(tx, tenant, told)
    gone = [(name, event.position) for names, event in zip(lost, events, strict=True) for name in names]
    erase_documents(tx.connection, tenant, gone)
    forget_words(tx.connection, tenant, session, targets)
    forget_requests(tx, tenant, session, history, frozenset(position for position, _ in told))
    if request is not None:
        reference = Reference("erasure", events[0].id, after.version)
        remember_request(tx.connection, tenant, request, reference, tx.salt())
    return after.version, tuple(each.version for each in targets)


def _drafts(
    targets: Sequence[Trace], state: SessionState, words: ErasureWords, documents: Sequence[str]
) -> list[Draft]:
    calls: set[str] = set()
    for each in targets:
        facts = facts_of(each)
        if isinstance(facts, MessageAppended):
            calls.update(facts.calls)
    return erase_words(state, [each.position for each in targets], calls, words, documents)


def _targets(connection: Connection, tenant: str, order: Order, history: Sequence[Trace]) -> list[Trace]:
    """The events whose bodies shall go, in order: those that were asked for, and those that tell of their words."""
    if order.before_us is not None:
        chosen = _old(history, order.before_us)
    elif order.versions is not None:
        chosen = _named(history, order.versions)
    else:
        chosen = [each for each in history if each.type != BodyErased.event_type]
    positions = {each.position for each in chosen if each.has_words}
    positions |= _telling(connection, tenant, history, positions)
    return [each for each in history if each.position in positions and each.has_words]


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
    """True if an ended attempt kept the provider's answer."""
    event = reads.event_at_position(connection, tenant, position)
    words = None if event is None else words_of(event)
    return isinstance(words, AttemptEndedWords) and words.upstream is not None


def _erased_then(connection: Connection, tenant: str, session: UUID, reference: Reference) -> tuple[int, ...]:
    """The versions that an erasure erased, which came before under the same key."""
    first = reads.event_by_id(connection, tenant, reference.id)
    assert first is not None, "a remembered erasure is in the record"
    history = traces(connection, tenant, session, up_to=reference.version)
    targets: set[int] = set()
    for each in history[first.version - 1 :]:
        facts = facts_of(each)
        assert isinstance(facts, BodyErased)
        targets.update(facts.targets)
    return tuple(each.version for each in history if each.position in targets)


# --- a policy, and what it would do -----------------------------------------------------------------------------------


def _plan(connection: Connection, *, order: Order, tenant: str, tag: tuple[str, str] | None) -> Retained | None:
    """Plan what a policy would erase of a session; None: it is not for this session, or nothing is left to erase."""
    if tag is not None:
        metadata = queries.words_of_session(connection, tenant, order.session).metadata or {}
        if _as_text(metadata.get(tag[0])) != tag[1]:
            return None
    targets = _targets(connection, tenant, order, traces(connection, tenant, order.session))
    if not targets:
        return None
    try:
        check_erasable(queries.session_state(connection, tenant, order.session))
    except (LegalHold, TurnAlreadyOpen) as refusal:
        return Retained(order.session, kept=refusal.code)
    return Retained(order.session, tuple(each.version for each in targets))


def _as_text(value: Any) -> str | None:
    """A value of metadata as a policy names it: text as it is, a number or a truth value as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _reason(text: str) -> ErasureWords:
    check_text(text, "reason")
    if not 0 < len(text.strip()) <= len(text) <= MAX_REASON_CHARS:
        raise Invalid("reason", f"must be 1 to {MAX_REASON_CHARS} characters")
    return ErasureWords(text)
