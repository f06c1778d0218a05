"""Asking a model again: a turn is started within the limits that hold for every turn, and awaited to its end."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import UUID

from ...errors import RETRY_AFTER_S, Overloaded, ShuttingDown
from ...events.replay_types import ReplayStarted
from ...sessions.envelope import Caller
from ...sessions.turn_commands import TurnStop
from ...sessions.turn_views import Turn
from ...streams.backlog import read_turn
from ...tools.from_record import RecordedTools, Recordings, ToolSource
from ...tools.registry import Tools
from ...turns.start import Ask, TurnStarter
from ...turns.supervisor import Supervisor
from .run import Run

MOST_PAUSE_S = 30.0
"""The longest pause before a turn that found no room is tried again."""


class Asker:
    """Starts turns and awaits them."""

    def __init__(self, supervisor: Supervisor, tools: Tools) -> None:
        self._supervisor = supervisor
        self._tools = tools
        self._starter = TurnStarter(supervisor, tools)
        self.store = supervisor.runtime.store
        self.clock = supervisor.runtime.clock

    @property
    def registered(self) -> tuple[str, ...]:
        """The names of the registered tools."""
        return self._tools.names()

    def tools(self, replay: ReplayStarted, recordings: Recordings) -> RecordedTools:
        """What answers the calls of a turn."""
        runtime = self._supervisor.runtime
        source: ToolSource = "refuse" if replay.tools == "refuse" else "recorded"
        return RecordedTools(runtime.tools, runtime.clock, recordings, source, replay.live)

    async def ask(self, run: Run, session: UUID, ask: Ask) -> Turn:
        """Start a turn, when there is room for it, and await its end; cancelled, it leaves the turn to itself, unless
        the replay is cancelled.

        Raises what ``start_turn`` raises, but Overloaded and RateLimited.
        """
        started = await self._start(run.caller, session, ask)
        running = self._supervisor.find(started)
        if running is not None:
            try:
                await running.tail.end()
            except asyncio.CancelledError:
                if run.cancelled_by is not None:
                    running.stop(TurnStop("cancelled", run.cancelled_by))
                raise
        return await self.read(run.caller, started)

    async def read(self, caller: Caller, turn: UUID) -> Turn:
        """A turn as it is now."""
        return await self.store.read(partial(read_turn, tenant=caller.tenant, turn_id=turn))

    async def _start(self, caller: Caller, session: UUID, ask: Ask) -> UUID:
        while True:
            try:
                return (await self._starter.start(caller, session, ask)).turn
            except ShuttingDown:
                raise
            except Overloaded as error:
                pause_s = error.extra.get("retry_after_s")
                await asyncio.sleep(min(pause_s if isinstance(pause_s, int | float) else RETRY_AFTER_S, MOST_PAUSE_S))
