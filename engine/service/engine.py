"""The service that routes and scripts call: sessions, messages, windows and turns.

``Conversation`` is what ``engine.open`` gives. Every call is made on behalf of a ``Caller`` (by default the local
user of the default tenant), and does all it says or raises an ``EngineError`` and has done nothing. What it
returns are the values of ``engine.sessions.views``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from ..clock import utc_day
from ..context import plan, prompt
from ..context.prompt import Limits
from ..errors import EngineError, NoExactCount
from ..events.blocks import ToolSchema
from ..log.append import probe
from ..log.base import RequestKey
from ..log.sql.documents import read_document
from ..log.sql.idempotency import find_request
from ..providers.base import Counting
from ..providers.registry import resolve
from ..sessions.envelope import LOCAL, Caller
from ..sessions.history import state_at
from ..sessions.views import Turn, Window
from ..streams.backlog import read_turn
from ..streams.frames import Frame
from ..tools.registry import Tools, read_schemas
from ..turns.approvals import Decider, Decision
from ..turns.deduplicate import Repeats
from ..turns.start import Ask, Started, TurnStarter
from ..turns.supervisor import Supervisor
from . import inputs
from .discovery import Model, ToolInfo, model_view, tool_view
from .evidence import Record
from .figures import Load, Standing, read_standing
from .inputs import MessageIn
from .paging import TURNS
from .sessions import DEFAULT_LIMIT, Desk


class Conversation(Desk):
    """See the module. ``providers`` and ``settings`` are those it works with."""

    def __init__(self, supervisor: Supervisor, tools: Tools, default_model: str, record: Record) -> None:
        super().__init__(supervisor, default_model)
        self._supervisor = supervisor
        self._tools = tools
        self._starter = TurnStarter(supervisor, tools)
        self._decider = Decider(supervisor)
        self.store = self._store
        self.clock = self._clock
        self.record = record
        self._repeats = Repeats(lambda turn: supervisor.find(turn) is not None)

    # --- turns --------------------------------------------------------------------------------------------------------

    async def start_turn(
        self,
        session: UUID,
        ask: Ask,
        caller: Caller = LOCAL,
        *,
        expected: int | None = None,
        request: RequestKey | None = None,
    ) -> Started:
        """Run the model; returns when the turn's start is durable. It goes on whether or not anybody reads along."""
        inputs.check_budget(ask.limits.budget_tokens, self.settings, "budget_tokens")
        inputs.check_budget(ask.limits.max_output_tokens, self.settings, "max_output_tokens")
        inputs.check_temperature(ask.temperature)
        inputs.check_stop(ask.stop)
        inputs.check_client_tools(ask.client_tools)
        return await self._starter.start(caller, session, ask, expected=expected, request=request)

    async def once(
        self, said: RequestKey, caller: Caller, *, repeated: bool, start: Callable[[], Awaitable[Started]]
    ) -> Started:
        """What ``start`` starts; or, if this request is ``repeated`` by a client without a key, the turn that the same
        one has started before, while it runs. ``said``: who asked, where and what; its key does not count.
        """
        return await self._repeats.once(caller.tenant, said, repeated=repeated, start=start)

    async def say(self, session: UUID, content: str, caller: Caller = LOCAL, **options: Any) -> Turn:
        """Send a message of text and wait for the answer: the ended turn. ``options`` are those of ``Ask``."""
        message = await self.new_message(MessageIn(content))
        started = await self.start_turn(session, Ask(message=message, **options), caller)
        return await self.ended(started.turn, caller)

    async def turn(self, turn: UUID, caller: Caller = LOCAL) -> Turn:
        """A turn as it is now."""
        running = self._supervisor.find(turn)
        if running is not None and running.caller.tenant == caller.tenant:
            running.subscribers.seen()
        found: Turn = await self._read(read_turn, caller, turn=turn)
        return found

    async def ended(self, turn: UUID, caller: Caller = LOCAL, *, wait_s: float | None = None) -> Turn:
        """A turn once it has ended, or waits for a decision; as it is then, if that takes longer than ``wait_s``. Who
        waits is a reader of the turn: where it wishes to end with them, it ends with who is cancelled here.
        """
        await self._follower.ended(caller.tenant, turn, wait_s)
        return await self.turn(turn, caller)

    async def turns(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        after: int | None = None,
        limit: int = DEFAULT_LIMIT,
        descending: bool = False,
    ) -> tuple[list[Turn], int | None]:
        """A session's turns in the order they started, and the version after which the next page begins (None: the
        last).
        """
        arguments = {"session": session, "after": after, "descending": descending}
        page, more = await self._page(TURNS, caller, limit, **arguments)
        return [turn for _, turn in page], page[-1][0] if more else None

    async def cancel(self, turn: UUID, caller: Caller = LOCAL, *, request: RequestKey | None = None) -> Turn:
        """Cancel a turn; one that has ended stays as it is."""
        await self._store.read(partial(find_request, tenant=caller.tenant, request=request))
        await self._cancel_paused(turn, caller)
        await self._supervisor.cancel(caller.tenant, turn, caller.actor, request)
        await self._cancel_paused(turn, caller)  # it may have been about to pause
        return await self.turn(turn, caller)

    async def _cancel_paused(self, turn: UUID, caller: Caller) -> None:
        state = await self._follower.turn_state(caller.tenant, turn)
        if state.status == "requires_action":
            await self._decider.cancel(caller, state)

    async def decide(
        self, turn: UUID, decision: Decision, caller: Caller = LOCAL, *, request: RequestKey | None = None
    ) -> Turn:
        """Say yes or no to a tool call that waits for it: the turn as it is then. With the last decision that it waits
        for, it goes on.
        """
        inputs.check_reason(decision.reason, self.settings)
        await self._decider.decide(caller, turn, decision, request=request)
        return await self.turn(turn, caller)

    # --- what a model is sent -----------------------------------------------------------------------------------------

    async def window(
        self,
        session: UUID,
        caller: Caller = LOCAL,
        *,
        budget_tokens: int | None = None,
        model: str | None = None,
        version: int | None = None,
        exact: bool = False,
    ) -> Window:
        """What a model would be sent now, or at a version. ``exact``: the vendor is asked how many tokens that is.

        Raises NoExactCount where it does not tell.
        """
        inputs.check_budget(budget_tokens, self.settings, "budget_tokens")
        limits = Limits(budget_tokens)
        arguments = {"session": session, "limits": limits, "model": model, "version": version}
        found: Window = await self._read(
            prompt.window, caller, providers=self.providers, settings=self.settings, **arguments
        )
        if not exact:
            return found
        resolved = resolve(self.providers, found.model)
        if not isinstance(resolved.provider, Counting):
            raise NoExactCount(f"{resolved.provider.name} does not count the tokens of a request", field="exact")
        reading = partial(plan.plan_at, tenant=caller.tenant, settings=self.settings, model=resolved, limits=limits)
        planned = await self._store.read(partial(reading, session=session, version=version))
        used = await resolved.provider.count_tokens(planned.request)
        return msgspec.structs.replace(found, used_tokens=used, exact=True)

    # --- what there is ------------------------------------------------------------------------------------------------

    def models(self) -> list[Model]:
        """The models that are known to be served, and what is known of them."""
        day = utc_day(self._clock.now_us())
        return [model_view(name, info, day) for name, info in self.providers.known()]

    async def tools(self, caller: Caller = LOCAL, *, session: UUID | None = None) -> list[ToolInfo]:
        """The registered tools; those that a session may use, if one is named."""
        allowed = None
        if session is not None:
            state, _ = await self._read(state_at, caller, session=session)
            allowed = state.allowed_tools
        return [tool_view(self._tools.get(name)) for name in self._tools.allowed(None, allowed)]

    async def schemas(self, digest: str, caller: Caller = LOCAL) -> tuple[ToolSchema, ...]:
        """The tools that a model was told of, by the digest in its ``attempt.started``."""
        return read_schemas(await self._read(read_document, caller, digest=digest))

    async def read_to_end(self, turn: UUID, cursor: int, caller: Caller = LOCAL) -> bool:
        """Whether a turn has ended and its last frame is at or before the cursor."""
        state = await self._follower.turn_state(caller.tenant, turn)
        return state.status != "running" and cursor >= state.frame

    def frames(self, turn: UUID, caller: Caller = LOCAL, *, after: int = 0) -> AsyncGenerator[list[Frame], None]:
        """A turn's frames after a number, in batches, live or from the record, up to its end."""
        return self._follower.frames(caller.tenant, turn, after)

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether turns run in this process."""
        return bool(self._supervisor.running())

    @property
    def load(self) -> Load:
        """What this process is busy with now."""
        left_alone = self._supervisor.kit.guards.open_breakers()
        return Load(
            open_turns=len(self._supervisor.running()),
            readers=self._follower.readers,
            waiting_writes=self.store.waiting_writes,
            breakers={name: name in left_alone for name in self.providers.names()},
        )

    async def standing(self) -> Standing:
        """How the logs of all tenants stand. Raises a StoreError where the file cannot be read."""
        return await read_standing(self.store, self.clock.now_us())

    async def ready(self) -> bool:
        """Whether turns may start: the engine can write, which is tried, and is not shutting down."""
        if self._supervisor.draining:
            return False
        try:
            await self._store.do(probe)
        except EngineError:
            return False
        return True

    def admit_reader(self) -> None:
        """Raises Overloaded where there is no room for one more reader: to be asked before a stream is promised."""
        self._follower.admit()

    async def drain(self) -> None:
        """Take no more turns, tell all readers, let those that run end, and interrupt the rest."""
        self._supervisor.draining = True
        self._follower.close()
        await self._supervisor.drain()
