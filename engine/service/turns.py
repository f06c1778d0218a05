"""Turns: running the model on a session, reading how a turn is, cancelling it, deciding on its tool calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict
from uuid import UUID

import msgspec

from ..context.prompt import Limits
from ..events.blocks import ToolSchema
from ..events.types import NewMessage
from ..log.base import Connection, RequestKey
from ..log.sql.idempotency import find_request
from ..providers.base import Parameters, Reasoning, ResponseFormat
from ..sessions.envelope import Caller
from ..sessions.state import SessionState
from ..sessions.turn_commands import Decision
from ..sessions.turn_state import TurnStatus
from ..sessions.turn_views import Turn
from ..streams.backlog import read_all_turns, read_turn, read_turns
from ..streams.follow import Follower
from ..tools.registry import Tools
from ..turns.approvals import Approvals
from ..turns.start import Ask, Started, TurnStarter
from ..turns.supervisor import Supervisor
from . import inputs
from .generation import PARAMETERS, check_task, read_parameters
from .inputs import MessageIn
from .paging import After, Bounds, Page, check_limit, fill, id_after, number_after, write_cursor
from .sessions import must_exist
from .text_stream import TextStream

OnDisconnect = Literal["continue", "cancel"]

Found = tuple[int, Turn]
"""A turn, and the version at which it started."""


class TurnOptions(TypedDict, total=False):
    """Options of a turn. An option that is left out is taken from the session, then from the settings.

    ``tools`` names registered tools that the model may call, ``client_tools`` are tools that the caller runs,
    ``tool_choice`` is ``auto``, ``any``, ``none`` or a tool's name. ``continues`` goes on with a partial answer. With
    ``on_disconnect`` ``cancel`` the turn ends when its last reader leaves. ``expected`` is the version that the session
    must be at; a ``request`` that came before gives the turn that it started. With ``from_version`` the session is
    forked at that version first, and the turn runs in the fork: that is editing a message, or answering it again.

    ``response_format`` is ``{type, name, schema, strict, description}``, of which all but ``type`` (``text``,
    ``json_object``, ``json_schema``) go with ``json_schema``; ``reasoning`` is ``{effort}`` or ``{budget_tokens}``;
    ``logit_bias`` is -100 to 100 by the number of a token. A parameter that the model does not have is refused.
    ``task`` is the one by which a route chooses its model.
    """

    model: str | None
    budget_tokens: int | None
    max_output_tokens: int | None
    temperature: float | None
    stop: str | Sequence[str]
    top_p: float | None
    top_k: int | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    reasoning: Reasoning | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    task: str | None
    tools: Sequence[str]
    client_tools: Sequence[ToolSchema]
    tool_choice: str | None
    continues: bool
    on_disconnect: OnDisconnect
    from_version: int | None
    expected: int | None
    request: RequestKey | None


class Turns:
    """The turns of all sessions."""

    def __init__(self, supervisor: Supervisor, follower: Follower, tools: Tools) -> None:
        self._supervisor = supervisor
        self._store = supervisor.runtime.store
        self._settings = supervisor.runtime.settings
        self._follower = follower
        self._starter = TurnStarter(supervisor, tools)
        self._approvals = Approvals(supervisor)

    async def start(
        self, caller: Caller, session: UUID, content: str | MessageIn | None, options: TurnOptions
    ) -> Started:
        expected = options.get("expected")
        request = self._store.keyed(caller.tenant, options.get("request"))
        ask = await self.ask(content, options)
        return await self._starter.start(caller, session, ask, expected=expected, idempotency=request)

    async def check(
        self, caller: Caller, session: UUID | SessionState, content: str | MessageIn | None, options: TurnOptions
    ) -> None:
        """Raise what would keep a turn from starting: on a session, or on one that would be begun for it."""
        await self._starter.check(caller, session, await self.ask(content, options))

    async def ask(self, content: str | MessageIn | None, options: TurnOptions) -> Ask:
        """What a caller asks for, checked. Raises Invalid and TooLarge."""
        message = content if content is None or isinstance(content, MessageIn) else MessageIn(content)
        new = None if message is None else await inputs.new_message(message, self._settings)
        ask = _ask(new, options, read_parameters(options, self._settings))
        inputs.check_budget(ask.limits.budget_tokens, self._settings, "budget_tokens")
        inputs.check_budget(ask.limits.max_output_tokens, self._settings, "max_output_tokens")
        check_task(ask.task)
        inputs.check_client_tools(ask.client_tools)
        return ask

    def stream(self, caller: Caller, session: UUID, content: str | MessageIn, options: TurnOptions) -> TextStream:
        return TextStream(
            partial(self.start, caller, session, content, options),
            partial(self._follower.frames, caller.tenant),
            partial(self.read, caller),
        )

    async def read(self, caller: Caller, turn: UUID) -> Turn:
        """A turn as it is now. Who asks for it counts as somebody who reads it."""
        running = self._supervisor.find(turn)
        if running is not None and running.caller.tenant == caller.tenant:
            running.subscribers.seen()
        return await self._store.read(lambda connection: read_turn(connection, tenant=caller.tenant, turn_id=turn))

    async def ended(self, caller: Caller, turn: UUID, wait_s: float | None) -> Turn:
        """A turn that has ended or waits for a decision; as it is, if that takes longer than ``wait_s``."""
        await self._follower.ended(caller.tenant, turn, wait_s)
        return await self.read(caller, turn)

    async def page(self, caller: Caller, session: UUID, after: After, limit: int, *, descending: bool) -> Page[Turn]:
        check_limit(limit)
        start = number_after(after)
        bounds = Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Found], bool]:
            state = must_exist(connection, caller.tenant, session)
            turns = read_turns(
                connection, tenant=caller.tenant, session=state, after=start, limit=limit + 1, descending=descending
            )
            return fill(turns, _told_bytes, bounds)

        found, more = await self._store.read(look)
        return Page([turn for _, turn in found], write_cursor((found[-1][0],)) if more else None)

    async def page_of_all(self, caller: Caller, status: TurnStatus | None, after: str | None, limit: int) -> Page[Turn]:
        check_limit(limit)
        before, bounds = id_after(after), Bounds(limit, self._settings.max_page_bytes)

        def look(connection: Connection) -> tuple[list[Turn], bool]:
            turns = read_all_turns(connection, tenant=caller.tenant, status=status, before=before, limit=limit + 1)
            return fill(turns, lambda turn: len(msgspec.json.encode(turn)), bounds)

        found, more = await self._store.read(look)
        return Page(found, write_cursor((found[-1].id,)) if more else None)

    async def cancel(self, caller: Caller, turn: UUID, request: RequestKey | None) -> Turn:
        request = self._store.keyed(caller.tenant, request)
        await self._store.read(partial(find_request, tenant=caller.tenant, request=request))
        await self._cancel_paused(caller, turn)
        await self._supervisor.cancel(caller.tenant, turn, caller.actor, request)
        await self._cancel_paused(caller, turn)  # it may have been about to pause
        return await self.read(caller, turn)

    async def decide(self, caller: Caller, turn: UUID, decision: Decision, request: RequestKey | None) -> Turn:
        inputs.check_reason(decision.reason, self._settings)
        await self._approvals.decide(caller, turn, decision, idempotency=self._store.keyed(caller.tenant, request))
        return await self.read(caller, turn)

    async def _cancel_paused(self, caller: Caller, turn: UUID) -> None:
        state = await self._follower.turn_state(caller.tenant, turn)
        if state.status == "requires_action":
            await self._approvals.cancel(caller, state)


def check_options(options: TurnOptions) -> None:
    """Raises TypeError for an option that there is not, as a call with a misspelt keyword does."""
    for name in options:
        if name not in TurnOptions.__annotations__:
            raise TypeError(f"{name!r} is not an option of a turn; there is {', '.join(TurnOptions.__annotations__)}")


def _ask(message: NewMessage | None, options: TurnOptions, parameters: Parameters) -> Ask:
    values: dict[str, Any] = {name: value for name, value in options.items() if name not in PARAMETERS}
    limits = Limits(values.pop("budget_tokens", None), values.pop("max_output_tokens", None))
    for name in ("expected", "request"):
        values.pop(name, None)
    for name in ("tools", "client_tools"):
        if name in values:
            values[name] = tuple(values[name])
    return Ask(message=message, limits=limits, parameters=parameters, **values)


def _told_bytes(found: Found) -> int:
    return len(msgspec.json.encode(found[1]))
