"""Erasing words: chosen events of a session, or all of it. The record of them stays, and proves as before.

In one transaction: the ``body.erased`` event (which, by whom, why), then bodies and their salts, and every projection
that held the words. What could give the words away to somebody who guesses them goes too, though nobody named it: the
salts of the requests in which they came, and the bodies of the attempts that sent them to a model, whose commitment is
over the very prompt. So what a model was sent there can no longer be derived, and says so (``Erased``). With the last
attempt that names them go the schemas of its tools, which may be a client's own text.

Afterwards the purge clears the file's bytes (``engine.log.sqlite.purge``). Backups and what was exported before are
out of reach, and the answer says so.

A session under *legal hold* refuses erasure; so does one with an open turn, whose words are still on their way. Words
that other branches show go for all of them, each with what tells of them there; one branch that refuses keeps all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
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
from ..log.erasure import Trace, erase_bodies, forget_requests, sessions_with_words
from ..log.sql import reads
from ..log.sql.documents import erase_documents
from ..log.sql.idempotency import find_request, remember_request
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.copies import is_copy
from ..sessions.decisions import check_erasable, erase_words, existing
from ..sessions.envelope import Caller, seal
from ..sessions.erasure import SETTING_WORDS, forget_words, release_documents
from ..sessions.replay_state import ReplayState, SuiteState
from ..sessions.replays import stream_state
from ..sessions.state import SessionState
from .inputs import check_text
from .reach import Holder, Order, Reach, holders, reach_of
from .stream_erasure import Retained, erase_stream, plan_stream, stream_versions

MAX_REASON_CHARS = 1000
TARGETS_PER_EVENT = 1000
"""A longer list becomes several events: a leaf must stay small."""

DAY_US = 86_400_000_000

OUT_OF_REACH = ("backups", "earlier exports")
COPIES = "the copies in the sessions named here"
COPIED_FROM = "the session that this one was copied from, and other copies of it"


HELD = "shown_by_a_held_branch"
"""Why a policy kept some of a session's words, where it is not refused as a whole."""


class Erasure(msgspec.Struct, frozen=True):
    """The result of an erasure. ``erased``: the events whose words are gone now, those among them that nobody named
    but that told of the same words; ``versions`` says the same. ``purged``: no file of the server holds them any more,
    not even as stray bytes; else that will be so as soon as a reader lets go of the file. ``sessions``: the other
    sessions that hold the same words: its branches, where they are gone too, and copies, which keep them. ``dry_run``:
    nothing was done, and that is what would be.
    """

    session_id: UUID
    version: int
    versions: tuple[int, ...]
    purged: bool
    out_of_reach: tuple[str, ...] = OUT_OF_REACH
    erased: tuple[int, ...] = ()
    sessions: tuple[Holder, ...] = ()
    dry_run: bool = False


class Done(msgspec.Struct, frozen=True):
    """A session's version afterwards, the versions erased, and the other sessions that hold what was. ``own``: the
    versions erased in each session in which they stood.
    """

    version: int
    erased: tuple[int, ...]
    others: tuple[Holder, ...]
    own: tuple[tuple[UUID, tuple[int, ...]], ...] = ()


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
            done, purged = await self._store.read(plan), False
        else:
            done = await self._erase(order, words, caller, expected, request)
            purged = await self.purge()
        beyond = await self._store.read(partial(_beyond, tenant=caller.tenant, session=session, done=done))
        erased = done.erased
        return Erasure(session, done.version, erased, purged, beyond, erased, done.others, dry_run)

    async def retain(
        self, caller: Caller, days: int, tag: tuple[str, str] | None, *, expired: bool, dry_run: bool
    ) -> AsyncGenerator[Retained, None]:
        now_us = self._clock.now_us()
        before_us = now_us - days * DAY_US
        words = _reason(f"retention: {'expired' if expired else 'recorded'} more than {days} days ago")
        recorded_us = now_us + 1 if expired else before_us
        read = partial(sessions_with_words, tenant=caller.tenant, before_us=recorded_us, but=BodyErased.event_type)
        for session in await self._store.read(read):
            order = Order(session, before_us=None if expired else before_us, passes_over=True)
            look = partial(_plan, order=order, tenant=caller.tenant, tag=tag, expired_us=before_us if expired else None)
            plan = await self._store.read(look)
            if plan is None:
                continue
            if plan.versions and not dry_run:
                try:
                    done = await self._erase(order, words, caller)
                except (LegalHold, TurnAlreadyOpen) as refusal:
                    yield Retained(session, kept=refusal.code)
                else:
                    yield Retained(session, dict(done.own).get(session, ()), plan.kept)
                    for branch, versions in done.own:
                        if branch != session:  # what told of the words there went with them
                            yield Retained(branch, versions)
            else:
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
    ) -> Done:
        done: Done = await self._store.submit(
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
        return done


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
) -> Done:
    tenant, session = caller.tenant, order.session
    tx.flush()
    before = find_request(tx.connection, tenant, request)
    if before is not None:
        return _erased_then(tx.connection, tenant, order, before)
    if isinstance(tx.state(tenant, session), ReplayState | SuiteState):
        check_expected(AnyVersion() if expected is None else Exactly(expected), tx.state(tenant, session).version)
        return _erase_stream(tx, order, words, caller, clock, request)
    state = check_erasable(tx.state(tenant, session))
    check_expected(AnyVersion() if expected is None else Exactly(expected), state.version)
    reach = reach_of(tx.connection, tenant, order, partial(tx.state, tenant))
    for each in reach.histories:
        check_erasable(tx.state(tenant, each))
    others = holders(tx.connection, tenant, session, reach)
    if not reach.targets:
        return Done(state.version, (), others)
    first = _erase_targets(tx, caller, clock, reach, words)
    version = tx.state(tenant, session).version
    if request is not None:
        remember_request(tx.connection, tenant, request, Reference("erasure", first, version), tx.salt())
    own = tuple((each, tuple(trace.version for trace in found)) for each, found in reach.targets.items())
    return Done(version, reach.versions_in(session), others, own)


def erase_in(tx: Transaction, order: Order, words: ErasureWords, caller: Caller, clock: Clock) -> None:
    """Erase words as part of a larger work, inside its write transaction. Raises before anything is done."""
    tenant = caller.tenant
    state = existing(tx.state(tenant, order.session))
    reach = reach_of(tx.connection, tenant, order, partial(tx.state, tenant))
    for each in {state.id, *reach.histories}:
        check_erasable(tx.state(tenant, each))
    if reach.targets:
        _erase_targets(tx, caller, clock, reach, words)


def _erase_stream(
    tx: Transaction, order: Order, words: ErasureWords, caller: Caller, clock: Clock, request: RequestKey | None
) -> Done:
    """Erase words of a replay or a suite."""
    erased = erase_stream(tx, order, words, caller, clock)
    version = tx.state(caller.tenant, order.session).version
    if erased is None:
        return Done(version, (), ())
    if request is not None:
        made = Reference("erasure", erased.event, version)
        remember_request(tx.connection, caller.tenant, request, made, tx.salt())
    return Done(version, erased.versions, (), ((order.session, erased.versions),))


def _erase_targets(tx: Transaction, caller: Caller, clock: Clock, reach: Reach, words: ErasureWords) -> UUID:
    """Record the erasure in each session in which something goes, and let it go; the id of its first event."""
    tenant, told, first = caller.tenant, [], clock.new_id()
    pieces = list(_pieces(reach.targets))
    lost = release_documents(tx.connection, tenant, [piece for _, piece in pieces])
    gone: list[tuple[str, int]] = []
    for number, ((session, piece), names) in enumerate(zip(pieces, lost, strict=True)):
        state = tx.state(tenant, session)
        draft = _draft(piece, state, words, names)
        draft = msgspec.structs.replace(draft, **({"causation": first} if number else {"id": first}))
        (event,), _ = tx.record(tenant, session, seal([draft], caller, clock), state)
        told += [(each.position, event.position) for each in piece]
        gone += [(name, event.position) for name in names]
    erase_bodies(tx, tenant, told)
    erase_documents(tx.connection, tenant, gone)
    for session, history in reach.histories.items():
        own, shown = reach.targets.get(session, []), reach.shown_in(session)
        forget_words(tx.connection, tenant, session, own, shown)
        if own:
            kinds = {"session"} if any(each.type in SETTING_WORDS for each in own) else ()
            forget_requests(tx, tenant, session, history, frozenset(each.position for each in own), kinds)
    tx.forget_states(tenant, reach.histories)
    return first


def _pieces(targets: Mapping[UUID, list[Trace]]) -> Iterator[tuple[UUID, list[Trace]]]:
    for session, found in targets.items():
        for at in range(0, len(found), TARGETS_PER_EVENT):
            yield session, found[at : at + TARGETS_PER_EVENT]


def _draft(targets: Sequence[Trace], state: SessionState, words: ErasureWords, documents: Sequence[str]) -> Draft:
    calls: set[str] = set()
    for each in targets:
        facts = facts_of(each)
        if isinstance(facts, MessageAppended):
            calls.update(facts.calls)
    (draft,) = erase_words(state, [each.position for each in targets], calls, words, documents)
    return draft


def _erased_then(connection: Connection, tenant: str, order: Order, reference: Reference) -> Done:
    """What an erasure did that came before under the same key. Its events lie beside one another: the first led to the
    others; before that was so, all were of one session.
    """
    first = reads.event_by_id(connection, tenant, reference.id)
    assert first is not None, "a remembered erasure is in the record"
    erased: set[int] = set()
    for each in reads.log_events(connection, tenant, after=first.position - 1):
        of_session = each.session == order.session == first.session and each.version <= reference.version
        if each.type != BodyErased.event_type or not (first.id in {each.id, each.causation} or of_session):
            break
        facts = facts_of(each)
        assert isinstance(facts, BodyErased)
        erased.update(facts.targets)
    reach = reach_of(connection, tenant, order, partial(_state_of, connection, tenant))
    targets = {
        session: [each for each in history if each.position in erased] for session, history in reach.histories.items()
    }
    reach = msgspec.structs.replace(reach, targets=targets)
    others = holders(connection, tenant, order.session, reach)
    return Done(reference.version, reach.versions_in(order.session), others)


# --- what would be done, and what is out of reach ---------------------------------------------------------------------


def _would_erase(connection: Connection, *, tenant: str, order: Order, expected: int | None) -> Done:
    """The session's version as it is, and what would be erased. Raises what erasing it would."""
    stream = stream_state(connection, tenant, order.session)
    if stream is not None:
        check_expected(AnyVersion() if expected is None else Exactly(expected), stream.version)
        return Done(stream.version, stream_versions(connection, tenant, order), ())
    state_of = partial(_state_of, connection, tenant)
    state = check_erasable(queries.session_state(connection, tenant, order.session))
    check_expected(AnyVersion() if expected is None else Exactly(expected), state.version)
    reach = reach_of(connection, tenant, order, state_of)
    for each in reach.histories:
        check_erasable(state_of(each))
    others = holders(connection, tenant, order.session, reach)
    return Done(state.version, reach.versions_in(order.session), others)


def _state_of(connection: Connection, tenant: str, session: UUID) -> SessionState:
    return existing(queries.session_state(connection, tenant, session))


def _beyond(connection: Connection, *, tenant: str, session: UUID, done: Done) -> tuple[str, ...]:
    """What an erasure does not reach."""
    copies = any(each.relation == "copy" for each in done.others)
    copied = is_copy(connection, tenant, session)
    return (*OUT_OF_REACH, *[COPIES] * copies, *[COPIED_FROM] * copied)


# --- a policy, and what it would do -----------------------------------------------------------------------------------


def _plan(
    connection: Connection, *, order: Order, tenant: str, tag: tuple[str, str] | None, expired_us: int | None
) -> Retained | None:
    """Plan what a policy would erase of a session; None: it is not for this session, or nothing is left to erase.
    ``expired_us``: it is for sessions that expired before.
    """
    state = queries.session_state(connection, tenant, order.session)
    if state is None:
        return plan_stream(connection, tenant, order, whole=tag is not None or expired_us is not None)
    if expired_us is not None and not _expired_before(state, expired_us):
        return None
    if tag is not None:
        metadata = queries.words_of_session(connection, tenant, order.session).metadata or {}
        if _as_text(metadata.get(tag[0])) != tag[1]:
            return None
    reach = reach_of(connection, tenant, order, partial(_state_of, connection, tenant))
    if not (reach.targets or reach.held):
        return None
    try:
        for each in (order.session, *(reach.histories if reach.targets else reach.held)):
            check_erasable(_state_of(connection, tenant, each))
    except (LegalHold, TurnAlreadyOpen) as refusal:
        return Retained(order.session, kept=refusal.code)
    return Retained(order.session, reach.versions_in(order.session), HELD if reach.held else None)


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
