"""Changing a session's metadata key by key: JSON merge patches (RFC 7396)."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..clock import Clock
from ..log.append import check_expected
from ..log.base import Reference, RequestKey
from ..log.sql.idempotency import find_request, remember_request
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions import queries
from ..sessions.decisions import Changes, existing, update_session
from ..sessions.envelope import Caller, seal
from ..sessions.family import family_then
from ..sessions.history import Moment, session_at
from ..sessions.state import SessionState
from ..sessions.views import Session, session_view
from ..sessions.words import ShownWords, merged
from ..settings import Settings
from .inputs import check_metadata
from .sessions import expected_of

_encode = msgspec.json.Encoder(order="sorted").encode


class Metadata:
    """The metadata of all sessions."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def patch(
        self, caller: Caller, session: UUID, patch: dict[str, Any], expected: int | None, request: RequestKey | None
    ) -> Session:
        check_metadata(patch, self._settings)
        work = partial(
            _patch,
            caller=caller,
            session=session,
            patch=patch,
            expected=expected,
            request=self._store.keyed(caller.tenant, request),
            clock=self._clock,
            settings=self._settings,
        )
        changed: Session = await self._store.submit(work)
        return changed


def _patch(
    tx: Transaction,
    *,
    caller: Caller,
    session: UUID,
    patch: dict[str, Any],
    expected: int | None,
    request: RequestKey | None,
    clock: Clock,
    settings: Settings,
) -> Session:
    """Merge in the write transaction: two patches of different keys both hold."""
    tx.flush()
    first = find_request(tx.connection, caller.tenant, request)
    if first is not None:
        return _view(tx, caller, *session_at(tx.connection, caller.tenant, session, first.version))
    state = existing(tx.state(caller.tenant, session))
    check_expected(expected_of(expected), state.version)
    before = queries.words_of_session(tx.connection, caller.tenant, session)
    after = merged(before.metadata, patch)
    check_metadata(after, settings)
    drafts = update_session(state, Changes({"metadata": patch}, merges=True))
    if _encode(after) != _encode(before.metadata):  # true is 1 in Python, and not in JSON
        _, state = tx.record(caller.tenant, session, seal(drafts, caller, clock), state)
        tx.flush()
    if request is not None:
        reference = Reference("session", session, state.version)
        remember_request(tx.connection, caller.tenant, request, reference, tx.salt())
    return _view(tx, caller, state, queries.words_of_session(tx.connection, caller.tenant, session))


def _view(tx: Transaction, caller: Caller, state: SessionState, words: ShownWords) -> Session:
    family = family_then(tx.connection, caller.tenant, state, Moment(state.version))
    return session_view(state, words, family)
