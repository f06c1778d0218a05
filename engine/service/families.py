"""Families: the sessions that share a history."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from ..log.store import Store
from ..sessions.envelope import Caller
from ..sessions.family import branches_at
from ..sessions.history import Moment
from ..sessions.views import Branches


class Families:
    """The families of all sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def branches(self, caller: Caller, session: UUID, moment: Moment) -> Branches:
        return await self._store.read(partial(branches_at, tenant=caller.tenant, session=session, moment=moment))
