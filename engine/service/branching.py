"""The methods of ``Engine`` that make branches of a conversation."""

from __future__ import annotations

from typing import Unpack

from ..log.base import RequestKey
from ..sessions.envelope import LOCAL, Caller
from ..sessions.views import Branches, Session
from .ids import Id, session_id
from .moments import Time, moment
from .parts import Parts
from .session_fields import NewSession, read_fields


class Branching:
    """Forks, and the families that they make."""

    _parts: Parts

    async def fork(
        self,
        session: Id,
        *,
        version: int | None = None,
        expected: int | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
        **fields: Unpack[NewSession],
    ) -> Session:
        """Fork a session: the new one shares its history up to ``version`` (None: its last), of which nothing is
        copied. Fields that are left out are inherited; ``expires_at`` and the bounds are not. ``expected``: the
        session's version until now.

        Raises SessionNotFound, also for a version that there is not, SessionArchived, SessionExpired, SessionFull,
        UnknownModel, TooLarge, Invalid, VersionConflict and IdempotencyMismatch.
        """
        changes = await self._parts.sessions.changes(read_fields(fields, NewSession))
        return await self._parts.forks.fork(caller, session_id(session), version, changes, expected, request)

    async def branches(self, session: Id, *, at: Time | None = None, caller: Caller = LOCAL) -> Branches:
        """Show the family of a session as a tree, the oldest first: all sessions that share a history with it, now or
        as they were at a time. A session that was never forked is a family of one.

        Raises SessionNotFound, NotYet for a time before the session began, and Invalid.
        """
        return await self._parts.families.branches(caller, session_id(session), moment(None, at))
