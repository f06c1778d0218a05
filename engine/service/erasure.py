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

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..clock import Clock
from ..errors import Invalid, LegalHold, TurnAlreadyOpen
from ..events.types import BodyErased, Draft, ErasureWords, MessageAppended
from ..events.upcasts import facts_of
from ..log.append import check_expected
from ..log.base import AnyVersion, Connection, Exactly, Reference, RequestKey
from ..log.erasure import Trace, erase_bodies, forget_requests, sessions_with_words, traces
from ..log.sql import reads
from ..log.sql.documents import erase_documents
from ..log.sql.idempotency import find_request, remember_request
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.copies import is_copy
from ..sessions.decisions import check_erasable, erase_words
from ..sessions.envelope import Caller, seal
from ..sessions.erasure import SETTING_WORDS, forget_words, release_documents
from ..sessions.state import SessionState
from .inputs import check_text
from .reach import Holder, Order, holders, targets_of

MAX_REASON_CHARS = 1000
TARGETS_PER_EVENT = 1000
"""A longer list becomes several events: a leaf must stay small."""

DAY_US = 86_400_000_000

Erased = tuple[int, tuple[int, ...]]
"""A session's version afterwards, and the versions erased."""

OUT_OF_REACH = ("backups", "earlier exports")
COPIES = "the copies in the sessions named here"
COPIED_FROM = "the session that this one was copied from, and other copies of it"


class Erasure(msgspec.Struct, frozen=True):
    """The result of an erasure. ``erased``: the events whose words are gone now, those among them that nobody named
    but that told of the same words; ``versions`` says the same. ``purged``: no file of the server holds them any more,
    not even as stray bytes; else that will be so as soon as a reader lets go of the file. ``sessions``: the other
    sessions that hold the same words, and keep them. ``dry_run``: nothing was done, and that is what would be.
    """

    session_id: UUID
    version: int
    versions: tuple[int, ...]
    purged: bool
    out_of_reach: tuple[str, ...] = OUT_OF_REACH
    erased: tuple[int, ...] = ()
    sessions: tuple[Holder, ...] = ()
    dry_run: bool = False


class Retained(msgspec.Struct, frozen=True):
    """The part of one session that a policy erased, or would erase; ``kept``: why it could not."""

    session_id: UUID
    versions: tuple[int, ...] = ()
    kept: str | None = None


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
        *,
        dry_run: bool,
    ) -> Erasure:
        order, words = Order(session, None if versions is None else tuple(versions)), _reason(reason)
        if dry_run:
            plan = partial(_would_erase, tenant=caller.tenant, order=order, expected=expected)
            (version, erased), purged = await self._store.read(plan), False
        else:
            version, erased = await self._erase(order, words, caller, expected, request)
            purged = await self.purge()
        others, beyond = await self._store.read(partial(_beyond, tenant=caller.tenant, order=order))
        return Erasure(session, version, erased, purged, beyond, erased, others, dry_run)

    async def retain(
        self, caller: Caller, days: int, tag: tuple[str, str] | None, *, expired: bool, dry_run: bool
    ) -> AsyncGenerator[Retained, None]:
        now_us = self._clock.now_us()
        before_us = now_us - days * DAY_US
        words = _reason(f"retention: {'expired' if expired else 'recorded'} more than {days} days ago")
        recorded_us = now_us + 1 if expired else before_us
        read = partial(sessions_with_words, tenant=caller.tenant, before_us=recorded_us, but=BodyErased.event_type)
        for session in await self._store.read(read):
            order = Order(session, before_us=None if expired else before_us)
            look = partial(_plan, order=order, tenant=caller.tenant, tag=tag, expired_us=before_us if expired else None)
            plan = await self._store.read(look)
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
    targets = targets_of(tx.connection, tenant, order, history)
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
    kinds = {"session"} if any(each.type in SETTING_WORDS for each in targets) else ()
    forget_requests(tx, tenant, session, history, frozenset(position for position, _ in told), kinds)
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


# --- what would be done, and what is out of reach ---------------------------------------------------------------------


def _would_erase(connection: Connection, *, tenant: str, order: Order, expected: int | None) -> Erased:
    """The session's version as it is, and the versions that would be erased. Raises what erasing them would."""
    state = check_erasable(queries.session_state(connection, tenant, order.session))
    check_expected(AnyVersion() if expected is None else Exactly(expected), state.version)
    targets = targets_of(connection, tenant, order, traces(connection, tenant, order.session))
    return state.version, tuple(each.version for each in targets)


def _beyond(connection: Connection, *, tenant: str, order: Order) -> tuple[tuple[Holder, ...], tuple[str, ...]]:
    """The other sessions that hold what an order names, and what no erasure of it reaches."""
    others = holders(connection, tenant, order)
    copied = is_copy(connection, tenant, order.session)
    return others, (*OUT_OF_REACH, *[COPIES] * bool(others), *[COPIED_FROM] * copied)


# --- a policy, and what it would do -----------------------------------------------------------------------------------


def _plan(
    connection: Connection, *, order: Order, tenant: str, tag: tuple[str, str] | None, expired_us: int | None
) -> Retained | None:
    """Plan what a policy would erase of a session; None: it is not for this session, or nothing is left to erase.
    ``expired_us``: it is for sessions that expired before.
    """
    state = queries.session_state(connection, tenant, order.session)
    if expired_us is not None and not _expired_before(state, expired_us):
        return None
    if tag is not None:
        metadata = queries.words_of_session(connection, tenant, order.session).metadata or {}
        if _as_text(metadata.get(tag[0])) != tag[1]:
            return None
    targets = targets_of(connection, tenant, order, traces(connection, tenant, order.session))
    if not targets:
        return None
    try:
        check_erasable(state)
    except (LegalHold, TurnAlreadyOpen) as refusal:
        return Retained(order.session, kept=refusal.code)
    return Retained(order.session, tuple(each.version for each in targets))


def _expired_before(state: SessionState | None, time_us: int) -> bool:
    return state is not None and state.expires_at is not None and state.expires_at <= time_us


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
