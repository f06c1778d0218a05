"""The methods of ``Engine`` that do recorded turns again, and tell how the answers compare."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Unpack

from ..errors import Invalid
from ..log.base import RequestKey
from ..sessions.envelope import LOCAL, Caller
from .ids import Id, replay_id, turn_id
from .paging import LIMIT, After, Page
from .parts import Parts
from .replay.orders import Order, ReplayOptions, ReplayQuery, read_order
from .replay.results import Result
from .replay.views import NumberedResult, Replay

Progress = Callable[[int, int], None]
"""Told how many turns are done, and how many there are."""

Query = ReplayQuery | Id | Sequence[Id]
"""The turns to do again: a session, some sessions, or a ``ReplayQuery``."""


class Replaying:
    """Replays: started, followed, gone on with, cancelled, read."""

    _parts: Parts

    async def replay(
        self,
        query: Query = (),
        *,
        suite: str | None = None,
        progress: Progress | None = None,
        caller: Caller = LOCAL,
        **options: Unpack[ReplayOptions],
    ) -> AsyncGenerator[Result, None]:
        """Do recorded turns again and iterate over the results as they come; who leaves early cancels the replay.
        ``suite`` names one whose turns are done again, in the place of a ``query``; ``progress`` is told of each.
        The mode ``recorded`` works where nothing can be written, too; then it is not on record.

        Raises what ``start_replay`` raises before anything is done.
        """
        order = self._order(query, suite, options)
        if order.mode == "recorded" and not self._parts.store.can_write:
            async with aclosing(self._parts.replays.unrecorded(caller, order)) as found:
                async for result in found:
                    yield result
            return
        replay = await self._parts.replays.start(caller, order, None)
        total = (await self._parts.replay_reader.read(caller, replay)).turns
        done, ended = 0, False
        try:
            async with aclosing(self._parts.replay_reader.follow(caller, replay)) as batches:
                async for batch in batches:
                    for each in batch:
                        done += 1
                        if progress is not None:
                            progress(done, total)
                        yield each.result
            ended = True
        finally:
            if not ended:
                await self._parts.replays.cancel(caller, replay)

    async def start_replay(
        self,
        query: Query = (),
        *,
        suite: str | None = None,
        request: RequestKey | None = None,
        caller: Caller = LOCAL,
        **options: Unpack[ReplayOptions],
    ) -> Replay:
        """Start a replay; returns when its start is on record. It goes on by itself, also where this engine is closed
        and another is opened and told to ``resume_replay``. A ``request`` that came before gives its replay.

        Raises SessionNotFound, TurnNotFound, TurnAlreadyOpen for a turn that is named and has not ended, SuiteNotFound,
        NothingToReplay, UnknownModel, Invalid, TooLarge, StoreUnavailable and IdempotencyMismatch.
        """
        replay = await self._parts.replays.start(caller, self._order(query, suite, options), request)
        return await self._parts.replay_reader.read(caller, replay)

    async def resume_replay(self, replay: Id, *, caller: Caller = LOCAL) -> Replay:
        """Go on with a replay that was cut off. No turn whose answer is on record is asked again; those that were under
        way are asked once more, and marked ``repeated``. Raises ReplayNotFound and ReplayEnded.
        """
        await self._parts.replays.resume(caller, replay_id(replay))
        return await self.replay_state(replay, caller=caller)

    async def replays(self, *, after: After = None, limit: int = LIMIT, caller: Caller = LOCAL) -> Page[Replay]:
        """Read a page of replays, the newest first. Raises Invalid for a limit or an ``after`` that cannot be."""
        return await self._parts.replay_reader.page(caller, limit, after)

    async def replay_state(self, replay: Id, *, caller: Caller = LOCAL) -> Replay:
        """Read a replay as it is now. Raises ReplayNotFound."""
        return await self._parts.replay_reader.read(caller, replay_id(replay))

    async def replay_results(
        self, replay: Id, *, after: After = None, limit: int = LIMIT, caller: Caller = LOCAL
    ) -> Page[NumberedResult]:
        """Read a page of a replay's results, in the order in which they came. What differs is read from the two answers
        as they are now. Those of the mode ``recorded`` are not on record, and are gone with the process.

        Raises ReplayNotFound, and Invalid for a limit or an ``after`` that cannot be.
        """
        return await self._parts.replay_reader.results(caller, replay_id(replay), limit, after)

    def follow_replay(
        self, replay: Id, *, after: int = 0, caller: Caller = LOCAL
    ) -> AsyncGenerator[list[NumberedResult], None]:
        """Follow a replay's results after a number, as they come, up to its end. An empty batch says that all there is
        was given. Raises ReplayNotFound.
        """
        return self._parts.replay_reader.follow(caller, replay_id(replay), after)

    def replay_report(self, replay: Id, *, caller: Caller = LOCAL) -> AsyncGenerator[str, None]:
        """Write the report of a replay as one HTML page, in pieces. It needs no script and fetches nothing; words that
        were erased since are shown as erased. Send it under the policy ``report_policy()``. Raises ReplayNotFound.
        """
        return self._parts.replay_reports.report(caller, replay_id(replay))

    async def cancel_replay(self, replay: Id, *, request: RequestKey | None = None, caller: Caller = LOCAL) -> Replay:
        """Cancel a replay and the turns that it has under way; one that has ended stays as it is. Raises
        ReplayNotFound and IdempotencyMismatch.
        """
        await self._parts.replays.cancel(caller, replay_id(replay), request)
        return await self.replay_state(replay, caller=caller)

    async def accept_results(
        self, replay: Id, turns: Sequence[Id], *, request: RequestKey | None = None, caller: Caller = LOCAL
    ) -> Replay:
        """Make the new answers to these recorded turns the reference of the replay's suite. Raises ReplayNotFound,
        IdempotencyMismatch, and Invalid for a replay of no suite, or a turn that has no new answer in it.
        """
        await self._parts.replays.accept(caller, replay_id(replay), [turn_id(each) for each in turns], request)
        return await self.replay_state(replay, caller=caller)

    def _order(self, query: Query, suite: str | None, options: ReplayOptions) -> Order:
        if suite is not None:
            if query != ():
                raise Invalid("suite", "goes without a query")
            query = ReplayQuery(suite=suite)
        return read_order(query, options, self._parts.settings)
