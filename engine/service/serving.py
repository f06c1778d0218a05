"""The server's own calls to an engine: room for a reader, one start for a request that is
repeated, whether it is ready, and its end in good order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Unpack

from ..access.limits import KeyLimit
from ..errors import EngineError
from ..log.base import RequestKey
from ..log.journal import probe
from ..log.sql.idempotency import find_request
from ..sessions.envelope import LOCAL, Caller
from ..sessions.state import SessionState, SystemPrompt
from ..streams.follow import Follower
from ..turns.deduplicate import RetryDeduplicator
from ..turns.start import Started
from ..turns.supervisor import Supervisor
from . import inputs
from .figures import Load, Standing, read_standing
from .ids import Id, session_id, turn_id
from .inputs import MessageIn
from .replay.runner import Replays
from .turns import TurnOptions, Turns, check_options
from .unstored import Kept, Unstored


class Serving:
    """See the module."""

    def __init__(
        self,
        supervisor: Supervisor,
        follower: Follower,
        turns: Turns,
        replays: Replays,
        unstored: Unstored,
        default_model: str,
    ) -> None:
        self._supervisor = supervisor
        self._replays = replays
        self._unstored = unstored
        self._follower = follower
        self._turns = turns
        self._default_model = default_model
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

    def key_limits(self, *, caller: Caller = LOCAL) -> tuple[KeyLimit, ...]:
        """The limits of a caller's key as they stand now; none where none is set. Raises nothing."""
        return self._supervisor.runtime.limits.standing((caller.tenant, caller.actor))

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

    async def check_turn(
        self,
        content: str | MessageIn,
        session: Id | None = None,
        *,
        system: str | None = None,
        caller: Caller = LOCAL,
        **options: Unpack[TurnOptions],
    ) -> None:
        """Check that a turn could start before anything else is done for it; ``session`` None: on one that would be
        begun for it, with this system prompt. Takes and records nothing. Raises what ``start_turn`` raises.
        """
        check_options(options)
        place = session_id(session) if session is not None else await self._imagined(options.get("model"), system)
        await self._turns.check(caller, place, content, options)

    async def _imagined(self, model: str | None, system: str | None) -> SessionState:
        """The state of a session that is not begun yet."""
        runtime = self._supervisor.runtime
        inputs.check_system(system, runtime.settings)
        tokens = await inputs.count_text(system or "")
        return SessionState(
            id=runtime.clock.new_id(),
            version=1,
            position=0,
            model=runtime.providers.canonical(model or self._default_model),
            created_at=0,
            updated_at=0,
            system=SystemPrompt(0, tokens) if tokens else None,
        )

    async def remembers(self, request: RequestKey, *, caller: Caller = LOCAL) -> bool:
        """Say whether this request came before, so that it will be answered again. Raises IdempotencyMismatch."""
        store = self._supervisor.runtime.store
        keyed = store.keyed(caller.tenant, request)
        return await store.read(partial(find_request, tenant=caller.tenant, request=keyed)) is not None

    async def start_once(
        self, said: RequestKey, start: Callable[[], Awaitable[Started]], *, repeated: bool, caller: Caller = LOCAL
    ) -> Started:
        """Start a turn for a request without an idempotency key; where the client says that it is ``repeated``, give
        the turn that the same request has started before, while that runs. ``said``: who asks, where and what.

        Raises what ``start`` raises.
        """
        return await self._deduplicator.once(caller.tenant, said, repeated=repeated, start=start)

    async def resume_replays(self) -> int:
        """Go on with the replays of all tenants that an earlier process has left running; how many there are. Raises a
        StoreError where they cannot be read.
        """
        return await self._replays.resume_all()

    def forget_unstored(self) -> None:
        """Erase from now on what clients asked not to store, also what was due while no server ran. Raises nothing."""
        self._unstored.begin()

    async def kept(self, session: Id, *, caller: Caller = LOCAL) -> Kept | None:
        """Say why the words of a session stay on record that were asked not to be stored; None: they will be erased.
        Raises SessionNotFound.
        """
        return await self._unstored.kept(caller.tenant, session_id(session))

    def read_on(self, turn: Id) -> None:
        """Note that the answer of a turn was read to its end: if it was asked not to be stored, it can go now. Raises
        nothing.
        """
        self._unstored.read_on(turn_id(turn))

    async def drain(self) -> None:
        """Take no more turns, tell all readers, let those turns that run end, and interrupt the rest. Raises
        nothing.
        """
        self._supervisor.draining = True
        self._follower.close()
        await self._replays.close()
        await self._unstored.close()
        await self._supervisor.drain()
