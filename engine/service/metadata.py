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
from ..sessions.family import view_at
from ..sessions.views import Session
from ..sessions.words import merged
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
        return view_at(tx.connection, caller.tenant, session, first.version)
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
    return view_at(tx.connection, caller.tenant, session)
