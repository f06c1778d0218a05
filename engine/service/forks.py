"""Forks: sessions that share another's history up to a version, and go on by themselves."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from ..clock import Clock
from ..log.base import Append, Inherited, NewEvent, NoStream, Place, RequestKey
from ..log.store import Store
from ..sessions.decisions import Changes, fork_session
from ..sessions.envelope import Caller, seal
from ..sessions.forks import ForkCheck
from ..sessions.history import Moment
from ..sessions.lineage import history_at
from ..sessions.views import Session
from ..settings import Settings
from .sessions import Sessions, expected_of


class Forks:
    """Forks sessions."""

    def __init__(self, store: Store, clock: Clock, sessions: Sessions, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._sessions = sessions
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
        find = partial(history_at, tenant=caller.tenant, session=parent, version=version)
        source = await self._store.read(find)
        check = ForkCheck(caller.tenant, parent, expected_of(expected), self._clock.now_us(), self._settings.max_forks)
        work = Append(
            caller.tenant,
            self._clock.new_id(),
            NoStream(),
            partial(self._decide, caller=caller, changes=changes, source=source),
            request=self._store.keyed(caller.tenant, request),
            scratch=(check,),
            inherits=source,
        )
        answer = await self._store.append(work)
        if answer.replayed is not None:
            return await self._sessions.read(caller, answer.replayed.id, Moment(answer.replayed.version))
        return await self._sessions.read(caller, work.session, Moment(answer.state.version))

    def _decide(self, _: Place, __: Any, *, caller: Caller, changes: Changes, source: Inherited) -> list[NewEvent]:
        return seal([fork_session(changes, source)], caller, self._clock)
