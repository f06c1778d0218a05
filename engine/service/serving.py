"""The server's own calls to an engine: room for a reader, one start for a request that is
repeated, whether it is ready, and its end in good order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import EngineError
from ..log.base import RequestKey
from ..log.journal import probe
from ..sessions.envelope import LOCAL, Caller
from ..streams.follow import Follower
from ..turns.deduplicate import RetryDeduplicator
from ..turns.start import Started
from ..turns.supervisor import Supervisor
from .figures import Load, Standing, read_standing
from .ids import Id, turn_id


class Serving:
    """See the module."""

    def __init__(self, supervisor: Supervisor, follower: Follower) -> None:
        self._supervisor = supervisor
        self._follower = follower
        self._deduplicator = RetryDeduplicator(lambda turn: supervisor.find(turn) is not None)

    @property
    def busy(self) -> bool:
        """True if turns run in this process."""
        return bool(self._supervisor.running())

    @property
    def load(self) -> Load:
        """The load of this process now."""
        runtime = self._supervisor.runtime
        left_alone = runtime.guards.open_breakers()
        return Load(
            open_turns=len(self._supervisor.running()),
            readers=self._follower.readers,
            waiting_writes=runtime.store.waiting_writes,
            breakers={name: name in left_alone for name in runtime.providers.names()},
        )

    async def standing(self) -> Standing:
        """Read how the logs of all tenants stand. Raises a StoreError where the file cannot be read."""
        runtime = self._supervisor.runtime
        return await read_standing(runtime.store, runtime.clock.now_us())

    @property
    def damaged(self) -> int:
        """How many damaged rows this process has read."""
        return len(self._supervisor.runtime.store.damage)

    async def ready(self) -> bool:
        """Say whether turns may start: the engine can write, which is tried, and is not shutting down. Raises
        nothing.
        """
        if self._supervisor.draining:
            return False
        try:
            await self._supervisor.runtime.store.submit(probe)
        except EngineError:
            return False
        return True

    def admit_reader(self) -> None:
        """Make sure, before a stream is promised, that there is room for one more reader. Raises Overloaded."""
        self._follower.admit()

    async def read_to_end(self, turn: Id, cursor: int, *, caller: Caller = LOCAL) -> bool:
        """Say whether a turn has ended and its last frame is at or before the cursor. Raises TurnNotFound."""
        state = await self._follower.turn_state(caller.tenant, turn_id(turn))
        return state.status != "running" and cursor >= state.frame

    async def start_once(
        self, said: RequestKey, start: Callable[[], Awaitable[Started]], *, repeated: bool, caller: Caller = LOCAL
    ) -> Started:
        """Start a turn for a request without an idempotency key; where the client says that it is ``repeated``, give
        the turn that the same request has started before, while that runs. ``said``: who asks, where and what.

        Raises what ``start`` raises.
        """
        return await self._deduplicator.once(caller.tenant, said, repeated=repeated, start=start)

    async def drain(self) -> None:
        """Take no more turns, tell all readers, let those turns that run end, and interrupt the rest. Raises
        nothing.
        """
        self._supervisor.draining = True
        self._follower.close()
        await self._supervisor.drain()
