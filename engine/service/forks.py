"""Forks: sessions that share another's history up to a version, and go on by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from ..clock import Clock
from ..log.append import append
from ..log.base import Append, Inherited, NewEvent, NoStream, Place, RequestKey
from ..log.store import Store
from ..log.transaction import Transaction
from ..sessions.decisions import Changes, fork_session
from ..sessions.envelope import Caller, seal
from ..sessions.family import view_at
from ..sessions.forks import ForkCheck
from ..sessions.lineage import history_at
from ..sessions.views import Session
from ..settings import Settings
from .sessions import expected_of


class Forks:
    """Forks sessions."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings

    async def fork(
        self,
        caller: Caller,
        parent: UUID,
        version: int | None,
        changes: Changes,
        expected: int | None,
        request: RequestKey | None,
    ) -> Session:
        tenant, now_us = caller.tenant, self._clock.now_us()
        check = ForkCheck(tenant, parent, expected_of(expected), now_us, self._settings.max_forks)
        keyed = self._store.keyed(tenant, request)
        work = Append(tenant, self._clock.new_id(), NoStream(), (), request=keyed, scratch=(check,))

        def decide(source: Inherited) -> Callable[[Place, Any], Sequence[NewEvent]]:
            return lambda _, __: seal([fork_session(changes, source)], caller, self._clock)

        forked: Session = await self._store.submit(partial(_fork, work=work, at=(parent, version), decide=decide))
        return forked


def _fork(
    tx: Transaction,
    *,
    work: Append,
    at: tuple[UUID, int | None],
    decide: Callable[[Inherited], Callable[[Place, Any], Sequence[NewEvent]]],
) -> Session:
    """Fork a session at a version, and tell of the fork: all in one transaction."""
    tx.flush()
    source = history_at(tx.connection, work.tenant, *at)
    answer = append(tx, replace(work, events=decide(source), inherits=source))
    tx.flush()
    if answer.replayed is not None:
        return view_at(tx.connection, work.tenant, answer.replayed.id, answer.replayed.version)
    return view_at(tx.connection, work.tenant, work.session)
