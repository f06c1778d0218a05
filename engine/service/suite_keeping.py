"""The methods of ``Engine`` that keep suites: named lists of recorded turns."""

from __future__ import annotations

from collections.abc import Sequence

from ..log.base import RequestKey
from ..sessions.envelope import LOCAL, Caller
from .paging import LIMIT, Page
from .parts import Parts
from .suites import ItemGiven, Suite, SuiteChange


class SuiteKeeping:
    """Suites: made, changed, emptied, read. ``replay(suite=…)`` does their turns again."""

    _parts: Parts

    async def suites(self, *, after: str | None = None, limit: int = LIMIT, caller: Caller = LOCAL) -> Page[Suite]:
        """Read a page of suites in order of their names. ``after``: a page's ``next``. Raises Invalid for a limit or an
        ``after`` that cannot be.
        """
        return await self._parts.suites.page(caller, limit, after)

    async def suite(self, name: str, *, caller: Caller = LOCAL) -> Suite:
        """Read a suite as it is now. Raises SuiteNotFound."""
        return await self._parts.suites.read(caller, name)

    async def create_suite(
        self, name: str, items: Sequence[ItemGiven] = (), *, request: RequestKey | None = None, caller: Caller = LOCAL
    ) -> Suite:
        """Make a suite of these turns, each named by its id or by a ``SuiteItem``; a turn that comes twice is in it
        once. An empty suite of this name is filled. A ``request`` that came before gives the suite that it made.

        Raises SuiteExists, TurnNotFound, TurnAlreadyOpen for a turn that has not ended, Invalid, TooLarge and
        IdempotencyMismatch.
        """
        return await self._parts.suites.change(caller, SuiteChange(name, items, new=True), request)

    async def set_suite(
        self, name: str, items: Sequence[ItemGiven], *, expected: int | None = None, caller: Caller = LOCAL
    ) -> Suite:
        """Let a suite hold these turns and no others. ``expected``: its version until now. What it holds already is no
        event.

        Raises SuiteNotFound, VersionConflict, and what ``create_suite`` raises for its turns.
        """
        return await self._parts.suites.change(caller, SuiteChange(name, items, new=False, expected=expected))

    async def delete_suite(self, name: str, *, expected: int | None = None, caller: Caller = LOCAL) -> Suite:
        """Empty a suite; its past stays on record, and its name may be filled again. Raises SuiteNotFound and
        VersionConflict.
        """
        return await self.set_suite(name, (), expected=expected, caller=caller)
