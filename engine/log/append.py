"""Appends: each checks first and records after.

A work that raises an EngineError has changed nothing. Any other exception means that the whole batch is rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import IdempotencyMismatch, Invalid, VersionConflict
from . import codec
from .base import AnyVersion, Append, Appended, Exactly, Exists, Expected, NewEvent, NoStream, RecordedEvent, Reference
from .sql.idempotency import find_request, remember_request
from .sql.reads import event_by_id, salt_of
from .transaction import Transaction


def append(tx: Transaction, work: Append) -> Appended:
    """Do one append, or refuse it. See ``store.base`` for what is promised."""
    state = tx.state(work.tenant, work.session)
    first = _first_answer(tx, work, state)
    if first is not None:
        return first
    version = 0 if state is None else state.version
    check_expected(work.expected, version)
    if work.inherits is not None:
        state = tx.inherit(work.tenant, work.session, work.inherits)
        version = state.version
    for scratch in work.scratch:
        scratch.check(tx.connection)
    place = tx.place(work.tenant, version)
    news = work.events(place, tx.current(work.tenant, state)) if callable(work.events) else work.events
    recorded, after = tx.record(work.tenant, work.session, news, state) if news else ((), state)
    if work.request is not None:
        reference = work.reference or Reference("session", work.session, 0)
        made = msgspec.structs.replace(reference, version=reference.version or after.version)
        remember_request(tx.connection, work.tenant, work.request, made, tx.salt())
    if work.scratch:
        tx.flush()
        for scratch in work.scratch:
            scratch.apply(tx.connection)
    return Appended(events=recorded, state=after)


def check_expected(expected: Expected, version: int) -> None:
    """Raises VersionConflict with the current version."""
    match expected:
        case AnyVersion():
            return
        case Exactly(wanted) if version != wanted:
            wish = f"at version {wanted}"
        case NoStream() if version != 0:
            wish = "not begun"
        case Exists() if version == 0:
            wish = "begun"
        case _:
            return
    raise VersionConflict(f"the session was expected to be {wish}, and is at {version}", current_version=version)


def _first_answer(tx: Transaction, work: Append, state: Any) -> Appended | None:
    """The first answer to this append, if it came before."""
    if work.request is not None:
        reference = find_request(tx.connection, work.tenant, work.request)
        if reference is not None:
            return Appended(events=(), state=state, replayed=reference)
    known = work.known if callable(work.events) else work.events
    return _events_before(tx, work, known, state) if known else None


def _events_before(tx: Transaction, work: Append, news: Sequence[NewEvent], state: Any) -> Appended | None:
    if len({new.id for new in news}) < len(news):
        raise Invalid("id", "two events of one append have the same id")
    tx.flush()
    found = [event_by_id(tx.connection, work.tenant, new.id) for new in news]
    if not any(found):
        return None
    for new, old in zip(news, found, strict=True):
        if old is None or old.session != work.session or not (work.alike(new, old) and _same_words(tx, new, old)):
            raise IdempotencyMismatch(f"event {new.id} came before with other words", event_id=str(new.id))
    events = tuple(old for old in found if old is not None)
    last = events[-1]
    return Appended(events=events, state=state, replayed=Reference("event", last.id, last.version))


def _same_words(tx: Transaction, new: NewEvent, old: RecordedEvent) -> bool:
    if len(new.body) != old.length:
        return False
    salt = salt_of(tx.connection, old.tenant, old.position)
    # An erased body cannot be compared: its facts and length are all that is left, and the first answer holds.
    return salt is None or codec.commitment(salt, new.body) == old.commitment
